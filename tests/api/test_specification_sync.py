"""The specification's own tests as its user would write them: synchronous, threads, fakeredis."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import fakeredis
import pytest
import redis

from aqm_db import GarbageCollector, SecureVault, SmartInventory
from aqm_db.errors import (
    BudgetExceededError,
    ContactNotRegisteredError,
    InvalidCoinCategoryError,
    InvalidPriorityError,
    KeyAlreadyBurnedError,
    KeyAlreadyExistsError,
    KeyNotFoundError,
)
from aqm_db.types import CoinCategory, GCResult, VaultStats

DAY = 86_400

Key = dict[str, Any]


@pytest.fixture
def vault_client() -> redis.Redis:
    """An empty database of its own."""
    client: redis.Redis = fakeredis.FakeRedis()
    return client


@pytest.fixture
def inventory_client() -> redis.Redis:
    """An empty database of its own."""
    client: redis.Redis = fakeredis.FakeRedis()
    return client


@pytest.fixture
def vault(vault_client: redis.Redis) -> SecureVault:
    """An empty vault."""
    return SecureVault(vault_client)


@pytest.fixture
def inventory(inventory_client: redis.Redis) -> SmartInventory:
    """An empty inventory."""
    return SmartInventory(inventory_client)


@pytest.fixture
def gc(inventory: SmartInventory, inventory_client: redis.Redis) -> GarbageCollector:
    """The inventory's garbage collector."""
    return GarbageCollector(inventory, inventory_client)


def private_half(key_id: str, coin_category: CoinCategory, size: int) -> Key:
    """The arguments of the vault's store_key."""
    return {
        "key_id": key_id,
        "coin_category": coin_category,
        "encrypted_blob": os.urandom(size),
        "encryption_iv": os.urandom(12),
        "auth_tag": os.urandom(16),
    }


@pytest.fixture
def sample_gold_key() -> Key:
    """A GOLD coin's private half."""
    return private_half("gold", "GOLD", 1200)


@pytest.fixture
def sample_silver_key() -> Key:
    """A SILVER coin's private half."""
    return private_half("silver", "SILVER", 1200)


@pytest.fixture
def registered_bestie(inventory: SmartInventory) -> str:
    """A contact of the highest priority."""
    inventory.register_contact("bob_test_uuid", "BESTIE", "Bob")
    return "bob_test_uuid"


@pytest.fixture
def registered_mate(inventory: SmartInventory) -> str:
    """A contact of middle priority."""
    inventory.register_contact("mate_test_uuid", "MATE")
    return "mate_test_uuid"


def stock(inventory: SmartInventory, contact: str, tier: CoinCategory, *key_ids: str) -> None:
    """Stores coins, in this order."""
    for key_id in key_ids:
        inventory.store_key(contact, key_id, tier, os.urandom(1184), os.urandom(64))


def selected(inventory: SmartInventory, contact: str, tier: CoinCategory) -> str | None:
    """The id of a selected coin."""
    entry = inventory.select_coin(contact, tier)
    return entry.key_id if entry else None


# Vault -------------------------------------------------------------------------------------


def test_store_key_success(vault: SecureVault, sample_gold_key: Key) -> None:
    """Storing returns True."""
    assert vault.store_key(**sample_gold_key) is True


def test_store_key_duplicate_raises(vault: SecureVault, sample_gold_key: Key) -> None:
    """An id is stored once."""
    vault.store_key(**sample_gold_key)
    with pytest.raises(KeyAlreadyExistsError):
        vault.store_key(**sample_gold_key)


def test_store_key_invalid_category_raises(vault: SecureVault, sample_gold_key: Key) -> None:
    """There are three tiers."""
    sample_gold_key["coin_category"] = "PLATINUM"
    with pytest.raises(InvalidCoinCategoryError):
        vault.store_key(**sample_gold_key)


def test_store_key_sets_ttl(
    vault: SecureVault, vault_client: redis.Redis, sample_gold_key: Key
) -> None:
    """A key lives for 30 days."""
    vault.store_key(**sample_gold_key)
    assert 0 < vault_client.ttl("vault:v1:key:gold") <= 30 * DAY


