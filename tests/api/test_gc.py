"""Garbage collection, on every backend and face."""

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncGarbageCollector, AsyncSmartInventory
from aqm_db.errors import ContactNotRegisteredError, CorruptEntryError, KeyAlreadyUsedError
from aqm_db.types import GCResult, InventorySummary
from tests.support.samples import BOB, DAY_MS, Clock, halves, snapshot, stock

pytestmark = pytest.mark.asyncio

NOTHING = GCResult(0, 0, 0)


async def test_gc_removes_inactive_contacts(
    gc: AsyncGarbageCollector,
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    clock: Clock,
) -> None:
    """A contact whose last message was 31 days ago has no keys left."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    await inventory_client.hset(f"inv:v1:meta:{BOB}", "last_msg_at", str(clock.now - 31 * DAY_MS))
    await gc.garbage_collect()
    assert await inventory_client.keys("inv:v1:[ik]*") == []
    assert not await inventory.has_keys_for(registered_bestie)


async def test_gc_keeps_active_contacts(
    gc: AsyncGarbageCollector,
    inventory: AsyncSmartInventory,
    registered_bestie: str,
    clock: Clock,
) -> None:
    """A contact of exactly the age stays."""
    clock.advance(days=20)
    await stock(inventory, registered_bestie, "GOLD", "g1")
    clock.advance(days=10)
    assert await gc.garbage_collect() == NOTHING
    assert await inventory.get_inventory(registered_bestie) == InventorySummary(
        BOB, 1, 0, 0, "BESTIE"
    )


async def test_gc_returns_correct_counts(
    gc: AsyncGarbageCollector, inventory: AsyncSmartInventory, clock: Clock
) -> None:
    """Contacts, keys and bytes are counted; a second run finds nothing."""
    for name in ("old-1", "old-2"):
        await inventory.register_contact(name, "BESTIE")
        await stock(inventory, name, "GOLD", "g1")
        await stock(inventory, name, "SILVER", "s1", "s2")
        await stock(inventory, name, "BRONZE", "b1")
    clock.advance(days=31)
    await inventory.register_contact("new", "BESTIE")
    await stock(inventory, "new", "GOLD", "g1")
    expected = GCResult(2, 8, 2 * (3604 + 2 * 1248 + 96))
    assert await gc.dry_run() == expected
    assert await gc.garbage_collect() == expected
    assert await gc.garbage_collect() == NOTHING


async def test_gc_downgrades_to_stranger(
    gc: AsyncGarbageCollector,
    inventory: AsyncSmartInventory,
    registered_bestie: str,
    clock: Clock,
) -> None:
    """An inactive contact is a STRANGER, without coins too, and is cleaned once."""
    clock.advance(days=31)
    assert await gc.garbage_collect() == GCResult(1, 0, 0)
    meta = await inventory.get_contact_meta(registered_bestie)
    assert meta is not None
    assert meta.priority == "STRANGER"
    assert meta.display_name == "Bob"
    assert await gc.garbage_collect() == NOTHING


async def test_collect_single_contact(
    gc: AsyncGarbageCollector, inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """One contact loses everything at once, however active."""
    await stock(inventory, registered_bestie, "GOLD", "g1", "g2")
    assert await gc.collect_single_contact(registered_bestie) == GCResult(1, 2, 2 * 3604)
    assert await inventory.get_inventory(registered_bestie) == InventorySummary(
        BOB, 0, 0, 0, "STRANGER"
    )


async def test_collect_single_contact_unregistered_raises(gc: AsyncGarbageCollector) -> None:
    """There is nothing to collect from nobody."""
    with pytest.raises(ContactNotRegisteredError, match="nobody"):
        await gc.collect_single_contact("nobody")


async def test_dry_run_does_not_delete(
    gc: AsyncGarbageCollector,
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    clock: Clock,
) -> None:
    """What would be cleaned is told, and all of it is left."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    clock.advance(days=31)
    # Whoever first asks for all contacts has them adopted.
    await inventory.get_inventory()
    before = await snapshot(inventory_client)
    assert await gc.dry_run() == GCResult(1, 1, 3604)
    assert await snapshot(inventory_client) == before


async def test_gc_handles_empty_inventory(gc: AsyncGarbageCollector) -> None:
    """There is nothing to do without contacts."""
    assert await gc.garbage_collect() == NOTHING
    assert await gc.dry_run() == NOTHING


