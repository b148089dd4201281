"""The Secure Vault, on every backend and face."""

from dataclasses import replace
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSecureVault
from aqm_db.errors import (
    CorruptEntryError,
    InvalidCoinCategoryError,
    KeyAlreadyBurnedError,
    KeyAlreadyExistsError,
    KeyNotFoundError,
)
from aqm_db.types import CoinCategory, VaultEntry, VaultStats
from tests.support.samples import DAY_MS, Clock, SampleKey, sample_key

pytestmark = pytest.mark.asyncio

TTL_MS = 30 * DAY_MS
GRACE_MS = 60_000


# Store -------------------------------------------------------------------------------------


async def test_store_key_success(vault: AsyncSecureVault, sample_gold_key: SampleKey) -> None:
    """A stored key is there."""
    assert await vault.store_key(**sample_gold_key) is True
    assert await vault.exists("gold-1")


async def test_store_key_duplicate_raises(
    vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """An id that is taken is refused, and the first key stays."""
    await vault.store_key(**sample_gold_key)
    with pytest.raises(KeyAlreadyExistsError, match="gold-1"):
        await vault.store_key(**sample_key("gold-1", "SILVER"))
    entry = await vault.fetch_key("gold-1")
    assert entry is not None
    assert entry.encrypted_blob == sample_gold_key["encrypted_blob"]
    assert await vault.count_active() == {"GOLD": 1, "SILVER": 0, "BRONZE": 0}


async def test_store_key_invalid_category_raises(vault: AsyncSecureVault) -> None:
    """A tier that doesn't exist is refused, and nothing is stored."""
    key: Any = {**sample_key("k", "GOLD"), "coin_category": "PLATINUM"}
    with pytest.raises(InvalidCoinCategoryError, match="coin_category"):
        await vault.store_key(**key)
    assert not await vault.exists("k")


async def test_store_key_sets_ttl(
    vault: AsyncSecureVault, vault_client: Redis, sample_gold_key: SampleKey
) -> None:
    """A key expires 30 days after it was stored."""
    await vault.store_key(**sample_gold_key)
    assert TTL_MS - 60_000 < await vault_client.pttl("vault:v1:key:gold-1") <= TTL_MS


async def test_store_key_increments_stats(
    vault: AsyncSecureVault, sample_gold_key: SampleKey, sample_silver_key: SampleKey
) -> None:
    """Each stored key counts in its tier."""
    await vault.store_key(**sample_gold_key)
    await vault.store_key(**sample_silver_key)
    assert await vault.get_stats() == VaultStats(1, 1, 0, 0, 0)


async def test_store_key_with_owner_has_a_hash_tag(
    vault_client: Redis, sample_gold_key: SampleKey
) -> None:
    """An owner's keys share one slot, and are no other owner's."""
    alice = AsyncSecureVault(vault_client, owner="alice")
    await alice.store_key(**sample_gold_key)
    assert sorted(await vault_client.keys()) == [
        b"aqm:{alice}:vault:v1:expiry",
        b"aqm:{alice}:vault:v1:key:gold-1",
        b"aqm:{alice}:vault:v1:stats",
        b"aqm:{alice}:vault:v1:watch",
    ]
    assert await alice.get_all_active_ids() == ["gold-1"]
    assert not await AsyncSecureVault(vault_client).exists("gold-1")


# Fetch -------------------------------------------------------------------------------------


async def test_fetch_existing_key(
    vault: AsyncSecureVault, clock: Clock, sample_gold_key: SampleKey
) -> None:
    """A key comes back as it was stored."""
    await vault.store_key(**sample_gold_key, coin_version="v2")
    assert await vault.fetch_key("gold-1") == VaultEntry(
        **sample_gold_key, status="ACTIVE", created_at=clock.now, coin_version="v2"
    )


async def test_fetch_nonexistent_returns_none(vault: AsyncSecureVault) -> None:
    """There is no entry for an id that was never stored."""
    assert await vault.fetch_key("nobody") is None


async def test_fetch_burned_key_returns_none(
    vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """A burned key can't be fetched."""
    await vault.store_key(**sample_gold_key)
    await vault.burn_key("gold-1")
    assert await vault.fetch_key("gold-1") is None


async def test_fetch_preserves_binary_blobs(vault: AsyncSecureVault) -> None:
    """Any byte may be in a blob."""
    every_byte = bytes(range(256))
    await vault.store_key("k", "GOLD", every_byte, b"\x00", b"\r\n")
    entry = await vault.fetch_key("k")
    assert entry is not None
    assert (entry.encrypted_blob, entry.encryption_iv, entry.auth_tag) == (
        every_byte,
        b"\x00",
        b"\r\n",
    )


# Burn --------------------------------------------------------------------------------------


async def test_burn_key_success(vault: AsyncSecureVault, sample_gold_key: SampleKey) -> None:
    """A key can be burned."""
    await vault.store_key(**sample_gold_key)
    assert await vault.burn_key("gold-1") is True


async def test_burn_nonexistent_raises(vault: AsyncSecureVault) -> None:
    """What was never stored can't be burned."""
    with pytest.raises(KeyNotFoundError, match="nobody"):
        await vault.burn_key("nobody")


async def test_burn_already_burned_raises(
    vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """A key burns once; its id is taken until the grace ends."""
    await vault.store_key(**sample_gold_key)
    await vault.burn_key("gold-1")
    with pytest.raises(KeyAlreadyBurnedError, match="gold-1"):
        await vault.burn_key("gold-1")
    with pytest.raises(KeyAlreadyBurnedError):
        await vault.store_key(**sample_gold_key)
    assert await vault.exists("gold-1")


async def test_burn_sets_short_ttl(
    vault: AsyncSecureVault, vault_client: Redis, sample_gold_key: SampleKey
) -> None:
    """The tombstone goes after 60 seconds."""
    await vault.store_key(**sample_gold_key)
    await vault.burn_key("gold-1")
    assert GRACE_MS - 10_000 < await vault_client.pttl("vault:v1:key:gold-1") <= GRACE_MS


async def test_burn_decrements_active_count(
    vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """A burned key isn't active."""
    await vault.store_key(**sample_gold_key)
    await vault.burn_key("gold-1")
    assert await vault.count_active("GOLD") == 0


async def test_burn_increments_burned_count(
    vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """A burned key counts as burned."""
    await vault.store_key(**sample_gold_key)
    await vault.burn_key("gold-1")
    assert (await vault.get_stats()).total_burned == 1


async def test_burn_erases_key_material_at_once(
    vault: AsyncSecureVault, vault_client: Redis, sample_gold_key: SampleKey
) -> None:
    """Nothing secret is left in the tombstone."""
    await vault.store_key(**sample_gold_key)
    await vault.burn_key("gold-1")
    left = await vault_client.hgetall("vault:v1:key:gold-1")
    assert set(left) == {
        b"status",
        b"coin_category",
        b"coin_version",
        b"created_at",
        b"by",
        b"burned_by",
    }


# Use ---------------------------------------------------------------------------------------


async def test_use_key_burns_on_a_clean_exit(
    vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """A block that ends well burns its key."""
    await vault.store_key(**sample_gold_key)
    async with vault.use_key("gold-1") as entry:
        assert entry.encrypted_blob == sample_gold_key["encrypted_blob"]
    assert await vault.fetch_key("gold-1") is None


async def test_use_key_keeps_the_key_when_the_block_raises(
    vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """A forged message doesn't burn a key."""
    await vault.store_key(**sample_gold_key)
    with pytest.raises(ZeroDivisionError):
        async with vault.use_key("gold-1"):
            raise ZeroDivisionError
    assert await vault.fetch_key("gold-1") is not None


async def test_use_key_of_no_key_raises(vault: AsyncSecureVault) -> None:
    """There is nothing to use under an id that was never stored."""
    with pytest.raises(KeyNotFoundError, match="nobody"):
        async with vault.use_key("nobody"):
            pytest.fail("the block ran")


async def test_use_key_of_a_burned_key_raises(
    vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """A replayed message doesn't get a key."""
    await vault.store_key(**sample_gold_key)
    await vault.burn_key("gold-1")
    with pytest.raises(KeyAlreadyBurnedError, match="gold-1"):
        async with vault.use_key("gold-1"):
            pytest.fail("the block ran")


# Count -------------------------------------------------------------------------------------


async def test_count_active_all_tiers(
    vault: AsyncSecureVault, sample_gold_key: SampleKey, sample_silver_key: SampleKey
) -> None:
    """Without a tier, all are counted."""
    await vault.store_key(**sample_gold_key)
    await vault.store_key(**sample_silver_key)
    assert await vault.count_active() == {"GOLD": 1, "SILVER": 1, "BRONZE": 0}


async def test_count_active_single_tier(
    vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """With a tier, it alone is counted."""
    await vault.store_key(**sample_gold_key)
    assert await vault.count_active("GOLD") == 1
    assert await vault.count_active("SILVER") == 0


async def test_count_active_empty_vault(vault: AsyncSecureVault) -> None:
    """An empty vault has none."""
    assert await vault.count_active() == {"GOLD": 0, "SILVER": 0, "BRONZE": 0}


# Exists ------------------------------------------------------------------------------------


async def test_exists_true(vault: AsyncSecureVault, sample_gold_key: SampleKey) -> None:
    """A stored key exists."""
    await vault.store_key(**sample_gold_key)
    assert await vault.exists("gold-1") is True


async def test_exists_false(vault: AsyncSecureVault) -> None:
    """A key that was never stored doesn't."""
    assert await vault.exists("gold-1") is False


# All active ids ----------------------------------------------------------------------------


async def test_get_all_active_ids(
    vault: AsyncSecureVault, sample_gold_key: SampleKey, sample_silver_key: SampleKey
) -> None:
    """All tiers are listed."""
    await vault.store_key(**sample_gold_key)
    await vault.store_key(**sample_silver_key)
    assert sorted(await vault.get_all_active_ids()) == ["gold-1", "silver-1"]


async def test_get_all_active_ids_filtered(
    vault: AsyncSecureVault, sample_gold_key: SampleKey, sample_silver_key: SampleKey
) -> None:
    """One tier is listed."""
    await vault.store_key(**sample_gold_key)
    await vault.store_key(**sample_silver_key)
    assert await vault.get_all_active_ids("SILVER") == ["silver-1"]


async def test_get_all_active_ids_excludes_burned(
    vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """A tombstone isn't listed."""
    await vault.store_key(**sample_gold_key)
    await vault.burn_key("gold-1")
    assert await vault.get_all_active_ids() == []


async def test_get_all_active_ids_pages_through_many_keys(vault: AsyncSecureVault) -> None:
    """More keys than a SCAN page holds are all listed, each once."""
    ids = [f"key {number}:*" for number in range(700)]
    for key_id in ids:
        await vault.store_key(key_id, "BRONZE", b"b", b"i", b"t")
    found = await vault.get_all_active_ids()
    assert sorted(found) == sorted(ids)


async def test_get_all_active_ids_passes_over_what_is_not_ours(
    vault: AsyncSecureVault, vault_client: Redis, sample_gold_key: SampleKey
) -> None:
    """A row of another type, or a name that no id is encoded as, stops nobody."""
    await vault.store_key(**sample_gold_key)
    await vault_client.set("vault:v1:key:odd", "x")
    await vault_client.set(b"vault:v1:key:\xff", "x")
    await vault_client.set("vault:v1:key:a:b", "x")
    assert await vault.get_all_active_ids() == ["gold-1"]


# Purge -------------------------------------------------------------------------------------


async def test_purge_expired_removes_old_keys(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock, sample_gold_key: SampleKey
) -> None:
    """A key that was created 31 days ago is deleted."""
    await vault.store_key(**sample_gold_key)
    await vault_client.hset("vault:v1:key:gold-1", "created_at", str(clock.now - 31 * DAY_MS))
    assert await vault.purge_expired() == 1
    assert not await vault.exists("gold-1")


async def test_purge_expired_keeps_recent_keys(
    vault: AsyncSecureVault, clock: Clock, sample_gold_key: SampleKey
) -> None:
    """A key of exactly the age stays, and so does a burned one's tombstone."""
    await vault.store_key(**sample_gold_key)
    await vault.store_key(**sample_key("burned", "GOLD"))
    await vault.burn_key("burned")
    clock.advance(days=30)
    assert await vault.purge_expired() == 0
    clock.advance(ms=1)
    assert await vault.purge_expired(31) == 0
    assert await vault.exists("gold-1")
    assert await vault.exists("burned")
    assert await vault.purge_expired() == 1


async def test_purge_updates_stats(vault: AsyncSecureVault, clock: Clock) -> None:
    """Purged keys leave the counters as expired."""
    for number in range(3):
        await vault.store_key(**sample_key(f"old-{number}", "GOLD"))
    clock.advance(days=31)
    await vault.store_key(**sample_key("new", "SILVER"))
    assert await vault.purge_expired() == 3
    assert await vault.get_stats() == VaultStats(0, 1, 0, 0, 3)


async def test_purge_leaves_malformed_rows(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock, sample_gold_key: SampleKey
) -> None:
    """A row that can't be read is kept, and the others are purged."""
    await vault.store_key(**sample_gold_key)
    await vault_client.set("vault:v1:key:string", "x")
    await vault_client.hset("vault:v1:key:no-date", mapping={"status": "ACTIVE"})
    clock.advance(days=31)
    assert await vault.purge_expired() == 1
    assert await vault.exists("string")
    assert await vault.exists("no-date")


@pytest.mark.parametrize("index", ["vault:v1:spent", "vault:v1:expiry"])
async def test_purge_with_a_malformed_index_deletes_nothing(
    vault: AsyncSecureVault,
    vault_client: Redis,
    clock: Clock,
    sample_gold_key: SampleKey,
    index: str,
) -> None:
    """It isn't the rows that are malformed: whoever asks has to hear that none can be purged."""
    await vault.store_key(**sample_gold_key)
    score = await vault_client.zscore("vault:v1:expiry", "gold-1")
    await vault_client.delete(index)
    await vault_client.set(index, "x")
    clock.advance(days=31)
    with pytest.raises(CorruptEntryError):
        await vault.purge_expired()
    assert await vault.exists("gold-1")
    await vault_client.delete(index)
    await vault_client.zadd("vault:v1:expiry", {"gold-1": cast("float", score)})
    assert await vault.purge_expired() == 1


# Stats -------------------------------------------------------------------------------------


async def test_get_stats_empty(vault: AsyncSecureVault) -> None:
    """All counters begin at zero."""
    assert await vault.get_stats() == VaultStats(0, 0, 0, 0, 0)


async def test_get_stats_after_operations(
    vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """The counters tell what happened."""
    await vault.store_key(**sample_gold_key)
    await vault.store_key(**sample_key("b", "BRONZE"))
    await vault.burn_key("gold-1")
    assert await vault.get_stats() == VaultStats(0, 0, 1, 1, 0)


async def test_keys_that_the_server_expired_leave_the_counters(
    vault: AsyncSecureVault, vault_client: Redis
) -> None:
    """Counters equal a recount though rows vanish by themselves, tier by tier."""
    for tier in ("GOLD", "SILVER", "BRONZE"):
        await vault.store_key(**sample_key(f"gone-{tier}", tier))
        await vault.store_key(**sample_key(f"here-{tier}", tier))
        await vault_client.delete(f"vault:v1:key:gone-{tier}")
    # Wherever they are in the index: what is there hides nothing.
    assert await vault.get_stats() == VaultStats(1, 1, 1, 0, 3)
    for tier in ("GOLD", "SILVER", "BRONZE"):
        await vault_client.delete(f"vault:v1:key:here-{tier}")
    assert await vault.get_stats() == VaultStats(0, 0, 0, 0, 6)


async def test_purge_counts_what_the_server_expired(
    vault: AsyncSecureVault, vault_client: Redis
) -> None:
    """More expired keys than one script call takes off are all counted."""
    for number in range(1100):
        await vault.store_key(f"k{number}", "GOLD", b"b", b"i", b"t")
    await vault_client.delete(*(f"vault:v1:key:k{number}" for number in range(1100)))
    assert await vault.purge_expired() == 1100
    assert await vault.get_stats() == VaultStats(0, 0, 0, 0, 1100)


async def test_a_clock_that_was_set_back_hides_no_expired_key(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock
) -> None:
    """The server expires keys in the order in which they were stored, whatever a clock says."""
    await vault.store_key(**sample_key("gone", "GOLD"))
    clock.advance(days=-31)
    await vault.store_key(**sample_key("here", "SILVER"))
    await vault_client.delete("vault:v1:key:gone")
    assert await vault.get_stats() == VaultStats(0, 1, 0, 0, 1)


@pytest.mark.parametrize("tier", ["GOLD", "SILVER"])
async def test_an_id_that_is_stored_again_after_its_key_expired_is_counted_once(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock, tier: CoinCategory
) -> None:
    """What the server lost leaves the counters, though nobody has looked at them meanwhile."""
    await vault.store_key(**sample_key("k", "GOLD"))
    entry = await vault.fetch_key("k")
    assert entry is not None
    await vault_client.delete("vault:v1:key:k")
    clock.advance(days=1)
    back = replace(entry, coin_category=tier)
    assert await vault.restore_keys([back]) == [True]
    assert await vault.count_active() == {"GOLD": 0, "SILVER": 0, "BRONZE": 0, tier: 1}
    assert (await vault.get_stats()).total_expired == 1


# Malformed rows ----------------------------------------------------------------------------

FIELDS = (
    "coin_category",
    "encrypted_blob",
    "encryption_iv",
    "auth_tag",
    "status",
    "created_at",
    "coin_version",
)


@pytest.mark.parametrize("field", FIELDS)
async def test_fetch_with_a_missing_field_raises(
    vault: AsyncSecureVault, vault_client: Redis, sample_gold_key: SampleKey, field: str
) -> None:
    """A row that lacks a field is an error that names it, and stays."""
    await vault.store_key(**sample_gold_key)
    await vault_client.hdel("vault:v1:key:gold-1", field)
    with pytest.raises(CorruptEntryError, match=field):
        await vault.fetch_key("gold-1")
    assert await vault.exists("gold-1")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("coin_category", b"TIN"),
        ("status", b"LOST"),
        ("created_at", b"yesterday"),
        ("created_at", b"-1"),
        ("coin_version", b"\xff"),
    ],
)
async def test_fetch_with_a_malformed_field_raises(
    vault: AsyncSecureVault,
    vault_client: Redis,
    sample_gold_key: SampleKey,
    field: str,
    value: bytes,
) -> None:
    """A field that makes no sense is an error that names it."""
    await vault.store_key(**sample_gold_key)
    await vault_client.hset("vault:v1:key:gold-1", field, value)
    with pytest.raises(CorruptEntryError, match=field):
        await vault.fetch_key("gold-1")


async def test_a_row_of_the_wrong_type_raises(
    vault: AsyncSecureVault, vault_client: Redis, sample_gold_key: SampleKey
) -> None:
    """A string where a hash should be is an error for readers and writers, and stays."""
    await vault_client.set("vault:v1:key:gold-1", "x")
    with pytest.raises(CorruptEntryError):
        await vault.fetch_key("gold-1")
    with pytest.raises(CorruptEntryError):
        await vault.burn_key("gold-1")
    with pytest.raises(KeyAlreadyExistsError):
        await vault.store_key(**sample_gold_key)
    assert await vault_client.get("vault:v1:key:gold-1") == b"x"


async def test_burn_of_a_malformed_row_raises(
    vault: AsyncSecureVault, vault_client: Redis, sample_gold_key: SampleKey
) -> None:
    """A row without a tier isn't burned: nobody knows which counter it is in."""
    await vault.store_key(**sample_gold_key)
    await vault_client.hdel("vault:v1:key:gold-1", "coin_category")
    with pytest.raises(CorruptEntryError):
        await vault.burn_key("gold-1")
    assert await vault_client.hget("vault:v1:key:gold-1", "status") == b"ACTIVE"


@pytest.mark.parametrize("stats", ["wrong type", "not a number"])
async def test_malformed_counters_stop_every_write_before_it_begins(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock, stats: str
) -> None:
    """Counters that can't be kept are found before anything is written."""
    await vault.store_key(**sample_key("old", "GOLD"))
    await vault_client.delete("vault:v1:stats")
    if stats == "wrong type":
        await vault_client.set("vault:v1:stats", "x")
    else:
        await vault_client.hset("vault:v1:stats", "active_gold", "many")
    before = await vault_client.hgetall("vault:v1:key:old")
    with pytest.raises(CorruptEntryError):
        await vault.store_key(**sample_key("new", "GOLD"))
    with pytest.raises(CorruptEntryError):
        await vault.burn_key("old")
    with pytest.raises(CorruptEntryError):
        await vault.get_stats()
    with pytest.raises(CorruptEntryError):
        await vault.purge_expired()
    assert not await vault.exists("new")
    assert await vault_client.hgetall("vault:v1:key:old") == before
