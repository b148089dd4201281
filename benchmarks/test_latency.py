"""One caller, who waits for each answer: the library's operations beside what else there is."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.baselines import redis as baselines, vault as vault_baselines
from benchmarks.baselines.sqlite import Sqlite, sqlites
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import names
from benchmarks.measuring.links import Link
from benchmarks.measuring.loops import Variant, closed_loop
from benchmarks.measuring.plan import Plan

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def files(tmp_path: Path) -> AsyncIterator[tuple[Sqlite, Sqlite]]:
    """The designs without a server."""
    async with sqlites(tmp_path) as both:
        yield both


class Lone:
    """Compares variants with one caller.

    Args:
        benchmark: what measures.
        link: the clients of the server.
        plan: how much to measure.
    """

    def __init__(self, benchmark: AsyncBenchmark, link: Link, plan: Plan) -> None:
        self._benchmark, self._link, self._plan = benchmark, link, plan

    async def compare(self, group: str, *variants: Variant) -> None:
        """Measures, with a PING beside it as the floor."""
        await self._benchmark.closed(
            self._link,
            [*variants, baselines.ping(self._link.inventory_client)],
            group=group,
            rounds=self._plan.lone_rounds,
            operations=self._plan.lone_calls,
        )


@pytest.fixture
def lone(async_benchmark: AsyncBenchmark, link: Link, plan: Plan) -> Lone:
    """Compares variants with one caller."""
    return Lone(async_benchmark, link, plan)


async def test_select_coin(lone: Lone, link: Link, files: tuple[Sqlite, Sqlite]) -> None:
    """The hot path."""
    await lone.compare(
        names.SELECT,
        baselines.library_select(link.inventory),
        baselines.evalsha_select(link),
        baselines.pipelines_select(link),
        baselines.commands_select(link),
        baselines.raw_lone_select(link),
        baselines.own_ping(link.inventory),
        baselines.get(link.inventory_client),
        *(file.select() for file in files),
    )


async def test_select_coin_in_the_server(
    async_benchmark: AsyncBenchmark, link: Link, plan: Plan
) -> None:
    """What the server itself takes, by command; those that the script calls are part of it."""
    calls = await baselines.library_select(link.inventory).prepare(20 * plan.lone_calls)
    await link.settle()
    await link.inventory_client.config_resetstat()
    await closed_loop(calls, callers=1)
    told = await link.inventory_client.info("commandstats")
    for name, stats in told.items():
        command = name.removeprefix("cmdstat_")
        if stats["calls"] >= len(calls):
            each = stats["usec"] / len(calls)
            async_benchmark.record(names.SERVER, command, [each / 1e6], us=each)


async def test_store_coin(lone: Lone, link: Link, files: tuple[Sqlite, Sqlite]) -> None:
    """A public half is cached."""
    await lone.compare(
        names.STORE,
        baselines.library_store(link.inventory),
        baselines.evalsha_store(link),
        baselines.watch_store(link),
        *(file.store() for file in files),
    )


async def test_keep_key(lone: Lone, link: Link, files: tuple[Sqlite, Sqlite]) -> None:
    """A private half is stored."""
    await lone.compare(
        names.KEEP,
        vault_baselines.library_keep(link.vault),
        vault_baselines.evalsha_keep(link),
        vault_baselines.multi_keep(link.vault_client),
        *(file.keep() for file in files),
    )


async def test_burn_key(lone: Lone, link: Link, files: tuple[Sqlite, Sqlite]) -> None:
    """A private half is erased."""
    await lone.compare(
        names.BURN,
        vault_baselines.library_burn(link.vault),
        vault_baselines.evalsha_burn(link),
        vault_baselines.multi_burn(link),
        *(file.burn() for file in files),
    )


async def test_fetch_key(lone: Lone, link: Link, files: tuple[Sqlite, Sqlite]) -> None:
    """A private half is read."""
    await lone.compare(
        names.FETCH,
        vault_baselines.library_fetch(link.vault),
        vault_baselines.hgetall_fetch(link),
        *(file.fetch() for file in files),
    )
