"""What one process has in the server of a directory: who starts it, who joins, who stops it."""

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import Final

from aqm_db.errors import EmbeddedServerError

from ._directory import SWITCH_FILE, USERS_FILE
from ._lifeline import Lifeline, tie_server
from ._locks import POLL_SECONDS, Countdown, LockFile
from ._log import quote_log, trim_log
from ._mending import looks_whole, mend_files
from ._server import (
    ServerProcess,
    find_binary,
    is_reachable,
    is_ready,
    quieten_log,
    start_server,
)
from ._server_file import ServerFile
from ._settling import UnwrittenError, end_server
from ._socket_place import SocketPlace
from ._space import give_up_ballast, is_full, keep_ballast

_STOP_SECONDS: Final = 10.0
_CLOSED: Final = "the embedded server was closed"
_UNREACHABLE_SECONDS: Final = 0.25
"""How long a server may have no socket: it has none where it begins to live, and where it ends."""

_BEGIN_SECONDS: Final = 0.001
"""How long is waited between two looks for the socket of a server that was just started."""
_REAP_SECONDS: Final = 1.0
"""How long a process that has dropped its locks may take to end."""
_ORPHAN_SECONDS: Final = 0.25
"""How long a server that nobody has open is given to end, as it was told to."""

_started: Final[dict[tuple[int, int], ServerProcess]] = {}
"""The servers that this process started, by their directory's lock file: the share that stops a
server may be another than started it."""


