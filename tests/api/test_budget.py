"""The byte budget: reported, enforced when asked, and reserved for coins that are on their way."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncSmartInventory, config, connect
from aqm_db._operations.reservations import Lease, Reservations
from aqm_db.errors import (
    BudgetExceededError,
    ContactNotRegisteredError,
    CorruptEntryError,
    InvalidArgumentError,
    InvalidIdentifierError,
    KeyAlreadyExistsError,
    NoSlotError,
)
from aqm_db.types import CoinCategory, NewCoin
from tests.conftest import INVENTORY_DB
from tests.support.backends import REDIS_6, VALKEY_9, RunningServer, Servers
from tests.support.faces import ASYNC, Face
from tests.support.peers import Cutter, listening
from tests.support.samples import BOB, MATE, Clock, age_leases, halves, reservations_of, stock

pytestmark = pytest.mark.asyncio

GOLD, SILVER, BRONZE = (config.COIN_SIZE_BYTES[tier] for tier in ("GOLD", "SILVER", "BRONZE"))


def coin(contact_id: str, tier: CoinCategory, key_id: str, **changes: Any) -> NewCoin:
    """A coin of realistic size."""
    public_key, signature = halves(tier)
    values: dict[str, Any] = {"contact_id": contact_id, "key_id": key_id, "coin_category": tier}
    values |= {"public_key": public_key, "signature": signature}
    return NewCoin(**{**values, **changes})


def coins(contact_id: str, tier: CoinCategory, *key_ids: str) -> list[NewCoin]:
    """Many of them."""
    return [coin(contact_id, tier, key_id) for key_id in key_ids]


def kinds(outcomes: list[Any]) -> list[Any]:
    """True, or the class of the error."""
    return [outcome if outcome is True else type(outcome) for outcome in outcomes]


@pytest.fixture
def with_budget(
    face: Face, server: RunningServer, inventory_client: Redis, clock: Clock
) -> Iterator[Callable[[int], AsyncSmartInventory]]:
    """Makes an inventory of another budget."""
    with server.sync_client(INVENTORY_DB) as sync_client:
        client = inventory_client if face is ASYNC else sync_client
        yield partial(_inventory, face, client, clock)


def _inventory(face: Face, client: Any, clock: Clock, budget_bytes: int) -> AsyncSmartInventory:
    return face.inventory(client, budget_bytes=budget_bytes, clock=clock)


# The parameter -----------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, "64", 64.0, True, 0, -1, 2**53 + 1], ids=repr)
async def test_a_budget_is_a_number_of_bytes(inventory_client: Redis, wrong: Any) -> None:
    """Anything else is refused at once, here and by connect."""
    with pytest.raises(InvalidArgumentError, match="^budget_bytes: "):
        AsyncSmartInventory(inventory_client, budget_bytes=wrong)
    with pytest.raises(InvalidArgumentError, match="^budget_bytes: "):
        connect("memory://", budget_bytes=wrong)


async def test_reports_are_about_the_inventory_s_budget() -> None:
    """The bytes used are told in percent of it."""
    async with connect("memory://", budget_bytes=10 * BRONZE) as db:
        assert db.inventory.budget_bytes == 10 * BRONZE
        await db.inventory.register_contact(BOB, "BESTIE")
        await stock(db.inventory, BOB, "BRONZE", "b1")
        report = await db.reporter.get_storage_usage()
        assert (report.budget_bytes, report.utilization_pct) == (10 * BRONZE, 10.0)
        assert (await db.reporter.get_full_dashboard())["inventory_storage"] == report


# Enforced when asked -----------------------------------------------------------------------


async def test_store_key_enforces_the_bytes_when_asked(
    with_budget: Callable[[int], AsyncSmartInventory], inventory_client: Redis
) -> None:
    """The coin that would pass the budget is refused, and the error says which budget it is."""
    inventory = with_budget(2 * SILVER + BRONZE - 1)
    await inventory.register_contact(BOB, "BESTIE")
    await inventory.register_contact(MATE, "MATE")
    assert await inventory.store_key(BOB, "s1", "SILVER", *halves("SILVER"), enforce_budget=True)
    assert await inventory.store_key(MATE, "s2", "SILVER", *halves("SILVER"), enforce_budget=True)
    with pytest.raises(BudgetExceededError) as refused:
        await inventory.store_key(MATE, "b1", "BRONZE", *halves("BRONZE"), enforce_budget=True)
    error = refused.value
    assert (error.unit, error.current_count, error.cap) == (
        "bytes",
        2 * SILVER,
        2 * SILVER + BRONZE - 1,
    )
    assert str(error) == (
        f"all coins take {2 * SILVER} of at most {2 * SILVER + BRONZE - 1} bytes: no room for a"
        f" BRONZE coin of contact {MATE!r}"
    )
    assert await inventory.store_key(MATE, "b1", "BRONZE", *halves("BRONZE"))
    assert await inventory.select_coin(BOB, "SILVER") is not None
    assert await inventory.store_key(MATE, "b2", "BRONZE", *halves("BRONZE"), enforce_budget=True)
    assert await inventory_client.hgetall("inv:v1:leases") == {}


async def test_the_cap_is_enforced_as_ever(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """What is wrong with a coin is told as without the byte budget."""
    await stock(inventory, BOB, "BRONZE", "b1")
    with pytest.raises(BudgetExceededError, match=r"holds 1 of at most 1 BRONZE coins") as refused:
        await inventory.store_key(BOB, "b2", "BRONZE", *halves("BRONZE"), enforce_budget=True)
    assert refused.value.unit == "coins"
    with pytest.raises(KeyAlreadyExistsError):
        await inventory.store_key(BOB, "b1", "BRONZE", *halves("BRONZE"), enforce_budget=True)
    with pytest.raises(ContactNotRegisteredError):
        await inventory.store_key("eve", "b1", "BRONZE", *halves("BRONZE"), enforce_budget=True)
    with pytest.raises(InvalidArgumentError, match="^public_key: "):
        await inventory.store_key(BOB, "b3", "BRONZE", b"", b"s", enforce_budget=True)


async def test_store_keys_enforces_the_bytes_for_each_coin(
    with_budget: Callable[[int], AsyncSmartInventory], inventory_client: Redis
) -> None:
    """The contacts that come first get the budget, and each coin has an outcome of its own."""
    inventory = with_budget(GOLD + 2 * SILVER)
    await inventory.register_contact(BOB, "BESTIE")
    await inventory.register_contact(MATE, "MATE")
    await stock(inventory, MATE, "SILVER", "old")
    outcomes = await inventory.store_keys(
        [
            *coins(BOB, "GOLD", "g1", "g2"),
            coin(BOB, "SILVER", "s1"),
            coin(MATE, "SILVER", "s2"),
            coin("", "SILVER", "s3"),
            coin("eve", "SILVER", "s4"),
            coin(MATE, "GOLD", "g3"),
        ],
        enforce_budget=True,
    )
    assert kinds(outcomes) == [
        *(True, BudgetExceededError, True, BudgetExceededError),
        *(InvalidIdentifierError, ContactNotRegisteredError, BudgetExceededError),
    ]
    units = [outcome.unit for outcome in outcomes if isinstance(outcome, BudgetExceededError)]
    assert units == ["bytes", "bytes", "coins"]
    assert await inventory.store_keys([], enforce_budget=True) == []


async def test_a_duplicate_takes_no_slot(
    with_budget: Callable[[int], AsyncSmartInventory], inventory_client: Redis
) -> None:
    """The slot that it would have had goes to the next coin."""
    inventory = with_budget(3 * SILVER)
    await inventory.register_contact(BOB, "BESTIE")
    await stock(inventory, BOB, "SILVER", "s1")
    outcomes = await inventory.store_keys(
        coins(BOB, "SILVER", "s1", "s2", "s3", "s4"), enforce_budget=True
    )
    assert kinds(outcomes) == [KeyAlreadyExistsError, True, True, BudgetExceededError]


async def test_any_number_of_callers_pass_no_budget(
    with_budget: Callable[[int], AsyncSmartInventory], inventory_client: Redis
) -> None:
    """All at once they store what fits, and no byte more."""
    inventory = with_budget(10 * SILVER + 1)
    contacts = [f"contact {number}" for number in range(20)]
    for contact_id in contacts:
        await inventory.register_contact(contact_id, "MATE")
    outcomes = await asyncio.gather(
        *(
            inventory.store_keys(coins(contact_id, "SILVER", "s"), enforce_budget=True)
            for contact_id in contacts
        )
    )
    stored = sum(outcome == [True] for outcome in outcomes)
    found = await inventory.get_inventory()
    assert sum(summary.silver_count for summary in found.values()) == stored <= 10
    # Those that were refused had met the leases of others; now there are none.
    for contact_id in contacts:
        await inventory.store_keys(coins(contact_id, "SILVER", "t"), enforce_budget=True)
    found = await inventory.get_inventory()
    assert sum(summary.silver_count for summary in found.values()) == 10
    assert await inventory_client.hgetall("inv:v1:leases") == {}


# Reservations ------------------------------------------------------------------------------


@pytest.fixture
def aio(inventory_client: Redis, clock: Clock) -> AsyncSmartInventory:
    """An asynchronous inventory: reserving has no synchronous face."""
    return AsyncSmartInventory(inventory_client, clock=clock)


@pytest_asyncio.fixture
async def bob(aio: AsyncSmartInventory) -> str:
    """A contact."""
    await aio.register_contact(BOB, "BESTIE")
    return BOB


@pytest.fixture
def other(aio: AsyncSmartInventory, inventory_client: Redis, clock: Clock) -> AsyncSmartInventory:
    """Another program's inventory of the same data, with a clock and a budget of its own."""
    return AsyncSmartInventory(inventory_client, clock=clock, budget_bytes=10 * SILVER)


