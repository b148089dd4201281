"""Forgetting a contact, on every backend and face: nothing is left but the memory of used coins."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase, AsyncReplenisher, AsyncSmartInventory
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    ContactNotRegisteredError,
    CorruptEntryError,
    KeyAlreadyUsedError,
)
from tests.conftest import INVENTORY_DB
from tests.support.backends import REDIS_6, VALKEY_9, Backend, RunningServer, Servers
from tests.support.coin_server import CoinServer
from tests.support.faces import Face
from tests.support.samples import BOB, MATE, Clock, halves, snapshot, stock

pytestmark = pytest.mark.asyncio

USED = f"inv:v1:used:{BOB}"
WATCH = "inv:v1:watch"
CONTACTS = "inv:v1:contacts"
FORGOTTEN = "inv:v1:forgotten"
META = f"inv:v1:meta:{BOB}"
MONTH_MS = 30 * 86_400_000


async def names(client: Redis) -> list[str]:
    """The names of everything but the owner's totals, and claims, which end within 30 seconds."""
    found: list[Any] = await client.keys()
    return sorted(
        name.decode() for name in found if b":claim:" not in name and name != b"inv:v1:totals"
    )


async def test_everything_of_the_contact_goes(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    registered_mate: str,
) -> None:
    """Itself, its queues and its coins, which are counted; another contact keeps all."""
    await stock(inventory, registered_mate, "SILVER", "m1")
    others = [name for name in await names(inventory_client) if MATE in name or name == CONTACTS]
    await stock(inventory, registered_bestie, "GOLD", "g1", "g2")
    await stock(inventory, registered_bestie, "BRONZE", "b:1")
    assert await inventory.forget_contact(registered_bestie) == 3
    assert await names(inventory_client) == others
    assert await inventory.get_contact_meta(registered_bestie) is None


