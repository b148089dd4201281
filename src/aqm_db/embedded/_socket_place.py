"""Where the socket of a directory's server is, however long the directory's path is.

It's in the directory, and nothing of a process' environment says where. A path that is too long
for a socket's address is shortened through an open descriptor (``/proc/self/fd``). Where that can't
be, the socket is in a directory of its own among the temporary files, and whoever starts the server
writes down where: others have other places for these.
"""

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from aqm_db.errors import EmbeddedServerError

_SOCKET_FILE: Final = "aqm_db.sock"
_NOTE_FILE: Final = "aqm_db.place"
_DESCRIPTORS: Final = Path("/proc/self/fd")

_SOCKET_PATH_BYTES: Final = 103
"""The longest path that fits ``sun_path`` with its NUL on macOS; Linux has room for four more."""


class SocketPlace:
    """Where the socket of a directory's server is.

    Args:
        directory: one that was prepared.

    Raises:
        EmbeddedServerError: no path is short enough for a socket.
        OSError: the directory can't be used.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None
        self._is_elsewhere = False
        self._path = directory / _SOCKET_FILE
        if not _fits_socket(self._path):
            self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            folder = _DESCRIPTORS / str(self._descriptor)
            self._is_elsewhere = not folder.exists()
            self._path = folder / _SOCKET_FILE
        if self._is_elsewhere:
            self.close()
            self._path = self._read_note() or self._choose_elsewhere()

    @property
    def path(self) -> Path:
        """Where clients connect, in this process."""
        return self._path

    @property
    def path_of_server(self) -> str:
        """Where the server listens; it works in the directory."""
        return _SOCKET_FILE if self._descriptor is not None else str(self._path)

    def look_up(self) -> None:
        """Looks where the server is that runs, or where the next one is to be.

        Called by who holds the switch.
        """
        if self._is_elsewhere:
            self._path = self._read_note() or self._choose_elsewhere()

    def prepare(self) -> None:
        """Creates what a socket needs that isn't in the directory, and notes where it is.

        Called by who starts the server.

        Raises:
            EmbeddedServerError: others can reach it.
            OSError: it can't be used for another reason.
        """
        if not self._is_elsewhere:
            return
        self._path = self._choose_elsewhere()
        folder = self._path.parent
        # Anyone may write to the directory of temporary files: trust only what is provably ours.
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        if not _is_private(folder):
            raise EmbeddedServerError(f"{str(folder)!r} isn't a private directory of this user")
        note = self._directory / _NOTE_FILE
        draft = note.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_bytes(os.fsencode(self._path))
        draft.replace(note)

    def remove(self) -> None:
        """Removes what a server that ended has left of its socket, as far as that's possible."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            if self._is_elsewhere:
                (self._directory / _NOTE_FILE).unlink(missing_ok=True)
                self._path.parent.rmdir()

    def close(self) -> None:
        """Closes what it opened; again, it does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _read_note(self) -> Path | None:
        """Where a server was said to listen, unless that can't be so any more."""
        with contextlib.suppress(OSError):
            noted = (self._directory / _NOTE_FILE).read_bytes()
            path = Path(os.fsdecode(noted.partition(b"\0")[0]))
            is_ours = path.parent.name == self._name_folder() and _is_private(path.parent)
            if is_ours and path.name == _SOCKET_FILE and _fits_socket(path):
                return path
        return None

    def _choose_elsewhere(self) -> Path:
        path = Path(tempfile.gettempdir()) / self._name_folder() / _SOCKET_FILE
        if not _fits_socket(path):
            raise EmbeddedServerError(
                f"{str(self._directory)!r} is too long a path for a socket, and "
                f"{tempfile.gettempdir()!r} is, too"
            )
        return path

    def _name_folder(self) -> str:
        digest = hashlib.sha256(os.fsencode(self._directory)).hexdigest()
        return f"aqm_db-{os.geteuid()}-{digest[:16]}"


def _is_private(folder: Path) -> bool:
    status = folder.lstat()
    return status.st_uid == os.geteuid() and status.st_mode == stat.S_IFDIR | 0o700


def _fits_socket(path: Path) -> bool:
    return len(os.fsencode(path)) <= _SOCKET_PATH_BYTES
