"""The replenisher: fills by priority, within every budget, and hands back what it can't store."""

import asyncio
import importlib
import logging
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory, config
from aqm_db._lua.loader import Code
from aqm_db._operations.reservations import RESERVE
from aqm_db.errors import (
    AQMDatabaseError,
    BudgetExceededError,
    CoinExpiredError,
    ContactNotRegisteredError,
    CorruptEntryError,
    InvalidArgumentError,
    InvalidCoinCategoryError,
    InvalidCoinError,
    InventoryUnavailableError,
    KeyAlreadyExistsError,
    KeyAlreadyUsedError,
)
from aqm_db.replenisher import AsyncReplenisher, RefusedCoin, Replenished, ReplenishReport
from aqm_db.types import CoinCategory, InventorySummary, NewCoin
from tests.conftest import INVENTORY_DB
from tests.support.backends import VALKEY_9, RunningServer, Servers
from tests.support.coin_server import CoinServer, Mood
from tests.support.samples import (
    BOB,
    DAY_MS,
    MATE,
    Clock,
    age_leases,
    halves,
    reservations_of,
    stock,
)

pytestmark = pytest.mark.asyncio

SILVER = config.COIN_SIZE_BYTES["SILVER"]


@pytest.fixture
def inventory(inventory_client: Redis, clock: Clock) -> AsyncSmartInventory:
    """An empty inventory."""
    return AsyncSmartInventory(inventory_client, clock=clock)


@pytest_asyncio.fixture
async def bob(inventory: AsyncSmartInventory) -> str:
    """A contact of the highest priority."""
    await inventory.register_contact(BOB, "BESTIE")
    return BOB


@pytest_asyncio.fixture
async def mate(inventory: AsyncSmartInventory) -> str:
    """A contact of middle priority."""
    await inventory.register_contact(MATE, "MATE")
    return MATE


def moody(*moods: Mood) -> CoinServer:
    """A server that serves its calls so, one after the other, and then well."""
    left = list(moods)
    return CoinServer(lambda: left.pop(0) if left else "good")


def result_of(report: ReplenishReport, tier: CoinCategory) -> Replenished:
    """What became of a tier."""
    [result] = [result for result in report.results if result.coin_category == tier]
    return result


def numbers(report: ReplenishReport) -> dict[tuple[str, str], tuple[int, int, int, int, int]]:
    """By contact and tier: needed, asked, got, stored, refused."""
    return {
        (each.contact_id, each.coin_category): (
            each.needed,
            each.asked,
            each.got,
            each.stored,
            len(each.refused),
        )
        for each in report.results
    }


def reasons(refused: tuple[RefusedCoin, ...]) -> list[type[Exception]]:
    """Why coins were refused."""
    return [type(coin.reason) for coin in refused]


async def turns(count: int = 50) -> None:
    """Lets the event loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Lets the event loop turn until something holds."""
    while not condition():
        await asyncio.sleep(0)


# Filling -----------------------------------------------------------------------------------


async def test_everyone_is_filled_to_the_cap(
    inventory: AsyncSmartInventory, bob: str, mate: str
) -> None:
    """What is missing is asked for, stored and reported; STRANGERs get nothing."""
    await inventory.register_contact("eve", "STRANGER")
    await stock(inventory, bob, "GOLD", "g1", "g2")
    server = CoinServer()
    report = await AsyncReplenisher(inventory, server.fetch).replenish()
    assert numbers(report) == {
        (BOB, "GOLD"): (3, 3, 3, 3, 0),
        (BOB, "SILVER"): (4, 4, 4, 4, 0),
        (BOB, "BRONZE"): (1, 1, 1, 1, 0),
        (MATE, "SILVER"): (6, 6, 6, 6, 0),
        (MATE, "BRONZE"): (4, 4, 4, 4, 0),
    }
    assert (report.stored, report.refused) == (18, ())
    assert {result.error for result in report.results} == {None}
    assert await inventory.get_inventory(BOB) == InventorySummary(BOB, 5, 4, 1, "BESTIE")
    assert await inventory.get_inventory(MATE) == InventorySummary(MATE, 0, 6, 4, "MATE")
    again = await AsyncReplenisher(inventory, server.fetch).replenish()
    assert again == ReplenishReport(())


async def test_one_contact(inventory: AsyncSmartInventory, bob: str, mate: str) -> None:
    """Only the one that is named; one that isn't registered is an error, before any fetch."""
    server = CoinServer()
    replenisher = AsyncReplenisher(inventory, server.fetch)
    await replenisher.replenish(MATE)
    assert {contact_id for contact_id, _, _ in server.calls} == {MATE}
    with pytest.raises(ContactNotRegisteredError):
        await replenisher.replenish("nobody")
    with pytest.raises(InvalidArgumentError, match="^contact_id: "):
        await replenisher.replenish("")


async def test_what_is_above_its_cap_needs_nothing(
    inventory: AsyncSmartInventory, mate: str
) -> None:
    """A higher priority has lower caps for some tiers: those get nothing until they are below."""
    await stock(inventory, mate, "SILVER", *"12345")
    await inventory.set_contact_priority(mate, "BESTIE")
    server = CoinServer()
    report = await AsyncReplenisher(inventory, server.fetch).replenish()
    assert numbers(report) == {(MATE, "GOLD"): (5, 5, 5, 5, 0), (MATE, "BRONZE"): (1, 1, 1, 1, 0)}
    coin = NewCoin(MATE, "s", "SILVER", *halves("SILVER"))
    [outcome] = await inventory.store_keys([coin], enforce_budget=True)
    assert isinstance(outcome, BudgetExceededError)
    assert (outcome.unit, outcome.current_count, outcome.cap) == ("coins", 5, 4)


