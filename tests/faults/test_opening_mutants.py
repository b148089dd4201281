"""Each protection of opening, and of what is told then: without it, a test that names it fails.

As in test_mutants, every docstring says which protection is taken out, and which test then fails.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from aqm_db._io import opening
from aqm_db._io.redispy import async_cluster, faces, redirects, sentinel
from aqm_db._io.redispy.time_limits import Question, ask_in_tasks
from aqm_db.errors import AQMDatabaseError
from tests.cluster import (
    test_other_addresses as of_addresses,
    test_sentinels as of_sentinels,
    test_silent_primaries as of_primaries,
)
from tests.faults import test_silent_health as of_health
from tests.faults.support.fault_table import Tally
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.clusters import HiddenCluster, Node, RunningCluster, RunningSentinels
from tests.support.faces import ASYNC

pytestmark = pytest.mark.asyncio

NOTICED = (AQMDatabaseError, AssertionError, TimeoutError, pytest.fail.Exception)
"""How a test fails that notices a mutant."""


async def test_redirections_to_addresses_of_the_clusters() -> None:
    """Remapped redirections: test_a_slot_on_its_way."""

    def find_as_told(replies: Sequence[object], _: object) -> Any:
        return redirects.find_redirects(replies, lambda host, port: (host, port))

    with HiddenCluster(VALKEY_9) as hidden:

        async def test() -> None:
            hidden.clear()
            async with hidden.client_of(ASYNC) as client:
                await of_addresses.test_a_slot_on_its_way(ASYNC, hidden, client)

        with pytest.MonkeyPatch.context() as mutant:
            mutant.setattr(async_cluster, "find_redirects", find_as_told)
            with pytest.raises(NOTICED):
                await test()
        await test()


async def test_a_name_that_may_be_known_some_day() -> None:
    """Unknown names: test_a_name_that_sentinels_do_not_know."""
    with RunningSentinels(VALKEY_9) as watched:

        async def test() -> None:
            with pytest.MonkeyPatch.context() as patched:
                await of_sentinels.test_a_name_that_sentinels_do_not_know(ASYNC, watched, patched)

        with pytest.MonkeyPatch.context() as mutant:
            mutant.setattr(sentinel, "UnknownNameError", RedisConnectionError)
            with pytest.raises(NOTICED):
                await test()
        await test()


async def test_primaries_that_all_have_to_answer() -> None:
    """Other owners' primaries: test_connecting."""
    options = ("--cluster-require-full-coverage", "no")
    with RunningCluster(VALKEY_9, *options, with_replicas=False) as cluster:

        def raise_all(*_: object) -> AbstractContextManager[None]:
            return nullcontext()

        def lose() -> Node:
            cluster.nodes[1].kill()
            return cluster.nodes[1]

        async def test() -> None:
            with pytest.MonkeyPatch.context() as patched:
                of_primaries.shorten_waits(patched)
                await of_primaries.test_connecting(ASYNC, cluster, lose, Tally())

        with pytest.MonkeyPatch.context() as mutant:
            mutant.setattr(opening, "suppress", raise_all)
            with pytest.raises(NOTICED):
                await test()
        cluster.nodes[1].start()
        cluster.settle()
        await test()


async def test_health_that_waits_for_an_answer() -> None:
    """The time that health takes: test_a_server_that_stands_still."""

    async def ask_patiently(questions: Sequence[Question[Any]], _: float) -> list[Any]:
        return await ask_in_tasks(questions, 1000)

    with RunningServer(VALKEY_9) as server:
        client = server.client(0, socket_timeout=None)

        async def test() -> None:
            try:
                async with asyncio.timeout(5):
                    await of_health.test_a_server_that_stands_still(
                        ASYNC, server, (client, client), Tally()
                    )
            finally:
                server.thaw()

        with pytest.MonkeyPatch.context() as mutant:
            mutant.setattr(faces, "ask_in_tasks", ask_patiently)
            with pytest.raises(NOTICED):
                await test()
        await test()
        await client.aclose()
