"""A longer way to the server: what counts is the number of round trips."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aqm_db.embedded import EmbeddedServer
from benchmarks.baselines import redis as baselines
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import names
from benchmarks.measuring.delay import delayed
from benchmarks.measuring.links import linked
from benchmarks.measuring.plan import Plan

pytestmark = pytest.mark.asyncio

DISTANCES = (0.5, 1.0, 2.0, 5.0)


@pytest.fixture(scope="module")
def proxies(server: EmbeddedServer) -> Iterator[dict[float, Path]]:
    """The server's sockets, each further away."""
    with delayed(server.socket_path, DISTANCES) as paths:
        yield paths


@pytest.mark.parametrize("milliseconds", DISTANCES)
async def test_distance(
    async_benchmark: AsyncBenchmark,
    proxies: dict[float, Path],
    plan: Plan,
    milliseconds: float,
) -> None:
    """The hot path beside its baselines."""
    async with linked(proxies[milliseconds]) as far:
        await far.inventory_client.flushall()
        await async_benchmark.closed(
            far,
            [
                baselines.library_select(far.inventory),
                baselines.evalsha_select(far),
                baselines.pipelines_select(far),
                baselines.commands_select(far),
                baselines.ping(far.inventory_client),
            ],
            group=names.distance(milliseconds),
            rounds=plan.far_rounds,
            operations=plan.lone_calls,
        )
