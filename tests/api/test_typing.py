"""Types as callers see them: checked by mypy and pyright with the whole tree, and run here."""

from collections.abc import Callable, Iterator, Mapping
from typing import assert_type

import fakeredis
import pytest
import redis
import redis.asyncio

from aqm_db import (
    AsyncClientDatabase,
    AsyncGarbageCollector,
    AsyncMinter,
    AsyncReplenisher,
    AsyncSecureVault,
    AsyncSmartInventory,
    AsyncStorageReporter,
    GarbageCollector,
    SecureVault,
    SmartInventory,
    StorageReporter,
    coins,
    connect,
    sync,
)
from aqm_db.doctor import Diagnosis
from aqm_db.errors import AQMDatabaseError, InvalidArgumentError
from aqm_db.integrity import IntegrityReport
from aqm_db.minter import FreshCoin, PublicHalf
from aqm_db.replenisher import RefusedCoin, Replenished, ReplenishReport
from aqm_db.types import (
    CoinCategory,
    ContactMeta,
    Dashboard,
    GCResult,
    HealthStatus,
    InventoryEntry,
    InventorySummary,
    NewCoin,
    NewKey,
    StorageReport,
    VaultEntry,
    VaultStats,
)
from tests.support.samples import BOB

COIN = NewCoin(BOB, "c2", "SILVER", b"public", b"signature")
KEY = NewKey("k2", "GOLD", b"blob", b"iv", b"tag")


@pytest.mark.asyncio
async def test_asynchronous_vault() -> None:
    """Every method of the vault."""
    async with connect("memory://") as db:
        assert_type(db, AsyncClientDatabase)
        vault = assert_type(db.vault, AsyncSecureVault)
        assert_type(await vault.store_key("k", "GOLD", b"blob", b"iv", b"tag"), bool)
        assert_type(await vault.store_keys([KEY]), list[bool | AQMDatabaseError])
        assert_type(await vault.fetch_key("k"), VaultEntry | None)
        assert_type(await vault.exists("k"), bool)
        async with vault.use_key("k2") as entry:
            assert_type(entry, VaultEntry)
            assert_type(entry.coin_category, CoinCategory)
        assert_type(await vault.burn_key("k"), bool)
        assert_type(await vault.count_active(), dict[str, int])
        assert_type(await vault.count_active("GOLD"), int)
        assert_type(await vault.get_all_active_ids(), list[str])
        assert_type(await vault.purge_expired(), int)
        assert_type(await vault.get_stats(), VaultStats)


@pytest.mark.asyncio
async def test_what_runs_in_the_background() -> None:
    """The replenisher and the minter, which have no synchronous face."""

    async def source(contact_id: str, tier: CoinCategory, count: int) -> list[NewCoin]:
        return [NewCoin(contact_id, f"{tier}{n}", tier, b"p", b"s") for n in range(count)]

    async with connect("memory://", budget_bytes=50_000) as db:
        replenisher = AsyncReplenisher(db.inventory, source, low_water={"GOLD": 2})
        report = assert_type(await replenisher.replenish(), ReplenishReport)
        assert_type(report.refused, tuple[RefusedCoin, ...])
        assert_type(replenisher.take_unreported(), tuple[Replenished, ...])
        async with replenisher.running(every=60):
            pass
        minter = AsyncMinter(db.vault, lambda _: FreshCoin(KEY, b"p", b"s"), targets={"GOLD": 1})
        assert_type(await minter.top_up(), dict[str, int])
        [half] = assert_type(await minter.pending_upload(), list[PublicHalf])
        assert_type(await minter.mark_published([half.key_id]), int)


def test_synchronous_vault() -> None:
    """The same, without await."""
    with sync.connect("memory://") as db:
        assert_type(db, sync.ClientDatabase)
        vault = assert_type(db.vault, SecureVault)
        assert_type(vault.store_key("k", "GOLD", b"blob", b"iv", b"tag"), bool)
        assert_type(vault.store_keys([KEY]), list[bool | AQMDatabaseError])
        assert_type(vault.fetch_key("k"), VaultEntry | None)
        assert_type(vault.exists("k"), bool)
        with vault.use_key("k2") as entry:
            assert_type(entry, VaultEntry)
            assert_type(entry.coin_category, CoinCategory)
        assert_type(vault.burn_key("k"), bool)
        assert_type(vault.count_active(), dict[str, int])
        assert_type(vault.count_active("GOLD"), int)
        assert_type(vault.get_all_active_ids(), list[str])
        assert_type(vault.purge_expired(), int)
        assert_type(vault.get_stats(), VaultStats)


