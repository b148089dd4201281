"""Log records: what happened, with ids and tiers as fields, and never key material."""

import logging
from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncGarbageCollector, AsyncSecureVault, AsyncSmartInventory
from aqm_db.errors import (
    BudgetExceededError,
    KeyAlreadyBurnedError,
    KeyAlreadyExistsError,
    KeyAlreadyUsedError,
)
from tests.support.samples import BOB, Clock, SampleKey, sample_key, stock

pytestmark = pytest.mark.asyncio

STANDARD = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that the library logs."""
    caplog.set_level(logging.DEBUG, logger="aqm_db")
    return caplog


def events(log: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    """The records since the last look: their events and fields."""
    found = [
        (record.msg, {k: v for k, v in record.__dict__.items() if k not in STANDARD})
        for record in log.records
        if record.name.startswith("aqm_db")
    ]
    log.clear()
    return found


async def test_vault_events(
    vault: AsyncSecureVault,
    vault_client: Redis,
    clock: Clock,
    sample_gold_key: SampleKey,
    log: pytest.LogCaptureFixture,
) -> None:
    """A private half's life is told."""
    key = {"key_id": "gold-1"}
    await vault.store_key(**sample_gold_key)
    assert events(log) == [("key_stored", {**key, "coin_category": "GOLD"})]
    with pytest.raises(KeyAlreadyExistsError):
        await vault.store_key(**sample_gold_key)
    assert events(log) == [("duplicate_rejected", key)]
    await vault.fetch_key("gold-1")
    assert events(log) == [("key_fetched", key)]
    await vault.burn_key("gold-1")
    assert events(log) == [("key_burned", key)]
    with pytest.raises(KeyAlreadyBurnedError):
        await vault.burn_key("gold-1")
    assert events(log) == [("duplicate_rejected", key)]
    await vault.store_key(**sample_key("old", "GOLD"))
    await vault.store_key(**sample_key("gone", "GOLD"))
    await vault_client.delete("vault:v1:key:gone")
    await vault_client.zadd("vault:v1:expiry", {"gone": 1})
    clock.advance(days=31)
    events(log)
    await vault.purge_expired()
    assert events(log) == [("key_expired", {"count": 1}), ("key_expired", {"key_id": "old"})]


async def test_inventory_events(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    log: pytest.LogCaptureFixture,
) -> None:
    """A public half's life is told."""
    coin = {"contact_id": BOB, "key_id": "b1", "coin_category": "BRONZE"}
    await stock(inventory, registered_bestie, "BRONZE", "b1")
    assert events(log) == [("key_stored", coin)]
    with pytest.raises(KeyAlreadyExistsError):
        await stock(inventory, registered_bestie, "BRONZE", "b1")
    assert events(log) == [("duplicate_rejected", coin)]
    with pytest.raises(BudgetExceededError):
        await stock(inventory, registered_bestie, "BRONZE", "b2")
    assert events(log) == [("budget_exceeded", {**coin, "key_id": "b2"})]
    await inventory.select_coin(registered_bestie, "GOLD")
    assert events(log) == [
        ("fallback_used", {**coin, "desired_tier": "GOLD"}),
        ("coin_selected", coin),
    ]
    with pytest.raises(KeyAlreadyUsedError):
        await stock(inventory, registered_bestie, "BRONZE", "b1")
    assert events(log) == [("duplicate_rejected", coin)]
    await inventory.set_contact_priority(registered_bestie, "MATE")
    assert events(log) == [
        ("priority_changed", {"contact_id": BOB, "priority": "MATE", "dropped": 0})
    ]
    await stock(inventory, registered_bestie, "BRONZE", "lost")
    await inventory_client.delete(f"inv:v1:key:{BOB}:lost")
    events(log)
    await inventory.select_coin(registered_bestie, "BRONZE")
    assert events(log) == [
        ("coin_set_aside", {"contact_id": BOB, "key_id": "lost", "fault": "dangling"})
    ]


async def test_collection_is_told(
    gc: AsyncGarbageCollector,
    inventory: AsyncSmartInventory,
    registered_bestie: str,
    clock: Clock,
    log: pytest.LogCaptureFixture,
) -> None:
    """A collection tells its result."""
    await stock(inventory, registered_bestie, "BRONZE", "b1")
    clock.advance(days=31)
    events(log)
    await gc.garbage_collect()
    assert events(log) == [
        ("gc_completed", {"contacts_cleaned": 1, "keys_deleted": 1, "bytes_freed": 96})
    ]


async def test_no_record_or_repr_holds_key_material(
    vault: AsyncSecureVault,
    inventory: AsyncSmartInventory,
    registered_bestie: str,
    log: pytest.LogCaptureFixture,
) -> None:
    """Neither logs, nor what is returned, show a key."""
    canary = b"canary"
    await vault.store_key("k", "GOLD", canary, canary, canary)
    await inventory.store_key(registered_bestie, "k", "GOLD", canary, canary)
    shown = [
        repr(await vault.fetch_key("k")),
        str(await inventory.select_coin(registered_bestie, "GOLD")),
    ]
    await vault.burn_key("k")
    assert "canary" not in str(shown) + str(events(log)) + log.text
