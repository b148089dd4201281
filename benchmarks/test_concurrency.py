"""Callers at once, each of whom waits for the answer before the next call."""

import asyncio

import pytest

from benchmarks.baselines import redis as baselines
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import names
from benchmarks.measuring.links import Link
from benchmarks.measuring.plan import Plan

pytestmark = pytest.mark.asyncio

CALLERS = (1, 8, 16, 64, 512)
PIPELINE = 64


@pytest.mark.parametrize("callers", CALLERS)
async def test_callers(
    async_benchmark: AsyncBenchmark, link: Link, plan: Plan, callers: int
) -> None:
    """Throughput by the number of callers; the raw socket has as many commands in flight."""
    variants = [
        baselines.library_select(link.inventory),
        baselines.evalsha_select(link),
        baselines.raw_select(link, callers),
    ]
    if callers == PIPELINE:
        variants.append(baselines.pipeline_select(link, PIPELINE))
    await _connect(link, callers)
    await async_benchmark.closed(
        link,
        variants,
        group=names.callers(callers),
        rounds=plan.crowd_rounds,
        operations=max(plan.crowd_calls, 4 * callers),
        callers=callers,
        whole_rounds=True,
    )


async def _connect(link: Link, connections: int) -> None:
    """Fills the default client's pool, as it would be after a while."""
    await asyncio.gather(*(link.inventory_client.ping() for _ in range(connections)))