@pytest.mark.asyncio
async def test_asynchronous_inventory() -> None:
    """Every method of the inventory."""
    async with connect("memory://") as db:
        inventory = assert_type(db.inventory, AsyncSmartInventory)
        assert_type(await inventory.register_contact(BOB, "MATE"), bool)
        assert_type(await inventory.set_contact_priority(BOB, "BESTIE"), bool)
        assert_type(await inventory.get_contact_meta(BOB), ContactMeta | None)
        assert_type(await inventory.store_key(BOB, "c", "SILVER", b"public", b"signature"), bool)
        assert_type(await inventory.store_keys([COIN]), list[bool | AQMDatabaseError])
        assert_type(await inventory.get_inventory(), dict[str, InventorySummary])
        assert_type(await inventory.get_inventory(BOB), InventorySummary)
        assert_type(await inventory.has_keys_for(BOB), bool)
        assert_type(await inventory.get_available_tiers(BOB), list[str])
        coin = assert_type(await inventory.select_coin(BOB, "GOLD"), InventoryEntry | None)
        assert coin is not None
        assert_type(await inventory.release_coin(coin), bool)
        assert_type(
            await inventory.select_coins([BOB], "GOLD"),
            dict[str, InventoryEntry | AQMDatabaseError | None],
        )
        assert_type(await inventory.consume_key(BOB, "c2"), bool)
        assert_type(await inventory.count_stale(), dict[str, dict[str, int]])
        assert [assert_type(page, list[str]) async for page in inventory.contact_pages()] == [[BOB]]
        assert_type(await inventory.forget_contact(BOB), int)
        assert_type(inventory.clock, Callable[[], int] | None)
        assert_type(inventory.budget_caps, Mapping[str, Mapping[str, int]])


def test_synchronous_inventory() -> None:
    """The same, without await."""
    with sync.connect("memory://") as db:
        inventory = assert_type(db.inventory, SmartInventory)
        assert_type(inventory.register_contact(BOB, "MATE"), bool)
        assert_type(inventory.set_contact_priority(BOB, "BESTIE"), bool)
        assert_type(inventory.get_contact_meta(BOB), ContactMeta | None)
        assert_type(inventory.store_key(BOB, "c", "SILVER", b"public", b"signature"), bool)
        assert_type(inventory.store_keys([COIN]), list[bool | AQMDatabaseError])
        assert_type(inventory.get_inventory(), dict[str, InventorySummary])
        assert_type(inventory.get_inventory(BOB), InventorySummary)
        assert_type(inventory.has_keys_for(BOB), bool)
        assert_type(inventory.get_available_tiers(BOB), list[str])
        coin = assert_type(inventory.select_coin(BOB, "GOLD"), InventoryEntry | None)
        assert coin is not None
        assert_type(inventory.release_coin(coin), bool)
        assert_type(
            inventory.select_coins([BOB], "GOLD"),
            dict[str, InventoryEntry | AQMDatabaseError | None],
        )
        assert_type(inventory.consume_key(BOB, "c2"), bool)
        assert_type(inventory.count_stale(), dict[str, dict[str, int]])
        assert list(assert_type(inventory.contact_pages(), Iterator[list[str]])) == [[BOB]]
        assert_type(inventory.forget_contact(BOB), int)
        assert_type(inventory.clock, Callable[[], int] | None)
        assert_type(inventory.budget_caps, Mapping[str, Mapping[str, int]])
        assert_type(inventory.budget_bytes, int)
        assert_type(inventory.keys.of(BOB).meta, str)


@pytest.mark.asyncio
async def test_asynchronous_rest() -> None:
    """The garbage collector, the reporter and health; a database can be awaited, too."""
    db = assert_type(await connect("memory://"), AsyncClientDatabase)
    gc = assert_type(db.gc, AsyncGarbageCollector)
    assert_type(await gc.garbage_collect(30), GCResult)
    assert_type(await gc.dry_run(), GCResult)
    reporter = assert_type(db.reporter, AsyncStorageReporter)
    assert_type(await reporter.get_storage_usage(), StorageReport)
    assert_type(await reporter.get_vault_report(), VaultStats)
    assert_type(await reporter.get_replenish_needs(), dict[str, dict[str, int]])
    assert_type(await reporter.get_full_dashboard(), Dashboard)
    assert_type(await db.health(), HealthStatus)
    assert_type(await db.doctor(), Diagnosis)
    assert_type(await db.check(), IntegrityReport)
    await db.aclose()


def test_synchronous_rest() -> None:
    """The same, without await."""
    db = assert_type(sync.connect("memory://"), sync.ClientDatabase)
    gc = assert_type(db.gc, GarbageCollector)
    assert_type(gc.garbage_collect(30), GCResult)
    assert_type(gc.dry_run(), GCResult)
    assert db.gc is gc
    assert_type(StorageReporter(db.vault, db.inventory), StorageReporter)
    reporter = assert_type(db.reporter, StorageReporter)
    assert_type(reporter.get_storage_usage(), StorageReport)
    assert_type(reporter.get_vault_report(), VaultStats)
    assert_type(reporter.get_replenish_needs(), dict[str, dict[str, int]])
    assert_type(reporter.get_full_dashboard(), Dashboard)
    assert_type(db.health(), HealthStatus)
    assert_type(db.doctor(), Diagnosis)
    assert_type(db.check(repair=True), IntegrityReport)
    db.close()


