"""Slots that are moved: as a whole, as Valkey 9 does it, and while all owners are looked for."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from aqm_db import connect, sync
from tests.cluster.support.load import Load
from tests.faults.support.fault_table import Tally
from tests.support.backends import VALKEY_9
from tests.support.clusters import Migration, RunningCluster
from tests.support.faces import ASYNC, Face

pytestmark = pytest.mark.asyncio
OWNERS = [f"owner-{number}" for number in range(12)]


@pytest.fixture(scope="module")
def newest() -> Iterator[RunningCluster]:
    """A cluster that can move slots as a whole."""
    with RunningCluster(VALKEY_9) as running:
        yield running


@pytest_asyncio.fixture
async def client(face: Face, newest: RunningCluster) -> AsyncIterator[Any]:
    """A client of it, and nobody's data."""
    newest.clear()
    async with newest.client_of(face) as made:
        yield made


async def test_a_slot_is_moved_at_once(
    face: Face, newest: RunningCluster, client: Any, tally: Tally, *, thorough: bool
) -> None:
    """While it's in use (CLUSTER MIGRATESLOTS): nothing is lost, handed out twice or refused."""
    load = Load(face, client, ["alice", "bob", "carol", "dave"])
    for _ in range(10 if thorough else 2):
        async with load.running():
            await load.delivers(100)
            migration = await asyncio.to_thread(Migration, newest, tag_of("alice"))
            await asyncio.to_thread(migration.at_once)
            await load.delivers(100)
        load.again()
    assert load.ledger.errors == []
    tally.add("slot moved at once while in use", **await load.balance())


@pytest.mark.parametrize("way", ["at once", "key by key", "between"])
async def test_owners_who_move_while_they_are_looked_for(
    face: Face, newest: RunningCluster, client: Any, way: str
) -> None:
    """Of those on the primary that is walked first, nobody would find who comes there later."""
    for owner in OWNERS:
        inventory = face.inventory(client, owner=owner)
        await inventory.register_contact("contact", "BESTIE")
    if face is ASYNC:
        async with connect(newest.url, owner="admin") as db:
            owners = db.iter_owners()
            first = await anext(owners)
            migration = moved_to_the_node_of(first, newest, way)
            rest = [owner async for owner in owners]
    else:
        with sync.connect(newest.url, owner="admin") as sync_db:
            sync_owners = sync_db.iter_owners()
            first = next(sync_owners)
            migration = moved_to_the_node_of(first, newest, way)
            rest = list(sync_owners)
    if way == "between":
        migration.end()
    assert sorted([first, *rest]) == sorted(OWNERS)


async def test_a_user_who_may_not_ask_where_slots_are(face: Face, newest: RunningCluster) -> None:
    """All primaries are walked twice, to be sure."""
    newest.clear()
    for node in newest.nodes:
        rules = ("on", ">p", "~*", "+@all", "-cluster|nodes")
        node.client.execute_command("ACL SETUSER", "u", *rules)
        node.client.config_resetstat()
    url = newest.url.replace("://", "://u:p@")
    if face is ASYNC:
        async with connect(url, owner="admin") as db:
            assert [owner async for owner in db.iter_owners()] == []
    else:
        with sync.connect(url, owner="admin") as sync_db:
            assert list(sync_db.iter_owners()) == []
    told = [node.client.info("commandstats").get("cmdstat_scan") for node in newest.nodes]
    assert [stats["calls"] for stats in told if stats is not None] == [2, 2, 2]


def tag_of(owner: str) -> str:
    """What the names of an owner's keys begin with."""
    return f"aqm:{{{owner}}}:"


def moved_to_the_node_of(first: str, cluster: RunningCluster, way: str) -> Migration:
    """Moves an owner there who is elsewhere, in one of three ways, of which one isn't ended."""
    target = cluster.primary_of(tag_of(first))
    mover = next(owner for owner in OWNERS if not cluster.serves(target, tag_of(owner)))
    migration = Migration(cluster, tag_of(mover), target)
    if way == "at once":
        migration.at_once()
        return migration
    migration.begin()
    # The contact, and the index of contacts.
    assert sum(migration.steps()) == 2
    if way == "key by key":
        migration.end()
    return migration
