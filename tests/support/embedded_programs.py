"""Programs that share an embedded server, and what tests ask of it."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from redis import Redis

import aqm_db
from aqm_db import sync
from aqm_db.embedded import EmbeddedServer
from tests.support.faces import Threaded
from tests.support.samples import BOB

PATIENCE: Final = 20.0
"""Seconds after which a process that should have ended counts as hung."""

PROGRAM: Final = """
import os, signal, sys
from redis import Redis
from aqm_db.embedded import EmbeddedServer

for line in sys.stdin:
    match line.strip():
        case "open":
            server = EmbeddedServer.open(sys.argv[1])
            with Redis(unix_socket_path=str(server.socket_path)) as client:
                print(client.info("server")["process_id"], flush=True)
        case setting if "=" in setting:
            name, _, value = setting.partition("=")
            os.environ[name] = value
        case "close":
            server.close()
            print("closed", flush=True)
        case "revive":
            server.revive()
            with Redis(unix_socket_path=str(server.socket_path)) as client:
                print(client.info("server")["process_id"], flush=True)
        case "fork":
            if os.fork() == 0:
                server.close()
                os._exit(0)
            os.wait()
            if os.fork() == 0:
                sys.exit()
            os.wait()
            print("forked", flush=True)
        case "take the switch":
            server._share._switch.take()
            print("taken", flush=True)
        case "fork a worker":
            reading, writing = os.pipe()
            if os.fork() == 0:
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
            print("forked", flush=True)
        case "fork an orphan":
            pid = os.fork()
            if pid == 0:
                # It can't live on for ever.
                signal.alarm(100)
                signal.pause()
            print(pid, flush=True)
"""


class Program:
    """Another process that uses the library; every warning in it is an error."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def say(self, word: str) -> None:
        """Begin a step."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Wait for the end of a step."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def open(self, **environment: str) -> int:
        """Open the directory, in an environment; return the server's pid."""
        for name, value in environment.items():
            self.say(f"{name}={value}")
        self.say("open")
        return int(self.hear())

    def close(self) -> None:
        """Close the server."""
        self.say("close")
        assert self.hear() == "closed"

    def crash(self) -> None:
        """Die without a word."""
        self.die(signal.SIGKILL)

    def die(self, number: signal.Signals) -> None:
        """Die of a signal."""
        self._process.send_signal(number)
        assert self._process.wait(PATIENCE) == -number

    def exit(self) -> None:
        """Leave, having closed nothing; nothing may be said about it."""
        _, complaints = self._process.communicate(timeout=PATIENCE)
        assert complaints == ""
        assert self._process.returncode == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._process:
            self._process.kill()


def call(server: EmbeddedServer, *words: str | bytes | int) -> Any:
    """One command, over a connection of its own."""
    with Redis(unix_socket_path=str(server.socket_path)) as client:
        return client.execute_command(*words)


def pid_of(server: EmbeddedServer) -> int:
    """The process id of a running server."""
    return int(call(server, "INFO", "server")["process_id"])


def runs(directory: Path) -> bool:
    """Whether a server lives that was started for this directory."""
    with (directory / "aqm_db.server").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def exists(pid: int) -> bool:
    """Whether a process lives; one that waits to be reaped by another doesn't.

    As long as a thread of it is there (``l``, on Linux), it holds its files and their locks.
    """
    ps = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)],  # noqa: S607 - POSIX has it on the path
        capture_output=True,
        text=True,
        check=False,
    )
    state = ps.stdout.strip()
    return bool(state) and (not state.startswith("Z") or "l" in state)


def wait_for_death(pid: int) -> None:
    """Until a process that isn't our child is gone."""
    until = time.monotonic() + PATIENCE
    while exists(pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def kill(pid: int) -> None:
    """The server dies as in an accident."""
    os.kill(pid, signal.SIGKILL)
    wait_for_death(pid)


@contextlib.contextmanager
def locked(path: Path) -> Generator[None]:
    """Someone holds one of the directory's locks."""
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@asynccontextmanager
async def open_database(face: str, directory: Path) -> AsyncGenerator[Any]:
    """A database of either face, whose methods can be awaited; it has a contact."""
    url = f"embedded://{directory}"
    if face == "aio":
        async with aqm_db.connect(url) as db:
            await db.inventory.register_contact(BOB, "BESTIE")
            yield db
    else:
        with sync.connect(url) as db:
            db.inventory.register_contact(BOB, "BESTIE")
            yield SyncDatabase(db)


class SyncDatabase:
    """A synchronous database whose methods can be awaited."""

    def __init__(self, db: sync.ClientDatabase) -> None:
        self.inventory: Any = Threaded(db.inventory)
        self.vault: Any = Threaded(db.vault)
        self.resources = db.asynchronous.resources


def server_of(db: Any) -> EmbeddedServer:
    """The embedded server of a database."""
    server: EmbeddedServer | None = db.resources.server
    assert server is not None
    return server