async def test_gc_drops_stale_coins_of_active_contacts(
    gc: AsyncGarbageCollector,
    inventory: AsyncSmartInventory,
    registered_bestie: str,
    clock: Clock,
) -> None:
    """A coin whose private half is gone goes, and its contact stays as it is."""
    await inventory.store_key(
        BOB, "stale", "SILVER", *halves("SILVER"), expires_at=clock.now + DAY_MS
    )
    await stock(inventory, registered_bestie, "SILVER", "good")
    clock.advance(days=1)
    assert await gc.dry_run() == GCResult(0, 1, 1248)
    assert await gc.garbage_collect() == GCResult(0, 1, 1248)
    assert await inventory.get_inventory(registered_bestie) == InventorySummary(
        BOB, 0, 1, 0, "BESTIE"
    )


async def test_gc_removes_rows_that_no_queue_lists(
    gc: AsyncGarbageCollector,
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    clock: Clock,
) -> None:
    """Rows and entries that lost each other go with their contact; entries alone aren't keys."""
    await stock(inventory, registered_bestie, "SILVER", "orphan", "dangling", "whole")
    await inventory_client.zrem(f"inv:v1:idx:{BOB}:SILVER", "orphan")
    await inventory_client.delete(f"inv:v1:key:{BOB}:dangling")
    await inventory_client.set(f"inv:v1:key:{BOB}:string", "x")
    await inventory_client.set(f"inv:v1:key:{BOB}", "no id of ours")
    clock.advance(days=31)
    expected = GCResult(1, 3, 2 * 1248)
    assert await gc.dry_run() == expected
    assert await gc.garbage_collect() == expected
    assert await inventory_client.keys("inv:v1:[ik]*") == [f"inv:v1:key:{BOB}".encode()]


async def test_gc_leaves_malformed_contacts(
    gc: AsyncGarbageCollector,
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    clock: Clock,
) -> None:
    """A contact that can't be read is left, and the others are collected."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    await inventory_client.set("inv:v1:meta:string", "x")
    await inventory_client.hset("inv:v1:meta:nothing", "display_name", "x")
    await inventory_client.hset(
        "inv:v1:meta:undated", mapping={"priority": "MATE", "last_msg_at": "yesterday"}
    )
    clock.advance(days=31)
    assert await gc.garbage_collect() == GCResult(1, 1, 3604)
    assert await inventory_client.exists("inv:v1:meta:string", "inv:v1:meta:undated") == 2
    with pytest.raises(CorruptEntryError, match="undated"):
        await gc.collect_single_contact("undated")


async def test_gc_remembers_used_coins(
    gc: AsyncGarbageCollector, inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """A used coin can't come back after its contact was collected and registered anew."""
    await stock(inventory, registered_bestie, "GOLD", "used", "unused")
    await inventory.select_coin(registered_bestie, "GOLD")
    await gc.collect_single_contact(registered_bestie)
    await inventory.set_contact_priority(registered_bestie, "BESTIE")
    await stock(inventory, registered_bestie, "GOLD", "unused")
    with pytest.raises(KeyAlreadyUsedError):
        await stock(inventory, registered_bestie, "GOLD", "used")


async def test_gc_forgets_coins_that_were_used_long_ago(
    gc: AsyncGarbageCollector,
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    clock: Clock,
) -> None:
    """What is remembered doesn't grow for ever: after 30 days a private half is gone."""
    await stock(inventory, registered_bestie, "GOLD", "used")
    await inventory.select_coin(registered_bestie, "GOLD")
    clock.advance(days=30, ms=-1)
    await gc.garbage_collect()
    assert await inventory_client.exists(f"inv:v1:used:{BOB}")
    clock.advance(ms=1)
    await gc.dry_run()
    assert await inventory_client.exists(f"inv:v1:used:{BOB}")
    await gc.garbage_collect()
    assert not await inventory_client.exists(f"inv:v1:used:{BOB}")


async def test_gc_counts_each_contact_of_many_once(
    gc: AsyncGarbageCollector, inventory: AsyncSmartInventory, clock: Clock
) -> None:
    """More contacts than a SCAN page holds are all collected."""
    for number in range(600):
        await inventory.register_contact(f"contact {number}", "MATE")
    clock.advance(days=31)
    assert await gc.dry_run() == GCResult(600, 0, 0)
    assert await gc.garbage_collect() == GCResult(600, 0, 0)
