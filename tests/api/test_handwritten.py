"""Data that another program wrote by hand, with the specification's key names."""

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncGarbageCollector, AsyncSecureVault, AsyncSmartInventory
from aqm_db.types import ContactMeta, GCResult, InventoryEntry, InventorySummary, VaultStats
from tests.support.samples import DAY_MS, Clock

pytestmark = pytest.mark.asyncio


async def write_vault_row(client: Redis, key_id: str, created_at: int) -> None:
    """A private half with the fields of the specification, without expiry."""
    await client.hset(
        f"vault:v1:key:{key_id}",
        mapping={
            "key_id": key_id,
            "coin_category": "GOLD",
            "encrypted_blob": b"blob",
            "encryption_iv": b"iv",
            "auth_tag": b"tag",
            "status": "ACTIVE",
            "created_at": created_at,
            "coin_version": "kyber768_v1",
        },
    )
    await client.hincrby("vault:v1:stats", "active_gold", 1)


async def write_contact(client: Redis, now: int, last_msg_at: int) -> None:
    """A contact with two SILVER coins."""
    await client.hset(
        "inv:v1:meta:carol",
        mapping={"priority": "MATE", "last_msg_at": last_msg_at, "display_name": "Carol"},
    )
    for number in (1, 2):
        await client.hset(
            f"inv:v1:key:carol:c{number}",
            mapping={
                "coin_category": "SILVER",
                "public_key": b"public",
                "signature": b"signature",
                "fetched_at": now,
            },
        )
        await client.zadd("inv:v1:idx:carol:SILVER", {f"c{number}": now + number})


async def test_vault_row(vault: AsyncSecureVault, vault_client: Redis, clock: Clock) -> None:
    """A private half is fetched, listed, counted, purged and burned."""
    await write_vault_row(vault_client, "young", clock.now)
    await write_vault_row(vault_client, "old", clock.now - 31 * DAY_MS)
    entry = await vault.fetch_key("young")
    assert entry is not None
    assert entry.encrypted_blob == b"blob"
    assert sorted(await vault.get_all_active_ids("GOLD")) == ["old", "young"]
    assert await vault.count_active("GOLD") == 2
    assert await vault.purge_expired() == 1
    assert await vault.burn_key("young")
    assert await vault.get_stats() == VaultStats(0, 0, 0, 1, 1)


async def test_vault_row_that_was_not_counted(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock
) -> None:
    """A counter doesn't fall below zero."""
    await write_vault_row(vault_client, "k", clock.now)
    await vault_client.delete("vault:v1:stats")
    await vault.burn_key("k")
    assert await vault.get_stats() == VaultStats(0, 0, 0, 1, 0)


async def test_contact(
    inventory: AsyncSmartInventory, inventory_client: Redis, clock: Clock
) -> None:
    """A contact and its coins are read and selected."""
    await write_contact(inventory_client, clock.now, clock.now)
    assert await inventory.get_contact_meta("carol") == ContactMeta(
        "carol", "MATE", clock.now, "Carol"
    )
    assert await inventory.get_inventory("carol") == InventorySummary("carol", 0, 2, 0, "MATE")
    assert await inventory.select_coin("carol", "GOLD") == InventoryEntry(
        "carol", "c1", "SILVER", b"public", b"signature", clock.now, None, clock.now
    )
    assert await inventory.consume_key("carol", "c2")


async def test_inactive_contact(
    gc: AsyncGarbageCollector, inventory: AsyncSmartInventory, inventory_client: Redis, clock: Clock
) -> None:
    """An inactive contact is collected."""
    await write_contact(inventory_client, clock.now, clock.now - 31 * DAY_MS)
    assert await gc.garbage_collect() == GCResult(1, 2, 2 * 1248)
    assert await inventory.get_inventory("carol") == InventorySummary("carol", 0, 0, 0, "STRANGER")