async def snapshot_of(client: Redis, key: str) -> dict[bytes, bytes]:
    """The fields of a hash."""
    fields: Any = await client.hgetall(key)
    return dict(fields)


async def reserved(
    inventory: AsyncSmartInventory, contact_id: str, tier: CoinCategory, wanted: int
) -> Lease:
    """A lease of one tier."""
    leases = await reservations_of(inventory).reserve({contact_id: {tier: wanted}})
    lease = leases[contact_id, tier]
    assert isinstance(lease, Lease)
    return lease


async def test_slots_are_reserved_once(
    aio: AsyncSmartInventory, other: AsyncSmartInventory, bob: str
) -> None:
    """What one program reserves, no other one gets, until it's given back."""
    await stock(aio, BOB, "SILVER", "s1")
    first = await reserved(aio, BOB, "SILVER", 2)
    second = await reserved(other, BOB, "SILVER", 4)
    assert (first.slots, first.refusal) == (2, None)
    assert second.slots == 1
    assert isinstance(second.refusal, BudgetExceededError)
    assert (second.refusal.current_count, second.refusal.cap) == (3, 4)
    third = await reserved(other, BOB, "SILVER", 1)
    assert third.slots == 0
    await reservations_of(aio).end([first])
    await reservations_of(aio).end([first])
    assert (await reserved(other, BOB, "SILVER", 4)).slots == 2


