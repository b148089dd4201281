"""What ``confirm_fsync`` promises, on servers that say too early that a change is on their disk."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from aqm_db import AsyncClientDatabase, AsyncSmartInventory, connect, sync
from aqm_db.acl import acl_rules
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import (
    AccessDeniedError,
    InvalidArgumentError,
    InventoryUnavailableError,
    VaultUnavailableError,
)
from tests.support.backends import REDIS_8, VALKEY_8, VALKEY_9, Backend, RunningServer
from tests.support.diagnoses import FACES as FACE_NAMES, allow, diagnose, pick_finding, socket_url
from tests.support.faces import ASYNC, Face, Threaded
from tests.support.fsyncs import Fsyncs
from tests.support.peers import ScriptedServer, answer_select, listening
from tests.support.samples import BOB, sample_key, stock

pytestmark = pytest.mark.asyncio

EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")
PATIENT = {"confirm_fsync": True, "confirm_timeout": 4000}
VALKEYS = pytest.mark.parametrize("kind", [VALKEY_9, VALKEY_8], ids=lambda backend: backend.name)
TIMES = 8


@asynccontextmanager
async def opened(face: Face, url: str, **options: Any) -> AsyncGenerator[AsyncClientDatabase]:
    """A database on either face."""
    if face is ASYNC:
        async with connect(url, **options) as database:
            yield database
    else:
        with await asyncio.to_thread(_open_synchronously, url, options) as sync_database:
            yield cast("AsyncClientDatabase", _Parts(sync_database))


def _open_synchronously(url: str, options: dict[str, Any]) -> sync.ClientDatabase:
    return sync.connect(url, **options)


class _Parts(Threaded):
    """A synchronous database, whose parts can be awaited, too."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.wrapped, name)
        return Threaded(value) if name in {"vault", "inventory"} else super().__getattr__(name)

    def for_owner(self, owner: str) -> "_Parts":
        """Another owner's, made without I/O."""
        return _Parts(self.wrapped.for_owner(owner))


@asynccontextmanager
async def client_of(face: Face, server: RunningServer, **options: Any) -> AsyncGenerator[Any]:
    """A client for the face's classes."""
    if face is ASYNC:
        async with server.client(1, **options) as client:
            yield client
    else:
        with server.sync_client(1, **options) as sync_client:
            yield sync_client


@contextmanager
def admin_of(path: Path) -> Generator[Any]:
    """Whoever runs the server."""
    with redis.Redis(unix_socket_path=str(path), db=1) as client:
        yield client


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that some process started, which confirms nothing."""
    with EmbeddedServer.open(tmp_path / "db") as server:
        yield server


async def select_unsynced(inventory: AsyncSmartInventory, fsyncs: Fsyncs) -> int:
    """How many of some coins were handed out before the disk knew of it."""
    unsynced = 0
    for number in range(TIMES):
        await stock(inventory, BOB, "BRONZE", f"c{number}")
        fsyncs.start()
        assert await inventory.select_coin(BOB, "BRONZE") is not None
        unsynced += not fsyncs.has_run()
    return unsynced


# The embedded database ------------------------------------------------------------------------


async def test_an_embedded_database_confirms_what_is_on_its_disk(
    face: Face, embedded: EmbeddedServer
) -> None:
    """Also if a process that doesn't ask for it started the server."""
    with admin_of(embedded.socket_path) as admin:
        fsyncs = Fsyncs(admin)
        async with opened(face, f"embedded://{embedded.directory}", **PATIENT) as database:
            await database.inventory.register_contact(BOB, "BESTIE")
            assert await select_unsynced(database.inventory, fsyncs) == 0
            others = database.for_owner("carol")
            await others.vault.store_key(**sample_key("k", "GOLD"))


async def test_an_embedded_server_whose_setting_somebody_changes(
    face: Face, embedded: EmbeddedServer
) -> None:
    """It's changed back by the next change that has to be confirmed."""
    with admin_of(embedded.socket_path) as admin:
        fsyncs = Fsyncs(admin)
        async with opened(face, f"embedded://{embedded.directory}", **PATIENT) as database:
            await database.inventory.register_contact(BOB, "BESTIE")
            for number in range(TIMES):
                await stock(database.inventory, BOB, "BRONZE", f"c{number}")
                admin.config_set("appendfsync", "everysec")
                fsyncs.start()
                assert await database.inventory.select_coin(BOB, "BRONZE") is not None
                assert fsyncs.has_run()


async def test_an_embedded_server_that_asks_for_nothing(face: Face, tmp_path: Path) -> None:
    """Once it ends, the next one is as fast as it was."""
    url = f"embedded://{tmp_path / 'db'}"
    async with opened(face, url, **PATIENT) as database:
        await database.vault.store_key(**sample_key("k", "GOLD"))
    with EmbeddedServer.open(tmp_path / "db") as server, admin_of(server.socket_path) as admin:
        assert admin.config_get("appendfsync") == {"appendfsync": "everysec"}


# Servers of the user's ------------------------------------------------------------------------


