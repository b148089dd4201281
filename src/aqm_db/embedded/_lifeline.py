"""A pipe that every user of a directory holds, so that the server ends with the last of them.

However the last one ends, also by a signal that nobody can catch, the kernel closes the pipe then,
and sends the server SIGTERM, after which it ends in order. Linux does so; elsewhere a server that
nobody stopped waits for the next to open the directory.
"""

import contextlib
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Final

LIFELINE_FILE: Final = "aqm_db.alive"


class Lifeline:
    """A process' hold on the pipe of a directory.

    Args:
        directory: one that was prepared.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LIFELINE_FILE
        self._held: int | None = None

    def hold(self) -> None:
        """Holds it from now on, where there can be one; also if somebody has removed the file.

        Called by who holds the switch only.
        """
        former = self._held
        # Some file systems have no pipes.
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileExistsError):
                os.mkfifo(self._path, 0o600)
            # Both ends, since it can be opened before the server has its own.
            self._held = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            if former is not None:
                os.close(former)

    @contextlib.contextmanager
    def open_end(self) -> Generator[tuple[int, ...]]:
        """The end for a server: the descriptor that it inherits; or nothing."""
        if self._held is None:
            yield ()
            return
        end = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            yield (end,)
        finally:
            os.close(end)

    def close(self) -> None:
        """Lets go of it; again, it does nothing."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def remove(self) -> None:
        """Removes the file, once the server has ended."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def tie_server(ends: tuple[int, ...], process_id: int) -> None:
    """Has a server end when nobody holds the pipe any more.

    Args:
        ends: what :meth:`Lifeline.open_end` gave, and the server inherited.
        process_id: the server's.
    """
    import fcntl  # noqa: PLC0415 - the module can be imported where there is none

    choose_signal: int | None = getattr(fcntl, "F_SETSIG", None)
    if choose_signal is None:
        return
    for end in ends:
        # Not every kernel that knows it does it.
        with contextlib.suppress(OSError):
            fcntl.fcntl(end, fcntl.F_SETOWN, process_id)
            fcntl.fcntl(end, choose_signal, signal.SIGTERM)
            fcntl.fcntl(end, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
