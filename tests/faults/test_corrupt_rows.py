"""Rows and indexes that somebody, or something, has damaged: each damage against each call."""

import logging
from collections.abc import AsyncIterator
from itertools import product
from math import gcd
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db import AsyncGarbageCollector, AsyncSecureVault, AsyncSmartInventory
from aqm_db.errors import CorruptEntryError
from aqm_db.minter import AsyncMinter, FreshCoin
from aqm_db.types import CoinCategory, NewKey
from tests.conftest import INVENTORY_DB
from tests.faults.support.damaged_rows import COIN, NO_INTEGERS, RESERVING, Damage, damages
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import assert_no_key_material
from tests.faults.support.public_calls import (
    CALLS,
    CAROL,
    Objects,
    errors_of,
    furnish,
    objects_over,
)
from tests.faults.support.restored_database import Kept
from tests.faults.support.tried_calls import BLOB, HALVES
from tests.support.backends import FAKEREDIS, REDIS_6, VALKEY_9, Backend, RunningServer, Servers
from tests.support.faces import ASYNC, FACES, Face
from tests.support.samples import BOB, Clock, snapshot

pytestmark = pytest.mark.asyncio

PLACES = [*product((VALKEY_9, REDIS_6, FAKEREDIS), FACES)]
LATER = Clock()
LATER.advance(ms=1)

STEPS = {False: {True: 13, False: 101}, True: {True: 1, False: 7}}
"""Every how many cases one is tried: by whether all are asked for, and are in the first place."""

TEXTS = ("key_id", "coin_category")
NUMBERS = ("fetched_at", "receipt")
CLAIM_FIELDS = (*TEXTS, "public_key", "signature", *NUMBERS)

REMOVING = {
    "inventory.consume_key",
    "inventory.forget_contact",
    "inventory.set_contact_priority",
    "gc.collect_single_contact",
    "gc.garbage_collect(0)",
}
"""These remove coins whatever state they are in: that's how one gets rid of a damaged one."""
BATCHES = {
    *("vault.store_keys", "vault.restore_keys"),
    *("inventory.store_keys", "inventory.select_coins"),
}
"""One item's error stops no other."""
SWEEPING = {"vault.purge_expired(0)", "gc.garbage_collect(0)"}
"""These change everything, and so rows that aren't damaged, too."""


class Furnished:
    """A furnished database that is damaged again and again.

    Attributes:
        client: a client on a good link.
        kept: what was there at first.
        objects: what calls are made on.
    """

    def __init__(self, client: Redis, kept: Kept, objects: Objects) -> None:
        self.client = client
        self.kept = kept
        self.objects = objects

    async def damaged(self, damage: Damage) -> dict[Any, Any]:
        """Puts back what was there at first, damages it, and returns what is there then."""
        await self.kept.put_back()
        await damage.inflict(self.client)
        return await self.kept.content()


@pytest.fixture(params=PLACES, ids=lambda place: f"{place[0].name}-{place[1]}")
def place(request: pytest.FixtureRequest) -> tuple[Backend, Face]:
    """Each server with each face."""
    backend, face = request.param
    return backend, face


@pytest_asyncio.fixture
async def furnished(place: tuple[Backend, Face], servers: Servers) -> AsyncIterator[Furnished]:
    """Keys and coins of every tier and state, of Bob and of Carol."""
    backend, face = place
    server: RunningServer = servers[backend]
    client = server.client(INVENTORY_DB)
    await client.flushdb()
    entry = await furnish(objects_over(client))
    own: Any = client if face is ASYNC else server.sync_client(INVENTORY_DB)
    kept = Kept(client)
    await kept.keep()
    yield Furnished(client, kept, objects_over(own, face, clock=LATER, entry=entry, name="later"))
    await client.flushdb()
    await client.aclose()
    if face is not ASYNC:
        own.close()


async def test_a_damaged_database(
    furnished: Furnished,
    place: tuple[Backend, Face],
    tally: Tally,
    caplog: pytest.LogCaptureFixture,
    *,
    thorough: bool,
) -> None:
    """Each call says what is wrong, as documented, and changes nothing that it shouldn't."""
    caplog.set_level(logging.DEBUG)
    usual: dict[str, set[type[BaseException]]] = {}
    for name, call in CALLS.items():
        await furnished.kept.put_back()
        usual[name] = {type(error) for error in await errors_of(call(furnished.objects))}
    step = STEPS[thorough][place == PLACES[0]]
    assert gcd(step, len(CALLS)) == 1, "every call has to get its turn"
    cases = [*product(damages(), CALLS)][::step]
    failures: list[str] = []
    errors: list[BaseException] = []
    inflicted, before = None, dict[Any, Any]()
    for damage, name in cases:
        if damage is not inflicted:
            inflicted, before = damage, await furnished.damaged(damage)
        found = await errors_of(CALLS[name](furnished.objects))
        errors += found
        after = await furnished.kept.content()
        problem = surprise(damage, name, {type(error) for error in found}, usual[name]) or harm(
            damage, name, before, after, failed=bool(found)
        )
        if problem:
            failures.append(f"{damage}: {name}: {problem}")
        if after != before:
            inflicted = None
    assert not failures, "\n".join(failures)
    assert_no_key_material(errors, caplog)
    tally.add("damaged row x call", runs=len(cases))