@pytest.mark.asyncio
async def test_tiers_and_priorities_that_are_any_text() -> None:
    """The specification writes ``str``: what a program read somewhere goes in as it is."""
    tiers: list[str] = ["GOLD", "SILVER", "BRONZE"]
    priorities: list[str] = ["MATE", "BESTIE"]
    async with connect("memory://") as db:
        await db.inventory.register_contact(BOB, priorities[0])
        await db.inventory.set_contact_priority(BOB, priorities[1])
        for tier in tiers:
            await db.vault.store_key(f"1 {tier}", tier, b"blob", b"iv", b"tag")
            await db.vault.store_keys([NewKey(f"2 {tier}", tier, b"blob", b"iv", b"tag")])
            assert await db.vault.count_active(tier) == 2
            assert len(await db.vault.get_all_active_ids(tier)) == 2
            await db.inventory.store_key(BOB, f"1 {tier}", tier, b"public", b"signature")
            await db.inventory.store_keys([NewCoin(BOB, f"2 {tier}", tier, b"p", b"s")])
        counts: dict[str, int] = await db.vault.count_active()
        stale: dict[str, dict[str, int]] = await db.inventory.count_stale(30)
        left: list[str] = await db.inventory.get_available_tiers(BOB)
        assert (counts, stale, left) == (
            {"GOLD": 2, "SILVER": 2, "BRONZE": 2},
            {BOB: {"GOLD": 2, "SILVER": 2, "BRONZE": 1}},
            tiers,
        )
        for tier in left:
            assert await db.inventory.select_coin(BOB, tier) is not None
            await db.inventory.select_coins([BOB], tier)
        needs: dict[str, dict[str, int]] = await db.reporter.get_replenish_needs()
        assert needs == {BOB: {"GOLD": 5, "SILVER": 4, "BRONZE": 1}}


@pytest.mark.asyncio
async def test_tiers_of_the_users_own_code() -> None:
    """A function of the user's may take a tier as any text, or as one of three."""

    async def source(contact_id: str, tier: str, count: int) -> list[NewCoin]:
        return [NewCoin(contact_id, f"{tier}{n}", tier, b"p", b"s") for n in range(count)]

    def mint(tier: str) -> FreshCoin:
        minted = coins.mint(identity, f"minted {tier}", tier)
        public, version = minted.public, minted.public.coin_version
        key = NewKey(public.key_id, public.coin_category, b"blob", b"iv", b"tag", version)
        return FreshCoin(key, public.public_key, public.signature)

    identity = coins.Identity.generate()
    marks: dict[str, int] = {"GOLD": 1, "SILVER": 0, "BRONZE": 0}
    literal_marks: dict[CoinCategory, int] = {"GOLD": 1}
    async with connect("memory://") as db:
        await db.inventory.register_contact(BOB, "BESTIE")
        report = await AsyncReplenisher(db.inventory, source, low_water=marks).replenish()
        assert report.stored == 5
        AsyncReplenisher(db.inventory, source, low_water=literal_marks)
        stored: dict[str, int] = await AsyncMinter(db.vault, mint, targets=marks).top_up()
        assert stored == marks
        AsyncMinter(db.vault, mint, targets=literal_marks)


def test_tiers_of_coins() -> None:
    """The same for keys and signatures."""
    identity, vault_key = coins.Identity.generate(), bytes(32)
    tiers: list[str] = ["GOLD", "SILVER", "BRONZE"]
    for tier in tiers:
        minted = coins.mint(identity, "k", tier)
        version, key, signature = (
            minted.public.coin_version,
            minted.public.public_key,
            minted.public.signature,
        )
        coins.verify(coins.PublicCoin("k", tier, version, key, signature), identity.public)
        coins.seal(
            minted.private_key,
            vault_key,
            owner="bob",
            key_id="k",
            coin_category=tier,
            coin_version=version,
        )
        found = coins.encapsulate(key, tier)
        secret = coins.decapsulate(minted.private_key, tier, found.ciphertext)
        assert secret == found.shared_secret


def test_wrong_types_are_errors() -> None:
    """An ignored error that were none would be an error itself, for mypy."""
    with pytest.raises(TypeError):
        SecureVault(redis.asyncio.Redis())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError):
        AsyncSecureVault(redis.Redis())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    inventory = SmartInventory(fakeredis.FakeRedis())
    with pytest.raises(InvalidArgumentError):
        inventory.register_contact(BOB, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidArgumentError):
        inventory.select_coin(BOB, None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError):
        inventory.store_key(BOB, "k", "GOLD", b"p", b"s", 5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
