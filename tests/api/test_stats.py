"""Reports over both databases, on every backend and face."""

import pytest

from aqm_db import AsyncSecureVault, AsyncSmartInventory, AsyncStorageReporter
from aqm_db.types import InventorySummary, StorageReport, VaultStats
from tests.support.samples import BOB, MATE, Clock, SampleKey, stock

pytestmark = pytest.mark.asyncio


async def test_storage_usage(
    reporter: AsyncStorageReporter, inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """Payload bytes by contact, and in percent of 64 KB."""
    await stock(inventory, registered_bestie, "GOLD", "g1", "g2")
    await stock(inventory, registered_bestie, "BRONZE", "b1")
    total = 2 * 3604 + 96
    assert await reporter.get_storage_usage() == StorageReport(
        total, {BOB: total}, 65_536, 100 * total / 65_536
    )


async def test_storage_usage_of_nothing(reporter: AsyncStorageReporter) -> None:
    """An empty inventory takes nothing."""
    assert await reporter.get_storage_usage() == StorageReport(0, {}, 65_536, 0.0)


async def test_vault_report(
    reporter: AsyncStorageReporter, vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """The vault's counters."""
    await vault.store_key(**sample_gold_key)
    assert await reporter.get_vault_report() == VaultStats(1, 0, 0, 0, 0)


async def test_replenish_needs(
    reporter: AsyncStorageReporter,
    inventory: AsyncSmartInventory,
    registered_bestie: str,
    registered_mate: str,
) -> None:
    """What is missing to each cap, without STRANGERs."""
    await inventory.register_contact("eve", "STRANGER")
    await stock(inventory, registered_bestie, "GOLD", "g1", "g2")
    await stock(inventory, registered_mate, "BRONZE", *"1234")
    assert await reporter.get_replenish_needs() == {
        BOB: {"GOLD": 3, "SILVER": 4, "BRONZE": 1},
        MATE: {"GOLD": 0, "SILVER": 6, "BRONZE": 0},
    }


async def test_stale_coins_are_missing(
    reporter: AsyncStorageReporter,
    inventory: AsyncSmartInventory,
    registered_mate: str,
    clock: Clock,
) -> None:
    """Though they still take room, which the other reports are about."""
    await stock(inventory, registered_mate, "SILVER", "s1", "s2")
    clock.advance(days=20)
    await stock(inventory, registered_mate, "SILVER", "s3")
    await stock(inventory, registered_mate, "BRONZE", *"1234")
    clock.advance(days=10)
    needs = {MATE: {"GOLD": 0, "SILVER": 5, "BRONZE": 0}}
    assert await reporter.get_replenish_needs() == needs
    dashboard = await reporter.get_full_dashboard()
    assert dashboard["replenish_needs"] == needs
    assert dashboard["contacts"] == [InventorySummary(MATE, 0, 3, 4, "MATE")]
    assert dashboard["inventory_storage"].per_contact == {MATE: 3 * 1248 + 4 * 96}


async def test_full_dashboard(
    reporter: AsyncStorageReporter, inventory: AsyncSmartInventory, registered_mate: str
) -> None:
    """All reports in one."""
    await stock(inventory, registered_mate, "SILVER", "s1")
    assert await reporter.get_full_dashboard() == {
        "vault": VaultStats(0, 0, 0, 0, 0),
        "inventory_storage": StorageReport(1248, {MATE: 1248}, 65_536, 100 * 1248 / 65_536),
        "replenish_needs": {MATE: {"GOLD": 0, "SILVER": 5, "BRONZE": 4}},
        "contacts": [InventorySummary(MATE, 0, 1, 0, "MATE")],
    }
