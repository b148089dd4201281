"""Maintenance of all owners on a cluster: each primary's, and who is on one that is lost.

Where another server takes over in the middle of a round, behind sentinels too, it's gone on with.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest

from aqm_db import AsyncClientDatabase, connect
from aqm_db.errors import UnavailableError
from aqm_db.types import MaintenanceProgress
from tests.faults.support.cared_owners import Incident, Site
from tests.faults.support.fault_table import Tally
from tests.support.backends import Backend
from tests.support.clusters import RunningCluster, RunningSentinels
from tests.support.samples import BOB, sample_key, stock
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio
PROVIDER = "provider"
OWNERS = [f"owner-{number}" for number in range(12)]
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
PARTIAL = ("--cluster-require-full-coverage", "no")


async def test_all_primaries(backend: Backend) -> None:
    """Both indexes of an owner are on one node there, and everybody is cared for once."""
    with RunningCluster(backend, with_replicas=False) as cluster:
        async with connect(cluster.url, owner=PROVIDER) as db:
            await furnish(db)
            assert await db.maintain_owners(max_age_days=0, sleep=at_once)
            progress = await progress_of(db)
            assert (progress.owners_cared_for, progress.owners_failed) == (len(OWNERS), 0)
            for owner in OWNERS:
                other = db.for_owner(owner)
                assert await other.vault.count_active("GOLD") == 0
                assert len(await other.inventory.list_coins(BOB)) == 1


async def test_a_primary_that_is_lost(backend: Backend) -> None:
    """Owners on others are cared for, and those on it once it's back."""
    with RunningCluster(backend, *DURABLE, *PARTIAL, with_replicas=False) as cluster:
        homes = {owner: cluster.primary_of(f"aqm:{{{owner}}}:") for owner in (*OWNERS, PROVIDER)}
        victim = next(homes[owner] for owner in OWNERS if homes[owner] is not homes[PROVIDER])
        lost = [owner for owner in OWNERS if homes[owner] is victim]
        async with connect(cluster.url, owner=PROVIDER) as db:
            await furnish(db)
            victim.kill()
            with pytest.raises(UnavailableError):
                await db.maintain_owners(sleep=at_once)
            progress = await progress_of(db)
            assert progress.ended_at is None
            assert progress.owners_cared_for == len(OWNERS) - len(lost)
            victim.start()
            eventually(victim.client.ping)
            cluster.settle()
            assert await db.maintain_owners(sleep=at_once)
            assert (await progress_of(db)).owners_cared_for == len(OWNERS)


@pytest.mark.parametrize("owner", ["cat", PROVIDER])
async def test_a_node_that_is_started_again(
    backend: Backend, owner: str, tally: Tally, *, thorough: bool
) -> None:
    """In the middle of a round: of an owner's, or of who keeps how far the round is."""
    with RunningCluster(backend, *DURABLE, with_replicas=False) as cluster:
        node = cluster.primary_of(f"aqm:{{{owner}}}:")

        def restart() -> None:
            node.kill()
            node.start()
            cluster.settle()

        for place in range(2, 42, 8 if thorough else 25):
            cluster.clear()
            async with site_at(cluster.url, PROVIDER) as site:
                await interrupt(cluster.url, site, place, restart)
                case = (owner, place)
                await site.judge(tally, "a node is started again", case=case, once=True)


@pytest.mark.parametrize("owner", ["cat", PROVIDER])
async def test_a_replica_that_takes_over(
    backend: Backend, owner: str, tally: Tally, *, thorough: bool
) -> None:
    """The same, where the primary is killed, and what it hadn't replicated is lost."""
    with RunningCluster(backend) as cluster:
        for place in range(2, 42, 8 if thorough else 25):
            victim = cluster.primary_of(f"aqm:{{{owner}}}:")
            cluster.clear()
            async with site_at(cluster.url, PROVIDER) as site:
                eventually(victim.is_replicated)
                await interrupt(cluster.url, site, place, victim.kill)
                await site.judge(tally, "a failover of a cluster", case=(owner, place))
            victim.start()
            cluster.settle()


async def test_another_primary_that_sentinels_name(
    backend: Backend, tally: Tally, *, thorough: bool
) -> None:
    """The same behind sentinels, and where the primary isn't killed, but becomes a replica."""
    with RunningSentinels(backend) as watched:

        def demote() -> None:
            before = watched.primary()
            ask = watched.sentinels[0].client
            eventually(lambda: ask.execute_command("SENTINEL FAILOVER", watched.name))
            eventually(lambda: watched.primary() is not before)
            # Until then, some sentinels send programs to it, and it takes what is lost afterwards.
            eventually(lambda: before.info("replication", "role") == "slave")

        for place in range(2, 42, 8 if thorough else 25):
            for is_killed in (True, False):
                victim = watched.primary()
                victim.client.flushall()
                async with site_at(watched.url) as site:
                    eventually(victim.is_replicated)
                    act = victim.kill if is_killed else demote
                    await interrupt(watched.url, site, place, act)
                    case = (place, is_killed)
                    await site.judge(tally, "a failover behind sentinels", case=case)
                if is_killed:
                    victim.start()
                eventually(lambda: watched.primary().is_replicated())


@asynccontextmanager
async def site_at(url: str, provider: str | None = None) -> AsyncGenerator[Site]:
    """All owners of a database, and their data there."""
    async with connect(url, owner=provider) as db:
        site = Site(db.resources.clients[0], provider)
        await site.store()
        yield site


async def interrupt(url: str, site: Site, place: int, act: Callable[[], object]) -> None:
    """Runs a round in which something happens; it may be stopped by that."""
    incident = Incident(place, partial(asyncio.to_thread, act))
    async with connect(url, owner=site.provider, clock=site.clock) as db:
        site.divert(db, incident)
        with suppress(UnavailableError):
            await db.maintain_owners(sleep=site.sleep)
    assert incident.has_come


async def at_once(_: float) -> None:
    """No time passes."""
    await asyncio.sleep(0)


async def furnish(db: AsyncClientDatabase) -> None:
    """Stores a coin and a private half of each owner."""
    for owner in OWNERS:
        other = db.for_owner(owner)
        await other.inventory.register_contact(BOB, "BESTIE")
        await stock(other.inventory, BOB, "GOLD", "g1")
        await other.vault.store_key(**sample_key("k", "GOLD"))


async def progress_of(db: AsyncClientDatabase) -> MaintenanceProgress:
    """How far the round is."""
    progress = await db.get_maintenance_progress()
    assert progress is not None
    return progress