async def test_nobody_can_not_be_forgotten(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """A contact that isn't there is an error, the second time too."""
    with pytest.raises(ContactNotRegisteredError, match="nobody"):
        await inventory.forget_contact("nobody")
    assert await inventory.forget_contact(registered_bestie) == 0
    with pytest.raises(ContactNotRegisteredError, match=BOB):
        await inventory.forget_contact(registered_bestie)


async def test_a_used_coin_does_not_come_back(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """What was used is remembered for 30 days, and for good once the contact is back."""
    await stock(inventory, registered_bestie, "GOLD", "used", "unused", "released")
    await inventory.select_coin(registered_bestie, "GOLD")
    entry = await inventory.select_coin(registered_bestie, "GOLD")
    assert entry is not None
    assert await inventory.release_coin(entry) is True
    assert await inventory.forget_contact(registered_bestie) == 2
    assert await names(inventory_client) == [FORGOTTEN, USED]
    assert MONTH_MS - 60_000 < await inventory_client.pttl(USED) <= MONTH_MS
    await inventory.register_contact(registered_bestie, "BESTIE")
    assert await inventory_client.pttl(USED) == -1
    with pytest.raises(KeyAlreadyUsedError):
        await stock(inventory, registered_bestie, "GOLD", "used")
    await stock(inventory, registered_bestie, "GOLD", "unused", "released")


async def test_a_coin_that_was_handed_out_can_not_be_released(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """Its contact is gone, and giving it back brings nothing of them back."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    entry = await inventory.select_coin(registered_bestie, "GOLD")
    assert entry is not None
    await inventory.forget_contact(registered_bestie)
    assert await inventory.release_coin(entry) is False
    assert await names(inventory_client) == [FORGOTTEN, USED]


async def test_a_damaged_contact_goes_too(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """Rows and queues that lost each other, and entries of the wrong type, don't stay behind."""
    await stock(inventory, registered_bestie, "SILVER", "orphan", "dangling", "whole")
    await stock(inventory, registered_bestie, "GOLD", "behind a string")
    await inventory_client.zrem(f"inv:v1:idx:{BOB}:SILVER", "orphan")
    await inventory_client.delete(f"inv:v1:key:{BOB}:dangling")
    await inventory_client.set(f"inv:v1:idx:{BOB}:GOLD", "x")
    await inventory_client.set(f"inv:v1:key:{BOB}:string", "x")
    await inventory_client.set(META, "x")
    # As a check notes them.
    await inventory_client.zadd("inv:v1:aside", {f"{BOB}:orphan": 0, f"{BOB}:string": 0})
    await inventory_client.zadd("inv:v1:aside", {f"{BOB}:behind a string": 0})
    assert await inventory.forget_contact(registered_bestie) == 4
    assert await names(inventory_client) == []


async def test_a_memory_that_can_not_be_read_is_not_lost(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """Forgetting and registering both stop before the first change."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    await inventory_client.set(USED, "x")
    before = await snapshot(inventory_client)
    with pytest.raises(CorruptEntryError):
        await inventory.forget_contact(registered_bestie)
    assert await snapshot(inventory_client) == before
    await inventory_client.delete(META)
    with pytest.raises(CorruptEntryError):
        await inventory.register_contact(registered_bestie, "BESTIE")
    assert not await inventory_client.exists(META)


async def test_twice_is_once(face: Face, server: RunningServer, inventory_client: Redis) -> None:
    """A request that is sent again gets the same answer, and changes nothing."""
    with server.sync_client(INVENTORY_DB) as blocking:
        client: Any = inventory_client if face.name == "aio" else blocking
        inventory = face.inventory(client, clock=Clock())
        await inventory.register_contact(BOB, "BESTIE")
        await stock(inventory, BOB, "GOLD", "g1", "g2", "g3")
        await inventory.select_coin(BOB, "GOLD")
        again = face.inventory(client, clock=Clock(), request_ids=lambda: "again")
        assert await again.forget_contact(BOB) == 2
        after = await snapshot(inventory_client)
        assert await again.forget_contact(BOB) == 2
        assert await snapshot(inventory_client) == after
        # A late repetition doesn't touch a contact who is back.
        await inventory.register_contact(BOB, "MATE")
        await stock(inventory, BOB, "SILVER", "s1")
        assert await again.forget_contact(BOB) == 2
        assert await inventory.has_keys_for(BOB)


async def test_callers_that_select_and_store_meanwhile(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """Each coin was handed out once or dropped, and nothing is left whoever came last."""
    coins = [f"s{number}" for number in range(4)]
    await stock(inventory, registered_bestie, "SILVER", *coins)

    async def attempt(call: Any) -> Any:
        try:
            return await call
        except AQMDatabaseError as error:
            return error

    *taken, dropped, again, _ = await asyncio.gather(
        *(attempt(inventory.select_coin(registered_bestie, "SILVER")) for _ in range(3)),
        attempt(inventory.forget_contact(registered_bestie)),
        attempt(inventory.forget_contact(registered_bestie)),
        attempt(inventory.store_key(registered_bestie, "s9", "SILVER", *halves("SILVER"))),
    )
    handed_out = [coin.key_id for coin in taken if coin is not None and not _is_nobody(coin)]
    counts = [count for count in (dropped, again) if isinstance(count, int)]
    assert len(counts) == 1
    assert len(set(handed_out)) == len(handed_out)
    assert len(handed_out) + counts[0] in {4, 5}
    assert await names(inventory_client) == ([FORGOTTEN, USED] if handed_out else [])


def _is_nobody(outcome: object) -> bool:
    return isinstance(outcome, ContactNotRegisteredError)


async def test_it_is_told(
    inventory: AsyncSmartInventory, registered_bestie: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who was forgotten, and how many coins went."""
    caplog.set_level(logging.INFO, logger="aqm_db")
    await stock(inventory, registered_bestie, "GOLD", "g1")
    await inventory.forget_contact(registered_bestie)
    [record] = caplog.records
    assert (record.msg, record.__dict__["contact_id"], record.__dict__["dropped"]) == (
        "contact_forgotten",
        BOB,
        1,
    )


# What only a server of one's own can be set to ----------------------------------------------


@pytest.fixture(params=[VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
def own(request: pytest.FixtureRequest) -> Any:
    """A server that is spoiled for others."""
    backend = request.param
    assert isinstance(backend, Backend)
    with RunningServer(backend) as running:
        yield running


def allow(server: RunningServer, *rules: str) -> Redis:
    """A client of a user who may do what these rules say."""
    with server.sync_client(0) as admin:
        admin.execute_command("ACL", "SETUSER", "limited", "on", "nopass", "~*", "+@all", *rules)
    return server.client(INVENTORY_DB, username="limited", password="any")


@pytest_asyncio.fixture
async def stocked(own: RunningServer) -> AsyncIterator[Redis]:
    """A client of that server, where a contact has a used coin and one that isn't."""
    client = own.client(INVENTORY_DB)
    inventory = AsyncSmartInventory(client)
    await inventory.register_contact(BOB, "BESTIE")
    await stock(inventory, BOB, "GOLD", "g1", "g2")
    await inventory.select_coin(BOB, "GOLD")
    yield client
    await client.aclose()


async def test_a_full_server_forgets(stocked: Redis) -> None:
    """Forgetting makes room, so a server out of memory doesn't refuse it."""
    await stocked.config_set("maxmemory", "1")
    assert await AsyncSmartInventory(stocked).forget_contact(BOB) == 1
    assert await names(stocked) == [FORGOTTEN, USED, WATCH]


@pytest.mark.parametrize(
    "command", ["del", "zrem", "set", "pexpire", "zrevrange", "hmget", "srem", "zrangebylex"]
)
async def test_a_forbidden_command_is_found_out_before_anything_goes(
    own: RunningServer, stocked: Redis, command: str
) -> None:
    """An ACL that forbids one of the writes, or the look, forbids all of it."""
    limited = allow(own, f"-{command}")
    before = await snapshot(stocked)
    with pytest.raises(AccessDeniedError):
        await AsyncSmartInventory(limited).forget_contact(BOB)
    assert await snapshot(stocked) == before
    await limited.aclose()


async def test_a_contact_is_not_registered_without_its_memory(
    own: RunningServer, stocked: Redis
) -> None:
    """Where the memory's end can't be taken back, there's no new contact whose memory ends."""
    await AsyncSmartInventory(stocked).forget_contact(BOB)
    limited = allow(own, "-persist")
    with pytest.raises(AccessDeniedError):
        await AsyncSmartInventory(limited).register_contact(BOB, "BESTIE")
    assert await names(stocked) == [FORGOTTEN, USED, WATCH]
    await limited.aclose()


WALKS: dict[str, Callable[[AsyncClientDatabase], Awaitable[object]]] = {
    "get_inventory": lambda db: db.inventory.get_inventory(),
    "count_stale": lambda db: db.inventory.count_stale(40),
    "collect": lambda db: db.gc.garbage_collect(0),
    "dry_run": lambda db: db.gc.dry_run(0),
    "dashboard": lambda db: db.reporter.get_full_dashboard(),
    "check": lambda db: db.check(),
    "replenish": lambda db: AsyncReplenisher(db.inventory, CoinServer().fetch).replenish(),
}


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
async def test_a_contact_that_is_forgotten_during_a_walk_is_left_out(
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    walk: Callable[[AsyncClientDatabase], Awaitable[object]],
) -> None:
    """Nothing is malformed, so nothing is said of it; the others are met."""
    client, other = (servers[VALKEY_9].client(INVENTORY_DB) for _ in range(2))
    await client.flushdb()
    db = AsyncClientDatabase(client, client)
    for contact_id in (BOB, MATE):
        await db.inventory.register_contact(contact_id, "MATE")
        await stock(db.inventory, contact_id, "SILVER", "s1", "s2")
    seam = db.inventory.scope.seam
    scan = seam.scan

    async def overtaken(pattern: str, within: str | None = None) -> AsyncIterator[list[bytes]]:
        async for page in scan(pattern, within):
            with suppress(ContactNotRegisteredError):
                await AsyncSmartInventory(other).forget_contact(BOB)
            yield page

    monkeypatch.setattr(seam, "scan", overtaken)
    await walk(db)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert await db.inventory.get_contact_meta(BOB) is None
    assert (await db.inventory.get_inventory()).keys() == {MATE}
    await client.flushdb()
    await client.aclose()
    await other.aclose()
