"""A disk that is full, as far as one server can tell."""

import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from aqm_db.embedded import EmbeddedServer
from aqm_db.embedded._server import ServerProcess

if sys.platform == "linux":
    import resource

NEEDS_LIMITS = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux limits the files of a process that runs"
)


LIMITED_SERVER = partial(ServerProcess, restore_signals=False)
"""Starts a server that hears of a limit as of a full disk: by a failing write, not by a signal."""


class FullDisk:
    """The disk of an embedded server: full, and with room again, when a test says so.

    Args:
        directory: where the server's data is.

    Attributes:
        directory: where the server's data is.
        client: of the server.
        pid: its process.
        told: what the server acknowledged, by key.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.client = Redis(unix_socket_path=str(directory / "aqm_db.sock"))
        self.pid = int(self.info("server")["process_id"])
        self.told: dict[bytes, bytes] = {}

    def info(self, section: str) -> Any:
        """What the server says of itself."""
        return self.client.info(section)

    def store(self, key: str, value: bytes) -> None:
        """Stores what must never be lost from then on."""
        self.client.set(key, value)
        self.told[key.encode()] = value

    def rewrite(self) -> None:
        """Has the file written anew: from then on a write that fails can leave zeroes."""
        self.client.bgrewriteaof()
        while any(
            self.info("persistence")[name]
            for name in ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
        ):
            pass

    def fill(self, room: int = 0) -> None:
        """Leaves the newest file so many bytes, and stores until that is noticed."""
        self.limit(self.find_file().stat().st_size + room)
        with contextlib.suppress(ResponseError):
            for number in range(1000):
                self.store(f"full-{number}", b"v" * 300)
        assert self.info("persistence")["aof_last_write_status"] == "err"

    def free(self) -> None:
        """Makes room."""
        if sys.platform == "linux":
            self.limit(resource.RLIM_INFINITY)

    def wait_for_writes(self) -> None:
        """Until the server takes writes again."""
        while self.info("persistence")["aof_last_write_status"] == "err":
            pass

    def find_file(self) -> Path:
        """The newest file."""
        return max(
            (self.directory / "appendonlydir").glob("*.incr.aof"),
            key=lambda path: path.stat().st_mtime_ns,
        )

    def limit(self, size: int) -> None:
        """Lets no file grow beyond so many bytes."""
        if sys.platform == "linux":
            hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, hard))


def read_all(server: EmbeddedServer) -> dict[bytes, bytes]:
    """All values that a server has."""
    with Redis(unix_socket_path=str(server.socket_path)) as client:
        keys: Any = client.keys()
        values: Any = client.mget(keys) if keys else []
    return dict(zip(keys, values, strict=True))