@VALKEYS
@pytest.mark.parametrize("policy", ["everysec", "no"])
async def test_a_server_that_confirms_too_early(face: Face, kind: Backend, policy: str) -> None:
    """It's refused, with what there is to do, and taken once that is done."""
    with RunningServer(kind, "--appendonly", "yes", "--appendfsync", policy) as server:
        url = socket_url(server)
        with pytest.raises(InvalidArgumentError, match=f"appendfsync is {policy}") as caught:
            async with opened(face, url, **PATIENT):
                pass
        assert caught.value.argument == "confirm_fsync"
        assert "CONFIG SET appendfsync always" in str(caught.value)
        with server.sync_client(1) as admin:
            admin.config_set("appendfsync", "always")
            async with opened(face, url, **PATIENT) as database:
                await database.inventory.register_contact(BOB, "BESTIE")
                assert await select_unsynced(database.inventory, Fsyncs(admin)) == 0


async def test_a_server_that_waits_for_its_disk(face: Face) -> None:
    """Its thread has run whenever a change is confirmed."""
    with RunningServer(REDIS_8, *EVERYSEC) as server, server.sync_client(1) as admin:
        async with opened(face, socket_url(server)) as database:
            await database.inventory.register_contact(BOB, "BESTIE")
            await stock(database.inventory, BOB, "GOLD", "c1")
        async with opened(face, socket_url(server), **PATIENT) as database:
            fsyncs = Fsyncs(admin)
            assert await database.inventory.select_coin(BOB, "GOLD") is not None
            assert fsyncs.has_run()
        admin.config_set("appendfsync", "no")
        with pytest.raises(InvalidArgumentError, match="appendfsync is no"):
            async with opened(face, socket_url(server), **PATIENT):
                pass


@VALKEYS
async def test_a_setting_that_is_changed_later(face: Face, kind: Backend) -> None:
    """Nothing is called confirmed from then on, until it's changed back; no coin is lost."""
    always = ("--appendonly", "yes", "--appendfsync", "always")
    with RunningServer(kind, *always) as server, server.sync_client(1) as admin:
        async with opened(face, socket_url(server), **PATIENT) as database:
            inventory = database.inventory
            await inventory.register_contact(BOB, "BESTIE")
            await stock(inventory, BOB, "GOLD", "c1", "c2")
            admin.config_set("appendfsync", "everysec")
            with pytest.raises(InventoryUnavailableError, match="is everysec") as caught:
                await inventory.select_coin(BOB, "GOLD")
            assert caught.value.outcome_unknown
            with pytest.raises(VaultUnavailableError, match="Set appendfsync to always"):
                await database.vault.store_key(**sample_key("k", "GOLD"))
            admin.config_set("appendfsync", "always")
            coin = await inventory.select_coin(BOB, "GOLD")
            assert coin is not None
            assert coin.key_id == "c2"


@VALKEYS
async def test_a_client_of_ones_own(face: Face, kind: Backend) -> None:
    """Nothing was asked when it was made; each change is."""
    with RunningServer(kind, *EVERYSEC) as server:
        async with client_of(face, server) as client:
            for _ in range(2):
                vault = face.vault(client, confirm_fsync=True)
                with pytest.raises(VaultUnavailableError, match="before its disk has it") as caught:
                    await vault.burn_key("k")
                assert caught.value.outcome_unknown


# Users who may not ask ------------------------------------------------------------------------


async def test_a_user_who_may_not_ask(face: Face) -> None:
    """Nobody tells whether such a server can be believed, so it isn't."""
    rules = acl_rules("carol", confirm_fsync=True)
    with RunningServer(VALKEY_9, "--appendonly", "yes", "--appendfsync", "always") as server:
        url = socket_url(server, "u:p@")
        allow(server, *rules)
        with pytest.raises(AccessDeniedError, match=r"Valkey 9.* too early: .* \+config\|get"):
            async with opened(face, url, owner="carol", **PATIENT):
                pass
        async with client_of(face, server, username="u", password="p") as client:
            vault = face.vault(client, owner="carol", confirm_fsync=True)
            with pytest.raises(AccessDeniedError, match="CONFIG GET, without which"):
                await vault.store_key(**sample_key("k", "GOLD"))
        allow(server, *rules, "+config|get")
        async with opened(face, url, owner="carol", **PATIENT) as database:
            await database.vault.store_key(**sample_key("k2", "GOLD"))


async def test_a_server_that_can_be_believed_without(face: Face) -> None:
    """Every user may greet it, and that's enough."""
    with RunningServer(REDIS_8, "--appendonly", "yes", "--appendfsync", "always") as server:
        allow(server, *acl_rules("carol", confirm_fsync=True))
        async with opened(face, socket_url(server, "u:p@"), owner="carol", **PATIENT) as database:
            await database.vault.store_key(**sample_key("k", "GOLD"))
            with server.sync_client(0) as admin:
                admin.execute_command("ACL", "LOG", "RESET")
                await database.vault.store_key(**sample_key("k2", "GOLD"))
                assert admin.execute_command("ACL", "LOG") == []


