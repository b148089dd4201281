"""The directory of a database: whether it can be used, what its files are called, and its socket.

The socket may have to be elsewhere, in a directory of its own.
"""

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from aqm_db.errors import EmbeddedServerError

SWITCH_FILE: Final = "aqm_db.lock"
USERS_FILE: Final = "aqm_db.users"
SERVER_FILE: Final = "aqm_db.server"
LOG_FILE: Final = "aqm_db.log"
OLD_LOG_FILE: Final = "aqm_db.log.1"
_SOCKET_FILE: Final = "aqm_db.sock"

_SOCKET_PATH_BYTES: Final = 103
"""The longest path that fits ``sun_path`` with its NUL on macOS; Linux has room for four more."""


def prepare_directory(directory: Path) -> None:
    """Creates a directory that isn't there, and keeps others out of it.

    Raises:
        EmbeddedServerError: it's a file, another user's, or not empty and not a database.
        OSError: it can't be used for another reason.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise EmbeddedServerError(f"{str(directory)!r} is a file, not a directory") from error
    if directory.stat().st_uid != os.geteuid():
        raise EmbeddedServerError(f"the directory {str(directory)!r} belongs to another user")
    # In this order: the lock file is the first one that a database gets.
    if any(directory.iterdir()) and not (directory / SWITCH_FILE).exists():
        raise EmbeddedServerError(
            f"the directory {str(directory)!r} has files, and isn't a database"
        )
    directory.chmod(0o700)


def choose_socket_path(directory: Path) -> Path:
    """Where the socket of a directory's server is: in it, unless its path is too long for one.

    Raises:
        EmbeddedServerError: no path is short enough.
    """
    path = directory / _SOCKET_FILE
    if _fits_socket(path):
        return path
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"aqm_db-{os.geteuid()}-{name}" / _SOCKET_FILE
    if _fits_socket(path):
        return path
    raise EmbeddedServerError(
        f"{str(directory)!r} is too long a path for a socket, and {tempfile.gettempdir()!r} is, too"
    )


def prepare_socket_folder(socket_path: Path, directory: Path) -> None:
    """Creates the directory that a socket has to itself, if it needs one.

    Raises:
        EmbeddedServerError: others can reach it.
        OSError: it can't be used for another reason.
    """
    folder = socket_path.parent
    if folder == directory:
        return
    # Anyone may write to the directory of temporary files: trust only what is provably ours.
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or status.st_mode != stat.S_IFDIR | 0o700:
        raise EmbeddedServerError(f"{str(folder)!r} isn't a private directory of this user")


def remove_socket(socket_path: Path, directory: Path) -> None:
    """Removes what a server that ended has left of its socket, as far as that's possible."""
    with contextlib.suppress(OSError):
        socket_path.unlink(missing_ok=True)
        if socket_path.parent != directory:
            socket_path.parent.rmdir()


def _fits_socket(path: Path) -> bool:
    return len(os.fsencode(path)) <= _SOCKET_PATH_BYTES