async def test_the_byte_budget_goes_to_the_highest_priority(
    inventory_client: Redis, clock: Clock
) -> None:
    """BESTIEs first, then MATEs, and never beyond it; what is in the way is told."""
    inventory = AsyncSmartInventory(inventory_client, clock=clock, budget_bytes=25_000)
    for number in range(5):
        await inventory.register_contact(f"mate {number}", "MATE")
        await inventory.register_contact(f"bestie {number}", "BESTIE")
    report = await AsyncReplenisher(inventory, CoinServer().fetch).replenish()
    found = await inventory.get_inventory()
    total = sum(
        config.COIN_SIZE_BYTES["GOLD"] * summary.gold_count
        + SILVER * summary.silver_count
        + config.COIN_SIZE_BYTES["BRONZE"] * summary.bronze_count
        for summary in found.values()
    )
    assert 25_000 - config.COIN_SIZE_BYTES["BRONZE"] < total <= 25_000
    assert sum(s.gold_count for s in found.values() if s.priority == "BESTIE") == 5
    assert all(s.silver_count == 0 for s in found.values() if s.priority == "MATE")
    asked_nothing = [result for result in report.results if result.asked == 0]
    assert asked_nothing
    for result in asked_nothing:
        assert isinstance(result.error, BudgetExceededError)
        assert result.error.unit == "bytes"
    again = await AsyncReplenisher(inventory, CoinServer().fetch).replenish()
    assert again.stored == 0


async def test_a_contact_who_lacks_nothing(inventory: AsyncSmartInventory) -> None:
    """Nothing is reserved, and nobody is asked."""
    await inventory.register_contact(BOB, "STRANGER")
    server = CoinServer()
    report = await AsyncReplenisher(inventory, server.fetch).replenish(BOB)
    assert (report.results, server.calls) == ((), [])


async def test_sources_run_side_by_side_up_to_a_number(
    inventory: AsyncSmartInventory, bob: str, mate: str
) -> None:
    """Five tiers are missing, and two are fetched at a time."""
    server = moody("slow", "slow", "slow", "slow", "slow")
    task = asyncio.create_task(AsyncReplenisher(inventory, server.fetch, concurrency=2).replenish())
    await until(lambda: server.running == 2)
    await turns()
    assert len(server.calls) == 2
    server.gate.set()
    assert (await task).stored == 20
    assert server.most_running == 2


async def test_two_replenishers_ask_for_no_more_than_fits(
    inventory: AsyncSmartInventory, inventory_client: Redis, clock: Clock, bob: str, mate: str
) -> None:
    """What one of them is fetching, the other one leaves."""
    other = AsyncSmartInventory(inventory_client, clock=clock)
    server = CoinServer(lambda: "slow")
    tasks = [
        asyncio.create_task(AsyncReplenisher(each, server.fetch).replenish())
        for each in (inventory, other)
    ]
    await until(lambda: server.running >= 4)
    await turns()
    server.gate.set()
    reports = [await task for task in tasks]
    assert sum(report.stored for report in reports) == 20
    assert sum(wanted for _, _, wanted in server.calls) == 20
    assert [report.refused for report in reports] == [(), ()]


