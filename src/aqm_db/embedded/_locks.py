"""Lock files, which tell processes of each other: the kernel drops the locks of one that died."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self
from weakref import WeakSet

POLL_SECONDS: Final = 0.005
"""How long is waited between two looks at what another process does."""


class Countdown:
    """How long something has been so without a break.

    Args:
        seconds: for how long it may.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begin()

    def run(self, *, is_on: bool) -> bool:
        """Whether it has been so for too long; it begins anew then, and when it isn't so."""
        is_over = is_on and time.monotonic() >= self._end
        if is_over or not is_on:
            self._begin()
        return is_over

    def _begin(self) -> None:
        self._end = time.monotonic() + self._seconds


class LockFile:
    """A file, and the ``flock`` that this process may hold on it.

    It's a context manager, which closes the file.

    Args:
        path: where the file is; it's created if it isn't there.
        outlives_parent: whether a process that is forked goes on holding the lock when its parent
            dies. Otherwise nobody would know how long a dead process had one.

    Attributes:
        descriptor: of the open file.
        identity: its device and inode: a path may come to name another file.
    """

    def __init__(self, path: Path, *, outlives_parent: bool = False) -> None:
        self._path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.identity: tuple[int, int] = _identify(os.fstat(self.descriptor))
        if not outlives_parent:
            _of_parent.add(self)

    def take(self, until: float = 0.0, *, shared: bool = False) -> bool:
        """Takes the lock, and says whether it could.

        Args:
            until: how long it's waited for, as ``time.monotonic`` has it.
            shared: whether others may hold it, too.
        """
        import fcntl  # noqa: PLC0415 - the module can be imported where there is none

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        while True:
            try:
                fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(POLL_SECONDS)
            else:
                return True

    def drop(self) -> None:
        """Drops the lock, whoever has copies of the descriptor."""
        import fcntl  # noqa: PLC0415 - the module can be imported where there is none

        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def is_in_place(self) -> bool:
        """Whether the path still leads to this file."""
        try:
            return self.identity == _identify(self._path.stat())
        except OSError:
            return False

    def leave_to_parent(self) -> None:
        """Lets go of it in a process that was forked, without dropping the lock of the other."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, self.descriptor, inheritable=False)
        os.close(nowhere)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        _of_parent.discard(self)
        os.close(self.descriptor)


def _identify(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _leave_to_parent() -> None:
    for file in tuple(_of_parent):
        file.leave_to_parent()
    _of_parent.clear()


_of_parent: WeakSet[LockFile] = WeakSet()
"""The open files whose locks are for a moment, or end with their process."""

# Where it isn't there, nothing forks.
with suppress(AttributeError):
    os.register_at_fork(after_in_child=_leave_to_parent)