class Share:
    """A share in the server of a directory; apart from its user, so that a finalizer can use it.

    Args:
        directory: one that was prepared.

    Attributes:
        directory: where the data is.

    Raises:
        EmbeddedServerError: no path is short enough for a socket.
        OSError: the directory can't be used.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process_id = os.getpid()
        self._is_given_back = False
        with contextlib.ExitStack() as files:
            # Held by whoever starts or stops the server.
            self._switch = files.enter_context(LockFile(directory / SWITCH_FILE))
            self._users = files.enter_context(
                LockFile(directory / USERS_FILE, outlives_parent=True)
            )
            self._server = files.enter_context(ServerFile(directory))
            self._place = files.enter_context(contextlib.closing(SocketPlace(directory)))
            self._lifeline = files.enter_context(contextlib.closing(Lifeline(directory)))
            self._files = files.pop_all()

    @property
    def socket_path(self) -> Path:
        """Where clients connect."""
        return self._place.path

    def take(self, seconds: float) -> None:
        """Starts the server, or joins the one that runs.

        Args:
            seconds: how long it may take.

        Raises:
            EmbeddedServerError: the server isn't installed, doesn't start, or takes too long.
            OSError: the directory can't be used.
        """
        until = time.monotonic() + seconds
        with contextlib.ExitStack() as undo:
            undo.callback(self._drop_locks)
            if not self._switch.take(until):
                raise self._make_busy_error(seconds)
            is_alone = self._users.take()
            self._users.take(until, shared=True)
            self._start_or_join(until, seconds, _ORPHAN_SECONDS if is_alone else 0.0)
            self._switch.drop()
            undo.pop_all()

    def revive(self, seconds: float) -> None:
        """Starts the server again if it has died, whoever else does so; or joins it.

        A server that takes longer isn't killed: it reads its data.

        Args:
            seconds: how long it may take.

        Raises:
            EmbeddedServerError: the share was given back, in a process that was forked all shares
                were; the directory isn't there any more; or as of :meth:`take`.
            OSError: the directory can't be used.
        """
        until = time.monotonic() + seconds
        # Opened anew, since threads exclude each other by it, and so does a process that is forked.
        with LockFile(self.directory / SWITCH_FILE) as switch:
            try:
                if not switch.take(until):
                    raise self._make_busy_error(seconds)
                self._check_use()
                self._start_or_join(until, seconds, is_patient=True)
            finally:
                switch.drop()

    def give_back(self) -> None:
        """Gives it back; the last one stops the server.

        Raises:
            EmbeddedServerError: what the server acknowledged can't be written; it goes on.
        """
        self._is_given_back = True
        if os.getpid() != self._process_id:
            # A fork shares the locks of its parent: dropping them here would drop them there.
            self._files.close()
            return
        until = time.monotonic() + _STOP_SECONDS
        try:
            if self._switch.take(until) and self._users.take():
                self._stop(until)
        finally:
            self._drop_locks()

    def _drop_locks(self) -> None:
        # Closing alone would leave the locks to a fork that holds copies of the descriptors.
        self._server.drop()
        self._users.drop()
        self._switch.drop()
        self._files.close()

    def _check_use(self) -> None:
        """Refuses to start a server that nobody has open, or that would be another one.

        Raises:
            EmbeddedServerError: it would be.
        """
        if self._is_given_back:
            raise EmbeddedServerError(_CLOSED)
        if not self._switch.is_in_place():
            raise EmbeddedServerError(
                f"the directory {str(self.directory)!r} was moved or deleted while it was open"
            )
        if os.getpid() == self._process_id:
            return
        with LockFile(self.directory / USERS_FILE) as users:
            if users.take():
                users.drop()
                raise EmbeddedServerError(f"{_CLOSED} in the process that forked this one")

    def _start_or_join(
        self, until: float, seconds: float, doubt: float = 0.0, *, is_patient: bool = False
    ) -> None:
        """Starts the server, or joins the one that runs, with the switch taken.

        Args:
            until: how long it may take, as ``time.monotonic`` has it.
            seconds: the same, for the error.
            doubt: for how long a server that runs isn't trusted to go on.
            is_patient: whether a server that takes longer goes on all the same.
        """
        self._lifeline.hold()
        self._place.look_up()
        trim_log(self.directory)
        trusted_at = time.monotonic() + doubt
        process: ServerProcess | None = None
        unreachable = Countdown(_UNREACHABLE_SECONDS)
        # Opened anew: a lock that is handed to the server can't tell whether the server lives.
        with ServerFile(self.directory) as handed_over, contextlib.ExitStack() as undo:
            while True:
                if process is None and handed_over.take():
                    process = self._start(handed_over, undo)
                    # While it begins: of a new database, this takes as long.
                    keep_ballast(self.directory)
                if process is not None and is_patient:
                    undo.pop_all()
                is_trusted = process is not None or time.monotonic() >= trusted_at
                if is_trusted and is_ready(self.socket_path):
                    break
                if process is not None and process.poll() is not None:
                    # The lock is ours still: a server is started for the mended files.
                    self._mend_ended()
                    process = None
                    continue
                if process is None and unreachable.run(is_on=not is_reachable(self.socket_path)):
                    handed_over.end_server()
                if time.monotonic() > until:
                    raise self._make_error(f"didn't answer for {seconds:g} seconds")
                if self._is_given_back:
                    raise EmbeddedServerError(_CLOSED)
                time.sleep(POLL_SECONDS if process is None else _BEGIN_SECONDS)
            undo.pop_all()
        quieten_log(self.socket_path)
        keep_ballast(self.directory)

    def _start(self, handed_over: ServerFile, undo: contextlib.ExitStack) -> ServerProcess:
        binary = find_binary()
        predecessor = _started.pop(self._switch.identity, None)
        if predecessor is not None:
            # It has dropped the lock; one that lives is another's, whose file had the same inode.
            with contextlib.suppress(subprocess.TimeoutExpired):
                predecessor.wait(_REAP_SECONDS)
        if not looks_whole(self.directory):
            self._mend()
        self._place.prepare()
        handed_over.note_server(None)
        with self._lifeline.open_end() as ends:
            inherited = [handed_over.descriptor, *ends]
            place = self._place.path_of_server
            process = start_server(binary, self.directory, place, inherited)
            undo.callback(self._abandon, process)
            _started[self._switch.identity] = process
            handed_over.note_server(process.pid)
            tie_server(ends, process.pid)
        return process

    def _mend_ended(self) -> None:
        if not self._mend():
            raise self._make_error("ended while it started")

    def _mend(self) -> bool:
        # What is kept takes room.
        give_up_ballast(self.directory)
        return mend_files(self.directory)

    def _abandon(self, process: ServerProcess) -> None:
        process.kill()
        process.wait()
        self._remove_leftovers()

    def _stop(self, until: float) -> None:
        in_place = self._switch.is_in_place()
        if in_place:
            self._shut_down(until)
        process = _started.pop(self._switch.identity, None)
        if not in_place and process is not None:
            # The directory was deleted or moved, and the path may lead to another server by now,
            # whose socket an orderly end would remove.
            process.kill()
        if process is not None:
            if not self._server.take(until):
                # What it acknowledged is written, unless it hasn't answered at all.
                process.kill()
            process.wait()
        if in_place and self._server.take(until):
            self._remove_leftovers()

    def _shut_down(self, until: float) -> None:
        try:
            # Not by a signal: the server looks for signals ten times a second only.
            end_server(self.socket_path, self.directory, until)
        except UnwrittenError as error:
            raise EmbeddedServerError(
                f"the embedded server in {str(self.directory)!r} can't write what it acknowledged: "
                "the disk is full, or fails. So it goes on, with that in its memory: make room, "
                "then open the directory, and close it again"
            ) from error
        except OSError:
            with contextlib.suppress(PermissionError):
                if not (is_reachable(self.socket_path) or self._server.take()):
                    self._server.end_server()

    def _remove_leftovers(self) -> None:
        self._place.remove()
        self._lifeline.remove()

    def _make_busy_error(self, seconds: float) -> EmbeddedServerError:
        return EmbeddedServerError(
            f"the embedded server in {str(self.directory)!r} has been starting or stopping "
            f"for more than {seconds:g} seconds"
        )

    def _make_error(self, what: str) -> EmbeddedServerError:
        # Its log can't say so on the same disk.
        about_disk = ", and the disk is full" if is_full(self.directory) else ""
        return EmbeddedServerError(
            f"the embedded server in {str(self.directory)!r} {what}{about_disk}; "
            f"its log ends: {quote_log(self.directory)}"
        )
