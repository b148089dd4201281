"""Queues of coins that can't be handed out: a script looks at a few, and nothing is lost.

A call goes on by itself; whoever is cancelled, or asks again, in between gets and loses nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory, config
from aqm_db._io.seam import Call, Reply, Seam
from aqm_db._lua.loader import Code
from aqm_db._operations import batch, stock
from aqm_db.errors import ContactNotRegisteredError, InventoryUnavailableError
from aqm_db.types import InventoryEntry, NewCoin
from tests.conftest import INVENTORY_DB
from tests.faults.support.fault_table import Tally
from tests.support.backends import FAKEREDIS, REDIS_6, REDIS_8, VALKEY_9
from tests.support.samples import BOB, MATE, Clock
from tests.support.stepped_clocks import DAY_SECONDS, SteppedServer

pytestmark = pytest.mark.asyncio

MANY = 120
PORTION = 25
CAPS = {
    priority: {"GOLD": 2 * MANY, "SILVER": 2 * MANY, "BRONZE": 2 * MANY}
    for priority in config.VALID_PRIORITIES
}
HALVES = (b"public", b"signature")


def inventory_over(client: Redis, clock: Callable[[], int] | None) -> AsyncSmartInventory:
    """One with room for all."""
    return AsyncSmartInventory(client, budget_caps=CAPS, clock=clock)


async def fill(
    inventory: AsyncSmartInventory, contact_id: str, tier: Any, key_ids: Sequence[str]
) -> None:
    """Stores coins."""
    coins = [NewCoin(contact_id, key_id, tier, *HALVES) for key_id in key_ids]
    assert await inventory.store_keys(coins) == [True] * len(coins)


async def age(inventory: AsyncSmartInventory, clock: Clock, contact_id: str, tier: Any) -> None:
    """Leaves many coins behind that are stale, and then a good one."""
    await fill(inventory, contact_id, tier, [f"old{number}" for number in range(MANY)])
    clock.advance(days=31)
    await fill(inventory, contact_id, tier, ["good"])


@pytest_asyncio.fixture
async def aged(direct: Redis, clock: Clock) -> AsyncIterator[AsyncSmartInventory]:
    """See :func:`make_aged`."""
    yield await make_aged(direct, clock)


async def make_aged(client: Redis, clock: Clock) -> AsyncSmartInventory:
    """One where Bob has many stale GOLD coins and a good one, and another contact two good ones."""
    inventory = inventory_over(client, clock)
    await inventory.register_contact(BOB, "BESTIE")
    await inventory.register_contact(MATE, "MATE")
    await age(inventory, clock, BOB, "GOLD")
    await fill(inventory, MATE, "GOLD", ["m1", "m2"])
    return inventory


def watch(inventory: AsyncSmartInventory, see: Callable[[list[Reply]], object]) -> None:
    """Shows the replies of all calls, as they come; who raises there is cancelled then."""
    seam: Any = inventory.scope.seam
    run, run_all = seam.run, seam.run_all

    async def run_seen(*arguments: Any) -> Reply:
        reply: Reply = await run(*arguments)
        see([reply])
        return reply

    async def run_all_seen(*arguments: Any) -> list[Reply]:
        replies: list[Reply] = await run_all(*arguments)
        see(replies)
        return replies

    seam.run, seam.run_all = run_seen, run_all_seen


@pytest.mark.parametrize(
    "real_server",
    [VALKEY_9, REDIS_8, REDIS_6, FAKEREDIS],
    indirect=True,
    ids=lambda backend: backend.name,
)
@pytest.mark.parametrize("damage", ["stale", "corrupt", "dangling"])
async def test_a_select_over_many(
    direct: Redis,
    clock: Clock,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each is told of once, no reply is about more than a portion, and the good coin comes."""
    inventory = inventory_over(direct, clock)
    await inventory.register_contact(BOB, "BESTIE")
    await age(inventory, clock, BOB, "GOLD")
    await fill(inventory, BOB, "BRONZE", ["bronze"])
    rows = [f"inv:v1:key:{BOB}:old{number}" for number in range(MANY)]
    if damage == "dangling":
        await direct.delete(*rows)
    elif damage == "corrupt":
        for row in rows:
            await direct.hdel(row, "signature")
    replies: list[Reply] = []
    watch(inventory, replies.extend)
    entry = await inventory.select_coin(BOB, "GOLD")
    assert entry is not None
    assert (entry.key_id, entry.coin_category) == ("good", "GOLD")
    told = [record for record in caplog.records if record.message == "coin_set_aside"]
    assert [record.__dict__["key_id"] for record in told] == [f"old{n}" for n in range(MANY)]
    assert {record.__dict__["fault"] for record in told} == {damage}
    portions = MANY // PORTION
    assert [reply[0] for reply in replies] == [Code.UNFINISHED] * portions + [Code.OK]
    assert all(len(reply[2]) <= 2 * PORTION for reply in replies)
    assert await direct.zcard(f"inv:v1:idx:{BOB}:GOLD") == 0
    assert await direct.exists(*rows) == (MANY if damage == "corrupt" else 0)
    lower = await inventory.select_coin(BOB, "GOLD")
    assert lower is not None
    assert lower.key_id == "bronze"