async def test_what_was_done_is_told(
    inventory: AsyncSmartInventory, mate: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A record for each tier, with ids and numbers, and no key."""
    caplog.set_level(logging.DEBUG, logger="aqm_db")
    key = b"canary" * 8

    async def source(contact_id: str, tier: CoinCategory, count: int) -> list[NewCoin]:
        return [NewCoin(contact_id, f"{tier}{n}", tier, key, key) for n in range(count + 1)]

    report = await AsyncReplenisher(inventory, source).replenish()
    told = [record.__dict__ for record in caplog.records if record.msg == "replenished"]
    fields = ("contact_id", "coin_category", "asked", "got", "refused")
    assert sorted(tuple(record[field] for field in fields) for record in told) == [
        (MATE, "BRONZE", 4, 5, 1),
        (MATE, "SILVER", 6, 7, 1),
    ]
    assert "canary" not in f"{report} {caplog.text} {told}"


# Low-water marks ---------------------------------------------------------------------------


async def test_a_tier_is_filled_when_it_is_below_its_mark(
    inventory: AsyncSmartInventory, mate: str
) -> None:
    """And then up to its cap; a mark above the cap is the cap."""
    low: list[tuple[str, str, int]] = []

    async def on_low(contact_id: str, tier: CoinCategory, count: int) -> None:
        low.append((contact_id, tier, count))

    server = CoinServer()
    replenisher = AsyncReplenisher(
        inventory, server.fetch, low_water={"SILVER": 2, "BRONZE": 9}, on_low=on_low
    )
    await stock(inventory, mate, "SILVER", "s1", "s2")
    await stock(inventory, mate, "BRONZE", "b1", "b2", "b3")
    await replenisher.replenish()
    assert server.calls == [(MATE, "BRONZE", 1)]
    assert low == [(MATE, "BRONZE", 3)]
    await inventory.select_coin(mate, "SILVER")
    await replenisher.replenish()
    assert server.calls[1:] == [(MATE, "SILVER", 5)]
    assert low[1:] == [(MATE, "SILVER", 1)]
    await replenisher.replenish()
    assert len(low) == len(server.calls) == 2


async def test_a_listener_that_fails_stops_nothing(
    inventory: AsyncSmartInventory, bob: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It's logged."""

    async def on_low(*_: object) -> None:
        raise ZeroDivisionError

    report = await AsyncReplenisher(inventory, CoinServer().fetch, on_low=on_low).replenish()
    assert report.stored == 10
    records = [record.__dict__ for record in caplog.records if record.msg == "on_low_failed"]
    assert [record["coin_category"] for record in records] == ["GOLD", "SILVER", "BRONZE"]
    assert records[0]["contact_id"] == BOB
    assert records[0]["error"] == "ZeroDivisionError"


# Sources that misbehave --------------------------------------------------------------------


async def test_a_failing_source_stops_no_other(
    inventory: AsyncSmartInventory, bob: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is in the report and in the log; the others are filled."""
    server = moody("failing", "empty")
    report = await AsyncReplenisher(inventory, server.fetch).replenish()
    assert numbers(report) == {
        (BOB, "GOLD"): (5, 5, 0, 0, 0),
        (BOB, "SILVER"): (4, 4, 0, 0, 0),
        (BOB, "BRONZE"): (1, 1, 1, 1, 0),
    }
    assert isinstance(result_of(report, "GOLD").error, ConnectionError)
    assert result_of(report, "SILVER").error is None
    [record] = [record for record in caplog.records if record.msg == "source_failed"]
    assert record.__dict__["error"] == "ConnectionError"


async def test_who_had_nothing_is_left_alone_for_longer_and_longer(
    inventory: AsyncSmartInventory, mate: str, clock: Clock
) -> None:
    """Twice as long each time, less a random part; one contact, asked for by name, is asked."""
    server = CoinServer(lambda: "empty" if tier_of(server) == "SILVER" else "good")
    randoms = iter([1.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    replenisher = AsyncReplenisher(
        inventory,
        server.fetch,
        backoff_seconds=10,
        max_backoff_seconds=25,
        random=lambda: next(randoms),
    )
    await replenisher.replenish()
    assert [tier for _, tier, _ in server.calls] == ["SILVER", "BRONZE"]
    for pause in (10_000, 10_000, 25_000, 25_000):
        clock.advance(ms=pause - 1)
        assert await replenisher.replenish() == ReplenishReport(())
        clock.advance(ms=1)
        assert numbers(await replenisher.replenish()) == {(MATE, "SILVER"): (6, 6, 0, 0, 0)}
    server.mood = lambda: "good"
    assert (await replenisher.replenish(MATE)).stored == 6
    await inventory.select_coin(MATE, "SILVER")
    assert (await replenisher.replenish()).stored == 1


def tier_of(server: CoinServer) -> CoinCategory:
    """The tier that was asked for last."""
    return server.calls[-1][1]


async def test_more_than_was_asked_for_is_stored_where_it_fits(
    inventory: AsyncSmartInventory, bob: str
) -> None:
    """And handed back where it doesn't."""
    report = await AsyncReplenisher(inventory, CoinServer(lambda: "lavish").fetch).replenish()
    assert numbers(report) == {
        (BOB, "GOLD"): (5, 5, 7, 5, 2),
        (BOB, "SILVER"): (4, 4, 6, 4, 2),
        (BOB, "BRONZE"): (1, 1, 3, 1, 2),
    }
    assert reasons(report.refused) == [BudgetExceededError] * 6
    assert not any(coin.may_be_stored for coin in report.refused)
    await inventory.select_coin(bob, "BRONZE")
    [first, *_] = [c.coin for c in report.refused if c.coin.coin_category == "BRONZE"]
    assert await inventory.store_keys([first], enforce_budget=True) == [True]


async def test_duplicates_are_handed_back(inventory: AsyncSmartInventory, bob: str) -> None:
    """A coin that came twice, and one that was used before."""
    public_key, signature = halves("BRONZE")
    used = NewCoin(BOB, "used", "BRONZE", public_key, signature)
    await inventory.store_keys([used])
    await inventory.select_coin(BOB, "BRONZE")
    server = moody("repeating", "repeating")

    async def source(contact_id: str, tier: CoinCategory, count: int) -> list[NewCoin]:
        if tier == "BRONZE":
            return [used]
        return list(await server.fetch(contact_id, tier, count))

    report = await AsyncReplenisher(inventory, source).replenish()
    assert reasons(result_of(report, "GOLD").refused) == [KeyAlreadyExistsError]
    assert reasons(result_of(report, "BRONZE").refused) == [KeyAlreadyUsedError]
    assert result_of(report, "BRONZE").refused[0].coin is used
    assert report.stored == 9


async def test_a_server_of_old_stock_is_not_emptied(
    inventory: AsyncSmartInventory, bob: str, clock: Clock
) -> None:
    """What has expired is handed back, and a tier of which nothing else came is left alone."""
    asked: list[CoinCategory] = []

    async def source(contact_id: str, tier: CoinCategory, count: int) -> list[NewCoin]:
        asked.append(tier)
        expires_at = clock.now if tier != "BRONZE" else clock.now + 1
        return [
            NewCoin(contact_id, f"{tier}{len(asked)}-{number}", tier, *halves(tier), expires_at)
            for number in range(count)
        ]

    replenisher = AsyncReplenisher(inventory, source, backoff_seconds=10, random=lambda: 1.0)
    report = await replenisher.replenish()
    assert numbers(report) == {
        (BOB, "GOLD"): (5, 5, 5, 0, 5),
        (BOB, "SILVER"): (4, 4, 4, 0, 4),
        (BOB, "BRONZE"): (1, 1, 1, 1, 0),
    }
    assert reasons(report.refused) == [CoinExpiredError] * 9
    assert not any(coin.may_be_stored for coin in report.refused)
    for pause in (10_000, 20_000):
        clock.advance(ms=pause - 1)
        assert not {"GOLD", "SILVER"} & {
            result.coin_category for result in (await replenisher.replenish()).results
        }
        clock.advance(ms=1)
        assert reasons((await replenisher.replenish()).refused) == [CoinExpiredError] * 9
    assert (asked.count("GOLD"), asked.count("SILVER")) == (3, 3)


async def test_a_clock_that_goes_wrong_meanwhile_costs_no_coin(
    inventory_client: Redis, bob: str, clock: Clock
) -> None:
    """Nothing is fetched then; what was fetched before is in the report."""
    wrong: Any = 1.5
    # It's read for each tier, and to reserve, once more where nothing was measured before; then for
    # each tier and each of its coins.
    for right in (5, 5, 7):
        readings = iter([*[clock.now] * right, *[wrong] * 99])
        broken = AsyncSmartInventory(inventory_client, clock=partial(next, readings))
        server = CoinServer()
        report = await AsyncReplenisher(broken, server.fetch, concurrency=1).replenish()
        assert report.stored < 10
        fetched = sum(wanted for _, _, wanted in server.calls)
        assert report.stored + len(report.refused) == fetched
        for reason in (
            *(coin.reason for coin in report.refused),
            *(result.error for result in report.results if not result.got),
        ):
            assert isinstance(reason, InvalidArgumentError)
            assert reason.argument == "clock"


async def test_what_was_not_asked_for_is_handed_back(
    inventory: AsyncSmartInventory, bob: str
) -> None:
    """A coin of another tier, of another contact, a malformed one, and what is no coin at all."""
    good = NewCoin(BOB, "good", "GOLD", *halves("GOLD"))
    wrong: list[Any] = [
        NewCoin(BOB, "k1", "SILVER", *halves("SILVER")),
        NewCoin(MATE, "k2", "GOLD", *halves("GOLD")),
        NewCoin(BOB, "k3", "GOLD", b"", b"signature"),
        "coin",
    ]

    async def source(_: str, tier: CoinCategory, __: int) -> list[NewCoin]:
        return [*wrong, good] if tier == "GOLD" else []

    result = result_of(await AsyncReplenisher(inventory, source).replenish(), "GOLD")
    assert (result.got, result.stored) == (5, 1)
    assert [refused.coin for refused in result.refused] == wrong
    assert [str(refused.reason) for refused in result.refused] == [
        "source: gave a coin of another contact or tier",
        "source: gave a coin of another contact or tier",
        "public_key: must be 1 to 65536 bytes, not 0",
        "source: gave a str, not a NewCoin",
    ]


async def test_a_source_that_gives_no_sequence_has_failed(
    inventory: AsyncSmartInventory, bob: str
) -> None:
    """Its mistake is in the report."""
    nothing: Any = None

    async def source(*_: object) -> list[NewCoin]:
        return nothing  # type: ignore[no-any-return]

    report = await AsyncReplenisher(inventory, source).replenish()
    assert {type(result.error) for result in report.results} == {TypeError}


# Verifying ---------------------------------------------------------------------------------


async def test_what_the_verifier_refuses_is_handed_back(
    inventory: AsyncSmartInventory, bob: str
) -> None:
    """It refuses by False or by raising, and may be a coroutine function."""
    verdicts: dict[str, Any] = {"GOLD": False, "SILVER": None, "BRONZE": KeyError("identity")}

    def verify(contact_id: str, coin: NewCoin) -> Any:
        assert contact_id == coin.contact_id == BOB
        verdict = verdicts[coin.coin_category]
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    async def verify_later(contact_id: str, coin: NewCoin) -> Any:
        await asyncio.sleep(0)
        return verify(contact_id, coin)

    server = CoinServer()
    for verifier in (verify, verify_later):
        report = await AsyncReplenisher(inventory, server.fetch, verifier=verifier).replenish()
        assert reasons(result_of(report, "GOLD").refused) == [InvalidCoinError] * 5
        assert result_of(report, "SILVER").stored == 4
        assert reasons(result_of(report, "BRONZE").refused) == [KeyError]
        for _ in range(4):
            await inventory.select_coin(bob, "SILVER")


async def cancelled_by_itself(*_: object) -> Any:
    """Waits for a task that somebody cancels."""
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


async def test_a_cancellation_of_the_sources_own_stops_no_other(
    inventory: AsyncSmartInventory, bob: str, mate: str
) -> None:
    """It's what the source failed with, as good as any error."""
    server = CoinServer()

    async def source(contact_id: str, tier: CoinCategory, wanted: int) -> Any:
        fetch = cancelled_by_itself if tier == "GOLD" else server.fetch
        return await fetch(contact_id, tier, wanted)

    report = await AsyncReplenisher(inventory, source, concurrency=1).replenish()
    error = result_of(report, "GOLD").error
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert report.stored == 4 + 1 + 6 + 4


async def test_a_cancellation_of_the_verifiers_own_loses_no_coin(
    inventory: AsyncSmartInventory, bob: str
) -> None:
    """The coins that it looked at are handed back; a listener's own stops nothing either."""
    server = CoinServer()
    replenisher = AsyncReplenisher(
        inventory, server.fetch, verifier=cancelled_by_itself, on_low=cancelled_by_itself
    )
    report = await replenisher.replenish()
    assert len(report.refused) == len(server.claimed) == 10
    assert set(reasons(report.refused)) == {RuntimeError}


# Databases that misbehave ------------------------------------------------------------------


async def test_a_lease_that_ended_meanwhile(
    inventory: AsyncSmartInventory, inventory_client: Redis, bob: str
) -> None:
    """What took too long is stored all the same, if there's still room."""
    server = moody("slow", "slow", "slow")
    task = asyncio.create_task(AsyncReplenisher(inventory, server.fetch).replenish())
    await until(lambda: server.running == 3)
    await age_leases(inventory_client, config.INV_LEASE_TTL_SECONDS * 1000)
    await stock(inventory, bob, "SILVER", "s1", "s2", "s3")
    server.gate.set()
    report = await task
    assert numbers(report)[BOB, "GOLD"] == (5, 5, 5, 5, 0)
    assert numbers(report)[BOB, "SILVER"] == (4, 4, 4, 1, 3)
    assert reasons(report.refused) == [BudgetExceededError] * 3


@pytest.mark.parametrize(("options", "seconds"), [({}, 120), ({"lease_seconds": 7.5}, 7.5)])
async def test_what_a_killed_program_had_reserved_is_free_in_the_end(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    bob: str,
    clock: Clock,
    options: Any,
    seconds: float,
) -> None:
    """After ``lease_seconds`` another one may fetch it, and not before."""
    server = moody("slow", "slow", "slow")
    killed = asyncio.create_task(
        AsyncReplenisher(inventory, server.fetch, **options).replenish(BOB)
    )
    await until(lambda: server.running == 3)
    other = AsyncReplenisher(inventory, server.fetch)
    clock.advance(days=1)
    await age_leases(inventory_client, int(seconds * 1000) - 5000)
    assert {result.asked for result in (await other.replenish(BOB)).results} == {0}
    await age_leases(inventory_client, 5000)
    assert (await other.replenish(BOB)).stored == 10
    server.gate.set()
    assert reasons((await killed).refused) == [BudgetExceededError] * 10


async def test_a_malformed_contact_stops_no_other(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    bob: str,
    mate: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that is malformed by the time that slots are reserved is in the report."""
    replenisher = AsyncReplenisher(inventory, CoinServer().fetch)
    reservations = replenisher._reservations
    measure = reservations._measure

    async def measure_and_break() -> Any:
        measured = await measure()
        await inventory_client.hset(f"inv:v1:meta:{MATE}", "priority", "ENEMY")
        return measured

    monkeypatch.setattr(reservations, "_measure", measure_and_break)
    report = await replenisher.replenish()
    assert report.stored == 10
    errors = [type(r.error) for r in report.results if r.contact_id == MATE]
    assert errors == [CorruptEntryError] * 2


@pytest_asyncio.fixture
async def mortal() -> AsyncIterator[tuple[RunningServer, Redis]]:
    """A server that may be killed, and a client without retries."""
    with RunningServer(VALKEY_9) as running:
        client = running.client(INVENTORY_DB, retry=None, retry_on_error=[])
        client.set_retry(_no_retry())
        yield running, client
        await client.aclose()


def _no_retry() -> Any:
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    return Retry(NoBackoff(), 0)


async def test_a_server_that_is_gone_when_coins_arrive(
    mortal: tuple[RunningServer, Redis],
) -> None:
    """What was fetched is handed back."""
    running, client = mortal
    inventory = AsyncSmartInventory(client)
    await inventory.register_contact(BOB, "BESTIE")
    server = moody("slow", "slow", "slow")
    replenisher = AsyncReplenisher(inventory, server.fetch)
    task = asyncio.create_task(replenisher.replenish())
    await until(lambda: server.running == 3)
    running.kill()
    server.gate.set()
    report = await task
    assert numbers(report)[BOB, "GOLD"] == (5, 5, 5, 0, 5)
    assert {coin.coin.key_id for coin in report.refused} == set(server.claimed)
    assert set(reasons(report.refused)) == {InventoryUnavailableError}
    with pytest.raises(InventoryUnavailableError):
        await replenisher.replenish()


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("method", ["store", "store_within_budget"])
async def test_coins_whose_fate_is_unknown_are_marked_so(
    inventory: AsyncSmartInventory,
    bob: str,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    unknown: bool,  # noqa: FBT001
) -> None:
    """Where no answer came, the coins are handed back, and may be stored all the same."""
    server = CoinServer(lambda: "lavish")
    replenisher = AsyncReplenisher(inventory, server.fetch)

    async def fail(*_: object) -> list[bool | AQMDatabaseError]:
        raise InventoryUnavailableError("gone", outcome_unknown=unknown)

    monkeypatch.setattr(replenisher._reservations, method, fail)
    report = await replenisher.replenish()
    assert len(report.refused) == (16 if method == "store" else 6)
    assert {coin.may_be_stored for coin in report.refused} == {unknown}


# Cancellation ------------------------------------------------------------------------------


async def accounted(
    inventory: AsyncSmartInventory, server: CoinServer, handed_back: list[RefusedCoin]
) -> bool:
    """Whether every coin that was claimed is stored, or in the caller's hands."""
    keys = [
        key
        async for page in inventory.scope.seam.scan(inventory.keys.inv_pattern())
        for key in page
    ]
    stored = {found[1] for key in keys if (found := inventory.keys.inv_ids(key)) is not None}
    back = {refused.coin.key_id for refused in handed_back}
    return not stored & back and stored | back == set(server.claimed)


async def test_what_was_fetched_for_a_cancelled_caller_is_stored(
    inventory: AsyncSmartInventory, bob: str, inventory_client: Redis
) -> None:
    """The sources that run are waited for, and the others never start."""
    server = moody("slow", "slow")
    replenisher = AsyncReplenisher(inventory, server.fetch, concurrency=2)
    task = asyncio.create_task(replenisher.replenish())
    await until(lambda: server.running == 2)
    for _ in range(3):
        task.cancel()
        await turns()
    assert not task.done()
    server.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(server.calls) == 2
    assert await inventory.get_inventory(BOB) == InventorySummary(BOB, 5, 4, 0, "BESTIE")
    assert await inventory_client.hgetall("inv:v1:leases") == {}
    assert replenisher.take_unreported() == ()


async def test_what_a_cancelled_caller_can_not_be_handed_is_kept(
    inventory: AsyncSmartInventory, bob: str
) -> None:
    """It's given out once."""
    server = CoinServer(lambda: "lavish")
    gate = asyncio.Event()

    async def source(contact_id: str, tier: CoinCategory, count: int) -> list[NewCoin]:
        coins = list(await server.fetch(contact_id, tier, count))
        await gate.wait()
        return coins

    replenisher = AsyncReplenisher(inventory, source)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(replenisher.replenish)
            await until(lambda: len(server.claimed) == 16)
            scope.cancel()
            gate.set()
    kept = replenisher.take_unreported()
    assert sum(len(result.refused) for result in kept) == 6
    assert replenisher.take_unreported() == ()
    back = [coin for result in kept for coin in result.refused]
    assert await accounted(inventory, server, back)


async def test_a_caller_who_is_cancelled_at_any_step_loses_no_coin(
    inventory: AsyncSmartInventory, inventory_client: Redis, bob: str, clock: Clock
) -> None:
    """Everything that was claimed is stored or kept, and nothing stays reserved."""
    server = CoinServer(lambda: "lavish")
    replenisher = AsyncReplenisher(inventory, server.fetch, concurrency=2, random=lambda: 0.0)
    ended = 0
    for step in range(80):
        back: list[RefusedCoin] = []
        task = asyncio.create_task(replenisher.replenish())
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            ended += 1
            back += task.result().refused
        back += [coin for result in replenisher.take_unreported() for coin in result.refused]
        assert await accounted(inventory, server, back)
        assert await inventory_client.hgetall("inv:v1:leases") == {}
        server.claimed.clear()
        await inventory_client.flushdb()
        await inventory.register_contact(BOB, "BESTIE")
        clock.advance(days=1)
    assert ended < 80


async def test_mutant_without_shield_loses_coins(
    inventory: AsyncSmartInventory, bob: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above fail when sources are cancelled with the caller."""
    monkeypatch.setattr("aqm_db.replenisher.delay_cancellation", anyio.CancelScope)
    server = CoinServer(lambda: "slow")
    replenisher = AsyncReplenisher(inventory, server.fetch)
    task = asyncio.create_task(replenisher.replenish())
    await until(lambda: server.running == 3)
    task.cancel()
    await turns()
    server.gate.set()
    await asyncio.wait((task,))
    assert not await accounted(inventory, server, [])


# In the background -------------------------------------------------------------------------


class Naps:
    """A sleep that ends when a test says so.

    Attributes:
        asked: for how many seconds, each time.
    """

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._wake = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        """Sleeps."""
        self.asked.append(seconds)
        await self._wake.wait()
        self._wake.clear()

    async def end(self) -> None:
        """Wakes the sleeper, and waits until it sleeps again."""
        count = len(self.asked)
        self._wake.set()
        await until(lambda: len(self.asked) > count)


async def test_running_in_the_background(
    inventory: AsyncSmartInventory, bob: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs again and again, tells what it did, and survives what fails."""
    server, naps, reports = moody("lavish"), Naps(), list[ReplenishReport]()

    async def on_report(report: ReplenishReport) -> None:
        reports.append(report)
        if len(reports) == 3:
            raise ZeroDivisionError

    replenisher = AsyncReplenisher(inventory, server.fetch)
    async with replenisher.running(every=60, on_report=on_report, sleep=naps):
        await until(lambda: naps.asked)
        assert reports[0].stored == 10
        await inventory.select_coin(bob, "GOLD")
        await naps.end()
        assert reports[1].stored == 1
        await inventory.select_coin(bob, "GOLD")
        server.mood = lambda: "lavish"
        await naps.end()
        [record] = [record for record in caplog.records if record.msg == "replenish_failed"]
        assert record.__dict__["error"] == "ZeroDivisionError"
        [kept] = replenisher.take_unreported()
        assert len(kept.refused) == 2
        await naps.end()
    assert naps.asked == [60] * 4
    assert len(reports) == 4


async def test_a_cancellation_of_whoever_takes_reports_ends_no_background(
    inventory: AsyncSmartInventory, bob: str
) -> None:
    """It goes on, as does the block, and what was refused is kept."""
    naps, ended = Naps(), False
    replenisher = AsyncReplenisher(inventory, moody("lavish").fetch)
    async with replenisher.running(every=60, on_report=cancelled_by_itself, sleep=naps):
        await until(lambda: naps.asked)
        assert len(replenisher.take_unreported()) == 1
        await naps.end()
        assert await inventory.get_available_tiers(bob) == ["GOLD", "SILVER", "BRONZE"]
        ended = True
    assert ended


async def test_a_background_whose_reports_nobody_takes_keeps_what_was_refused(
    inventory: AsyncSmartInventory, bob: str
) -> None:
    """And keeps going when the database fails."""
    server, naps = CoinServer(lambda: "lavish"), Naps()
    replenisher = AsyncReplenisher(inventory, server.fetch)
    async with replenisher.running(every=0.5, sleep=naps):
        await until(lambda: naps.asked)
    assert sum(len(result.refused) for result in replenisher.take_unreported()) == 6


async def test_refused_coins_that_nobody_takes_do_not_pile_up(
    inventory: AsyncSmartInventory, bob: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The newest thousand are kept, and the log says how many are gone."""
    given = 0

    async def source(contact_id: str, tier: CoinCategory, _: int) -> list[NewCoin]:
        nonlocal given
        first, given = given, given + 70
        return [
            NewCoin(contact_id, f"{number}", tier, b"key", b"signature", clock.now)
            for number in range(first, given)
        ]

    naps = Naps()
    replenisher = AsyncReplenisher(inventory, source, concurrency=1, backoff_seconds=1)
    async with replenisher.running(every=60, sleep=naps):
        for _ in range(9):
            await naps.end()
            clock.advance(days=1)
    kept = [
        int(coin.coin.key_id) for each in replenisher.take_unreported() for coin in each.refused
    ]
    assert given > 1500
    assert kept == list(range(given - 1000, given))
    dropped = [record for record in caplog.records if record.msg == "refused_dropped"]
    assert sum(record.__dict__["count"] for record in dropped) == given - 1000
    assert replenisher.take_unreported() == ()


async def test_pauses_of_contacts_who_are_gone_do_not_pile_up(
    inventory: AsyncSmartInventory, clock: Clock
) -> None:
    """One who is registered again is asked for at once."""
    server = CoinServer(lambda: "empty")
    replenisher = AsyncReplenisher(inventory, server.fetch)
    for number in range(3):
        await inventory.register_contact(f"contact {number}", "MATE")
        await replenisher.replenish()
        await inventory.forget_contact(f"contact {number}")
    assert len(server.calls) == 6
    await replenisher.replenish()
    await inventory.register_contact("contact 0", "MATE")
    await replenisher.replenish()
    assert len(server.calls) == 8


async def test_the_end_of_the_background_waits_for_sources(
    inventory: AsyncSmartInventory, bob: str
) -> None:
    """What they give is stored; the block's end isn't a cancellation."""
    server = CoinServer(lambda: "slow")
    replenisher = AsyncReplenisher(inventory, server.fetch)

    async def run() -> str:
        async with replenisher.running(every=60):
            await until(lambda: server.running == 3)
        return "ended"

    task = asyncio.create_task(run())
    await until(lambda: server.running == 3)
    await turns()
    assert not task.done()
    server.gate.set()
    assert await task == "ended"
    assert await inventory.get_inventory(BOB) == InventorySummary(BOB, 5, 4, 1, "BESTIE")


async def test_what_the_block_raises_comes_out_as_it_is(
    inventory: AsyncSmartInventory, bob: str
) -> None:
    """Not in a group of exceptions; a cancellation is one."""
    replenisher = AsyncReplenisher(inventory, CoinServer().fetch)
    with pytest.raises(ZeroDivisionError):
        async with replenisher.running(every=60):
            raise ZeroDivisionError
    with pytest.raises(asyncio.CancelledError):
        async with replenisher.running(every=60):
            raise asyncio.CancelledError


# Arguments ---------------------------------------------------------------------------------


BAD: list[tuple[str, list[Any]]] = [
    ("source", [None, "source"]),
    ("verifier", ["verifier", 5]),
    ("low_water", [5, ["GOLD"], {"GOLD": -1}, {"GOLD": "1"}]),
    ("on_low", ["on_low"]),
    ("concurrency", [None, 0, 1.5, True]),
    ("backoff_seconds", [None, "1", 0, -1, float("inf"), float("nan"), True]),
    ("max_backoff_seconds", [None, 0]),
    ("lease_seconds", [None, "1", 0, -1, float("inf"), float("nan"), True]),
    ("random", [None, 0.5]),
]


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, vs in BAD for v in vs])
async def test_bad_arguments(servers: Servers, name: str, value: Any) -> None:
    """Each is refused by name."""
    inventory = AsyncSmartInventory(servers[VALKEY_9].client(INVENTORY_DB))
    arguments: dict[str, Any] = {"source": CoinServer().fetch, name: value}
    with pytest.raises(InvalidArgumentError, match=f"^{name}"):
        AsyncReplenisher(inventory, **arguments)


async def test_bad_arguments_of_other_kinds(servers: Servers) -> None:
    """The inventory, a tier, and the background's arguments."""
    inventory = AsyncSmartInventory(servers[VALKEY_9].client(INVENTORY_DB))
    wrong: Any = "inventory"
    with pytest.raises(TypeError, match="^inventory: "):
        AsyncReplenisher(wrong, CoinServer().fetch)
    platinum: Any = {"PLATINUM": 1}
    with pytest.raises(InvalidCoinCategoryError, match="^low_water key: "):
        AsyncReplenisher(inventory, CoinServer().fetch, low_water=platinum)
    replenisher = AsyncReplenisher(inventory, CoinServer().fetch)
    for name, value in (("every", 0), ("on_report", 5)):
        arguments: Any = {"every": 1, name: value}
        with pytest.raises(InvalidArgumentError, match=f"^{name}: "):
            async with replenisher.running(**arguments):
                pass


async def test_without_anyio(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "anyio", None)
    for module in ("aqm_db.replenisher", "aqm_db.minter"):
        monkeypatch.delitem(sys.modules, module, raising=False)
        with pytest.raises(ImportError, match=rf"^{module} .*pip install 'aqm-db\[background\]'"):
            importlib.import_module(module)


async def test_the_package_needs_no_anyio() -> None:
    """It imports without the extra, and loads nothing of it before it's wanted."""
    script = (
        "import sys; sys.modules['anyio'] = None\n"
        "import aqm_db\n"
        "later = ('_background', '_operations.reservations', '_operations.publishing', "
        "'replenisher', 'minter')\n"
        "assert not {f'aqm_db.{name}' for name in later} & sys.modules.keys()\n"
    )
    ran = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await ran.wait() == 0


async def test_a_budget_that_is_changed_holds_from_the_next_run(
    inventory: AsyncSmartInventory, bob: str
) -> None:
    """It's the inventory's, and not what it was when the replenisher was made."""
    replenisher = AsyncReplenisher(inventory, CoinServer().fetch)
    inventory.budget_bytes = 1
    assert (await replenisher.replenish()).stored == 0


@pytest.mark.parametrize("ahead", [-10 * DAY_MS, -3_600_000, 3_600_000, 10 * DAY_MS])
async def test_programs_whose_clocks_differ_fetch_no_coin_twice(
    inventory: AsyncSmartInventory, inventory_client: Redis, bob: str, ahead: int
) -> None:
    """What one has reserved is no other's, whatever their clocks show: the server's decides."""
    later = Clock()
    later.advance(ms=ahead)
    server = moody("slow", "slow", "slow")
    slow = asyncio.create_task(AsyncReplenisher(inventory, server.fetch).replenish(BOB))
    await until(lambda: server.running == 3)
    other = AsyncSmartInventory(inventory_client, clock=later)
    assert (await AsyncReplenisher(other, CoinServer().fetch).replenish(BOB)).stored == 0
    server.gate.set()
    report = await slow
    assert (report.stored, report.refused) == (10, ())


# Stale coins -------------------------------------------------------------------------------


def reserves(inventory: AsyncSmartInventory, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The codes of the replies to reservations from now on."""
    codes: list[int] = []
    run_all = inventory.scope.seam.run_all

    async def noting(calls: Any, *rest: Any) -> Any:
        replies: list[Any] = await run_all(calls, *rest)
        codes.extend(
            reply[0] for call, reply in zip(calls, replies, strict=True) if call.script is RESERVE
        )
        return replies

    monkeypatch.setattr(inventory.scope.seam, "run_all", noting)
    return codes


@pytest.mark.parametrize("contact_id", [None, BOB])
async def test_stale_coins_are_no_stock(
    inventory: AsyncSmartInventory, inventory_client: Redis, bob: str, clock: Clock, contact_id: Any
) -> None:
    """After a month without the program all are fetched anew, and what nobody can use is gone."""
    server = CoinServer()
    replenisher = AsyncReplenisher(inventory, server.fetch)
    assert (await replenisher.replenish(contact_id)).stored == 10
    clock.advance(days=31)
    report = await replenisher.replenish(contact_id)
    assert numbers(report) == {
        (BOB, "GOLD"): (5, 5, 5, 5, 0),
        (BOB, "SILVER"): (4, 4, 4, 4, 0),
        (BOB, "BRONZE"): (1, 1, 1, 1, 0),
    }
    assert await inventory.get_inventory(bob) == InventorySummary(BOB, 5, 4, 1, "BESTIE")
    assert len(await inventory_client.keys("inv:v1:key:*")) == 10
    entry = await inventory.select_coin(BOB, "GOLD")
    assert entry is not None
    assert entry.fetched_at == clock.now
    assert (await replenisher.replenish(contact_id)).stored == 1


async def test_marks_are_about_coins_that_can_be_used(
    inventory: AsyncSmartInventory, mate: str, clock: Clock
) -> None:
    """Who listens is told how many of these are left, and they stay."""
    low: list[tuple[str, str, int]] = []

    async def on_low(contact_id: str, tier: CoinCategory, count: int) -> None:
        low.append((contact_id, tier, count))

    server = CoinServer()
    marks = {"SILVER": 3, "BRONZE": 2}
    replenisher = AsyncReplenisher(inventory, server.fetch, low_water=marks, on_low=on_low)
    for tier in ("SILVER", "BRONZE"):
        ends = [clock.now + 1000 if place % 2 else None for place in range(4)]
        coins = [
            NewCoin(mate, f"{tier}{place}", tier, *halves(tier), end)
            for place, end in enumerate(ends)
        ]
        assert await inventory.store_keys(coins) == [True] * 4
    clock.advance(ms=999)
    assert await replenisher.replenish() == ReplenishReport(())
    clock.advance(ms=1)
    report = await replenisher.replenish()
    assert low == [(MATE, "SILVER", 2)]
    assert numbers(report) == {(MATE, "SILVER"): (4, 4, 4, 4, 0)}
    left = {coin.key_id for coin in await inventory.list_coins(mate)}
    assert {"SILVER0", "SILVER2", "BRONZE1"} <= left
    assert not {"SILVER1", "SILVER3"} & left


async def test_bytes_of_stale_coins_are_free_again(inventory_client: Redis, clock: Clock) -> None:
    """All of many contacts are filled anew at once, where there's room for no coin more."""
    contact_ids = [f"mate {number}" for number in range(30)]
    inventory = AsyncSmartInventory(inventory_client, clock=clock, budget_bytes=30 * 6 * SILVER)
    for contact_id in contact_ids:
        await inventory.register_contact(contact_id, "MATE")
    server = CoinServer()
    replenisher = AsyncReplenisher(inventory, server.fetch, low_water={"BRONZE": 0})
    assert (await replenisher.replenish()).stored == 180
    clock.advance(days=31)
    report = await replenisher.replenish()
    assert report.stored == 180
    assert {result.error for result in report.results} == {None}
    assert len(await inventory_client.keys("inv:v1:key:*")) == 180


async def test_one_script_looks_at_few_coins(
    inventory_client: Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others wait for no more; a queue that has been looked through isn't looked through again."""
    caps: Any = {
        priority: dict.fromkeys(tiers, 250) for priority, tiers in config.BUDGET_CAPS.items()
    }
    inventory = AsyncSmartInventory(
        inventory_client, clock=clock, budget_bytes=10**9, budget_caps=caps
    )
    await inventory.register_contact(BOB, "MATE")
    replenisher = AsyncReplenisher(inventory, CoinServer().fetch)
    assert (await replenisher.replenish()).stored == 750
    clock.advance(days=30)
    codes = reserves(inventory, monkeypatch)
    assert (await replenisher.replenish()).stored == 750
    assert codes == [*[Code.UNFINISHED] * 8, Code.OK]
    codes.clear()
    # All that is left is good, and looked at once.
    assert await reservations_of(inventory).reserve({BOB: {"BRONZE": 1}})
    assert codes == [Code.UNFINISHED, Code.UNFINISHED, Code.OK]
    assert await reservations_of(inventory).reserve({BOB: {"BRONZE": 1}})
    assert codes[3:] == [Code.OK]


async def test_what_is_on_its_way_is_not_in_the_way_of_a_look(
    inventory: AsyncSmartInventory, mate: str, clock: Clock
) -> None:
    """Another program fetches one coin, and all others are stale: all but that one are fetched."""
    await stock(inventory, mate, "SILVER", *"12345")
    held = await reservations_of(inventory).reserve({mate: {"SILVER": 1}})
    clock.advance(days=31)
    report = await AsyncReplenisher(inventory, CoinServer().fetch).replenish()
    assert numbers(report)[MATE, "SILVER"] == (6, 5, 5, 5, 0)
    await reservations_of(inventory).end(held.values())
