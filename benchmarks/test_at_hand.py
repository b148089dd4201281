"""Coins at hand: what a caller waits for one, alone and among many, near to the server and far."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import pytest
import pytest_asyncio

from aqm_db import AsyncSmartInventory, config, connect
from aqm_db.embedded import EmbeddedServer
from benchmarks.baselines import redis as baselines
from benchmarks.baselines.sqlite import Sqlite, sqlites
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import checks, names
from benchmarks.measuring.delay import delayed
from benchmarks.measuring.links import Link, linked
from benchmarks.measuring.loops import (
    Call,
    Run,
    Variant,
    closed_loop,
    interleaved,
    open_loop,
    summary,
)
from benchmarks.measuring.plan import Plan
from benchmarks.measuring.stock import CLOCK, stocked
from tests.support.backends import REDIS_8, RunningServer

pytestmark = pytest.mark.asyncio

CROWD = 64
DISTANCES = (1.0, 2.0, 5.0, 20.0)
RATE = 200
"""Arrivals per second, of contacts who take turns."""
AHEAD = config.BUDGET_CAPS["BESTIE"]["GOLD"]
EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")


class AtHand:
    """Coins that are at hand when the clock starts; each contact is sent as many messages.

    Args:
        inventory: whose coins they are.
        plain: what stores them, where every change waits for a disk.
    """

    def __init__(self, inventory: AsyncSmartInventory, plain: AsyncSmartInventory) -> None:
        self._inventory = inventory
        self._plain = plain
        self._block = AsyncExitStack()

    def variant(self) -> Variant:
        """The library."""
        return Variant(names.AT_HAND, self._prepare, checks.entries)

    async def aclose(self) -> None:
        """Refills nothing any more: others are measured next."""
        await self._block.aclose()

    async def run(self, calls: Sequence[Call], callers: int) -> Run:
        """Makes the calls, and has nothing go on behind them."""
        outcome = await closed_loop(calls, callers)
        await self.aclose()
        return outcome

    async def _prepare(self, count: int) -> list[Call]:
        contact_ids = await stocked(self._plain, count)
        contacts = list(dict.fromkeys(contact_ids))
        await self.aclose()
        at_hand = await self._block.enter_async_context(
            self._inventory.prefetch(ahead=AHEAD, contacts=contacts)
        )
        while at_hand.read_counts().at_hand["GOLD"] < count:
            await self._plain.has_keys_for(contacts[0])
        return [partial(at_hand.select_coin, each, "GOLD") for each in contact_ids]


@pytest_asyncio.fixture
async def own_file(tmp_path: Path) -> AsyncIterator[Sqlite]:
    """A SQLite file on the loop's own thread."""
    async with sqlites(tmp_path) as (_, own):
        yield own


@pytest.fixture(scope="module")
def proxies(server: EmbeddedServer) -> Iterator[dict[float, Path]]:
    """The server's sockets, each further away."""
    with delayed(server.socket_path, DISTANCES) as paths:
        yield paths


async def test_alone(
    async_benchmark: AsyncBenchmark, link: Link, plan: Plan, own_file: Sqlite
) -> None:
    """A lone caller, beside the plain call and a file without a server."""
    plain = baselines.library_select(link.inventory)
    async with aclosing(AtHand(link.inventory, link.inventory)) as ready:

        async def run(variant: Variant, calls: Sequence[Call]) -> Run:
            return await (closed_loop if variant is not at_hand else ready.run)(calls, 1)

        at_hand = ready.variant()
        measured = await interleaved(
            [at_hand, plain, own_file.select()],
            run,
            rounds=plan.lone_rounds,
            operations=plan.lone_calls,
            settle=link.settle,
        )
    for name, series in measured.items():
        async_benchmark.record(names.AT_HAND_ALONE, name, series.calls(), **summary(series))


async def test_crowd(async_benchmark: AsyncBenchmark, link: Link, plan: Plan) -> None:
    """Many callers at once, while coins last."""
    plain = baselines.library_select(link.inventory)
    async with aclosing(AtHand(link.inventory, link.inventory)) as ready:

        async def run(variant: Variant, calls: Sequence[Call]) -> Run:
            return await (closed_loop if variant is not at_hand else ready.run)(calls, CROWD)

        at_hand = ready.variant()
        measured = await interleaved(
            [at_hand, plain],
            run,
            rounds=plan.crowd_rounds,
            operations=plan.crowd_calls,
            settle=link.settle,
        )
    for name, series in measured.items():
        async_benchmark.record(
            names.AT_HAND_CROWD, name, series.per_operation, callers=CROWD, **summary(series)
        )


@pytest.mark.parametrize("milliseconds", DISTANCES)
async def test_distance(
    async_benchmark: AsyncBenchmark,
    proxies: dict[float, Path],
    plan: Plan,
    milliseconds: float,
) -> None:
    """Far from the server; refills go on meanwhile."""
    async with (
        linked(proxies[milliseconds]) as far,
        aclosing(AtHand(far.inventory, far.inventory)) as ready,
    ):
        await far.inventory_client.flushall()
        await _arrive(async_benchmark, far, ready, names.at_hand_far(milliseconds), plan)


async def test_on_disk(async_benchmark: AsyncBenchmark, plan: Plan) -> None:
    """Confirmed by a disk that is asked once a second."""
    async with _waiting_for_the_disk() as (far, ready):
        await _arrive(async_benchmark, far, ready, names.AT_HAND_ON_DISK, plan)


@asynccontextmanager
async def _waiting_for_the_disk() -> AsyncGenerator[tuple[Link, AtHand]]:
    with RunningServer(REDIS_8, *EVERYSEC) as server:
        url = f"unix://{server.socket_path}"
        async with (
            linked(server.socket_path) as link,
            connect(url, clock=CLOCK, confirm_fsync=True, confirm_timeout=3000) as confirmed,
            aclosing(AtHand(confirmed.inventory, link.inventory)) as ready,
        ):
            yield link, ready


async def _arrive(
    async_benchmark: AsyncBenchmark, link: Link, ready: AtHand, group: str, plan: Plan
) -> None:
    """Calls that come at a fixed rate: what they wait for the event loop, and then for a coin."""
    waits: dict[str, list[float]] = {names.AT_HAND: [], names.NOTHING: []}

    async def run(variant: Variant, calls: Sequence[Call]) -> Run:
        longest = 0.0

        async def timed(call: Call) -> Any:
            nonlocal longest
            begin = perf_counter()
            result = await call()
            longest = max(longest, perf_counter() - begin)
            return result

        outcome = await open_loop([partial(timed, call) for call in calls], RATE)
        waits[variant.name].append(longest)
        await ready.aclose()
        return outcome

    # One after the other: what is at hand goes back behind its round.
    for variant in (ready.variant(), baselines.nothing()):
        measured = await interleaved(
            [variant],
            run,
            rounds=plan.open_rounds,
            operations=plan.open_calls,
            settle=link.settle,
        )
        for name, series in measured.items():
            _, *longest = waits[name]
            wait = 1e3 * median(longest)
            described = summary(series)
            async_benchmark.record(group, name, series.calls(), longest_wait_ms=wait, **described)
