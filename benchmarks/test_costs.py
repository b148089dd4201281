"""What owners' operations cost: beside others' keys, for more of their own, and in another commit.

Everything here is measured in processes of its own, which ``--against`` has two of.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import pytest
from redis import Redis, RedisCluster

from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import names
from benchmarks.measuring.places import Figures
from benchmarks.measuring.plan import Plan
from benchmarks.measuring.sides import Rounds, Side
from benchmarks.measuring.sites import cluster_of, single
from benchmarks.measuring.tasks import CROWDS
from tests.support.backends import REAL_BACKENDS, REDIS_6, REDIS_8, VALKEY_9, Backend, RunningServer

OWNER: Final = "alice"
CROWD: Final = 1_000
"""The owners that all other keys belong to."""
AT_ONCE: Final = 5_000
WARM: Final = 10
"""The size of what teaches servers their scripts, and processes their code."""
SWEEPS: Final = 3
"""How often an owner's operations are done before it's the other server's turn."""
CALLS_EACH: Final = 4
"""Calls that each caller of a crowd makes, at least."""
HOT_BACKENDS: Final = (VALKEY_9, REDIS_8)
CLUSTER_BACKENDS: Final = (VALKEY_9, REDIS_6)
"""A walk over an owner's keys goes over a slot of newer clusters, and over a node of older ones."""
ON_SERVERS: Final = pytest.mark.parametrize("backend", REAL_BACKENDS, ids=lambda each: each.name)


@ON_SERVERS
def test_beside_others(
    benchmark: AsyncBenchmark, sides: Sequence[Side], plan: Plan, backend: Backend
) -> None:
    """An owner alone on a server, and one among many on another, in turns."""
    with RunningServer(backend) as alone, RunningServer(backend) as crowded:
        with crowded.sync_client(0) as client:
            fill(client, plan.other_keys)
        compare(benchmark, sides, plan, backend.name, url_of(alone), url_of(crowded))


@pytest.mark.parametrize("backend", CLUSTER_BACKENDS, ids=lambda each: each.name)
def test_beside_others_on_a_cluster(
    benchmark: AsyncBenchmark, sides: Sequence[Side], plan: Plan, backend: Backend
) -> None:
    """The same on two clusters."""
    with cluster_of(3, backend) as alone, cluster_of(3, backend) as crowded:
        with crowded.sync_client() as client:
            fill(client, plan.other_keys)
        compare(benchmark, sides, plan, names.cluster(backend.name), alone.url, crowded.url)


@pytest.mark.parametrize("backend", HOT_BACKENDS, ids=lambda each: each.name)
def test_hot_path(
    benchmark: AsyncBenchmark, sides: Sequence[Side], plan: Plan, backend: Backend
) -> None:
    """What programs do most, in small portions that take turns."""
    with RunningServer(backend) as server:
        for task in (names.SELECT_LONE, names.STORE_LONE, names.SELECT_CROWD):
            take_turns(benchmark, sides, plan, names.on(task, backend.name), task, url_of(server))


@pytest.mark.parametrize("backend", HOT_BACKENDS, ids=lambda each: each.name)
def test_confirmed(
    benchmark: AsyncBenchmark, sides: Sequence[Side], plan: Plan, backend: Backend
) -> None:
    """The same where a replica must have each change."""
    with single(backend, with_replica=True) as pair:
        for task in (names.CONFIRM_LONE, names.CONFIRM_CROWD):
            take_turns(benchmark, sides, plan, names.on(task, backend.name), task, pair.url)


@pytest.mark.parametrize("task", [names.RESERVE, names.OVERGIVEN, names.REFUSED, names.STALE])
def test_growth(benchmark: AsyncBenchmark, sides: Sequence[Side], plan: Plan, task: str) -> None:
    """What is more and more."""
    grown = {
        names.RESERVE: plan.reserved,
        names.OVERGIVEN: plan.overgiven,
        names.REFUSED: plan.queued,
        names.STALE: plan.queued,
    }
    measure(benchmark, sides, task, grown[task], plan.growth_rounds)


@pytest.mark.parametrize(
    "task", [names.SELECT_MANY, names.EXPORT, names.IMPORT_MANY, names.PUBLISH]
)
def test_many(benchmark: AsyncBenchmark, sides: Sequence[Side], plan: Plan, task: str) -> None:
    """What does much at once, beside other callers."""
    measure(benchmark, sides, task, (plan.many,), plan.growth_rounds)


