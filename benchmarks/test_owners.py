"""Many owners: what one costs, and what clusters make of it."""

from collections.abc import Awaitable, Iterator, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import pytest

from aqm_db import AsyncClientDatabase, config, connect
from aqm_db._model.tiers import TIERS
from aqm_db.types import NewCoin, NewKey
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import checks, names
from benchmarks.measuring.loops import Run, closed_loop
from benchmarks.measuring.plan import Plan
from benchmarks.measuring.sites import PARTS, Servers, cluster_of, single, sites, spread
from benchmarks.measuring.stock import CLOCK, new_coin, new_secret
from tests.support.clusters import RunningCluster

pytestmark = pytest.mark.asyncio

PRIMARIES = 3
SECRETS = 20
CONTACTS = 10
CALLERS = 64
OWNERS = 48
CROWD = 10
"""How many times as many calls a round has that many callers make."""
CPU_ROUNDS = 5
"""Rounds' calls that the cores' work is measured over: the servers count it coarsely."""
BLOCKS = 10
AT_ONCE = 16
"""Calls in flight while owners come: enough to keep both sides busy."""


@pytest.fixture(scope="module")
def three() -> Iterator[RunningCluster]:
    """Three primaries."""
    with cluster_of(PRIMARIES) as running:
        yield running


@pytest.fixture(scope="module")
def replicated() -> Iterator[RunningCluster]:
    """Three primaries, each with a replica."""
    with cluster_of(PRIMARIES, with_replicas=True) as running:
        yield running


@pytest.mark.parametrize("name", [names.FULL_OWNER, names.BUDGETED_OWNER])
async def test_cost(
    async_benchmark: AsyncBenchmark, three: RunningCluster, plan: Plan, name: str
) -> None:
    """What an owner's data takes of the primaries' memory, and how many keys it has."""
    within_budget = name == names.BUDGETED_OWNER
    three.clear()
    async with connect(three.url, owner="first", clock=CLOCK) as database:
        # Until all nodes have been sent all scripts.
        for owner in spread(PARTS):
            await furnish(database.for_owner(owner), within_budget=within_budget)
        before, samples, payload = _weighed(three), list[float](), 0
        for number in range(plan.weighed_owners):
            begin = perf_counter()
            other = database.for_owner(f"weighed-{number}")
            payload += await furnish(other, within_budget=within_budget)
            samples.append(perf_counter() - begin)
        grown = [after - was for after, was in zip(_weighed(three), before, strict=True)]
    memory, keys = (total / plan.weighed_owners for total in grown)
    async_benchmark.record(
        names.OWNER,
        name,
        samples,
        memory_bytes=memory,
        payload_bytes=payload / plan.weighed_owners,
        keys=keys,
    )


async def furnish(database: AsyncClientDatabase, *, within_budget: bool) -> int:
    """Stores what an owner has; returns how many bytes of payload that is."""
    secrets = [new_secret("GOLD") for _ in range(SECRETS)]
    halves = [NewKey(each.key_id, each.tier, each.blob, each.iv, each.tag) for each in secrets]
    assert all(await database.vault.store_keys(halves)), "a private half wasn't stored"
    coins: list[NewCoin] = []
    for number in range(CONTACTS):
        await database.inventory.register_contact(f"contact-{number}", "BESTIE")
        for tier in TIERS:
            for _ in range(config.BUDGET_CAPS["BESTIE"][tier]):
                coin = new_coin(f"contact-{number}", tier)
                halves_of = (coin.public_key, coin.signature)
                coins.append(NewCoin(coin.contact_id, coin.key_id, coin.tier, *halves_of))
    stored = await database.inventory.store_keys(coins, enforce_budget=within_budget)
    kept = [coin for coin, outcome in zip(coins, stored, strict=True) if outcome is True]
    assert within_budget or len(kept) == len(coins), "a coin wasn't stored"
    return sum(len(each.blob) + len(each.iv) + len(each.tag) for each in secrets) + sum(
        config.COIN_SIZE_BYTES[coin.coin_category] for coin in kept
    )


