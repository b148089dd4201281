"""A cluster of which one primary is dead or silent, and no replica is there to take over."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any, cast

import pytest
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.backoff import ConstantBackoff

import aqm_db
from aqm_db import AsyncSecureVault, config, sync
from aqm_db._io.redispy import async_cluster, faces
from aqm_db.errors import VaultUnavailableError
from tests.api.test_connection import done
from tests.cluster.test_opening import opened
from tests.faults.support.fault_table import Tally
from tests.support.backends import Backend
from tests.support.clusters import Node, RunningCluster
from tests.support.faces import ASYNC, Face

pytestmark = pytest.mark.asyncio
FAULT = "a primary dead or silent: connect, walks, health"


@pytest.fixture(scope="module")
def partial(backend: Backend) -> Iterator[RunningCluster]:
    """A cluster that goes on where slots have nobody."""
    options = ("--cluster-require-full-coverage", "no")
    with RunningCluster(backend, *options, with_replicas=False) as running:
        yield running


@pytest.fixture
def lost(partial: RunningCluster, request: pytest.FixtureRequest) -> Iterator[Callable[[], Node]]:
    """Takes one primary away, until the test ends."""
    node = partial.nodes[1]
    with ExitStack() as mending:

        def lose() -> Node:
            if request.param == "dead":
                node.kill()
                mending.callback(partial.settle)
                mending.callback(node.start)
            else:
                node.freeze()
                mending.callback(partial.settle)
                mending.callback(node.thaw)
            return node

        yield lose


class _Pauses(ConstantBackoff):
    """Between attempts, which are counted, nobody waits."""

    def __init__(self, _: float) -> None:
        super().__init__(0)
        _pauses.append(self)
        self.count = 0

    def compute(self, failures: int) -> float:
        self.count += 1
        return super().compute(failures)


_pauses: list[_Pauses] = []


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)


def shorten_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has callers wait for servers in the same way, but not for as long."""
    _pauses.clear()
    monkeypatch.setattr(faces, "ConstantBackoff", _Pauses)
    monkeypatch.setattr(config, "REDIS_FAILOVER_ATTEMPTS", 3)
    monkeypatch.setattr(config, "HEALTH_TIMEOUT", 0.3)
    make = faces.Face.make_options

    def make_hasty(face: faces.Face, attempts: int) -> dict[str, Any]:
        return {**make(face, attempts), "socket_timeout": 0.3}

    monkeypatch.setattr(faces.Face, "make_options", make_hasty)


def owner_on(cluster: RunningCluster, node: Node) -> str:
    """Somebody whose slot a node has."""
    owners = (f"owner-{number}" for number in count())
    return next(owner for owner in owners if cluster.serves(node, f"aqm:{{{owner}}}:"))


async def test_who_waits_for_the_topology_delays_no_other(partial: RunningCluster) -> None:
    """The others' primaries are known, while silent ones are asked what became of theirs."""
    mine, *others = (owner_on(partial, node) for node in partial.nodes)
    async with opened(ASYNC, partial.url, owner=mine) as db:
        for owner in others:
            await db.for_owner(owner).vault.get_stats()
        for node in partial.nodes[1:]:
            node.freeze()
        waiting = [asyncio.ensure_future(db.for_owner(owner).vault.get_stats()) for owner in others]
        nodes = async_cluster.get_nodes(cast("RedisCluster", db.resources.clients[0]))
        while nodes._refreshing is None or nodes._refreshing.done():
            await asyncio.sleep(0)
        refreshing = nodes._refreshing
        assert (await db.vault.get_stats()).active_gold == 0
        assert not refreshing.done()
        for node in partial.nodes[1:]:
            node.thaw()
        await asyncio.gather(*waiting, return_exceptions=True)
    partial.settle()


@pytest.mark.parametrize("lost", ["dead", "silent"], indirect=True)
async def test_connecting(
    face: Face, partial: RunningCluster, lost: Callable[[], Node], tally: Tally
) -> None:
    """It stops its own owners only, after as many attempts on either face."""
    mine, others = owner_on(partial, partial.nodes[0]), owner_on(partial, partial.nodes[1])
    lost()
    async with opened(face, partial.url, owner=mine) as db:
        assert (await db.vault.get_stats()).active_gold == 0
        with pytest.raises(VaultUnavailableError):
            await db.for_owner(others).vault.get_stats()
        assert (await db.vault.get_stats()).active_gold == 0
    _pauses.clear()
    with pytest.raises(VaultUnavailableError) as caught:
        async with opened(face, partial.url, owner=others):
            pass
    assert not caught.value.outcome_unknown
    assert sum(pauses.count for pauses in _pauses) == 3
    tally.add(FAULT, runs=2)


@pytest.mark.parametrize("lost", ["dead"], indirect=True)
async def test_what_is_asked_of_all(
    face: Face, partial: RunningCluster, lost: Callable[[], Node], tally: Tally
) -> None:
    """A walk over all owners is tried as often on either face, and says what fails."""
    async with opened(face, partial.url, owner=owner_on(partial, partial.nodes[0])) as db:
        lost()
        _pauses[0].count = 0
        with pytest.raises(VaultUnavailableError):
            _ = [owner async for owner in db.iter_owners()]
        assert _pauses[0].count == 3
    tally.add(FAULT)


@pytest.mark.parametrize("lost", ["silent"], indirect=True)
async def test_health(
    face: Face, partial: RunningCluster, lost: Callable[[], Node], tally: Tally
) -> None:
    """It says who doesn't answer, in time, and what the others hold."""
    async with opened(face, partial.url, owner=owner_on(partial, partial.nodes[0])) as db:
        node = lost()
        health = await db.health()
        assert not health.vault_connected
        assert not health.inventory_connected
        assert health.unreachable == (f"127.0.0.1:{node.port}",)
    tally.add(FAULT)


async def test_health_of_a_cluster_that_nobody_has_met(
    face: Face, partial: RunningCluster, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its servers are found in time; if none answers, those that could have told are named."""
    monkeypatch.setattr(config, "HEALTH_TIMEOUT", 30)
    async with partial.client_of(face) as client:
        check: Any = aqm_db.health_check if face is ASYNC else sync.health_check
        health = await done(check(client, client))
        assert (health.vault_connected, health.inventory_connected) == (True, True)
        assert health.unreachable == ()
    if face is ASYNC:
        nowhere = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port) for port in (1, 2)])
        health = await aqm_db.health_check(nowhere, nowhere)
        assert not health.vault_connected
        assert health.unreachable == ("127.0.0.1:1", "127.0.0.1:2")
        await nowhere.aclose()
    tally.add(FAULT)


async def test_health_from_another_event_loop(partial: RunningCluster) -> None:
    """The client serves one: from another one it isn't connected."""
    async with partial.client() as client:
        await AsyncSecureVault(client, owner="alice").get_stats()
        check = aqm_db.health_check(client, client)
        health = await asyncio.to_thread(asyncio.run, check)
        assert not health.vault_connected
        assert len(health.unreachable) == 3
