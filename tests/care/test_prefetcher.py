"""Coins at hand: handed out at once, each once, and back in their queues at the end."""

import asyncio
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, cast

import anyio
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase, AsyncSmartInventory, config
from aqm_db._io.seam import Call, Reply, Seam, Undo
from aqm_db.errors import (
    AQMDatabaseError,
    ContactNotRegisteredError,
    CorruptEntryError,
    InvalidArgumentError,
    InvalidCoinCategoryError,
    InvalidIdentifierError,
    InventoryUnavailableError,
)
from aqm_db.prefetcher import AsyncPrefetcher
from aqm_db.types import InventoryEntry, NewCoin
from tests.conftest import INVENTORY_DB
from tests.faults.support.cancelled_callers import Way, by_cancel, by_scope, by_timeout, given_up
from tests.support.backends import VALKEY_9, Servers
from tests.support.layers import Passing
from tests.support.samples import BOB, DAY_MS, MATE, Clock, halves, stock

pytestmark = pytest.mark.asyncio
CAPS = {
    priority: dict.fromkeys(config.COIN_SIZE_BYTES, 0 if priority == "STRANGER" else 50)
    for priority in config.BUDGET_CAPS
}
GOLD = [f"g{number}" for number in range(6)]


class Line(Passing):
    """A seam that fails, and holds back what was answered, as a test says.

    Attributes:
        failure: what becomes of everything; None for what the server says.
        held: what answers wait for; None if for nothing.
        sent: the calls of each request.
        answered: how many requests were.
    """

    def __init__(self, seam: Seam) -> None:
        super().__init__(seam)
        self.failure: AQMDatabaseError | None = None
        self.held: asyncio.Event | None = None
        self.sent: list[list[Call]] = []
        self.answered = 0

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """One call."""
        self.sent.append([call])
        if self.failure is not None:
            raise self.failure
        reply = await self._behind.run(call, undo)
        self.answered += 1
        return reply

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """Many calls; these are held back."""
        self.sent.append(list(calls))
        if self.failure is not None:
            raise self.failure
        replies = await self._behind.run_all(calls, undos)
        if self.held is not None:
            await self.held.wait()
            if self.failure is not None:
                raise self.failure
        self.answered += 1
        return replies


@pytest.fixture
def inventory(inventory_client: Redis, clock: Clock) -> AsyncSmartInventory:
    """An empty inventory."""
    return AsyncSmartInventory(inventory_client, clock=clock, budget_caps=CAPS)


@pytest.fixture
def other(inventory_client: Redis, clock: Clock) -> AsyncSmartInventory:
    """The same inventory, for another part of the program."""
    return AsyncSmartInventory(inventory_client, clock=clock, budget_caps=CAPS)


@pytest_asyncio.fixture
async def bob(inventory: AsyncSmartInventory) -> str:
    """A contact with some GOLD coins."""
    await inventory.register_contact(BOB, "BESTIE")
    await stock(inventory, BOB, "GOLD", *GOLD)
    return BOB


@pytest_asyncio.fixture
async def valkey(servers: Servers) -> AsyncIterator[Redis]:
    """A client of one server, for what is the same on all."""
    client = servers[VALKEY_9].client(INVENTORY_DB)
    await client.flushdb()
    yield client
    await client.flushdb()
    await client.aclose()


async def stocked(client: Redis, clock: Clock | None = None) -> AsyncSmartInventory:
    """An inventory of some coins on one server."""
    inventory = AsyncSmartInventory(client, clock=clock, budget_caps=CAPS)
    await inventory.register_contact(BOB, "BESTIE")
    await stock(inventory, BOB, "GOLD", *GOLD)
    return inventory


def over_line(inventory: AsyncSmartInventory) -> Line:
    """Puts a line between an inventory and its server."""
    line = Line(inventory.scope.seam)
    inventory.scope = inventory.scope.replace_seam(cast("Seam", line))
    return line


async def until(condition: Callable[[], object]) -> None:
    """Lets the event loop turn until something holds."""
    while not condition():
        await asyncio.sleep(0)


async def idle(inventory: AsyncSmartInventory) -> None:
    """Lets others have some round trips."""
    for _ in range(10):
        await inventory.get_contact_meta(BOB)


async def filled(at_hand: AsyncPrefetcher, count: int, tier: str = "GOLD") -> None:
    """Waits until so many coins are at hand."""
    await until(lambda: at_hand.read_counts().at_hand[tier] == count)


def at_once(call: Coroutine[Any, Any, InventoryEntry | None]) -> str:
    """What a call returns that doesn't suspend: the id of a coin."""
    with pytest.raises(StopIteration) as stopped:
        call.send(None)
    entry = stopped.value.value
    assert isinstance(entry, InventoryEntry)
    return entry.key_id


async def name_of(call: Awaitable[InventoryEntry | None]) -> str | None:
    """The id of the coin that a call returns."""
    entry = await call
    return None if entry is None else entry.key_id


async def queue(client: Redis, tier: str = "GOLD", contact_id: str = BOB) -> list[str]:
    """The ids of a queue, in its order."""
    found: list[Any] = await client.zrange(f"inv:v1:idx:{contact_id}:{tier}", 0, -1)
    return [each.decode() for each in found]