@pytest.mark.parametrize("damage", [each for each in damages() if each.key == COIN], ids=str)
async def test_a_damaged_coin_blocks_nothing(direct: Redis, damage: Damage, tally: Tally) -> None:
    """What can't be handed out is passed over, what can is handed out once, and None ends it."""
    objects = objects_over(direct)
    await furnish(objects)
    await damage.inflict(direct)
    row = (await snapshot(direct)).get(COIN.encode())
    usable = ["B3"] if damage.kept or row is None else ["B2", "B3"]
    taken = [await objects.inventory.select_coin(BOB, "BRONZE") for _ in range(4)]
    assert [entry.key_id for entry in taken if entry is not None] == usable
    assert await objects.inventory.get_available_tiers(BOB) == ["GOLD", "SILVER"]
    if damage.kept:
        assert (await snapshot(direct)).get(COIN.encode()) == row
        assert await objects.inventory.consume_key(BOB, "B2") is True
    tally.add("damaged coin at the head of its queue")


@pytest.mark.parametrize("member", [b"\xff", b"", b"ghost", b"x" * 300], ids=len)
async def test_a_damaged_list_of_unpublished_coins(
    direct: Redis, member: bytes, tally: Tally, caplog: pytest.LogCaptureFixture
) -> None:
    """What is listed without reason doesn't keep the others from being published."""
    ids = iter("abcdef")

    def mint(tier: CoinCategory) -> FreshCoin:
        return FreshCoin(NewKey(next(ids), tier, BLOB, b"nonce", b"tag"), *HALVES)

    minter = AsyncMinter(AsyncSecureVault(direct), mint, targets={"BRONZE": 2})
    await minter.top_up()
    for field in (None, "public_key", "signature", "coin_category"):
        await direct.zadd("vault:v1:unpublished", {member: 1})
        if field is None:
            await direct.delete(b"vault:v1:key:" + member)
        else:
            await direct.hset(b"vault:v1:key:" + member, mapping={"status": "ACTIVE", field: "x"})
        pending = await minter.pending_upload()
        assert len(pending) == 2
        tally.add("damaged list of unpublished coins")
    await direct.set("vault:v1:unpublished", "x")
    await direct.delete("vault:v1:stats")
    for call in (minter.pending_upload(), minter.mark_published(["a"]), minter.top_up()):
        with pytest.raises(CorruptEntryError):
            await call
    assert_no_key_material([], caplog)


@pytest.mark.parametrize("value", [b"\xff", b"", b"-1", b"9" * 400])
async def test_a_damaged_watch(direct: Redis, value: bytes, tally: Tally) -> None:
    """What was noted of the server's clock is noted anew; what is no note at all is told."""
    inventory = AsyncSmartInventory(direct)
    collector = AsyncGarbageCollector(inventory, direct)
    await inventory.register_contact(BOB, "BESTIE")
    await inventory.register_contact("nobody else", "BESTIE")
    await inventory.store_key(BOB, "b1", "BRONZE", *HALVES)
    for field in ("seen", "before", "stayed"):
        await direct.hset("inv:v1:watch", field, value)
        result = await collector.collect_single_contact("nobody else")
        assert result.keys_deleted == 0
        tally.add("damaged watch")
    seen = await direct.hget("inv:v1:watch", "seen")
    assert seen is not None
    assert int(seen) > 0
    await direct.set("inv:v1:watch", value)
    with pytest.raises(CorruptEntryError):
        await collector.collect_single_contact(BOB)
    assert (await inventory.select_coin(BOB, "BRONZE")) is not None


@pytest.mark.parametrize("field", CLAIM_FIELDS)
async def test_a_damaged_claim(direct: Redis, field: str, tally: Tally) -> None:
    """A request that is sent again, and whose claim can't be read, hears so; nothing is taken."""
    await furnish(objects_over(direct))
    inventory = AsyncSmartInventory(direct, clock=LATER, request_ids=lambda: "same")
    assert await inventory.select_coin(BOB, "GOLD") is not None
    claim = f"inv:v1:claim:{BOB}:same"
    whole = await direct.dump(claim)
    assert whole is not None
    numbers = NO_INTEGERS if field in NUMBERS else ()
    for value in (None, *([b"\xff"] if field in TEXTS else []), *numbers):
        await direct.restore(claim, 0, whole, replace=True)
        await direct.hdel(claim, field)
        if value is not None:
            await direct.hset(claim, field, value)
        before = await snapshot(direct)
        with pytest.raises(CorruptEntryError):
            await inventory.select_coin(BOB, "GOLD")
        assert await snapshot(direct) == before
        tally.add("damaged claim")


def surprise(
    damage: Damage, name: str, raised: set[type[BaseException]], usual: set[type[BaseException]]
) -> str:
    """How a call's errors differ from those that are due; nothing if they don't."""
    expected = [usual]
    if name in damage.outcomes:
        due = damage.outcomes[name]
        # A batch has the usual errors beside it.
        expected = [set()] if due is None else [{due}, {due} | usual]
    return "" if raised in expected else f"raised {raised}, not {expected[0]}"


def harm(
    damage: Damage, name: str, before: dict[Any, Any], after: dict[Any, Any], *, failed: bool
) -> str:
    """What a call has done that it mustn't; nothing if all is well."""
    changed = {
        key.decode(errors="replace")
        for key in before.keys() | after.keys()
        if before.get(key) != after.get(key)
    }
    # Reserving slots and giving them back leaves a trace there.
    changed -= RESERVING
    if failed and changed and name not in BATCHES:
        return f"failed, and changed {sorted(changed)}"
    if damage.kept and damage.key in changed and name not in REMOVING:
        return "changed the damaged row"
    if name in SWEEPING:
        return ""
    others = {
        key
        for key in changed
        if CAROL in key or (key.startswith("vault:v1:key:") and key[13:15] in ("k2", "k3", "k4"))
    }
    return f"changed {sorted(others)}" if others else ""