async def test_a_select_over_many_that_ends_without_a_coin(direct: Redis, clock: Clock) -> None:
    """None of two tiers can be handed out: that takes several requests, and so it's said."""
    inventory = inventory_over(direct, clock)
    await inventory.register_contact(BOB, "BESTIE")
    for tier in ("GOLD", "BRONZE"):
        await fill(inventory, BOB, tier, [f"{tier}{number}" for number in range(MANY)])
    clock.advance(days=31)
    assert await inventory.select_coin(BOB, "GOLD") is None
    assert await inventory.get_available_tiers(BOB) == []


async def test_nobody_with_many(aged: AsyncSmartInventory, direct: Redis) -> None:
    """A contact that isn't registered gets its error at the end."""
    await direct.delete(f"inv:v1:meta:{BOB}")
    with pytest.raises(ContactNotRegisteredError):
        await aged.select_coin(BOB, "GOLD")


@pytest.mark.parametrize("portions", [1, 2])
async def test_a_caller_that_is_cancelled_between(
    aged: AsyncSmartInventory, portions: int, tally: Tally
) -> None:
    """What was set aside stays so, and the good coin is there for the next."""
    left = portions

    def cancel(_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0 and current is not None:
            current.cancel()

    current: asyncio.Task[Any] | None = None
    watch(aged, cancel)
    current = asyncio.create_task(aged.select_coin(BOB, "GOLD"))
    ended = await asyncio.gather(current, return_exceptions=True)
    taken = [each for each in ended if isinstance(each, InventoryEntry)]
    current = None
    entry = await aged.select_coin(BOB, "GOLD")
    got = [*taken, *([] if entry is None else [entry])]
    assert [each.key_id for each in got] == ["good"]
    tally.add("a selection of several requests is cancelled")


async def test_a_request_that_is_repeated_between(
    aged: AsyncSmartInventory, direct: Redis, tally: Tally
) -> None:
    """A copy of an earlier request that comes late takes no coin beside the one that was taken."""
    seam: Seam = aged.scope.seam
    first = stock.build_select(aged.scope, BOB, "GOLD")
    call: Call = first
    while (reply := await seam.run(call))[0] == Code.UNFINISHED:
        following = stock.continue_select(BOB, call, reply)
        assert following is not None
        call = following
    assert reply[3] == b"good"
    await fill(aged, BOB, "GOLD", ["another"])
    for each in (first, call):
        assert (await seam.run(each))[3] == b"good"
    assert await direct.zrange(f"inv:v1:idx:{BOB}:GOLD", 0, -1) == [b"another"]
    tally.add("a late copy of a selection's first request")


async def test_a_reply_of_another_call_is_not_gone_on_with(aged: AsyncSmartInventory) -> None:
    """What says that there's more of another request's is no reply to this one."""
    call = stock.build_select(aged.scope, BOB, "GOLD")
    replies: list[Reply] = [[Code.UNFINISHED], [Code.UNFINISHED, b"claim", [], b"GOLD", 0]]
    for reply in replies:
        assert stock.continue_select(BOB, call, reply) is None
        with pytest.raises(InventoryUnavailableError):
            stock.read_select(aged.scope, BOB, call, reply)


@pytest.mark.parametrize("kind", [VALKEY_9, REDIS_8], ids=lambda backend: backend.name)
async def test_many_while_the_clock_is_ahead(kind: Any, tally: Tally) -> None:
    """They are passed over, portion by portion, and stay for when it's right again."""
    with SteppedServer(kind) as server:
        async with server.client(INVENTORY_DB) as client:
            inventory = inventory_over(client, None)
            await inventory.register_contact(BOB, "BESTIE")
            for tier in ("GOLD", "SILVER"):
                names = [f"{tier}{number}" for number in range(MANY)]
                await fill(inventory, BOB, tier, names)
            server.step(31 * DAY_SECONDS)
            assert await inventory.select_coin(BOB, "GOLD") is None
            await fill(inventory, BOB, "SILVER", ["fresh"])
            replies: list[Reply] = []
            watch(inventory, replies.extend)
            fresh = await inventory.select_coin(BOB, "GOLD")
            assert fresh is not None
            assert fresh.key_id == "fresh"
            # As the server's clock has stepped, it's begun anew by the client without a reply.
            going_on = [reply[3:] for reply in replies if reply[0] == Code.UNFINISHED]
            gold = [[b"GOLD", place] for place in range(PORTION, MANY, PORTION)]
            begun = (len(gold) + 1) * PORTION - MANY
            silver = [[b"SILVER", place] for place in range(begun, MANY, PORTION)]
            assert going_on == [*gold, *silver]
            server.step(-31 * DAY_SECONDS)
            first = await inventory.select_coin(BOB, "GOLD")
            assert first is not None
            tally.add("many coins while the clock is ahead", lost=int(first.key_id != "GOLD0"))
            assert (await inventory.get_inventory(BOB)).silver_count == MANY


async def test_a_group_with_many(
    aged: AsyncSmartInventory, caplog: pytest.LogCaptureFixture
) -> None:
    """Each contact gets its coin, in one call."""
    outcomes = await aged.select_coins([MATE, BOB, "nobody"], "GOLD")
    assert [getattr(each, "key_id", type(each)) for each in outcomes.values()] == [
        *("m1", "good"),
        ContactNotRegisteredError,
    ]
    told = [record for record in caplog.records if record.message == "coin_set_aside"]
    assert len(told) == MANY
    assert logging.WARNING in {record.levelno for record in told}


@pytest.mark.parametrize("at_once", [1, 200])
@pytest.mark.parametrize("portions", [1, 2])
async def test_a_group_that_is_cancelled_between(
    aged: AsyncSmartInventory,
    portions: int,
    at_once: int,
    tally: Tally,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the others were given before is back, in an earlier portion of the group as well."""
    monkeypatch.setattr(batch, "AT_ONCE", at_once)
    left = portions
    current: asyncio.Task[Any] | None = None

    def cancel(_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0 and current is not None:
            current.cancel()

    watch(aged, cancel)
    current = asyncio.create_task(aged.select_coins([MATE, BOB], "GOLD"))
    with pytest.raises(asyncio.CancelledError):
        await current
    current = None
    outcomes = await aged.select_coins([MATE, BOB], "GOLD")
    got = [getattr(each, "key_id", each) for each in outcomes.values()]
    tally.add("a group's selection is cancelled", lost=int(got != ["m1", "good"]), case=got)
    assert got == ["m1", "good"]