def test_store_key_increments_stats(
    vault: SecureVault, sample_gold_key: Key, sample_silver_key: Key
) -> None:
    """Each tier is counted."""
    vault.store_key(**sample_gold_key)
    vault.store_key(**sample_silver_key)
    stats = vault.get_stats()
    assert (stats.active_gold, stats.active_silver, stats.active_bronze) == (1, 1, 0)


def test_fetch_existing_key(vault: SecureVault, sample_gold_key: Key) -> None:
    """What was stored is fetched."""
    vault.store_key(**sample_gold_key)
    entry = vault.fetch_key("gold")
    assert entry is not None
    assert (entry.key_id, entry.coin_category, entry.status) == ("gold", "GOLD", "ACTIVE")
    assert entry.coin_version == "kyber768_v1"


def test_fetch_nonexistent_returns_none(vault: SecureVault) -> None:
    """What isn't there is None."""
    assert vault.fetch_key("nothing") is None


def test_fetch_burned_key_returns_none(vault: SecureVault, sample_gold_key: Key) -> None:
    """A burned key is gone."""
    vault.store_key(**sample_gold_key)
    vault.burn_key("gold")
    assert vault.fetch_key("gold") is None


def test_fetch_preserves_binary_blobs(vault: SecureVault, sample_gold_key: Key) -> None:
    """Bytes come back as they were."""
    vault.store_key(**sample_gold_key)
    entry = vault.fetch_key("gold")
    assert entry is not None
    for field in ("encrypted_blob", "encryption_iv", "auth_tag"):
        assert getattr(entry, field) == sample_gold_key[field]


def test_burn_key_success(vault: SecureVault, sample_gold_key: Key) -> None:
    """Burning returns True."""
    vault.store_key(**sample_gold_key)
    assert vault.burn_key("gold") is True


def test_burn_nonexistent_raises(vault: SecureVault) -> None:
    """What isn't there can't be burned."""
    with pytest.raises(KeyNotFoundError):
        vault.burn_key("nothing")


def test_burn_already_burned_raises(vault: SecureVault, sample_gold_key: Key) -> None:
    """A key is burned once."""
    vault.store_key(**sample_gold_key)
    vault.burn_key("gold")
    with pytest.raises(KeyAlreadyBurnedError):
        vault.burn_key("gold")


def test_burn_sets_short_ttl(
    vault: SecureVault, vault_client: redis.Redis, sample_gold_key: Key
) -> None:
    """A tombstone lives for a minute."""
    vault.store_key(**sample_gold_key)
    vault.burn_key("gold")
    assert 0 < vault_client.ttl(vault._vault_key("gold")) <= 60


def test_burn_decrements_active_count(vault: SecureVault, sample_gold_key: Key) -> None:
    """A burned key isn't active."""
    vault.store_key(**sample_gold_key)
    vault.burn_key("gold")
    assert vault.count_active("GOLD") == 0


def test_burn_increments_burned_count(vault: SecureVault, sample_gold_key: Key) -> None:
    """A burned key is counted as burned."""
    vault.store_key(**sample_gold_key)
    vault.burn_key("gold")
    assert vault.get_stats().total_burned == 1


def test_count_active_all_tiers(
    vault: SecureVault, sample_gold_key: Key, sample_silver_key: Key
) -> None:
    """Without a tier, all are counted."""
    vault.store_key(**sample_gold_key)
    vault.store_key(**sample_silver_key)
    assert vault.count_active() == {"GOLD": 1, "SILVER": 1, "BRONZE": 0}


def test_count_active_single_tier(vault: SecureVault, sample_gold_key: Key) -> None:
    """With one, it is."""
    vault.store_key(**sample_gold_key)
    assert vault.count_active("GOLD") == 1


def test_count_active_empty_vault(vault: SecureVault) -> None:
    """Nothing is 0."""
    assert vault.count_active() == {"GOLD": 0, "SILVER": 0, "BRONZE": 0}


def test_exists_true(vault: SecureVault, sample_gold_key: Key) -> None:
    """What was stored exists."""
    vault.store_key(**sample_gold_key)
    assert vault.exists("gold") is True


def test_exists_false(vault: SecureVault) -> None:
    """What wasn't doesn't."""
    assert vault.exists("nothing") is False


def test_get_all_active_ids(
    vault: SecureVault, sample_gold_key: Key, sample_silver_key: Key
) -> None:
    """All ids are listed."""
    vault.store_key(**sample_gold_key)
    vault.store_key(**sample_silver_key)
    assert sorted(vault.get_all_active_ids()) == ["gold", "silver"]