def test_load(benchmark: AsyncBenchmark, sides: Sequence[Side], plan: Plan) -> None:
    """A busy server's memory."""
    measure(benchmark, sides, names.LOAD, (plan.load_seconds,), rounds=1)


def test_idling(benchmark: AsyncBenchmark, sides: Sequence[Side], plan: Plan) -> None:
    """Next to nothing, for as long as other tasks take: what the machine itself adds."""
    measure(benchmark, sides[:1], names.IDLING, (plan.idling,), plan.growth_rounds)


@pytest.mark.parametrize("task", [names.LOOK, names.COLLECT])
def test_walk(benchmark: AsyncBenchmark, sides: Sequence[Side], plan: Plan, task: str) -> None:
    """What goes over all of an owner's contacts."""
    measure(benchmark, sides, task, plan.walks[:1], plan.cost_rounds)


@ON_SERVERS
def test_entry(
    benchmark: AsyncBenchmark, sides: Sequence[Side], plan: Plan, backend: Backend
) -> None:
    """What the index of contacts takes of the memory, for each of them."""
    with RunningServer(backend) as server:
        figures = asking(names.FILL_INDEX, url_of(server), plan.walks[0])(sides[0])
    benchmark.record(names.ENTRY, backend.name, [0.0], memory_bytes=figures[names.BYTES])


def measure(
    benchmark: AsyncBenchmark, sides: Sequence[Side], task: str, sizes: Sequence[int], rounds: int
) -> None:
    """Measures a task at each of some sizes."""
    with RunningServer(VALKEY_9) as server:
        url = url_of(server)
        Rounds(sides).measure(1, {"": asking(task, url, WARM)})
        wanted = {names.sized(size): asking(task, url, size) for size in sizes}
        record(benchmark, task, Rounds(sides).measure(rounds, wanted))


def take_turns(
    benchmark: AsyncBenchmark, sides: Sequence[Side], plan: Plan, name: str, task: str, url: str
) -> None:
    """Measures a task in many small rounds."""
    rounds, size = plan.lone_rounds, plan.lone_calls
    if task in CROWDS:
        rounds, size = plan.crowd_rounds, max(plan.crowd_calls, CALLS_EACH * CROWDS[task])
    wanted = {names.sized(size): asking(task, url, size)}
    # The first calls teach processes and the server what to do.
    Rounds(sides).measure(1, wanted)
    record(benchmark, name, Rounds(sides).measure(rounds, wanted))


def compare(
    benchmark: AsyncBenchmark, sides: Sequence[Side], plan: Plan, server: str, *urls: str
) -> None:
    """Measures an owner's operations alone, and beside others, in turns."""
    places = dict(zip((names.ALONE, names.BESIDE_OTHERS), urls, strict=True))
    for each in sides:
        # The other commit may walk over all that there is, each time.
        rounds, size = (plan.growth_rounds, 1) if each.is_other else (plan.cost_rounds, SWEEPS)
        wanted = {place: asking(names.OWN, url, size) for place, url in places.items()}
        Rounds([each]).measure(1, wanted)
        record(benchmark, names.beside(server), Rounds([each]).measure(rounds, wanted))


def record(
    benchmark: AsyncBenchmark, task: str, measured: Mapping[str, Mapping[str, Sequence[float]]]
) -> None:
    """Adds a result for each figure of a task."""
    for figure, series in measured.items():
        for name, samples in series.items():
            benchmark.record(names.cost(task, figure), name, samples)


def asking(task: str, url: str, size: int) -> Callable[[Side], Figures]:
    """What has a side do a task."""
    return lambda side: side.measure(task, url, OWNER, size)


def url_of(server: RunningServer) -> str:
    """Where a server is."""
    return f"unix://{server.socket_path}"


def fill(client: Redis | RedisCluster, keys: int) -> None:
    """Writes keys of other owners."""
    numbers = iter(range(keys))
    while some := list(islice(numbers, AT_ONCE)):
        pipeline: Any = client.pipeline()
        for number in some:
            name = f"aqm:{{other-{number % CROWD}}}:inv:v1:key:bob:{number}"
            pipeline.hset(name, "a", "b")
        pipeline.execute()
