"""Calls that arrive at a fixed rate: how many per second before more than 1% take over 2 ms."""

import asyncio
from itertools import count, takewhile

import pytest

from benchmarks.baselines import redis as baselines
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring.links import Link
from benchmarks.measuring.plan import Plan
from benchmarks.report.goals import ALLOWED

pytestmark = pytest.mark.asyncio

FIXED_RATES = (100, 200, 500, 1000)
HIGHEST_RATE = 100_000
PATIENCE = 3
"""Rates in a row that a variant fails before it's out: one may be the machine's fault."""
CONNECTIONS = 64
"""Of the default client, before the first call."""


async def test_arrivals(async_benchmark: AsyncBenchmark, link: Link, plan: Plan) -> None:
    """Each variant, at rising rates, until it can't."""
    await asyncio.gather(*(link.inventory_client.ping() for _ in range(CONNECTIONS)))
    left = [baselines.library_select(link.inventory), baselines.evalsha_select(link)]
    failures = {variant.name: 0 for variant in left}
    for rate in _rates(plan.open_step):
        control = [baselines.nothing()] if rate in FIXED_RATES else []
        measured = await async_benchmark.open(
            link,
            [*left, *control],
            rate=rate,
            rounds=plan.open_rounds,
            operations=max(round(rate * plan.open_seconds), plan.open_calls),
        )
        for name in failures.keys() & measured.keys():
            failed = measured[name].round_over_limit() > ALLOWED
            failures[name] = failures[name] + 1 if failed else 0
        left = [variant for variant in left if failures[variant.name] < PATIENCE]
        if not left:
            return


def _rates(step: float) -> list[float]:
    """The rates to try, in rising order."""
    above = (FIXED_RATES[-1] * step**power for power in count(1))
    return [*FIXED_RATES, *takewhile(lambda rate: rate < HIGHEST_RATE, above)]