def test_get_all_active_ids_filtered(
    vault: SecureVault, sample_gold_key: Key, sample_silver_key: Key
) -> None:
    """Ids of one tier are listed."""
    vault.store_key(**sample_gold_key)
    vault.store_key(**sample_silver_key)
    assert vault.get_all_active_ids("SILVER") == ["silver"]


def test_get_all_active_ids_excludes_burned(vault: SecureVault, sample_gold_key: Key) -> None:
    """Burned ids aren't listed."""
    vault.store_key(**sample_gold_key)
    vault.burn_key("gold")
    assert vault.get_all_active_ids() == []


def age(client: redis.Redis, key: str, field: str) -> None:
    """Sets a time of a row to 31 days ago."""
    client.hset(key, field, int(time.time()) - 31 * DAY)


def test_purge_expired_removes_old_keys(
    vault: SecureVault, vault_client: redis.Redis, sample_gold_key: Key
) -> None:
    """A key of 31 days is deleted."""
    vault.store_key(**sample_gold_key)
    age(vault_client, vault._vault_key("gold"), "created_at")
    assert vault.purge_expired() == 1
    assert vault.exists("gold") is False


def test_purge_expired_keeps_recent_keys(vault: SecureVault, sample_gold_key: Key) -> None:
    """A new key isn't."""
    vault.store_key(**sample_gold_key)
    assert vault.purge_expired() == 0
    assert vault.exists("gold") is True


def test_purge_updates_stats(
    vault: SecureVault, vault_client: redis.Redis, sample_gold_key: Key
) -> None:
    """A deleted key is counted as expired."""
    vault.store_key(**sample_gold_key)
    age(vault_client, vault._vault_key("gold"), "created_at")
    vault.purge_expired()
    assert vault.get_stats() == VaultStats(0, 0, 0, 0, 1)


def test_get_stats_empty(vault: SecureVault) -> None:
    """Nothing is 0."""
    assert vault.get_stats() == VaultStats(0, 0, 0, 0, 0)


def test_get_stats_after_operations(
    vault: SecureVault, sample_gold_key: Key, sample_silver_key: Key
) -> None:
    """What was done is counted."""
    vault.store_key(**sample_gold_key)
    vault.store_key(**sample_silver_key)
    vault.burn_key("silver")
    assert vault.get_stats() == VaultStats(1, 0, 0, 1, 0)


# Inventory ---------------------------------------------------------------------------------


def test_register_contact_success(inventory: SmartInventory) -> None:
    """Registering returns True."""
    assert inventory.register_contact("bob", "BESTIE", "Bob") is True


def test_register_contact_duplicate_is_idempotent(inventory: SmartInventory) -> None:
    """A registered contact stays as it is."""
    inventory.register_contact("bob", "BESTIE", "Bob")
    assert inventory.register_contact("bob", "MATE", "Robert") is False
    meta = inventory.get_contact_meta("bob")
    assert meta is not None
    assert (meta.priority, meta.display_name) == ("BESTIE", "Bob")


def test_register_contact_invalid_priority_raises(inventory: SmartInventory) -> None:
    """There are three priorities."""
    wrong: Any = "ENEMY"
    with pytest.raises(InvalidPriorityError):
        inventory.register_contact("bob", wrong)


def test_get_contact_meta(inventory: SmartInventory, registered_bestie: str) -> None:
    """What was registered is read."""
    meta = inventory.get_contact_meta(registered_bestie)
    assert meta is not None
    assert (meta.contact_id, meta.priority) == (registered_bestie, "BESTIE")


def test_get_contact_meta_nonexistent_returns_none(inventory: SmartInventory) -> None:
    """Who isn't there is None."""
    assert inventory.get_contact_meta("nobody") is None


def test_set_priority_upgrade(inventory: SmartInventory, registered_mate: str) -> None:
    """A higher priority allows what the lower didn't."""
    assert inventory.set_contact_priority(registered_mate, "BESTIE") is True
    stock(inventory, registered_mate, "GOLD", "g")
    assert inventory.get_inventory(registered_mate).gold_count == 1


