"""The room on a database's disk: how much there is, and the ballast that keeps some of it.

A server that meets a full disk has acknowledged what it couldn't write. The ballast is room that
can be given to it then.
"""

import contextlib
import os
from pathlib import Path
from typing import Final, NamedTuple

from ._files import measure_files, open_private

_BALLAST_FILE: Final = "aqm_db.ballast"
_BALLAST_BYTES: Final = 8 << 20
_PIECE_BYTES: Final = 1 << 20
_LEAST_BYTES: Final = 64 << 20


class Space(NamedTuple):
    """The room on a disk.

    Attributes:
        free: bytes that are left for this user, beside the ballast.
        wanted: bytes that there should be: a rewrite makes a second copy of the data.
    """

    free: int
    wanted: int


def measure_space(directory: Path) -> Space:
    """The room that a database has.

    Raises:
        OSError: the directory can't be used.
    """
    return Space(_measure_free(directory), max(_LEAST_BYTES, 2 * measure_files(directory)))


def keep_ballast(directory: Path) -> None:
    """Takes the room for the ballast, if it isn't taken, and as much again is left."""
    # Others write to this disk, too. Without ballast all is well until it's full.
    with (
        contextlib.suppress(OSError),
        os.fdopen(open_private(directory / _BALLAST_FILE, os.O_APPEND), "ab", 0) as file,
    ):
        missing = _BALLAST_BYTES - os.fstat(file.fileno()).st_size
        if missing > 0 and _measure_free(directory) >= missing + _BALLAST_BYTES:
            while missing > 0:
                # No file system can make less of this.
                missing -= file.write(os.urandom(min(missing, _PIECE_BYTES)))


def is_full(directory: Path) -> bool:
    """Whether a disk has no room that is worth speaking of.

    Raises:
        OSError: the directory can't be used.
    """
    return _measure_free(directory) < _PIECE_BYTES


def give_up_piece(directory: Path) -> bool:
    """Leaves a piece of the ballast to the server if the disk is full, but not the last half.

    Returns:
        Whether it did.
    """
    path = directory / _BALLAST_FILE
    with contextlib.suppress(OSError):
        left = path.stat().st_size - _PIECE_BYTES
        if is_full(directory) and left >= _BALLAST_BYTES // 2:
            os.truncate(path, left)
            return True
    return False


def give_up_ballast(directory: Path) -> None:
    """Leaves all of it to the server."""
    with contextlib.suppress(OSError):
        os.truncate(directory / _BALLAST_FILE, 0)


def _measure_free(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