# Servers that say odd things ------------------------------------------------------------------


def _answer(**said: bytes | None) -> Callable[[list[bytes]], bytes | None]:
    """What a server says to each command; scripts hand out a coin."""
    told = {"SET": b"+OK\r\n", "GET": b"$-1\r\n", "WAITAOF": b"*2\r\n:1\r\n:0\r\n", **said}

    def answer(command: list[bytes]) -> bytes | None:
        name = command[0].decode()
        return told[name] if name in told else answer_select(command, None)

    return answer


async def test_a_server_without_the_command(face: Face, tmp_path: Path) -> None:
    """Some that are rented don't have it, and those can't be believed."""
    server = ScriptedServer(_answer(CONFIG=b"-ERR unknown command 'CONFIG'\r\n", PING=b"+PONG\r\n"))
    async with listening(server, tmp_path / "s"):
        with pytest.raises(InvalidArgumentError, match="doesn't tell whether appendfsync"):
            async with opened(
                face, f"unix://{tmp_path}/s?protocol=2", **PATIENT, allow_unsafe=True
            ):
                pass
        async with odd_inventory(face, tmp_path / "s") as inventory:
            with pytest.raises(InventoryUnavailableError, match="doesn't tell whether"):
                await inventory.select_coin(BOB, "GOLD")


@pytest.mark.parametrize(
    ("said", "error", "unknown"),
    [
        (b"-MISCONF Errors writing to the AOF file\r\n", "takes no writes", True),
        # It's asked before the first change, too, and that isn't sent then.
        (b"-LOADING the dataset\r\n", "the dataset", False),
    ],
)
async def test_a_server_that_does_not_tell_now(
    face: Face, tmp_path: Path, *, said: bytes, error: str, unknown: bool
) -> None:
    """What it says instead is what is raised."""
    server = ScriptedServer(_answer(CONFIG=said, PING=b"+PONG\r\n"))
    async with listening(server, tmp_path / "s"):
        with pytest.raises(Exception, match=error):
            async with opened(
                face, f"unix://{tmp_path}/s?protocol=2", **PATIENT, allow_unsafe=True
            ):
                pass
        async with odd_inventory(face, tmp_path / "s") as inventory:
            with pytest.raises(InventoryUnavailableError, match=error) as caught:
                await inventory.select_coin(BOB, "GOLD")
        assert caught.value.outcome_unknown is unknown


async def test_a_server_that_hangs_up_before_it_tells_what_it_is(
    face: Face, tmp_path: Path
) -> None:
    """The change may have been made, and nothing says whether it was confirmed."""

    def answer(command: list[bytes]) -> bytes | None:
        # Before the change, it says what its clock shows.
        is_made = any(request[0] == b"EVALSHA" for request in server.requests)
        server.greeting = None if is_made and command[0] == b"CONFIG" else b"+OK\r\n"
        return _answer(CONFIG=b"*0\r\n")(command)

    server = ScriptedServer(answer)
    async with listening(server, tmp_path / "s"), odd_inventory(face, tmp_path / "s") as inventory:
        with pytest.raises(InventoryUnavailableError) as caught:
            await inventory.select_coin(BOB, "GOLD")
    assert caught.value.outcome_unknown


@asynccontextmanager
async def odd_inventory(face: Face, path: Path) -> AsyncGenerator[AsyncSmartInventory]:
    """An inventory that asks once, and in the older protocol."""
    options: dict[str, Any] = {"unix_socket_path": str(path), "protocol": 2}
    if face is ASYNC:
        async with redis.asyncio.Redis(**options, retry=AsyncRetry(NoBackoff(), 0)) as client:
            yield face.inventory(client, confirm_fsync=True)
    else:
        with redis.Redis(**options, retry=Retry(NoBackoff(), 0)) as sync_client:
            yield face.inventory(sync_client, confirm_fsync=True)


# What a doctor says ---------------------------------------------------------------------------


@FACE_NAMES
@VALKEYS
async def test_a_disk_that_nobody_waits_for(face: str, kind: Backend) -> None:
    """Every call would fail, and the remedy is a setting, or that the user may ask for it."""
    with RunningServer(kind, *EVERYSEC) as server:
        client = server.client(0)
        database = AsyncClientDatabase(client, client, confirm_fsync=True)
        found = pick_finding(await database.doctor(), "confirmation")
        await database.aclose()
        assert (found.severity, "appendfsync is everysec" in found.message) == ("error", True)
        assert "CONFIG SET appendfsync always" in found.remedy
        with server.sync_client(0) as admin:
            admin.config_set("appendfsync", "always")
        told = await diagnose(face, socket_url(server), confirm_fsync=True)
        assert pick_finding(told, "confirmation").severity == "ok"
        allow(server, "~*", "+@all", "-config")
        client = server.client(0, username="u", password="p")
        database = AsyncClientDatabase(client, client, confirm_fsync=True)
        found = pick_finding(await database.doctor(), "confirmation")
        await database.aclose()
        assert (found.severity, "doesn't tell" in found.message) == ("error", True)
        assert "+config|get" in found.remedy
