"""The deadline of a call is needed at each of its stages: without it, a test that names it fails.

As in test_mutants, every docstring says which protection is taken out, and which test then fails.
"""

from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import RedisCluster

from aqm_db._io import request as of_requests
from aqm_db._io.failures import ErrorReply, LinkFailure
from aqm_db._io.redispy.async_channel import Channel
from aqm_db._io.redispy.async_cluster import Nodes
from aqm_db._io.request import Request
from tests.cluster import test_topology as of_topologies
from tests.faults import test_deadlines as of_deadlines
from tests.faults.support.mutants import is_noticed_as
from tests.support.faces import ASYNC

pytestmark = pytest.mark.asyncio

NOTICED = (AssertionError, TimeoutError, pytest.fail.Exception)
"""How a test fails that notices a mutant."""


def never(*_: object) -> bool:
    """Does nothing, and says no."""
    return False


def count_anew(_: Request) -> float:
    """As much as if the call had just begun."""
    return of_deadlines.PATIENT


async def is_noticed(mutant: pytest.MonkeyPatch, test: Callable[[], Awaitable[object]]) -> None:
    """Makes sure that a test fails with a mutant, and passes without it."""
    await is_noticed_as(NOTICED, mutant, test)


async def run_silent_server() -> None:
    """The test of a reply that never comes."""
    with pytest.MonkeyPatch.context() as limited:
        limited.setattr(of_requests, "REPEATABLE_SECONDS", of_deadlines.LIMIT)
        error = await of_deadlines.run_stage(ASYNC, of_deadlines.answer_nothing, b"+OK\r\n")
    assert error.outcome_unknown


async def test_a_reply_that_is_waited_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left for a reply: test_each_stage_of_a_call_ends_with_it."""
    monkeypatch.setattr(Channel, "_limit", never)
    await is_noticed(monkeypatch, run_silent_server)


async def test_a_stage_whose_deadline_is_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of the whole call: test_each_stage_of_a_call_ends_with_it."""
    monkeypatch.setattr(Request, "count_left", count_anew)
    await is_noticed(monkeypatch, run_silent_server)


async def test_bytes_that_are_written_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look before they are written: test_a_client_that_sleeps_while_it_connects."""

    async def test() -> None:
        with pytest.MonkeyPatch.context() as patched:
            await of_deadlines.test_a_client_that_sleeps_while_it_connects(ASYNC, patched)

    monkeypatch.setattr(Request, "is_over", never)
    await is_noticed(monkeypatch, test)


async def test_a_refresh_for_each_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for all who wait: test_a_silent_cluster_delays_nobody_twice."""

    async def refresh(
        nodes: Nodes, cluster: RedisCluster, _: Request
    ) -> ErrorReply | LinkFailure | None:
        return await nodes._refresh(cluster)

    async def test() -> None:
        with pytest.MonkeyPatch.context() as patched:
            await of_topologies.test_a_silent_cluster_delays_nobody_twice(ASYNC, patched)

    monkeypatch.setattr(Nodes, "refresh", refresh)
    await is_noticed(monkeypatch, test)