def clock_ahead(seconds: float, real: Callable[[int], float] = time.clock_gettime) -> Any:
    """The program's clock, so far ahead."""

    def read(which: int) -> float:
        return real(which) + seconds

    return read


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the prefetcher has logged."""
    return [each.message for each in caplog.records if each.name == "aqm_db.prefetcher"]


# Handing out -------------------------------------------------------------------------------


async def test_a_coin_at_hand_takes_no_turn_of_the_loop(
    inventory: AsyncSmartInventory, bob: str
) -> None:
    """No I/O, no suspension: the oldest first, and made up for behind the caller's back."""
    async with inventory.prefetch(ahead=2, contacts=[bob]) as at_hand:
        await filled(at_hand, 2)
        assert [at_once(at_hand.select_coin(bob, "GOLD")) for _ in range(2)] == GOLD[:2]
        await filled(at_hand, 2)
        assert [at_once(at_hand.select_coin(bob, "GOLD")) for _ in range(2)] == GOLD[2:4]
        counts = at_hand.read_counts()
    assert (counts.hits["GOLD"], counts.misses["GOLD"]) == (4, 0)


async def test_many_are_taken_in_one_round_trip(inventory: AsyncSmartInventory, bob: str) -> None:
    """Whatever is missing, of whichever contacts and tiers."""
    await inventory.register_contact(MATE, "MATE")
    await stock(inventory, MATE, "SILVER", "s1", "s2", "s3")
    line = over_line(inventory)
    tiers = ["GOLD", "SILVER"]
    async with inventory.prefetch(ahead=2, contacts=[bob, MATE], tiers=tiers) as at_hand:
        await filled(at_hand, 2)
        await filled(at_hand, 2, "SILVER")
        names = [each.script.name for each in line.sent[0]]
        assert names == [*["inv_select"] * 8, "inv_summarize"]
        assert len(line.sent) == 1


async def test_large_refills_come_in_portions(inventory: AsyncSmartInventory, bob: str) -> None:
    """Whoever else uses the event loop waits for none of more than 16."""
    await stock(inventory, bob, "GOLD", *(f"h{number}" for number in range(30)))
    line = over_line(inventory)
    async with inventory.prefetch(ahead=20, contacts=[bob]) as at_hand:
        await filled(at_hand, 20)
        assert [len(calls) - 1 for calls in line.sent] == [16, 4]


async def test_many_contacts_come_in_portions(valkey: Redis) -> None:
    """Each of them in one, and a look at priorities in each."""
    inventory = AsyncSmartInventory(valkey, budget_caps=CAPS)
    contacts = [f"c{number}" for number in range(40)]
    for contact_id in contacts:
        await inventory.register_contact(contact_id, "BESTIE")
        await stock(inventory, contact_id, "GOLD", f"{contact_id}g")
    line = over_line(inventory)
    async with inventory.prefetch(ahead=1, contacts=contacts) as at_hand:
        await filled(at_hand, len(contacts))
        assert [len(calls) for calls in line.sent] == [17, 17, 9]


async def test_everything_goes_back_in_order(
    inventory: AsyncSmartInventory, inventory_client: Redis, bob: str
) -> None:
    """What wasn't handed out; and while it's at hand, nothing is wrong with the database."""
    async with inventory.prefetch(ahead=3, contacts=[bob]) as at_hand:
        await filled(at_hand, 3)
        assert await queue(inventory_client) == GOLD[3:]
        db = AsyncClientDatabase(inventory_client, inventory_client, clock=inventory.clock)
        assert (await db.check()).problems == ()
        at_once(at_hand.select_coin(bob, "GOLD"))
    assert await queue(inventory_client) == GOLD[1:]
    assert (await db.check()).problems == ()
    assert (await inventory.get_inventory(bob)).gold_count == 5
    assert at_hand.read_counts().at_hand["GOLD"] == 0
    assert await name_of(at_hand.select_coin(bob, "GOLD")) == GOLD[1]
    assert await queue(inventory_client) == GOLD[2:]


async def test_a_miss_is_the_plain_call(inventory: AsyncSmartInventory, bob: str) -> None:
    """And whoever was written to is kept at hand from then on."""
    async with inventory.prefetch(ahead=2) as at_hand:
        assert await name_of(at_hand.select_coin(bob, "GOLD")) == GOLD[0]
        await filled(at_hand, 2)
        assert at_once(at_hand.select_coin(bob, "GOLD")) == GOLD[1]
        counts = at_hand.read_counts()
    assert (counts.hits["GOLD"], counts.misses["GOLD"]) == (1, 1)


async def test_callers_at_once_on_an_empty_purse(inventory: AsyncSmartInventory, bob: str) -> None:
    """Each gets a coin of its own, and the next ones come after these."""
    async with inventory.prefetch(ahead=2) as at_hand:
        calls = (name_of(at_hand.select_coin(bob, "GOLD")) for _ in range(3))
        assert sorted(str(each) for each in await asyncio.gather(*calls)) == GOLD[:3]
        await filled(at_hand, 2)
        assert at_once(at_hand.select_coin(bob, "GOLD")) == GOLD[3]


async def test_all_coins_come_out_once(inventory: AsyncSmartInventory, bob: str) -> None:
    """To the last one, and then none."""
    async with inventory.prefetch(ahead=2) as at_hand:
        found = [await name_of(at_hand.select_coin(bob, "GOLD")) for _ in range(8)]
    assert found == [*GOLD, None, None]


async def test_a_refill_that_comes_back_during_a_miss(valkey: Redis) -> None:
    """What it took before is older than what the call was given, and goes out first."""
    inventory = await stocked(valkey)
    line = over_line(inventory)
    async with inventory.prefetch(ahead=2, contacts=[BOB]) as at_hand:
        line.held = asyncio.Event()
        await until(lambda: line.sent)
        call = asyncio.create_task(name_of(at_hand.select_coin(BOB, "GOLD")))
        await until(lambda: len(line.sent) > 1)
        line.held.set()
        line.held = None
        assert await call == GOLD[0]
        assert at_hand.read_counts().at_hand["GOLD"] == 2
        assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[1]