async def test_reserved_bytes_are_taken(
    aio: AsyncSmartInventory, other: AsyncSmartInventory, bob: str
) -> None:
    """The byte budget counts leases of all contacts."""
    await aio.register_contact(MATE, "MATE")
    await reserved(aio, BOB, "GOLD", 3)
    lease = await reserved(other, MATE, "SILVER", 6)
    assert lease.slots == (10 * SILVER - 3 * GOLD) // SILVER
    assert isinstance(lease.refusal, BudgetExceededError)
    assert (lease.refusal.unit, lease.refusal.current_count) == ("bytes", 3 * GOLD)


async def test_a_slot_is_filled_once(aio: AsyncSmartInventory, bob: str) -> None:
    """A lease takes as many coins as it has slots, of its own tier and contact."""
    lease = await reserved(aio, BOB, "SILVER", 2)
    reservations = reservations_of(aio)
    outcomes = await reservations.store(
        [*coins(BOB, "SILVER", "s1", "s2", "s3"), *coins(BOB, "BRONZE", "b1")],
        {(BOB, "SILVER"): lease},
    )
    assert kinds(outcomes) == [True, True, NoSlotError, NoSlotError]
    again = await reservations.store(coins(BOB, "SILVER", "s4"), {(BOB, "SILVER"): lease})
    assert str(again[0]) == f"no reserved slot is left for key 's4' of {BOB!r}"


