"""An embedded server that dies: the databases that have it open start it again."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import uvloop

from aqm_db._io.redispy.clients import SyncStandIn
from aqm_db.embedded import SETTINGS, EmbeddedServer, _server, _share
from aqm_db.errors import AccessDeniedError, EmbeddedServerError, VaultUnavailableError
from tests.support.embedded_programs import (
    PATIENCE,
    Program,
    call,
    kill,
    locked,
    open_database,
    pid_of,
    runs,
    server_of,
)
from tests.support.samples import BOB

FACES = pytest.mark.parametrize("face", ["aio", "sync"])
Runner = Callable[[Any], Any]
RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where a database may be made."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        yield Path(path).resolve() / "db"


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process ids of the servers that are started."""
    pids: list[int] = []
    start = _server.start_server

    def note(*args: Any) -> _server.ServerProcess:
        process = start(*args)
        pids.append(process.pid)
        return process

    monkeypatch.setattr(_share, "start_server", note)
    return pids


@FACES
@RUNNERS
def test_all_callers_have_one_started(
    face: str, run: Runner, directory: Path, starts: list[int]
) -> None:
    """A server that was killed is there again for all callers of both databases."""

    async def work() -> None:
        async with open_database(face, directory) as db:
            [first] = starts
            kill(first)
            calls = [
                asyncio.gather(db.inventory.get_contact_meta(BOB), db.vault.exists("k"))
                for _ in range(20)
            ]
            for meta, is_there in await asyncio.gather(*calls):
                assert meta.priority == "BESTIE"
                assert is_there is False
            assert pid_of(server_of(db)) == starts[-1]
        assert not runs(directory)

    run(work())
    assert len(starts) == 2


@FACES
def test_two_processes_have_one_started(face: str, directory: Path) -> None:
    """Whichever process comes first starts it; the other finds it there."""

    async def work() -> None:
        async with open_database(face, directory) as db:
            with Program(directory) as other:
                first = other.open()
                kill(first)
                other.say("revive")
                await db.inventory.get_contact_meta(BOB)
                second = int(other.hear())
                assert second != first
                assert pid_of(server_of(db)) == second
                other.crash()
            assert await db.inventory.has_keys_for(BOB) is False

    asyncio.run(work())
    assert not runs(directory)


@FACES
def test_told_to_stop_at_this_moment(face: str, directory: Path, starts: list[int]) -> None:
    """A server that somebody stops while calls are made comes back, and each call is one."""

    async def work() -> None:
        async with open_database(face, directory) as db:
            stored = [f"k{number}" for number in range(60)]

            async def hand_over(key_ids: list[str]) -> list[str]:
                taken: list[str] = []
                for key_id in key_ids:
                    await db.inventory.register_contact(key_id, "BESTIE")
                    await db.inventory.store_key(key_id, key_id, "BRONZE", b"p", b"s")
                    taken.append((await db.inventory.select_coin(key_id, "BRONZE")).key_id)
                return taken

            async with asyncio.TaskGroup() as group:
                working = [group.create_task(hand_over(stored[part::4])) for part in range(4)]
                for _ in range(2):
                    await asyncio.to_thread(stop, server_of(db))
            taken = [key_id for part in working for key_id in part.result()]
            assert sorted(taken) == sorted(stored)
            assert (await db.inventory.get_inventory(BOB)).bronze_count == 0

    asyncio.run(work())
    assert len(starts) >= 2


def stop(server: EmbeddedServer) -> None:
    """Somebody else tells a server to end; it hangs up, and may live for a moment."""
    server.revive()
    # Once: a client would ask again, and stop the next one.
    _server.send_command(server.socket_path, b"SHUTDOWN", PATIENCE)


@FACES
def test_nothing_is_started_after_closing(face: str, directory: Path, starts: list[int]) -> None:
    """Neither a call nor a connection brings the server of a closed database back."""

    async def work() -> None:
        async with open_database(face, directory) as db:
            server, client = server_of(db), db.resources.clients[0]
        with pytest.raises(VaultUnavailableError):
            await db.vault.exists("k")
        with pytest.raises(redis.ConnectionError, match="the embedded server was closed"):
            await ping(client)
        with pytest.raises(EmbeddedServerError, match="the embedded server was closed"):
            server.revive()

    asyncio.run(work())
    assert len(starts) == 1
    assert not runs(directory)


async def ping(client: Any) -> None:
    """A command through a client of either face itself."""
    if isinstance(client, SyncStandIn):
        await asyncio.to_thread(client.client.ping)
    else:
        await client.ping()


CHILD = """
import asyncio, os, sys
import aqm_db
import aqm_db.sync

async def ask(db):
    try:
        print("child", (await db.inventory.get_contact_meta("bob")).priority, flush=True)
    except aqm_db.errors.UnavailableError as error:
        print("child", error, flush=True)

def fork(child):
    pid = os.fork()
    if pid == 0:
        child()
        os._exit(0)
    os.waitpid(pid, 0)

async def work(url):
    async with aqm_db.connect(url) as db:
        await db.inventory.register_contact("bob", "BESTIE")
        os.kill((await db.resources.clients[0].info("server"))["process_id"], 9)
        fork(lambda: asyncio.run(ask(db)))
        print("parent", (await db.inventory.get_contact_meta("bob")).priority, flush=True)
    fork(lambda: asyncio.run(ask(db)))

def work_synchronously(url):
    def ask():
        try:
            print("child", db.inventory.get_contact_meta("bob").priority, flush=True)
        except aqm_db.errors.UnavailableError as error:
            print("child", error, flush=True)

    with aqm_db.sync.connect(url) as db:
        db.inventory.register_contact("bob", "BESTIE")
        os.kill(db.asynchronous.resources.clients[0].client.info("server")["process_id"], 9)
        fork(ask)
        print("parent", db.inventory.get_contact_meta("bob").priority, flush=True)
    fork(ask)

if sys.argv[1] == "aio":
    asyncio.run(work(sys.argv[2]))
else:
    work_synchronously(sys.argv[2])
"""


