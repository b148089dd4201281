"""How a server ends: once all that it acknowledged is in its file.

Valkey acknowledges the write that meets a full disk, keeps it in memory, and tries again at each
turn of its loop. SHUTDOWN tries once, and drops what it couldn't write.
"""

import contextlib
import logging
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ._directory import LOG_FILE
from ._files import sync_files
from ._locks import POLL_SECONDS
from ._mending import has_zeroes, is_whole
from ._space import give_up_ballast

_log = logging.getLogger("aqm_db.embedded")

_ANSWER_SECONDS: Final = 1.0
"""How long each answer may take, however little time is left."""
_REFUSED_SECONDS: Final = 5.0
"""How long a server that couldn't write is waited for, once it was given the ballast.

While an fsync is under way, it tries again after two seconds only.
"""
_INCIDENT: Final = re.compile(rb"AOF write error|writing to the AOF file|fsync the AOF file")
"""What a server writes to its log when it can't write to its file, and when it can again."""


class UnwrittenError(Exception):
    """What a server acknowledged can't be written, and the server goes on."""


def end_server(socket_path: Path, directory: Path, until: float) -> None:
    """Has a server write all that it acknowledged, and asks it to end.

    From an incident on, its file may have zeroes in it, so that it's written anew.

    Args:
        socket_path: where it listens.
        directory: where its data is.
        until: how long it may take, as ``time.monotonic`` has it.

    Raises:
        UnwrittenError: it can't write: it goes on, as if nothing had been asked.
        OSError: it isn't there, or doesn't answer.
    """
    with _Link(socket_path, until) as link:
        # One that hangs would obey the next command when it goes on.
        link.read_facts()
        # Nothing is acknowledged any more, whoever else is connected.
        link.ask(b"CLIENT PAUSE %d WRITE" % max(1, 1000 * (until - time.monotonic())))
        try:
            _settle(link, directory, until)
        except UnwrittenError:
            # Not even when its last user ends, which has it told by SIGTERM: it can't save.
            link.ask(b"CONFIG SET shutdown-on-sigterm save")
            link.ask(b"CLIENT UNPAUSE")
            raise
        except TimeoutError as error:
            # It can't be asked any more: the disk may hold it up.
            raise UnwrittenError from error
        with contextlib.suppress(ConnectionError):
            link.ask(b"SHUTDOWN")


class _Link:
    """A connection to a server."""

    def __init__(self, socket_path: Path, until: float) -> None:
        self._until = until
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._limit()
            self._socket.connect(str(socket_path))
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rb")

    def ask(self, command: bytes) -> bytes:
        """Sends a command, and returns the line or the text that it's answered with.

        Raises:
            OSError: there's no answer, or not in time.
        """
        self._limit()
        self._socket.sendall(command + b"\r\n")
        line = self._file.readline().strip()
        if not line:
            raise ConnectionError("the server hung up")
        if line.startswith(b"$"):
            return self._file.read(int(line[1:]) + 2)
        return line

    def read_facts(self) -> dict[str, str]:
        """What the server says of its file."""
        lines = self.ask(b"INFO persistence").decode().splitlines()
        return {name: value for name, _, value in (line.partition(":") for line in lines)}

    def _limit(self) -> None:
        self._socket.settimeout(max(_ANSWER_SECONDS, self._until - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._socket.close()


def _settle(link: _Link, directory: Path, until: float) -> None:
    had_incident = False
    if not _wait(link, _has_tried, until):
        raise UnwrittenError
    if not _is_written(link.read_facts()):
        had_incident = True
        give_up_ballast(directory)
        if not _wait(link, _is_written, min(until, time.monotonic() + _REFUSED_SECONDS)):
            raise UnwrittenError
    is_synced = _sync(directory)
    if had_incident or not is_synced or _tells_incident(directory):
        is_rewritten = _rewrite(link, until)
        # At a second incident a server cuts off what it wrote before, and leaves zeroes there, too.
        if not (is_rewritten or (is_synced and is_whole(directory))):
            raise UnwrittenError
        _log.warning(
            "disk_was_full", extra={"directory": str(directory), "is_rewritten": is_rewritten}
        )


def _rewrite(link: _Link, until: float) -> bool:
    """Has the file written anew, if there's room for that."""
    # One that began while the server couldn't write holds what was written behind it once more.
    if not _wait(link, _has_ended, until):
        return False
    link.ask(b"BGREWRITEAOF")
    return _wait(link, _has_ended, until) and link.read_facts()["aof_last_bgrewrite_status"] == "ok"


def _wait(link: _Link, condition: Callable[[dict[str, str]], bool], until: float) -> bool:
    while not condition(link.read_facts()):
        if time.monotonic() >= until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _is_written(facts: dict[str, str]) -> bool:
    # Without a file, nothing waits for it.
    return facts["aof_last_write_status"] == "ok" and facts.get("aof_buffer_length", "0") == "0"


def _has_tried(facts: dict[str, str]) -> bool:
    """Whether it has written, or couldn't; it waits while an fsync is under way."""
    return facts["aof_last_write_status"] != "ok" or _is_written(facts)


def _has_ended(facts: dict[str, str]) -> bool:
    return facts["aof_rewrite_in_progress"] == facts["aof_rewrite_scheduled"] == "0"


def _sync(directory: Path) -> bool:
    try:
        sync_files(directory)
    except OSError:
        return False
    return True


def _tells_incident(directory: Path) -> bool:
    """Whether the server couldn't write at some time: its log says so, if it could be written."""
    if has_zeroes(directory):
        return True
    with contextlib.suppress(OSError):
        return _INCIDENT.search((directory / LOG_FILE).read_bytes()) is not None
    return False