async def test_a_lease_ends_by_itself(
    aio: AsyncSmartInventory,
    other: AsyncSmartInventory,
    clock: Clock,
    bob: str,
    inventory_client: Redis,
) -> None:
    """After its time nothing is stored under it, and its slots are another's."""
    lease = await reserved(aio, BOB, "SILVER", 4)
    # Whatever the clock of whoever uses it shows.
    clock.advance(days=1)
    await age_leases(inventory_client, config.INV_LEASE_TTL_SECONDS * 1000 - 60_000)
    reservations = reservations_of(aio)
    assert await reservations.store(coins(BOB, "SILVER", "s1"), {(BOB, "SILVER"): lease}) == [True]
    await age_leases(inventory_client, 60_000)
    outcomes = await reservations.store(coins(BOB, "SILVER", "s2"), {(BOB, "SILVER"): lease})
    assert kinds(outcomes) == [NoSlotError]
    assert (await reserved(other, BOB, "SILVER", 4)).slots == 3
    [name] = await snapshot_of(inventory_client, "inv:v1:leases")
    assert name.endswith(f":SILVER:{BOB}".encode())
    assert name != lease.name.encode()


@pytest.mark.parametrize("how", ["given back", "expired", "kept"])
async def test_what_is_stored_while_it_is_measured_counts(
    aio: AsyncSmartInventory,
    other: AsyncSmartInventory,
    bob: str,
    inventory_client: Redis,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """A coin that the measurement missed, since it was stored later, under a lease or none."""
    await aio.register_contact(MATE, "MATE")
    lease = await reserved(aio, BOB, "GOLD", 3)
    await inventory_client.hdel("inv:v1:totals", "gone_GOLD")
    measure = Reservations._measure
    measured: list[Any] = []

    async def measure_and_miss(self: Reservations) -> Any:
        measured.append(await measure(self))
        if len(measured) == 1:
            reservations = reservations_of(aio)
            await reservations.store(coins(BOB, "GOLD", "1", "2"), {(BOB, "GOLD"): lease})
            if how == "expired":
                await age_leases(inventory_client, config.INV_LEASE_TTL_SECONDS * 1000)
            if how == "given back":
                await reservations.end([lease])
            await stock(aio, BOB, "GOLD", "3")
        return measured[-1]

    monkeypatch.setattr(Reservations, "_measure", measure_and_miss)
    taken = 4 if how == "kept" else 3
    lease = await reserved(other, MATE, "SILVER", 6)
    assert lease.slots == max((10 * SILVER - taken * GOLD) // SILVER, 0)
    assert [each.found[0] for each in measured] == [0]


@pytest.mark.parametrize("are_listed", [False, True])
async def test_a_malformed_lease_is_none(
    aio: AsyncSmartInventory,
    inventory_client: Redis,
    bob: str,
    are_listed: bool,  # noqa: FBT001
) -> None:
    """What another program wrote by hand takes no slot for ever."""
    await inventory_client.hset(
        "inv:v1:leases", mapping={f"x:SILVER:{BOB}": "text", "y": f"1 0 {2**52} {2**52} 1"}
    )
    if are_listed:
        ends = {f"x:SILVER:{BOB}": 2**52, "y": 1, "gone:SILVER:{BOB}": 1}
        await inventory_client.zadd("inv:v1:leases_until", ends)
    assert (await reserved(aio, BOB, "SILVER", 4)).slots == 4
    assert await inventory_client.hlen("inv:v1:leases") == 1
    assert await inventory_client.zcard("inv:v1:leases_until") == 1


KEPT = ("inv:v1:leases", "inv:v1:leases_until", "inv:v1:coming", "inv:v1:totals")


@pytest.mark.parametrize("key", KEPT)
async def test_malformed_keys_stop_reserving(
    aio: AsyncSmartInventory, inventory_client: Redis, bob: str, key: str
) -> None:
    """Nothing is stored by guesswork."""
    await inventory_client.rpush(key, "x")
    with pytest.raises(CorruptEntryError):
        await aio.store_key(BOB, "s1", "SILVER", *halves("SILVER"), enforce_budget=True)
    assert not await aio.has_keys_for(BOB)


async def reserve_all(
    inventory: AsyncSmartInventory, contact_ids: list[str]
) -> dict[str, tuple[Lease, ...]]:
    """All slots of many contacts of the highest priority."""
    leases = await reservations_of(inventory).reserve(
        {each: {"GOLD": 5, "SILVER": 4, "BRONZE": 1} for each in contact_ids}
    )
    found: dict[str, tuple[Lease, ...]] = {}
    for (contact_id, _), lease in leases.items():
        assert isinstance(lease, Lease)
        found[contact_id] = (*found.get(contact_id, ()), lease)
    return found


@pytest.fixture
def rich(inventory_client: Redis, clock: Clock) -> AsyncSmartInventory:
    """An inventory with room for everything."""
    return AsyncSmartInventory(inventory_client, clock=clock, budget_bytes=10**9)


async def register(inventory: AsyncSmartInventory, count: int) -> list[str]:
    """Many contacts."""
    contact_ids = [f"c{number}" for number in range(count)]
    for contact_id in contact_ids:
        await inventory.register_contact(contact_id, "BESTIE")
    return contact_ids


@pytest.mark.parametrize("ms", [120_000, -86_400_000], ids=["over", "set back"])
async def test_many_leases_that_are_over_are_in_nobody_s_way(
    rich: AsyncSmartInventory, inventory_client: Redis, ms: int
) -> None:
    """More than one script ends, and those too that a clock made that was ahead."""
    contact_ids = await register(rich, 70)
    for _ in range(2):
        leases = await reserve_all(rich, contact_ids)
        assert {each.slots for found in leases.values() for each in found} == {5, 4, 1}
        assert await inventory_client.hlen("inv:v1:leases") == 210
        assert await inventory_client.hget("inv:v1:totals", "coming_GOLD") == b"350"
        await age_leases(inventory_client, ms)
    [lease] = (await reserve_all(rich, contact_ids[:1]))["c0"][:1]
    assert lease.slots == 5
    assert await inventory_client.hlen("inv:v1:leases") == 3


async def test_where_no_lease_is_nothing_is_coming(
    rich: AsyncSmartInventory, inventory_client: Redis
) -> None:
    """Leases that were deleted by hand take no slot for ever."""
    contact_ids = await register(rich, 2)
    await reserve_all(rich, contact_ids)
    await inventory_client.delete("inv:v1:leases", "inv:v1:leases_until")
    leases = await reserve_all(rich, contact_ids[:1])
    assert [each.slots for each in leases["c0"]] == [5, 4, 1]
    assert await snapshot_of(inventory_client, "inv:v1:coming") == {
        b"GOLD:c0": b"5",
        b"SILVER:c0": b"4",
        b"BRONZE:c0": b"1",
    }


async def test_portions_are_given_back_together(
    rich: AsyncSmartInventory, inventory_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is cancelled while many slots are reserved leaves none, of no portion."""
    monkeypatch.setattr("aqm_db._operations.batch.AT_ONCE", 2)
    contact_ids = await register(rich, 7)
    leases = await reserve_all(rich, contact_ids)
    assert {each.slots for found in leases.values() for each in found} == {5, 4, 1}
    await reservations_of(rich).end([each for found in leases.values() for each in found])
    for step in range(40):
        await cancelled_at(step, reserve_all(rich, contact_ids[:5]))
        if await inventory_client.hlen("inv:v1:leases"):
            # It had come to its end.
            await age_leases(inventory_client, config.INV_LEASE_TTL_SECONDS * 1000)
            await reservations_of(rich).end(
                [each for found in (await reserve_all(rich, ["c6"])).values() for each in found]
            )
        assert await inventory_client.hgetall("inv:v1:coming") == {}
        assert await inventory_client.zcard("inv:v1:leases_until") == 0


async def test_coins_are_counted_only_where_there_may_be_no_room(
    aio: AsyncSmartInventory, bob: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stores within the budget cost no more with many contacts than with one."""
    measure = Reservations._measure
    measured: list[int] = []

    async def count(self: Reservations) -> Any:
        measured.append(1)
        return await measure(self)

    monkeypatch.setattr(Reservations, "_measure", count)
    aio.budget_bytes = 4 * SILVER
    for number in range(3):
        assert await aio.store_keys(coins(BOB, "SILVER", f"s{number}"), enforce_budget=True) == [
            True
        ]
    # What is there was never counted before.
    assert len(measured) == 1
    for number in range(5):
        assert await aio.select_coin(BOB, "SILVER") is not None
        name = f"t{number}"
        assert await aio.store_keys(coins(BOB, "SILVER", name), enforce_budget=True) == [True]
    # Once for the first one that may not have fitted, and then for every other.
    assert len(measured) <= 5
    assert (await aio.get_inventory(BOB)).silver_count == 3
    [outcome] = await aio.store_keys(coins(BOB, "SILVER", "u", "v")[1:], enforce_budget=True)
    assert outcome is True
    measured.clear()
    outcomes = await aio.store_keys(coins(BOB, "BRONZE", "w"), enforce_budget=True)
    assert kinds(outcomes) == [BudgetExceededError]
    assert len(measured) == 1


@pytest.mark.parametrize("stored", [0, 1])
async def test_totals_that_are_begun_anew_meanwhile_are_measured_anew(
    aio: AsyncSmartInventory,
    inventory_client: Redis,
    bob: str,
    monkeypatch: pytest.MonkeyPatch,
    stored: int,
) -> None:
    """What was counted before says nothing of them."""
    await stock(aio, BOB, "SILVER", "s1", "s2")
    measure = Reservations._measure
    measured: list[int] = []

    async def measure_and_lose(self: Reservations) -> Any:
        found = await measure(self)
        if not measured:
            await inventory_client.delete("inv:v1:totals")
            await stock(aio, BOB, "SILVER", *[f"n{number}" for number in range(stored)])
        measured.append(1)
        return found

    monkeypatch.setattr(Reservations, "_measure", measure_and_lose)
    aio.budget_bytes = 3 * SILVER
    assert (await reserved(aio, BOB, "SILVER", 4)).slots == 1 - stored
    assert len(measured) == 2


async def test_a_malformed_contact_stops_no_other(
    aio: AsyncSmartInventory, inventory_client: Redis, bob: str
) -> None:
    """Its coins are refused, one by one."""
    await aio.register_contact(MATE, "MATE")
    await inventory_client.hset(f"inv:v1:meta:{MATE}", "priority", "ENEMY")
    outcomes = await aio.store_keys(
        [coin(MATE, "SILVER", "s1"), coin(BOB, "SILVER", "s1")], enforce_budget=True
    )
    assert kinds(outcomes) == [CorruptEntryError, True]


async def test_contacts_of_any_name_are_told_apart(aio: AsyncSmartInventory) -> None:
    """A lease says whose it is, whatever its contact is called."""
    names = ["a", "a:GOLD:a", ":SILVER:a", "a\n:", "ä%"]
    for name in names:
        await aio.register_contact(name, "MATE")
    for _ in range(2):
        for name in names:
            assert (await reserved(aio, name, "SILVER", 3)).slots == 3
    for name in names:
        assert (await reserved(aio, name, "SILVER", 3)).slots == 0


async def cancelled_at(step: int, call: Awaitable[Any]) -> None:
    """Cancels a call after some turns of the event loop."""
    task = asyncio.ensure_future(call)
    for _ in range(step):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))


async def test_a_cancelled_caller_leaves_no_lease(
    aio: AsyncSmartInventory, inventory_client: Redis, bob: str
) -> None:
    """Wherever it's cancelled: in the measurement, in the reservation, or while it stores."""
    for step in range(60):
        call = aio.store_keys(coins(BOB, "SILVER", f"{step}"), enforce_budget=True)
        await cancelled_at(step, call)
        assert await inventory_client.hgetall("inv:v1:leases") == {}
        await aio.consume_key(BOB, f"{step}")


async def test_a_link_that_fails_while_reserving_leaves_what_it_can_not_end(
    aio: AsyncSmartInventory,
    inventory_client: Redis,
    bob: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was stored is told all the same; the lease ends by itself, and the log says so."""
    reservations = reservations_of(aio)
    ending = reservations._build_unreserve

    await inventory_client.set("text", "x")

    def corrupting(names: list[str]) -> Any:
        call = ending(names)
        return call._replace(keys=[*call.keys[:-1], "text"])

    monkeypatch.setattr(reservations, "_build_unreserve", corrupting)
    outcomes = await reservations.store_within_budget(coins(BOB, "SILVER", "s1"))
    assert outcomes == [True]
    [record] = [record for record in caplog.records if record.msg == "lease_not_ended"]
    assert record.__dict__["count"] == 1
    assert record.__dict__["error"] == "CorruptEntryError"


@pytest.mark.parametrize("kind", [VALKEY_9, REDIS_6], ids=lambda kind: kind.name)
@pytest.mark.parametrize("losses", [1, 3])
async def test_replies_that_are_lost_reserve_once(
    servers: Servers, tmp_path: Path, kind: Any, losses: int
) -> None:
    """A reservation, a store in its slot and its end run once, however often they're sent."""
    cutter = Cutter(servers[kind].socket_path)
    direct = servers[kind].client(INVENTORY_DB)
    await direct.flushdb()
    async with listening(cutter, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"), db=INVENTORY_DB, retry=Retry(NoBackoff(), 5)
        )
        inventory = AsyncSmartInventory(client)
        await inventory.register_contact(BOB, "BESTIE")
        reservations = reservations_of(inventory)
        cutter.losing = losses
        lease = await reserved(inventory, BOB, "SILVER", 2)
        assert lease.slots == 2
        assert cutter.losing == 0
        cutter.losing = losses
        assert await reservations.store(coins(BOB, "SILVER", "s1"), {(BOB, "SILVER"): lease}) == [
            True
        ]
        assert cutter.losing == 0
        [value] = (await snapshot_of(direct, "inv:v1:leases")).values()
        assert value.startswith(b"2 1 ")
        cutter.losing = losses
        await reservations.end([lease])
        assert cutter.losing == 0
        assert await direct.zcard("inv:v1:leases_until") == 0
        assert await direct.hlen("inv:v1:coming") == 0
        assert await direct.hget("inv:v1:totals", "coming_SILVER") == b"0"
        assert await direct.hget("inv:v1:totals", "SILVER") == b"1"
        await client.aclose()
    await direct.flushdb()
    await direct.aclose()


async def test_owners_have_budgets_of_their_own(inventory_client: Redis, clock: Clock) -> None:
    """One owner's leases and coins take nothing of another's budget."""
    alice, carol = (
        AsyncSmartInventory(inventory_client, owner=owner, budget_bytes=SILVER, clock=clock)
        for owner in ("alice", "carol")
    )
    for inventory in (alice, carol):
        await inventory.register_contact(BOB, "BESTIE")
        assert (await reserved(inventory, BOB, "SILVER", 2)).slots == 1
    assert await inventory_client.exists("aqm:{alice}:inv:v1:leases")
    for key in KEPT:
        assert await inventory_client.exists(f"aqm:{{alice}}:{key}")
        assert not await inventory_client.exists(key)