@FACES
def test_a_forked_process_starts_it_too(
    face: str, directory: Path, measured: dict[str, str]
) -> None:
    """Where its parent has the database open, a child has the server started; later it hasn't."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, face, f"embedded://{directory}"],
        capture_output=True,
        env=measured,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    told = ran.stdout.splitlines()
    assert told[:2] == ["child BESTIE", "parent BESTIE"]
    assert told[2] == "child the database was closed"
    assert not runs(directory)


def test_a_forked_process_starts_nothing_that_nobody_has_open(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child whose parent has closed starts no server, though the child hasn't closed."""
    with EmbeddedServer.open(directory) as server, Program(directory) as other:
        other.open()
        kill(pid_of(server))
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            server.revive()
        kill(pid_of(server))
        other.crash()
        server._share._users.drop()
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            with pytest.raises(EmbeddedServerError, match="in the process that forked this one"):
                server.revive()
    assert not runs(directory)


def test_a_directory_that_is_gone(directory: Path) -> None:
    """No server is started where another database may be by now."""
    with EmbeddedServer.open(directory) as server:
        kill(pid_of(server))
        directory.rename(directory.with_name("moved"))
        with pytest.raises(EmbeddedServerError, match="the embedded server can't use"):
            server.revive()
        directory.mkdir()
        with pytest.raises(EmbeddedServerError, match="was moved or deleted while it was open"):
            server.revive()


def test_someone_else_starts_for_too_long(directory: Path) -> None:
    """Whoever can't have the lock in time says so."""
    with (
        EmbeddedServer.open(directory) as server,
        locked(directory / "aqm_db.lock"),
        pytest.raises(EmbeddedServerError, match="starting or stopping for more than 0 seconds"),
    ):
        server.revive(timeout=0)


@FACES
def test_it_cannot_be_started(face: str, directory: Path) -> None:
    """A file that the server refuses is said to be the cause."""

    async def work() -> None:
        async with open_database(face, directory) as db:
            kill(pid_of(server_of(db)))
            (file,) = (directory / "appendonlydir").glob("*.incr.aof")
            file.write_bytes(b"garbage\r\n" + file.read_bytes())
            with pytest.raises(VaultUnavailableError, match="ended while it started.*Bad file"):
                await db.vault.exists("k")

    asyncio.run(work())


def test_it_takes_longer_than_a_call_waits(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that reads its data isn't killed when a call has no more time for it."""
    with EmbeddedServer.open(directory) as server:
        call(server, "SET", "key", "value")
        kill(pid_of(server))
        with monkeypatch.context() as patch:
            patch.setattr(_server, "_ANSWER_SECONDS", 0.05)
            patch.setattr(_server, "SETTINGS", {**SETTINGS, "key-load-delay": "500000"})
            with pytest.raises(EmbeddedServerError, match=r"didn't answer for 0\.1 seconds"):
                server.revive(timeout=0.1)
        assert runs(directory)
        server.revive()
        assert call(server, "GET", "key") == b"value"


@RUNNERS
def test_the_event_loop_goes_on(run: Runner, directory: Path) -> None:
    """While somebody else starts the server, calls wait, and nothing else does."""

    async def work() -> None:
        async with open_database("aio", directory) as db:
            kill(pid_of(server_of(db)))
            with locked(directory / "aqm_db.lock"):
                waiting = asyncio.ensure_future(db.inventory.get_contact_meta(BOB))
                while not waiting.done() and "revive" not in list_running_functions():
                    await asyncio.sleep(0)
            assert (await waiting).priority == "BESTIE"

    run(work())


def list_running_functions() -> set[str]:
    """What the threads of this process are in the middle of."""
    names: set[str] = set()
    for top in sys._current_frames().values():
        names.update(frame.f_code.co_name for frame, _ in traceback.walk_stack(top))
    return names


def test_closing_ends_a_start(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is closed while its server starts waits for no more than a moment."""
    with EmbeddedServer.open(directory) as server:
        call(server, "SET", "key", "value")
        kill(pid_of(server))
        monkeypatch.setattr(_server, "_ANSWER_SECONDS", 0.05)
        monkeypatch.setattr(_server, "SETTINGS", {**SETTINGS, "key-load-delay": "60000000"})
        monkeypatch.setattr(_share, "_STOP_SECONDS", 1.0)
        errors: list[EmbeddedServerError] = []

        def revive() -> None:
            try:
                server.revive(timeout=60)
            except EmbeddedServerError as error:
                errors.append(error)

        thread = threading.Thread(target=revive)
        thread.start()
        while not runs(directory):
            pass
        server.close()
        thread.join()
        assert [str(error) for error in errors] == ["the embedded server was closed"]
    assert not runs(directory)


@FACES
def test_what_the_server_refuses_starts_nothing(
    face: str, directory: Path, starts: list[int]
) -> None:
    """A server that wants a password is there, and says so."""

    async def work() -> None:
        async with open_database(face, directory) as db:
            path = str(server_of(db).socket_path)
            with redis.Redis(unix_socket_path=path) as administrator:
                administrator.config_set("requirepass", "secret")
                administrator.client_kill_filter(_type="normal", skipme=True)
            with pytest.raises(AccessDeniedError):
                await db.vault.exists("k")
            os.kill(starts[0], signal.SIGKILL)

    asyncio.run(work())
    assert len(starts) == 1
