"""Maintenance of all owners: how long a round takes, and what it is to others meanwhile."""

from collections.abc import Sequence
from functools import partial
from statistics import median
from time import perf_counter

import pytest

from aqm_db import AsyncClientDatabase, connect
from aqm_db.embedded import EmbeddedServer
from aqm_db.types import NewCoin, NewKey
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import checks, names
from benchmarks.measuring.loops import Run, open_loop, percentile
from benchmarks.measuring.plan import Plan
from benchmarks.measuring.provider import OWNER, Provider, provider
from benchmarks.measuring.stock import CLOCK, all_of, new_coin, new_secret, stocked

pytestmark = pytest.mark.asyncio

CONTACTS = ("bob", "carol")
COINS = 2
SECRETS = 2
RATE = 1000.0


async def test_round(
    async_benchmark: AsyncBenchmark, server: EmbeddedServer, plan: Plan, pytestconfig: pytest.Config
) -> None:
    """A program selects coins at a fixed rate; beside it another one cares, or is paused."""
    owners = pytestconfig.getoption("owners") or plan.round_owners
    url = f"unix://{server.socket_path}"
    async with connect(url, owner=OWNER, clock=CLOCK) as database:
        await come(database, owners)
        with provider(url) as other:
            beside, alone, busy = await take_turns(database, other, plan)
        if busy is not None:
            async_benchmark.record(names.ROUND, names.BESIDE_SELECTS, [busy], us=busy * 1e6)
        async_benchmark.record(names.ROUND_BESIDE, names.ALONE, alone, p99_ms=middle(alone))
        async_benchmark.record(names.ROUND_BESIDE, names.BESIDE, beside, p99_ms=middle(beside))
        begin = perf_counter()
        # Everybody is visited, whatever the process has done: one of its rounds was earlier.
        await database.resources.clients[1].delete(database.inventory.keys.round)
        assert await database.maintain_owners()
        elapsed = perf_counter() - begin
        progress = await database.get_maintenance_progress()
        assert progress is not None
        assert progress.owners_cared_for == owners + 1
        each = elapsed / owners
        name = names.among(owners)
        async_benchmark.record(names.ROUND, name, [each], seconds=elapsed, us=each * 1e6)


async def come(database: AsyncClientDatabase, owners: int) -> None:
    """Owners with a few contacts, coins and private halves, and nothing to do for any."""
    await all_of([partial(furnish, database.for_owner(f"round-{n}")) for n in range(owners)])


async def furnish(database: AsyncClientDatabase) -> None:
    """Stores what an owner has."""
    coins: list[NewCoin] = []
    for contact_id in CONTACTS:
        await database.inventory.register_contact(contact_id, "MATE")
        for coin in (new_coin(contact_id, "BRONZE") for _ in range(COINS)):
            halves = (coin.public_key, coin.signature)
            coins.append(NewCoin(contact_id, coin.key_id, "BRONZE", *halves))
    assert all(await database.inventory.store_keys(coins)), "a coin wasn't stored"
    secrets = [new_secret("BRONZE") for _ in range(SECRETS)]
    kept = [NewKey(each.key_id, each.tier, each.blob, each.iv, each.tag) for each in secrets]
    assert all(await database.vault.store_keys(kept)), "a private half wasn't stored"


async def take_turns(
    database: AsyncClientDatabase, other: Provider, plan: Plan
) -> tuple[list[float], list[float], float | None]:
    """The p99 of each window in seconds: beside the other program, and alone, in turns.

    And how many seconds each owner takes the other program meanwhile; None if nobody can tell.
    """
    beside: list[float] = []
    alone: list[float] = []
    seconds, cared_for = 0.0, 0
    for _ in range(plan.round_windows):
        for times in (beside, alone):
            other.pause()
            contacts = await stocked(database.inventory, plan.round_calls)
            if times is beside:
                other.go_on()
            before = await database.get_maintenance_progress()
            run = await select_all(database, contacts)
            times.append(percentile(sorted(run.latencies), 0.99))
            after = await database.get_maintenance_progress()
            # Between two rounds it's none of either.
            if times is beside and before and after and before.began_at == after.began_at:
                seconds += run.elapsed
                cared_for += after.owners_cared_for - before.owners_cared_for
    return beside, alone, seconds / cared_for if cared_for else None


async def select_all(database: AsyncClientDatabase, contacts: Sequence[str]) -> Run:
    """Selects coins at the fixed rate."""
    calls = [partial(database.inventory.select_coin, each, "GOLD") for each in contacts]
    run = await open_loop(calls, RATE)
    checks.entries(run.results)
    return run


def middle(times: Sequence[float]) -> float:
    """The window in the middle, in ms."""
    return median(times) * 1e3