def test_set_priority_downgrade_trims_excess(
    inventory: SmartInventory, registered_bestie: str
) -> None:
    """A lower priority keeps what it allows."""
    stock(inventory, registered_bestie, "GOLD", *"12345")
    stock(inventory, registered_bestie, "SILVER", *"6789")
    inventory.set_contact_priority(registered_bestie, "MATE")
    summary = inventory.get_inventory(registered_bestie)
    assert (summary.gold_count, summary.silver_count) == (0, 4)


def test_set_priority_unregistered_raises(inventory: SmartInventory) -> None:
    """Who isn't there has no priority."""
    with pytest.raises(ContactNotRegisteredError):
        inventory.set_contact_priority("nobody", "MATE")


def test_inventory_store_key_success(inventory: SmartInventory, registered_bestie: str) -> None:
    """Storing returns True."""
    assert inventory.store_key(registered_bestie, "g", "GOLD", b"public", b"signature") is True


def test_store_key_budget_exceeded_raises(
    inventory: SmartInventory, registered_bestie: str
) -> None:
    """The sixth GOLD coin is too many."""
    stock(inventory, registered_bestie, "GOLD", *"12345")
    with pytest.raises(BudgetExceededError) as caught:
        stock(inventory, registered_bestie, "GOLD", "6")
    assert (caught.value.current_count, caught.value.cap) == (5, 5)


def test_store_key_mate_cannot_store_gold(inventory: SmartInventory, registered_mate: str) -> None:
    """A MATE is worth no GOLD."""
    with pytest.raises(BudgetExceededError):
        stock(inventory, registered_mate, "GOLD", "g")


def test_store_key_stranger_cannot_store_anything(inventory: SmartInventory) -> None:
    """A STRANGER is worth nothing."""
    inventory.register_contact("eve", "STRANGER")
    tiers: list[CoinCategory] = ["GOLD", "SILVER", "BRONZE"]
    for tier in tiers:
        with pytest.raises(BudgetExceededError):
            stock(inventory, "eve", tier, "k")


def test_store_key_unregistered_contact_raises(inventory: SmartInventory) -> None:
    """Who isn't there has no coins."""
    with pytest.raises(ContactNotRegisteredError):
        stock(inventory, "nobody", "GOLD", "g")


def test_store_key_updates_sorted_set_index(
    inventory: SmartInventory, inventory_client: redis.Redis, registered_bestie: str
) -> None:
    """A coin is in its tier's index."""
    stock(inventory, registered_bestie, "GOLD", "g")
    assert inventory_client.zrange(inventory._idx_key(registered_bestie, "GOLD"), 0, -1) == [b"g"]
    assert inventory_client.exists(inventory._inv_key(registered_bestie, "g")) == 1


def test_select_coin_returns_correct_tier(
    inventory: SmartInventory, registered_bestie: str
) -> None:
    """The desired tier comes first."""
    stock(inventory, registered_bestie, "SILVER", "s")
    stock(inventory, registered_bestie, "GOLD", "g")
    assert selected(inventory, registered_bestie, "GOLD") == "g"


def test_select_coin_fifo_order(inventory: SmartInventory, registered_bestie: str) -> None:
    """The oldest coin comes first."""
    stock(inventory, registered_bestie, "SILVER", "a", "c", "b")
    assert [selected(inventory, registered_bestie, "SILVER") for _ in range(3)] == ["a", "c", "b"]


def test_select_coin_fallback_gold_to_silver(
    inventory: SmartInventory, registered_bestie: str
) -> None:
    """Without GOLD, SILVER is taken."""
    stock(inventory, registered_bestie, "SILVER", "s")
    assert selected(inventory, registered_bestie, "GOLD") == "s"


def test_select_coin_fallback_silver_to_bronze(
    inventory: SmartInventory, registered_bestie: str
) -> None:
    """Without SILVER, BRONZE is taken."""
    stock(inventory, registered_bestie, "BRONZE", "b")
    assert selected(inventory, registered_bestie, "SILVER") == "b"


def test_select_coin_no_upward_fallback(inventory: SmartInventory, registered_bestie: str) -> None:
    """GOLD isn't wasted."""
    stock(inventory, registered_bestie, "GOLD", "g")
    assert inventory.select_coin(registered_bestie, "BRONZE") is None


def test_select_coin_empty_returns_none(inventory: SmartInventory, registered_bestie: str) -> None:
    """Nothing is None."""
    assert inventory.select_coin(registered_bestie, "GOLD") is None


