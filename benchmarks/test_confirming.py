"""Changes that a replica has to have: what that costs a lone caller, and many at once."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from aqm_db import connect
from benchmarks.baselines import redis as baselines
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import names
from benchmarks.measuring.plan import Plan
from benchmarks.measuring.sites import single
from benchmarks.measuring.stock import CLOCK
from tests.support.clusters import RunningPrimary
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio

CALLERS = (1, 64, 512)
PATIENCE = 4000


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPrimary]:
    """A server and its replica."""
    with single(with_replica=True) as running:
        yield running


@pytest.mark.parametrize("callers", CALLERS)
async def test_confirmed_callers(
    async_benchmark: AsyncBenchmark, pair: RunningPrimary, plan: Plan, callers: int
) -> None:
    """The same calls, confirmed and not."""
    pair.nodes[0].client.flushall()
    async with (
        connect(pair.url, clock=CLOCK) as plain,
        connect(pair.url, clock=CLOCK, confirm_replicas=1, confirm_timeout=PATIENCE) as confirmed,
    ):
        databases = {names.UNCONFIRMED: plain, names.CONFIRMED: confirmed}
        await async_benchmark.closed(
            _Replicated(pair),
            [
                replace(baselines.library_select(database.inventory), name=name)
                for name, database in databases.items()
            ],
            group=names.confirmed(callers),
            rounds=plan.crowd_rounds,
            operations=max(plan.crowd_calls, 4 * callers),
            callers=callers,
            whole_rounds=callers > 1,
        )


class _Replicated:
    """A server whose replica has what was prepared."""

    def __init__(self, servers: RunningPrimary) -> None:
        self._primary, self._replica = servers.nodes

    async def settle(self) -> None:
        """Waits until it has."""
        written = self._primary.info("replication", "master_repl_offset")
        eventually(lambda: self._replica.info("replication", "slave_repl_offset") >= written)