def _weighed(cluster: RunningCluster) -> tuple[float, float]:
    """Bytes of data on all nodes, and their keys."""
    told: list[dict[str, Any]] = [node.client.info("memory") for node in cluster.nodes]
    data = sum(
        each["used_memory"] - each["mem_clients_normal"] - each["mem_cluster_links"]
        for each in told
    )
    return data, sum(node.client.dbsize() for node in cluster.nodes)


async def test_lone(async_benchmark: AsyncBenchmark, three: RunningCluster, plan: Plan) -> None:
    """One caller: a cluster without replicas, and a server without one."""
    with single() as alone:
        places: dict[str, Servers] = {names.CLUSTER_OF_THREE: three, names.SERVER_ALONE: alone}
        await compare(async_benchmark, names.UNREPLICATED, places, PARTS, plan)


async def test_lone_with_replicas(
    async_benchmark: AsyncBenchmark, replicated: RunningCluster, plan: Plan
) -> None:
    """One caller: a cluster with replicas, a server with one, and a server without."""
    with single(with_replica=True) as pair, single() as alone:
        places: dict[str, Servers] = {
            names.CLUSTER_OF_SIX: replicated,
            names.SERVER_AND_REPLICA: pair,
            names.SERVER_ALONE: alone,
        }
        await compare(async_benchmark, names.REPLICATED, places, PARTS, plan)


async def test_primaries(
    async_benchmark: AsyncBenchmark, three: RunningCluster, plan: Plan
) -> None:
    """Many callers and owners on more and more primaries."""
    with cluster_of(1) as one, cluster_of(6) as six:
        places = {names.primaries(len(each.nodes)): each for each in (one, three, six)}
        await compare(async_benchmark, names.PRIMARIES, places, OWNERS, plan, callers=CALLERS)


async def compare(
    benchmark: AsyncBenchmark,
    group: str,
    places: Mapping[str, Servers],
    owners: int,
    plan: Plan,
    *,
    callers: int = 1,
) -> None:
    """Measures select_coin on each of some servers, and then what it takes of the cores."""
    calls = plan.cluster_calls if callers == 1 else plan.cluster_calls * CROWD
    async with sites(places, owners) as found:
        await benchmark.closed(
            found[0],
            [each.select() for each in found],
            group=group,
            rounds=plan.cluster_rounds if callers == 1 else -(-plan.cluster_rounds // 4),
            operations=calls,
            callers=callers,
            whole_rounds=callers > 1,
        )
        for each in found:
            took = await each.cpu(calls * CPU_ROUNDS, callers)
            benchmark.record(names.cpu(group), each.name, [took["client_us"] / 1e6], **took)


async def test_many_owners(
    async_benchmark: AsyncBenchmark, replicated: RunningCluster, plan: Plan
) -> None:
    """Owner after owner comes to one client, which stays as fast, and opens no connection."""
    replicated.clear()
    without = _connections(replicated)
    async with connect(replicated.url, owner="first", clock=CLOCK) as database:
        await come(database, spread(PARTS))
        before = _connections(replicated)
        size = plan.owners // BLOCKS
        for number in range(BLOCKS):
            owners = [f"many-{each}" for each in range(number * size, (number + 1) * size)]
            run = await come(database, owners)
            each = run.elapsed / size
            name = names.among((number + 1) * size)
            async_benchmark.record(names.MANY_OWNERS, name, [each], us=each * 1e6)
        counts = {"before": before, "after": _connections(replicated)}
        for name, count in counts.items():
            own = [now - then for now, then in zip(count, without, strict=True)]
            each = min(filter(None, own))
            more = sum(own) - each * PRIMARIES
            async_benchmark.record(names.CONNECTIONS, name, [0.0], each=each, more=more)


async def come(database: AsyncClientDatabase, owners: Sequence[str]) -> Run:
    """Owners register their first contact."""

    def first(owner: str) -> Awaitable[bool]:
        return database.for_owner(owner).inventory.register_contact("contact", "BESTIE")

    run = await closed_loop([partial(first, owner) for owner in owners], AT_ONCE)
    checks.all_true(run.results)
    return run


def _connections(cluster: RunningCluster) -> list[int]:
    """How many connections each node has."""
    return [node.info("clients", "connected_clients") for node in cluster.nodes]