def test_select_coin_removes_from_inventory(
    inventory: SmartInventory, registered_bestie: str
) -> None:
    """A selected coin is gone."""
    stock(inventory, registered_bestie, "GOLD", "g")
    inventory.select_coin(registered_bestie, "GOLD")
    assert inventory.has_keys_for(registered_bestie) is False


def test_select_coin_updates_last_msg_at(
    inventory: SmartInventory, inventory_client: redis.Redis, registered_bestie: str
) -> None:
    """A selected coin is a message."""
    stock(inventory, registered_bestie, "GOLD", "g")
    age(inventory_client, inventory._meta_key(registered_bestie), "last_msg_at")
    inventory.select_coin(registered_bestie, "GOLD")
    meta = inventory.get_contact_meta(registered_bestie)
    assert meta is not None
    assert meta.last_msg_at > int(time.time()) - 60


def test_consume_key_success(inventory: SmartInventory, registered_bestie: str) -> None:
    """A coin is removed."""
    stock(inventory, registered_bestie, "GOLD", "g")
    assert inventory.consume_key(registered_bestie, "g") is True
    assert inventory.has_keys_for(registered_bestie) is False


def test_consume_nonexistent_returns_false(
    inventory: SmartInventory, registered_bestie: str
) -> None:
    """What isn't there isn't removed."""
    assert inventory.consume_key(registered_bestie, "nothing") is False


def test_get_inventory_single_contact(inventory: SmartInventory, registered_bestie: str) -> None:
    """One contact's coins are counted."""
    stock(inventory, registered_bestie, "SILVER", "1", "2")
    summary = inventory.get_inventory(registered_bestie)
    assert (summary.gold_count, summary.silver_count, summary.bronze_count) == (0, 2, 0)
    assert summary.priority == "BESTIE"


def test_get_inventory_all_contacts(
    inventory: SmartInventory, registered_bestie: str, registered_mate: str
) -> None:
    """All contacts' coins are counted."""
    assert set(inventory.get_inventory()) == {registered_bestie, registered_mate}


def test_has_keys_for_true(inventory: SmartInventory, registered_bestie: str) -> None:
    """One coin is enough."""
    stock(inventory, registered_bestie, "BRONZE", "b")
    assert inventory.has_keys_for(registered_bestie) is True


def test_has_keys_for_false(inventory: SmartInventory, registered_bestie: str) -> None:
    """None isn't."""
    assert inventory.has_keys_for(registered_bestie) is False


def test_get_available_tiers(inventory: SmartInventory, registered_bestie: str) -> None:
    """Tiers with coins are listed."""
    stock(inventory, registered_bestie, "SILVER", "s")
    stock(inventory, registered_bestie, "BRONZE", "b")
    assert inventory.get_available_tiers(registered_bestie) == ["SILVER", "BRONZE"]


def test_store_after_select_refills(inventory: SmartInventory, registered_bestie: str) -> None:
    """Selected coins make room for new ones."""
    stock(inventory, registered_bestie, "GOLD", *"12345")
    assert [selected(inventory, registered_bestie, "GOLD") for _ in range(6)] == [*"12345", None]
    stock(inventory, registered_bestie, "GOLD", "6")
    assert inventory.get_available_tiers(registered_bestie) == ["GOLD"]


def test_priority_downgrade_then_select(inventory: SmartInventory, registered_bestie: str) -> None:
    """A MATE has no GOLD to select."""
    stock(inventory, registered_bestie, "GOLD", "g")
    inventory.set_contact_priority(registered_bestie, "MATE")
    assert inventory.select_coin(registered_bestie, "GOLD") is None


# Garbage collection ------------------------------------------------------------------------


@pytest.fixture
def inactive(
    inventory: SmartInventory, inventory_client: redis.Redis, registered_bestie: str
) -> str:
    """A contact with two coins, whose last message was 31 days ago."""
    stock(inventory, registered_bestie, "GOLD", "g")
    stock(inventory, registered_bestie, "BRONZE", "b")
    age(inventory_client, inventory._meta_key(registered_bestie), "last_msg_at")
    return registered_bestie


def test_gc_removes_inactive_contacts(
    gc: GarbageCollector, inventory: SmartInventory, inactive: str
) -> None:
    """Coins of an inactive contact are deleted."""
    gc.garbage_collect()
    assert inventory.has_keys_for(inactive) is False


