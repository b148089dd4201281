"""What an owner's operations cost: beside others' keys, and for more contacts of their own."""

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from time import perf_counter
from typing import Any, Final, TypeAlias

import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from aqm_db import AsyncClientDatabase, connect
from aqm_db._operations.reservations import Reservations
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import names
from benchmarks.measuring.plan import Plan
from benchmarks.measuring.sites import cluster_of
from benchmarks.measuring.stock import all_of
from tests.support.backends import REAL_BACKENDS, Backend, RunningServer

pytestmark = pytest.mark.asyncio

OWNER: Final = "alice"
CROWD: Final = 1_000
"""The owners that all other keys belong to."""
AT_ONCE: Final = 5_000

Step: TypeAlias = Callable[[AsyncClientDatabase, str], Awaitable[object]]
STEPS: Final[Mapping[str, Step]] = {
    "store_key, within the budget": lambda db, tag: db.inventory.store_key(
        "bob", f"e{tag}", "SILVER", b"p", b"s", enforce_budget=True
    ),
    "get_inventory": lambda db, _: db.inventory.get_inventory(),
    "get_all_active_ids": lambda db, _: db.vault.get_all_active_ids(),
    "purge_expired": lambda db, _: db.vault.purge_expired(),
    "garbage_collect": lambda db, _: db.gc.garbage_collect(),
    "get_full_dashboard": lambda db, _: db.reporter.get_full_dashboard(),
    "collect_single_contact": lambda db, _: db.gc.collect_single_contact("bob"),
    "forget_contact": lambda db, _: db.inventory.forget_contact("bob"),
    "delete_owner": lambda db, _: db.delete_owner(OWNER),
}
"""What is measured, in an order in which each finds something to do."""


@pytest.mark.parametrize("backend", REAL_BACKENDS, ids=lambda backend: backend.name)
async def test_beside_others(async_benchmark: AsyncBenchmark, plan: Plan, backend: Backend) -> None:
    """An owner alone on a server, and one among many on another, in turns."""
    with RunningServer(backend) as alone, RunningServer(backend) as crowded:
        with crowded.sync_client(0) as client:
            fill(client, plan.other_keys)
        places: dict[str, Redis | RedisCluster] = {
            names.OWNER_ALONE: alone.client(0),
            names.OWNER_AMONG_OTHERS: crowded.client(0),
        }
        async with databases(places) as found:
            await compare(async_benchmark, names.beside(backend.name), found, plan)


async def test_beside_others_on_a_cluster(async_benchmark: AsyncBenchmark, plan: Plan) -> None:
    """The same on two clusters."""
    with cluster_of(3) as alone, cluster_of(3) as crowded:
        with redis.RedisCluster(host="127.0.0.1", port=crowded.nodes[0].port) as client:
            for owner in range(CROWD):
                keys = plan.other_keys // CROWD
                for number in range(keys):
                    client.hset(name_key(owner, number), "a", "b")
        async with AsyncExitStack() as stack:
            found = {
                name: await stack.enter_async_context(connect(cluster.url, owner=OWNER))
                for name, cluster in (
                    (names.OWNER_ALONE, alone),
                    (names.OWNER_AMONG_OTHERS, crowded),
                )
            }
            await compare(async_benchmark, names.beside("cluster"), found, plan)


@pytest.mark.parametrize("backend", REAL_BACKENDS, ids=lambda backend: backend.name)
async def test_entry(async_benchmark: AsyncBenchmark, plan: Plan, backend: Backend) -> None:
    """What the index of contacts takes of the memory, for each of them."""
    with RunningServer(backend) as server:
        async with databases({"": server.client(0)}) as found:
            inventory = found[""].inventory
            contacts = [str(uuid.uuid4()) for _ in range(plan.walks[0])]
            await all_of([_register(found[""], each) for each in contacts])
            with server.sync_client(0) as client:
                memory: Any = client.memory_usage(inventory.keys.inv_contacts, samples=0)
            each = memory / len(contacts)
    async_benchmark.record(names.ENTRY, backend.name, [0.0], memory_bytes=each)


async def test_reservations(async_benchmark: AsyncBenchmark, plan: Plan) -> None:
    """Slots of more and more contacts."""
    with RunningServer(REAL_BACKENDS[0]) as server:
        async with databases({"": server.client(0)}) as found:
            database, known = found[""], list[str]()
            for count in plan.reserved:
                contacts = [str(uuid.uuid4()) for _ in range(count - len(known))]
                await all_of([_register(database, each) for each in contacts])
                known += contacts
                samples: list[float] = []
                for _ in range(plan.walk_rounds * 2):
                    reservations = Reservations(database.inventory)
                    begin = perf_counter()
                    leases = await reservations.reserve({each: {"BRONZE": 1} for each in known})
                    samples.append(perf_counter() - begin)
                    await reservations.end(leases.values())
                async_benchmark.record(
                    names.RESERVE, names.among(count), samples, ms=min(samples) * 1e3
                )


async def compare(
    benchmark: AsyncBenchmark, group: str, places: Mapping[str, AsyncClientDatabase], plan: Plan
) -> None:
    """Measures all steps in each of some databases, in turns."""
    times: dict[str, dict[str, list[float]]] = {
        step: {name: [] for name in places} for step in STEPS
    }
    for number in range(-2, plan.cost_rounds):
        for name, database in places.items():
            await database.inventory.register_contact("bob", "BESTIE")
            await database.inventory.store_key("bob", f"g{number}", "GOLD", b"p", b"s")
            await database.vault.store_key(f"k{number}", "GOLD", b"b", b"i", b"t")
            for step, act in STEPS.items():
                begin = perf_counter()
                await act(database, str(number))
                # The first ones teach servers their scripts.
                if number >= 0:
                    times[step][name].append(perf_counter() - begin)
    for step, samples in times.items():
        alone, among = samples[names.OWNER_ALONE], samples[names.OWNER_AMONG_OTHERS]
        ratios = sorted(one / other for one, other in zip(among, alone, strict=True))
        benchmark.record(
            group,
            step,
            among,
            alone_ms=median(alone) * 1e3,
            among_ms=median(among) * 1e3,
            ratio=median(among) / median(alone),
            least=ratios[len(ratios) // 10],
            most=ratios[-len(ratios) // 10],
        )


@asynccontextmanager
async def databases(
    clients: Mapping[str, Redis | RedisCluster],
) -> AsyncGenerator[dict[str, AsyncClientDatabase]]:
    """An owner's database over each of some clients, and the clients closed in the end."""
    yield {
        name: AsyncClientDatabase(client, client, owner=OWNER, budget_bytes=10**9)
        for name, client in clients.items()
    }
    for client in clients.values():
        await client.aclose()


def fill(client: redis.Redis, keys: int) -> None:
    """Writes keys of other owners."""
    pipeline = client.pipeline(transaction=False)
    for number in range(keys):
        pipeline.hset(name_key(number % CROWD, number), "a", "b")
        if number % AT_ONCE == AT_ONCE - 1:
            pipeline.execute()
    pipeline.execute()


def name_key(owner: int, number: int) -> str:
    """The name of another owner's key."""
    return f"aqm:{{other-{owner}}}:inv:v1:key:bob:{number}"


def _register(database: AsyncClientDatabase, contact_id: str) -> Callable[[], Awaitable[bool]]:
    return lambda: database.inventory.register_contact(contact_id, "BESTIE")
