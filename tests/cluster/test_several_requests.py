"""Calls that take several requests, on a cluster whose slot begins to move in the middle."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.backoff import ConstantBackoff

from aqm_db.errors import ConcurrencyError
from tests.faults.support.fault_table import Tally
from tests.faults.support.public_calls import objects_over
from tests.faults.support.several_requests import (
    ALICE,
    SEVERAL,
    Hindrance,
    Scene,
    Several,
    tell_what_was_done,
)
from tests.support.backends import Backend
from tests.support.clusters import Migration, RunningCluster
from tests.support.faces import ASYNC, Face
from tests.support.samples import Clock

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def cluster(backend: Backend) -> Iterator[RunningCluster]:
    """A cluster whose slots are moved."""
    with RunningCluster(backend, with_replicas=False) as running:
        yield running


@pytest.mark.parametrize("several", SEVERAL, ids=str)
async def test_a_slot_that_begins_to_move_halfway(
    face: Face,
    cluster: RunningCluster,
    several: Several,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tally: Tally,
) -> None:
    """The call is refused, and says what it did; it does the rest where the slot is then."""
    if several.is_asynchronous and face is not ASYNC:
        return
    cluster.clear()
    clock = Clock()
    async with cluster.client_of(face) as client:
        client.retry = type(client.retry)(ConstantBackoff(0.001), 3)
        on = objects_over(client, face, owner="alice", clock=clock)
        scene = Scene(
            on, client, face, lambda: cluster.primary_of(ALICE).client, clock, tmp_path / "backup"
        )
        migration = await asyncio.to_thread(Migration, cluster, ALICE)

        def begin() -> None:
            migration.begin()
            # They are all on the other node then, and the slot is still this one's.
            list(migration.steps(100))

        hindrance = Hindrance("moving", ConcurrencyError, begin, migration.end)
        await tell_what_was_done(scene, several, hindrance, monkeypatch)
    tally.add("slot that begins to move halfway through a call")