def test_gc_keeps_active_contacts(
    gc: GarbageCollector, inventory: SmartInventory, registered_bestie: str
) -> None:
    """Coins of an active one aren't."""
    stock(inventory, registered_bestie, "GOLD", "g")
    assert gc.garbage_collect().keys_deleted == 0
    assert inventory.has_keys_for(registered_bestie) is True


@pytest.mark.usefixtures("inactive", "registered_mate")
def test_gc_returns_correct_counts(gc: GarbageCollector) -> None:
    """What was deleted is counted."""
    assert gc.garbage_collect() == GCResult(1, 2, 3604 + 96)


def test_gc_downgrades_to_stranger(
    gc: GarbageCollector, inventory: SmartInventory, inactive: str
) -> None:
    """An inactive contact becomes a STRANGER."""
    gc.garbage_collect()
    assert inventory.get_inventory(inactive).priority == "STRANGER"


def test_collect_single_contact(
    gc: GarbageCollector, inventory: SmartInventory, registered_bestie: str
) -> None:
    """Someone who is blocked loses all coins."""
    stock(inventory, registered_bestie, "SILVER", "s")
    assert gc.collect_single_contact(registered_bestie) == GCResult(1, 1, 1248)
    assert inventory.has_keys_for(registered_bestie) is False


def test_dry_run_does_not_delete(
    gc: GarbageCollector, inventory: SmartInventory, inactive: str
) -> None:
    """What would be deleted is counted, and kept."""
    assert gc.dry_run() == GCResult(1, 2, 3604 + 96)
    assert inventory.get_available_tiers(inactive) == ["GOLD", "BRONZE"]


def test_gc_handles_empty_inventory(gc: GarbageCollector) -> None:
    """Nothing is 0."""
    assert gc.garbage_collect() == GCResult(0, 0, 0)


# Concurrency -------------------------------------------------------------------------------


def in_threads(count: int, call: Callable[[int], Any]) -> list[Any]:
    """What each of several threads returned, or raised, that call at once."""
    results: list[Any] = [None] * count
    start = threading.Barrier(count)

    def work(number: int) -> None:
        start.wait()
        try:
            results[number] = call(number)
        except Exception as error:  # noqa: BLE001 - it's the result
            results[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_concurrent_store_respects_budget(
    inventory: SmartInventory, registered_bestie: str
) -> None:
    """Of ten that store GOLD, five succeed."""
    results = in_threads(10, lambda n: stock(inventory, registered_bestie, "GOLD", str(n)))
    assert results.count(None) == 5
    assert sum(isinstance(result, BudgetExceededError) for result in results) == 5


def test_concurrent_select_no_duplicates(inventory: SmartInventory, registered_mate: str) -> None:
    """Of ten that select, five get a coin, and each another."""
    stock(inventory, registered_mate, "SILVER", *"12345")
    results = in_threads(10, lambda _: selected(inventory, registered_mate, "SILVER"))
    assert sorted(filter(None, results)) == list("12345")
    assert results.count(None) == 5


def test_concurrent_burn_idempotent(vault: SecureVault, sample_gold_key: Key) -> None:
    """Of five that burn a key, one does."""
    vault.store_key(**sample_gold_key)
    results = in_threads(5, lambda _: vault.burn_key("gold"))
    assert results.count(True) == 1
    assert sum(isinstance(result, KeyAlreadyBurnedError) for result in results) == 4


def test_concurrent_store_and_select(inventory: SmartInventory, registered_bestie: str) -> None:
    """While one stores and another selects for a second, nothing is lost or doubled."""
    end = time.monotonic() + 1
    stored: list[str] = []
    delivered: list[str] = []

    def store(number: int) -> None:
        key_id = str(number)
        try:
            stock(inventory, registered_bestie, "SILVER", key_id)
        except BudgetExceededError:
            return
        stored.append(key_id)

    def work(thread: int) -> None:
        number = 0
        while time.monotonic() < end:
            number += 1
            if thread:
                store(number)
            elif key_id := selected(inventory, registered_bestie, "SILVER"):
                delivered.append(key_id)

    assert in_threads(2, work) == [None, None]
    while key_id := selected(inventory, registered_bestie, "SILVER"):
        delivered.append(key_id)
    assert delivered == stored
    assert len(stored) > 10
