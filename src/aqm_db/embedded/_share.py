"""What one process has in the server of a directory: who starts it, who joins, who stops it."""

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from aqm_db.errors import EmbeddedServerError

from ._directory import (
    SERVER_FILE,
    SWITCH_FILE,
    USERS_FILE,
    choose_socket_path,
    prepare_socket_folder,
    remove_socket,
)
from ._locks import POLL_SECONDS, LockFile
from ._server import (
    ServerProcess,
    find_binary,
    is_ready,
    quote_log,
    send_command,
    start_server,
)

_STOP_SECONDS: Final = 10.0

_started: Final[dict[tuple[int, int], ServerProcess]] = {}
"""The servers that this process started, by their directory's lock file: the share that stops a
server may be another than started it."""


class Share:
    """A share in the server of a directory; apart from its user, so that a finalizer can use it.

    Args:
        directory: one that was prepared.

    Attributes:
        directory: where the data is.
        socket_path: where clients connect.

    Raises:
        EmbeddedServerError: no path is short enough for a socket.
        OSError: the directory can't be used.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket_path: Path = choose_socket_path(directory)
        self._process_id = os.getpid()
        with contextlib.ExitStack() as files:
            # Held by whoever starts or stops the server.
            self._switch = files.enter_context(LockFile(directory / SWITCH_FILE))
            self._users = files.enter_context(LockFile(directory / USERS_FILE))
            self._server = files.enter_context(LockFile(directory / SERVER_FILE))
            self._files = files.pop_all()

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
            if not (self._switch.take(until) and self._users.take(until, shared=True)):
                raise EmbeddedServerError(
                    f"the embedded server in {str(self.directory)!r} has been starting or stopping "
                    f"for more than {seconds:g} seconds"
                )
            prepare_socket_folder(self.socket_path, self.directory)
            self._start_or_join(until, seconds)
            self._switch.drop()
            undo.pop_all()

    def give_back(self) -> None:
        """Gives it back; the last one stops the server."""
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

    def _start_or_join(self, until: float, seconds: float) -> None:
        process: ServerProcess | None = None
        # Opened anew: a lock that is handed to the server can't tell whether the server lives.
        with LockFile(self.directory / SERVER_FILE) as handed_over, contextlib.ExitStack() as undo:
            while True:
                if process is None and handed_over.take():
                    process = self._start(handed_over)
                    undo.callback(self._abandon, process)
                if is_ready(self.socket_path):
                    break
                if process is not None and process.poll() is not None:
                    raise self._make_error("ended while it started")
                if time.monotonic() > until:
                    raise self._make_error(f"didn't answer for {seconds:g} seconds")
                time.sleep(POLL_SECONDS)
            undo.pop_all()
        if process is not None:
            _started[self._switch.identity] = process

    def _start(self, handed_over: LockFile) -> ServerProcess:
        binary = find_binary()
        predecessor = _started.pop(self._switch.identity, None)
        if predecessor is not None:
            predecessor.wait()
        return start_server(binary, self.directory, self.socket_path, handed_over.descriptor)

    def _abandon(self, process: ServerProcess) -> None:
        process.kill()
        process.wait()
        remove_socket(self.socket_path, self.directory)

    def _stop(self, until: float) -> None:
        process = _started.pop(self._switch.identity, None)
        in_place = self._switch.is_in_place()
        if in_place:
            # Not by a signal: the server looks for signals ten times a second only.
            with contextlib.suppress(OSError):
                send_command(self.socket_path, b"SHUTDOWN", until - time.monotonic())
        elif process is not None:
            # The directory was deleted or moved, and the path may lead to another server by now,
            # whose socket an orderly end would remove.
            process.kill()
        if process is not None:
            if not self._server.take(until):
                # Nothing is lost: the server writes to its file before it acknowledges.
                process.kill()
            process.wait()
        if in_place and self._server.take(until):
            remove_socket(self.socket_path, self.directory)

    def _make_error(self, what: str) -> EmbeddedServerError:
        return EmbeddedServerError(
            f"the embedded server in {str(self.directory)!r} {what}; "
            f"its log ends: {quote_log(self.directory)}"
        )
