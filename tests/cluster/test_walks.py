"""Primaries that are replaced in the middle of a walk: what is there throughout is found."""

from collections.abc import Callable

import pytest

from aqm_db import connect
from tests.faults.support.fault_table import Tally
from tests.faults.support.walked_database import (
    FEW,
    OWNER,
    WALKS,
    furnish,
    interrupt_walks,
    open_by,
    walk_all,
)
from tests.support.backends import Backend
from tests.support.clusters import Node, RunningCluster, RunningSentinels
from tests.support.faces import Face
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
TAG = f"aqm:{{{OWNER}}}:"


async def test_a_node_that_is_started_again(face: Face, backend: Backend, tally: Tally) -> None:
    """Another process has the same slots at the same address."""
    with RunningCluster(backend, *DURABLE, with_replicas=False) as cluster:
        await furnish_at(cluster.url)
        node = cluster.primary_of(TAG)

        def restart() -> None:
            node.kill()
            node.start()

        async with open_by(face, cluster.url) as db:
            await walk_all(db, restart, tally, "a node started again during a walk", FEW)


async def test_a_replica_that_takes_over(face: Face, backend: Backend, tally: Tally) -> None:
    """A primary is killed, and its slots are at another address soon."""
    with RunningCluster(backend) as cluster:
        await furnish_at(cluster.url)
        async with open_by(face, cluster.url) as db:
            for name in FEW:
                primary = cluster.primary_of(TAG)
                with interrupt_walks(kill_replicated(primary), times=1):
                    lost = await WALKS[name](db)
                tally.add("a failover of a cluster during a walk", lost=lost, case=name)
                primary.start()
                cluster.settle()


async def test_sentinels_that_name_another_primary(
    face: Face, backend: Backend, tally: Tally
) -> None:
    """A primary is killed, and a replica takes over."""
    with RunningSentinels(backend) as watched:
        await furnish_at(watched.url)
        async with open_by(face, watched.url) as db:
            with interrupt_walks(kill_replicated(watched.primary()), times=1):
                lost = await WALKS["delete_owner"](db)
    tally.add("a failover behind sentinels during a walk", lost=lost)


def kill_replicated(primary: Node) -> Callable[[], None]:
    """Ends a primary, once its replica has all that it has."""

    def act() -> None:
        eventually(primary.is_replicated)
        primary.kill()

    return act


async def furnish_at(url: str) -> None:
    """Fills the database that is walked."""
    async with connect(url, owner=OWNER) as db:
        await furnish(db)
