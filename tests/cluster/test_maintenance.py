"""Maintenance of all owners on a cluster: each primary's, and who is on one that is lost."""

import asyncio

import pytest

from aqm_db import AsyncClientDatabase, connect
from aqm_db.errors import UnavailableError
from aqm_db.types import MaintenanceProgress
from tests.support.backends import Backend
from tests.support.clusters import RunningCluster
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