async def test_a_refill_that_is_slower_than_a_miss(valkey: Redis) -> None:
    """A call waits for what was taken before it; whoever is cancelled meanwhile loses no coin."""
    inventory = await stocked(valkey)
    line = over_line(inventory)
    async with inventory.prefetch(ahead=2, contacts=[BOB]) as at_hand:
        line.held = asyncio.Event()
        await until(lambda: line.sent)
        while await queue(valkey) != GOLD[2:]:
            pass
        calls = [asyncio.create_task(name_of(at_hand.select_coin(BOB, "GOLD"))) for _ in range(2)]
        while await queue(valkey) != GOLD[4:]:
            pass
        calls[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        line.held.set()
        line.held = None
        assert await calls[1] == GOLD[0]
        assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[1]
    assert await queue(valkey) == GOLD[2:]


async def test_a_miss_that_finds_nothing_while_the_last_one_comes(valkey: Redis) -> None:
    """It waits for it, be it found or cancelled."""
    inventory = await stocked(valkey)
    line = over_line(inventory)
    async with inventory.prefetch(ahead=9, contacts=[BOB]) as at_hand:
        line.held = asyncio.Event()
        await until(lambda: line.sent)
        while await queue(valkey):
            pass
        calls = [asyncio.create_task(name_of(at_hand.select_coin(BOB, "GOLD"))) for _ in range(2)]
        await until(lambda: line.answered == 2)
        calls[0].cancel()
        line.held.set()
        line.held = None
        assert await calls[1] == GOLD[0]
        await asyncio.wait(calls)
    assert await queue(valkey) == GOLD[1:]


async def test_what_is_released_keeps_its_place(
    inventory: AsyncSmartInventory, inventory_client: Redis, bob: str
) -> None:
    """It goes to the database, and the oldest of what is at hand then comes first."""
    async with inventory.prefetch(ahead=3) as at_hand:
        entry = await at_hand.select_coin(bob, "GOLD")
        assert entry is not None
        await filled(at_hand, 3)
        assert await inventory.release_coin(entry)
        assert not await inventory.release_coin(entry)
        assert await queue(inventory_client) == [GOLD[0], *GOLD[4:]]
        assert at_once(at_hand.select_coin(bob, "GOLD")) == GOLD[1]
        await filled(at_hand, 3)
        assert at_once(at_hand.select_coin(bob, "GOLD")) == GOLD[0]
    assert await queue(inventory_client) == GOLD[2:]


# Lower tiers -------------------------------------------------------------------------------


async def test_a_lower_tier_only_where_the_better_one_is_empty(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    bob: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is at hand of SILVER is handed out once the database has said that GOLD is empty."""
    caplog.set_level(logging.INFO)
    await stock(inventory, bob, "SILVER", "s0", "s1", "s2", "s3")
    async with inventory.prefetch(ahead=2, contacts=[bob], tiers=["SILVER"]) as at_hand:
        await filled(at_hand, 2, "SILVER")
        assert await name_of(at_hand.select_coin(bob, "GOLD")) == GOLD[0]
        await filled(at_hand, 2)
        found = [await name_of(at_hand.select_coin(bob, "GOLD")) for _ in range(5)]
        assert found == GOLD[1:]
        assert "fallback_used" not in caplog.messages
        assert await name_of(at_hand.select_coin(bob, "GOLD")) == "s0"
        assert caplog.messages.count("fallback_used") == 1
        await stock(inventory, bob, "GOLD", "late")
        assert await name_of(at_hand.select_coin(bob, "GOLD")) == "late"
        found = [await name_of(at_hand.select_coin(bob, "GOLD")) for _ in range(4)]
        assert found == ["s1", "s2", "s3", None]
        assert caplog.messages.count("fallback_used") == 4
    assert await queue(inventory_client, "SILVER") == []


async def test_a_tier_between_comes_first(
    inventory: AsyncSmartInventory, bob: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The database's SILVER before what is at hand of BRONZE."""
    caplog.set_level(logging.INFO)
    await inventory.register_contact(MATE, "MATE")
    await stock(inventory, MATE, "BRONZE", "b0", "b1")
    async with inventory.prefetch(ahead=1, contacts=[MATE], tiers=["BRONZE"]) as at_hand:
        await filled(at_hand, 1, "BRONZE")
        await stock(inventory, MATE, "SILVER", "s0")
        found = [await name_of(at_hand.select_coin(MATE, "GOLD")) for _ in range(4)]
        assert found == ["s0", "b0", "b1", None]
        assert caplog.messages.count("fallback_used") == 3
        # A tier that has none is asked for, and not kept at hand.
        assert at_hand.read_counts().misses["GOLD"] == 4


async def test_no_more_than_so_many_are_held(
    inventory: AsyncSmartInventory, inventory_client: Redis, bob: str
) -> None:
    """Of each contact and tier, whatever was asked for."""
    await stock(inventory, bob, "SILVER", *(f"s{number}" for number in range(9)))
    async with inventory.prefetch(ahead=2) as at_hand:
        handed = 0
        for tier in ("GOLD", "SILVER", "GOLD", "GOLD", "SILVER", "GOLD", "GOLD", "GOLD", "GOLD"):
            handed += await at_hand.select_coin(bob, tier) is not None
            counts = at_hand.read_counts().at_hand
            assert max(counts.values()) <= 2
            held = (
                15
                - handed
                - len([*await queue(inventory_client), *await queue(inventory_client, "SILVER")])
            )
            assert held <= 4
    left = [*await queue(inventory_client), *await queue(inventory_client, "SILVER")]
    assert len(left) == 15 - handed


async def test_a_refill_takes_no_lower_tier(
    inventory: AsyncSmartInventory, inventory_client: Redis, bob: str
) -> None:
    """Where there is no GOLD, SILVER stays where it is."""
    await stock(inventory, bob, "SILVER", "s0")
    await inventory.register_contact(MATE, "MATE")
    await stock(inventory, MATE, "SILVER", "s1")
    line = over_line(inventory)
    async with inventory.prefetch(ahead=9, contacts=[bob, MATE]) as at_hand:
        await until(lambda: line.answered)
        await idle(inventory)
        assert await queue(inventory_client, "SILVER") == ["s0"]
        assert await queue(inventory_client, "SILVER", MATE) == ["s1"]
        assert await name_of(at_hand.select_coin(MATE, "GOLD")) == "s1"


async def test_a_lower_tier_that_is_on_its_way(valkey: Redis) -> None:
    """The last SILVER coins were asked for ahead: they come before the database's BRONZE."""
    inventory = AsyncSmartInventory(valkey, budget_caps=CAPS)
    await inventory.register_contact(BOB, "BESTIE")
    await stock(inventory, BOB, "SILVER", "s0")
    await stock(inventory, BOB, "BRONZE", "b0")
    line = over_line(inventory)
    async with inventory.prefetch(ahead=2, contacts=[BOB], tiers=["SILVER"]) as at_hand:
        line.held = asyncio.Event()
        await until(lambda: line.sent)
        call = asyncio.create_task(name_of(at_hand.select_coin(BOB, "GOLD")))
        await until(lambda: len(line.sent) > 1)
        line.held.set()
        assert await call == "s0"


# Time --------------------------------------------------------------------------------------


async def test_a_stale_coin_is_not_handed_out(
    inventory: AsyncSmartInventory,
    clock: Clock,
    bob: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not even one that wasn't stale when it was selected; it's logged as any other."""
    await inventory.forget_contact(bob)
    await inventory.register_contact(bob, "BESTIE")
    soon, public, later = clock.now + 1000, halves("GOLD"), clock.now + DAY_MS
    for name, end in (("e0", soon), ("e1", later), ("e2", later)):
        await inventory.store_keys([NewCoin(bob, name, "GOLD", *public, end)])
    async with inventory.prefetch(ahead=2, contacts=[bob]) as at_hand:
        await filled(at_hand, 2)
        clock.advance(ms=1000)
        assert at_once(at_hand.select_coin(bob, "GOLD")) == "e1"
        assert "coin_set_aside" in caplog.messages
        await filled(at_hand, 1)
        clock.advance(days=2)
        assert await name_of(at_hand.select_coin(bob, "GOLD")) is None
    assert (await inventory.get_inventory(bob)).gold_count == 0


async def test_time_passes_while_coins_are_at_hand(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a clock of the client's, it's counted from the selection, sleep included."""
    inventory = await stocked(valkey)
    async with inventory.prefetch(ahead=2, contacts=[BOB]) as at_hand:
        await filled(at_hand, 2)
        with monkeypatch.context() as patched:
            patched.setattr(time, "clock_gettime", clock_ahead(29 * DAY_MS / 1000))
            assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[0]
            await filled(at_hand, 2)
            patched.setattr(time, "clock_gettime", clock_ahead(31 * DAY_MS / 1000))
            # It's two days since the next one was taken; by the server's clock, the one between
            # isn't stale, and goes back.
            assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[2]
    assert await queue(valkey) == [GOLD[1], *GOLD[3:]]


async def test_a_coin_held_for_hours_goes_back(
    inventory: AsyncSmartInventory, inventory_client: Redis, clock: Clock, bob: str
) -> None:
    """Its claim has ended long since, and what is remembered of its use hasn't."""
    async with inventory.prefetch(ahead=2, contacts=[bob]) as at_hand:
        await filled(at_hand, 2)
        for claim in await inventory_client.keys("inv:v1:claim:*"):
            await inventory_client.delete(claim)
        clock.advance(days=29)
    assert await queue(inventory_client) == GOLD


async def test_a_clock_that_errs(valkey: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """The caller is told, the background goes on, and no coin is lost."""
    clock = Clock()
    inventory = await stocked(valkey, clock)
    async with inventory.prefetch(ahead=2, contacts=[BOB]) as at_hand:
        await filled(at_hand, 2)
        right, clock.now = clock.now, -1
        with pytest.raises(InvalidArgumentError, match="clock"):
            await at_hand.select_coin(BOB, "GOLD")
        clock.now = right
        assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[0]
        clock.now = -1
        await until(lambda: events(caplog))
        clock.now = right
        assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[1]
    assert await queue(valkey) == GOLD[2:]


# Whose coins -------------------------------------------------------------------------------


async def test_those_used_lately_are_kept(
    inventory: AsyncSmartInventory, inventory_client: Redis
) -> None:
    """The coins of whoever wasn't written to for longest go back."""
    names = [f"c{number}" for number in range(4)]
    for name in names:
        await inventory.register_contact(name, "BESTIE")
        await stock(inventory, name, "GOLD", *(f"{name}-{number}" for number in range(4)))
    async with inventory.prefetch(ahead=1, most_contacts=2) as at_hand:
        for name in names[:2]:
            await at_hand.select_coin(name, "GOLD")
        await filled(at_hand, 2)
        at_once(at_hand.select_coin(names[0], "GOLD"))
        await filled(at_hand, 2)
        await at_hand.select_coin(names[2], "GOLD")
        while len(await queue(inventory_client, contact_id=names[1])) < 3:
            pass
        await filled(at_hand, 2)
        assert at_once(at_hand.select_coin(names[0], "GOLD")) == "c0-2"
        assert at_once(at_hand.select_coin(names[2], "GOLD")) == "c2-1"
    assert [len(await queue(inventory_client, contact_id=name)) for name in names] == [1, 3, 2, 4]


async def test_those_who_are_named(inventory: AsyncSmartInventory, bob: str) -> None:
    """Of others, every call is a plain one; other tiers are kept once they were wanted."""
    await inventory.register_contact(MATE, "BESTIE")
    await stock(inventory, MATE, "GOLD", "m0", "m1", "m2")
    await stock(inventory, bob, "SILVER", "s0", "s1", "s2")
    async with inventory.prefetch(ahead=1, contacts=[bob]) as at_hand:
        await filled(at_hand, 1)
        assert await name_of(at_hand.select_coin(MATE, "GOLD")) == "m0"
        assert await name_of(at_hand.select_coin(bob, "SILVER")) == "s0"
        await filled(at_hand, 1, "SILVER")
        assert at_once(at_hand.select_coin(bob, "SILVER")) == "s1"
        assert at_hand.read_counts().at_hand["GOLD"] == 1


@pytest.mark.parametrize("how", ["forgotten", "again", "lowered", "raised"])
async def test_contacts_who_change_by_this_object(
    inventory: AsyncSmartInventory, inventory_client: Redis, bob: str, how: str
) -> None:
    """What is at hand of them is dropped at once; the server says what of it goes back."""
    async with inventory.prefetch(ahead=2, contacts=[bob]) as at_hand:
        await filled(at_hand, 2)
        if how in {"forgotten", "again"}:
            await inventory.forget_contact(bob)
        else:
            await inventory.set_contact_priority(bob, "MATE" if how == "raised" else "STRANGER")
        assert at_hand.read_counts().at_hand["GOLD"] == 0
        if how == "again":
            await inventory.register_contact(bob, "BESTIE")
            await stock(inventory, bob, "GOLD", "new")
        if how == "forgotten":
            with pytest.raises(ContactNotRegisteredError):
                await at_hand.select_coin(bob, "GOLD")
            assert await queue(inventory_client) == []
    left = {"forgotten": [], "again": ["new"], "lowered": [], "raised": GOLD}
    assert await queue(inventory_client) == left[how]


@pytest.mark.parametrize("how", ["forgotten", "again", "priority"])
async def test_contacts_who_change_elsewhere(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    other: AsyncSmartInventory,
    bob: str,
    how: str,
) -> None:
    """The next refill drops what is at hand of them."""
    async with inventory.prefetch(ahead=3, contacts=[bob]) as at_hand:
        await filled(at_hand, 3)
        if how == "priority":
            await other.set_contact_priority(bob, "MATE")
        else:
            await other.forget_contact(bob)
        if how == "again":
            await other.register_contact(bob, "BESTIE")
            await stock(other, bob, "GOLD", "new")
        assert at_once(at_hand.select_coin(bob, "GOLD")) == GOLD[0]
        await filled(at_hand, 0)
        if how == "forgotten":
            with pytest.raises(ContactNotRegisteredError):
                await at_hand.select_coin(bob, "GOLD")
    assert await queue(inventory_client) == {"forgotten": [], "again": ["new"]}.get(how, GOLD[1:])


async def test_a_refill_in_flight_for_a_contact_who_is_forgotten(valkey: Redis) -> None:
    """What it brings isn't put to the coins at hand."""
    inventory = await stocked(valkey)
    line = over_line(inventory)
    line.held = asyncio.Event()
    async with inventory.prefetch(ahead=2, contacts=[BOB]) as at_hand:
        await until(lambda: line.sent)
        await inventory.forget_contact(BOB)
        line.held.set()
        await until(lambda: len(line.sent) > 2)
        assert at_hand.read_counts().at_hand["GOLD"] == 0
    assert await queue(valkey) == []


async def test_a_refill_that_fails_for_a_contact_who_is_forgotten(
    valkey: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """It isn't tried again."""
    inventory = await stocked(valkey)
    line = over_line(inventory)
    line.held = asyncio.Event()
    async with inventory.prefetch(ahead=2, contacts=[BOB]) as at_hand:
        await until(lambda: line.sent)
        await inventory.set_contact_priority(BOB, "MATE")
        line.failure = InventoryUnavailableError("gone")
        line.held.set()
        await until(lambda: events(caplog))
        line.failure = line.held = None
        assert await at_hand.select_coin(BOB, "SILVER") is None
        await filled(at_hand, 0)
        assert len(line.sent) == 3


async def test_a_miss_of_a_forgotten_contact_drops_the_rest(
    inventory: AsyncSmartInventory, other: AsyncSmartInventory, bob: str
) -> None:
    """Also what is at hand of other tiers, be they better or lower."""
    for tier in ("GOLD", "BRONZE"):
        await inventory.register_contact(bob, "BESTIE")
        await stock(inventory, bob, tier, f"{tier}1", f"{tier}2")
        async with inventory.prefetch(ahead=2, contacts=[bob], tiers=[tier]) as at_hand:
            await filled(at_hand, 2, tier)
            await other.forget_contact(bob)
            with pytest.raises(ContactNotRegisteredError):
                await at_hand.select_coin(bob, "SILVER")
            assert at_hand.read_counts().at_hand[tier] == 0


async def test_a_coin_that_is_removed(inventory: AsyncSmartInventory, bob: str) -> None:
    """Whoever finds that a coin is no good removes it, wherever it is."""
    async with inventory.prefetch(ahead=2, contacts=[bob]) as at_hand:
        await filled(at_hand, 2)
        assert await inventory.consume_key(bob, GOLD[1])
        assert await inventory.consume_key(bob, GOLD[2])
        assert not await inventory.consume_key(bob, "none")
        assert not await inventory.consume_key("nobody", "none")
        found = [await name_of(at_hand.select_coin(bob, "GOLD")) for _ in range(5)]
    assert found == [GOLD[0], *GOLD[3:], None]


async def test_the_owner_is_deleted(servers: Servers) -> None:
    """Nothing of theirs comes back."""
    client = servers[VALKEY_9].client(INVENTORY_DB)
    await client.flushdb()
    db = AsyncClientDatabase(client, client, owner="alice", budget_caps=CAPS)
    await db.inventory.register_contact(BOB, "BESTIE")
    await stock(db.inventory, BOB, "GOLD", *GOLD)
    async with db.inventory.prefetch(ahead=2, contacts=[BOB]) as at_hand:
        await filled(at_hand, 2)
        await db.delete_owner("alice")
        assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[0]
        await filled(at_hand, 0)
    left: list[Any] = await client.keys("*")
    assert [key for key in left if b":key:" in key or b":idx:" in key or b":meta:" in key] == []
    await client.flushdb()
    await db.aclose()


# The end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [by_cancel, by_scope, by_timeout])
async def test_the_block_is_cancelled(
    inventory: AsyncSmartInventory, inventory_client: Redis, bob: str, way: Way
) -> None:
    """Everything is back when the cancellation goes on."""
    entered = asyncio.Event()

    async def hold() -> None:
        async with inventory.prefetch(ahead=3, contacts=[bob]) as at_hand:
            await filled(at_hand, 3)
            entered.set()
            await anyio.sleep_forever()

    task, give_up = way(hold())
    await entered.wait()
    await given_up(task, give_up, 1)
    assert await queue(inventory_client) == GOLD


@pytest.mark.parametrize("error", [LookupError("mine"), KeyboardInterrupt(), SystemExit(3)])
async def test_the_blocks_own_error_comes_out(
    inventory: AsyncSmartInventory, inventory_client: Redis, bob: str, error: BaseException
) -> None:
    """Everything is back before."""

    async def fail() -> None:
        async with inventory.prefetch(ahead=3, contacts=[bob]) as at_hand:
            await filled(at_hand, 3)
            raise error

    with pytest.raises(type(error)) as raised:
        await fail()
    assert raised.value is error
    assert await queue(inventory_client) == GOLD


@pytest.mark.parametrize("error", [None, LookupError("mine")])
async def test_the_server_is_gone_at_the_end(
    valkey: Redis, caplog: pytest.LogCaptureFixture, error: Exception | None
) -> None:
    """What can't go back is logged with its number, and replaces no error."""
    inventory = await stocked(valkey)
    line = over_line(inventory)
    raised: Exception | None = None
    try:
        async with inventory.prefetch(ahead=3, contacts=[BOB]) as at_hand:
            await filled(at_hand, 3)
            line.failure = InventoryUnavailableError("gone")
            if error is not None:
                raise error
    except LookupError as found:
        raised = found
    assert raised is error
    [record] = [each for each in caplog.records if each.message == "coins_not_returned"]
    assert record.__dict__["count"] == 3
    assert await queue(valkey) == GOLD[3:]


async def test_the_end_is_cancelled_too(valkey: Redis) -> None:
    """Whoever is impatient while everything goes back: it goes back all the same."""
    inventory = await stocked(valkey)
    line = over_line(inventory)
    entered = asyncio.Event()
    leave = asyncio.Event()

    async def hold() -> None:
        async with inventory.prefetch(ahead=3, contacts=[BOB]) as at_hand:
            await filled(at_hand, 3)
            entered.set()
            await leave.wait()
            line.held = asyncio.Event()

    task = asyncio.create_task(hold())
    await entered.wait()
    leave.set()
    await until(lambda: len(line.sent) == 2)
    task.cancel()
    assert line.held is not None
    line.held.set()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert await queue(valkey) == GOLD


async def test_a_silent_server_at_the_end(valkey: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """A cancelled caller goes on after the time to settle, and the rest is done behind it."""
    inventory = AsyncSmartInventory(valkey, budget_caps=CAPS, settle_timeout=1)
    await inventory.register_contact(BOB, "BESTIE")
    await stock(inventory, BOB, "GOLD", *GOLD)
    line = over_line(inventory)
    entered = asyncio.Event()

    async def hold() -> None:
        async with inventory.prefetch(ahead=3, contacts=[BOB]) as at_hand:
            await filled(at_hand, 3)
            line.held = asyncio.Event()
            entered.set()
            await anyio.sleep_forever()

    task = asyncio.create_task(hold())
    await entered.wait()
    task.cancel()
    await asyncio.wait((task,))
    assert "settling_delayed" in events(caplog)
    assert line.held is not None
    line.held.set()
    others = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
    await until(lambda: all("_run_steps" not in repr(each) or each.done() for each in others))
    assert await queue(valkey) == GOLD


@pytest.mark.parametrize("turns", range(12))
async def test_a_refill_in_flight_at_the_end(valkey: Redis, turns: int) -> None:
    """What it took goes back as what a cancelled caller took."""
    inventory = await stocked(valkey)
    async with inventory.prefetch(ahead=3, contacts=[BOB]):
        for _ in range(turns):
            await asyncio.sleep(0)
    assert await queue(valkey) == GOLD


async def test_the_database_is_closed_inside(
    valkey: Redis, servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing goes back any more, which is logged; the next miss says why."""
    await stocked(valkey)
    client = servers[VALKEY_9].client(INVENTORY_DB)
    db = AsyncClientDatabase(client, client)
    async with db.inventory.prefetch(ahead=2, contacts=[BOB]) as at_hand:
        await filled(at_hand, 2)
        await db.aclose()
        assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[0]
        with pytest.raises(InventoryUnavailableError, match="was closed"):
            await at_hand.select_coin(BOB, "SILVER")
    [record] = [each for each in caplog.records if each.message == "coins_not_returned"]
    assert record.__dict__["count"] == 1


# Failures ----------------------------------------------------------------------------------


async def test_a_refill_that_fails(
    valkey: Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It's logged, and left alone for a while; the next miss raises what is wrong."""
    inventory = await stocked(valkey)
    line = over_line(inventory)
    async with inventory.prefetch(ahead=2, contacts=[BOB]) as at_hand:
        await filled(at_hand, 2)
        line.failure = InventoryUnavailableError("gone")
        assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[0]
        await until(lambda: events(caplog))
        tried = len(line.sent)
        assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[1]
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(line.sent) == tried
        with pytest.raises(InventoryUnavailableError, match="gone"):
            await at_hand.select_coin(BOB, "GOLD")
        assert len(line.sent) == tried + 1
        # A call that comes through ends the pause.
        line.failure = None
        assert await name_of(at_hand.select_coin(BOB, "GOLD")) == GOLD[2]
        await filled(at_hand, 2)
        assert events(caplog) == ["prefetch_failed"]
        # And so does time, with the next call.
        line.failure = InventoryUnavailableError("gone again")
        assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[3]
        await until(lambda: len(events(caplog)) == 2)
        line.failure = None
        monkeypatch.setattr(time, "clock_gettime", clock_ahead(2))
        sent = len(line.sent)
        assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[4]
        await filled(at_hand, 1)
        # One coin is enough to see whether the server answers.
        assert len(line.sent[sent]) == 2
        monkeypatch.undo()


async def test_a_server_that_refuses_to_take_coins_back(
    valkey: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """They are kept for the next time, and no others are taken in their place."""
    inventory = await stocked(valkey)
    line = over_line(inventory)
    async with inventory.prefetch(ahead=2, contacts=[BOB]) as at_hand:
        await filled(at_hand, 2)
        run_all = line.run_all

        async def refuse(calls: Any, undos: Any = None) -> Any:
            line.sent.append(list(calls))
            return [InventoryUnavailableError("busy") for _ in calls]

        line.run_all = refuse  # type: ignore[method-assign]
        await inventory.set_contact_priority(BOB, "MATE")
        await until(lambda: events(caplog))
        assert await queue(valkey) == GOLD[2:]
        line.run_all = run_all  # type: ignore[method-assign]
        assert await name_of(at_hand.select_coin(BOB, "GOLD")) == GOLD[2]
        while await queue(valkey) != [*GOLD[2:2], *GOLD[3:]] and GOLD[0] not in await queue(valkey):
            pass
    assert await queue(valkey) == [*GOLD[:2], *GOLD[3:]]


async def test_fewer_coins_than_are_wanted(valkey: Redis) -> None:
    """What the database hasn't isn't asked for again and again."""
    inventory = await stocked(valkey)
    line = over_line(inventory)
    async with inventory.prefetch(ahead=40, contacts=[BOB]) as at_hand:
        await filled(at_hand, len(GOLD))
        await idle(inventory)
        sent = len(line.sent)
        await idle(inventory)
        assert len(line.sent) == sent


async def test_a_malformed_queue_of_many(valkey: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """It's logged once, and not again and again."""
    inventory = await stocked(valkey)
    await valkey.set(f"inv:v1:idx:{BOB}:SILVER", "x")
    async with inventory.prefetch(ahead=40, contacts=[BOB], tiers=["SILVER"]):
        await until(lambda: events(caplog))
        await idle(inventory)
        logged = len(events(caplog))
        await idle(inventory)
        assert len(events(caplog)) == logged


async def test_an_empty_queue_after_a_failure(
    valkey: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """That it's empty is an answer, so that others are refilled as ever."""
    inventory = await stocked(valkey)
    await inventory.register_contact("amy", "BESTIE")
    await stock(inventory, "amy", "GOLD", "a")
    line = over_line(inventory)
    async with inventory.prefetch(ahead=2, contacts=["amy", BOB]) as at_hand:
        await filled(at_hand, 3)
        line.failure = InventoryUnavailableError("gone")
        for contact_id in ("amy", BOB):
            at_once(at_hand.select_coin(contact_id, "GOLD"))
        await until(lambda: events(caplog))
        line.failure = None
        at_hand.drop("nobody")
        assert await at_hand.select_coin("amy", "GOLD") is None
        await filled(at_hand, 2)
        await idle(inventory)
        sent = len(line.sent)
        await idle(inventory)
        assert len(line.sent) == sent


async def test_what_can_not_go_back_is_in_nobodys_way(
    servers: Servers, valkey: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """A user who may take coins, and put none back, has some at hand all the same."""
    own = await stocked(valkey)
    await own.register_contact("amy", "BESTIE")
    await stock(own, "amy", "GOLD", "a", "b", "c", "d", "e")
    await valkey.acl_setuser(
        "taker",
        enabled=True,
        passwords=["+x"],
        keys=["*"],
        categories=["+@all"],
        commands=["-hincrby"],
    )
    client = servers[VALKEY_9].client(INVENTORY_DB, username="taker", password="x")
    try:
        inventory = AsyncSmartInventory(client, budget_caps=CAPS)
        async with inventory.prefetch(ahead=1, most_contacts=1) as at_hand:
            await at_hand.select_coin(BOB, "GOLD")
            await filled(at_hand, 1)
            await at_hand.select_coin("amy", "GOLD")
            await until(lambda: "prefetch_failed" in events(caplog))
            for _ in range(3):
                await filled(at_hand, 1)
                at_once(at_hand.select_coin("amy", "GOLD"))
        assert "coins_not_returned" in events(caplog)
    finally:
        await client.aclose()
        await valkey.acl_deluser("taker")


async def test_a_malformed_contact(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    bob: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The next miss raises it, and other contacts get theirs."""
    await inventory.register_contact(MATE, "BESTIE")
    await stock(inventory, MATE, "GOLD", "m0")
    await inventory_client.delete(f"inv:v1:meta:{bob}")
    await inventory_client.set(f"inv:v1:meta:{bob}", "no hash")
    async with inventory.prefetch(ahead=1, contacts=[bob, MATE]) as at_hand:
        await filled(at_hand, 1)
        assert events(caplog) == ["prefetch_failed"]
        with pytest.raises(CorruptEntryError):
            await at_hand.select_coin(bob, "GOLD")
        assert at_once(at_hand.select_coin(MATE, "GOLD")) == "m0"


async def test_an_error_of_the_library_s_own_comes_out(valkey: Redis) -> None:
    """A mistake isn't logged every second: it ends the block."""
    inventory = await stocked(valkey)
    line = over_line(inventory)

    async def break_down(*_: object) -> None:
        raise ZeroDivisionError

    line.run_all = break_down  # type: ignore[method-assign, assignment]

    async def hold() -> None:
        async with inventory.prefetch(ahead=1, contacts=[BOB]):
            await anyio.sleep_forever()

    with pytest.raises(ZeroDivisionError):
        await hold()


# Where -------------------------------------------------------------------------------------


async def test_another_event_loop(valkey: Redis) -> None:
    """It's told, and gets nothing; what it changes is heeded all the same."""
    inventory = await stocked(valkey)
    async with inventory.prefetch(ahead=2, contacts=[BOB]) as at_hand:
        await filled(at_hand, 2)
        told: list[BaseException] = []

        async def elsewhere() -> None:
            try:
                await at_hand.select_coin(BOB, "GOLD")
            except InventoryUnavailableError as error:
                told.append(error)
            assert not at_hand.discard(BOB, GOLD[0])
            at_hand.drop(BOB)

        thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
        thread.start()
        thread.join()
        [error] = told
        assert "on another event loop" in str(error)
        await filled(at_hand, 0)
    assert await queue(valkey) == GOLD


async def test_a_process_that_was_forked(valkey: Redis) -> None:
    """It has nothing at hand: it's the parent's, which hands it out itself."""
    inventory = await stocked(valkey)
    async with inventory.prefetch(ahead=2, contacts=[BOB]) as at_hand:
        await filled(at_hand, 2)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                await at_hand.select_coin(BOB, "GOLD")
            except InventoryUnavailableError as error:
                at_hand.drop(BOB)
                is_empty = at_hand.read_counts().at_hand["GOLD"] == 0
                status = 0 if is_empty and "forked" in str(error) else 2
            finally:
                os._exit(status)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert at_once(at_hand.select_coin(BOB, "GOLD")) == GOLD[0]
    assert await queue(valkey) == GOLD[1:]


# Arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"ahead": 0},
        {"ahead": True},
        {"most_contacts": 0},
        {"contacts": "bob"},
        {"contacts": [""]},
        {"contacts": [1]},
        {"tiers": ["PLATINUM"]},
        {"tiers": "GOLD"},
    ],
    ids=str,
)
async def test_arguments_are_checked(valkey: Redis, arguments: dict[str, Any]) -> None:
    """Before anything is begun."""
    with pytest.raises(InvalidArgumentError):
        AsyncSmartInventory(valkey).prefetch(**arguments)


async def test_arguments_of_a_call_are_checked(inventory: AsyncSmartInventory, bob: str) -> None:
    """As those of the plain call."""
    async with inventory.prefetch(ahead=1, contacts=[bob]) as at_hand:
        await filled(at_hand, 1)
        wrong: Any = ["", 1, ["bob"], None]
        for contact_id in wrong:
            with pytest.raises(InvalidIdentifierError):
                await at_hand.select_coin(contact_id, "GOLD")
        tiers: Any = ["PLATINUM", 1, ["GOLD"], None]
        for tier in tiers:
            with pytest.raises(InvalidCoinCategoryError):
                await at_hand.select_coin(bob, tier)
        assert sum(at_hand.read_counts().misses.values()) == 0


async def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module says what to install."""
    monkeypatch.setitem(sys.modules, "anyio", None)
    monkeypatch.delitem(sys.modules, "aqm_db.prefetcher")
    with pytest.raises(ImportError, match="background"):
        importlib.import_module("aqm_db.prefetcher")
