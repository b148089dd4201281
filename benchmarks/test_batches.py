"""Fifty at once, for one message to a group, or one delivery of coins."""

import pytest

from benchmarks.baselines.redis import (
    batch_select,
    batch_store,
    library_select,
    library_store,
    pipeline_select,
    pipeline_store,
)
from benchmarks.baselines.vault import batch_keep, library_keep, pipeline_keep
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import names
from benchmarks.measuring.links import Link
from benchmarks.measuring.loops import Variant
from benchmarks.measuring.plan import Plan
from benchmarks.measuring.scripts import together

pytestmark = pytest.mark.asyncio

SIZE = 50
ROUND = 5 * SIZE
"""Operations: a contact has five coins, and takes part in each batch once."""


class Batches:
    """Compares variants that do fifty operations at once.

    Args:
        benchmark: what measures.
        link: the clients of the server.
        plan: how much to measure.
    """

    def __init__(self, benchmark: AsyncBenchmark, link: Link, plan: Plan) -> None:
        self._benchmark, self._link, self._plan = benchmark, link, plan

    async def compare(self, group: str, *variants: Variant) -> None:
        """Measures; a call is a batch."""
        await self._benchmark.closed(
            self._link,
            variants,
            group=group,
            rounds=self._plan.lone_rounds,
            operations=ROUND,
        )


@pytest.fixture
def batches(async_benchmark: AsyncBenchmark, link: Link, plan: Plan) -> Batches:
    """Compares variants that do fifty operations at once."""
    return Batches(async_benchmark, link, plan)


async def test_select(batches: Batches, link: Link) -> None:
    """A coin of each contact of a group."""
    await batches.compare(
        names.SELECT_50,
        batch_select(link.inventory, SIZE),
        together(library_select(link.inventory), SIZE),
        pipeline_select(link, SIZE),
    )


async def test_store(batches: Batches, link: Link) -> None:
    """Coins of contacts, as they were delivered."""
    await batches.compare(
        names.STORE_50,
        batch_store(link.inventory, SIZE),
        together(library_store(link.inventory), SIZE),
        pipeline_store(link, SIZE),
    )


async def test_keep(batches: Batches, link: Link) -> None:
    """Private halves, as they were minted."""
    await batches.compare(
        names.KEEP_50,
        batch_keep(link.vault, SIZE),
        together(library_keep(link.vault), SIZE),
        pipeline_keep(link, SIZE),
    )
