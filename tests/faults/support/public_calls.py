"""Every public method, as a call on one furnished database."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from aqm_db import (
    AsyncClientDatabase,
    AsyncGarbageCollector,
    AsyncSecureVault,
    AsyncSmartInventory,
    AsyncStorageReporter,
)
from aqm_db.types import CoinCategory, InventoryEntry, NewCoin, NewKey, VaultEntry
from tests.faults.support.tried_calls import BLOB, CAPS, HALVES
from tests.support.faces import ASYNC, Face
from tests.support.samples import BOB, Clock

CAROL = "carol"
"""Another contact, who has the same coins as Bob."""


@dataclass(frozen=True)
class Objects:
    """Everything that has methods, over one database.

    Attributes:
        vault: private halves.
        inventory: public halves.
        gc: the inventory's.
        reporter: of both.
        db: all of them together.
        entry: a coin of Bob's that was selected, once :func:`furnish` has run.
    """

    vault: AsyncSecureVault
    inventory: AsyncSmartInventory
    gc: AsyncGarbageCollector
    reporter: AsyncStorageReporter
    db: AsyncClientDatabase
    entry: InventoryEntry | None = None


def objects_over(
    client: Any,
    face: Face = ASYNC,
    *,
    clock: Callable[[], int] | None = None,
    owner: str | None = None,
    entry: InventoryEntry | None = None,
    name: str = "first",
    confirm_fsync: bool = False,
) -> Objects:
    """All objects, in one database, at a time that stands still, and with ids that are numbers.

    Args:
        client: a client of the face's kind.
        face: whose objects.
        clock: another time.
        owner: whose data.
        entry: what ``select_coin`` returned before.
        name: what the ids of their requests begin with.
        confirm_fsync: whether each change must be on the server's disk.
    """
    numbers = count()
    options: dict[str, Any] = {
        "clock": clock or Clock(),
        "owner": owner,
        "confirm_fsync": confirm_fsync,
        "request_ids": lambda: f"{name}-{next(numbers)}",
    }
    vault = face.vault(client, **options)
    inventory = face.inventory(client, budget_caps=CAPS, **options)
    gc = face.gc(inventory, client)
    db = face.database(client, client, budget_caps=CAPS, **options)
    return Objects(vault, inventory, gc, face.reporter(vault, inventory), db, entry)


async def furnish(objects: Objects) -> InventoryEntry:
    """Stores keys and coins of every tier and state; returns a coin of Bob's that was selected."""
    tiers: tuple[CoinCategory, ...] = ("GOLD", "SILVER", "BRONZE")
    vault, inventory = objects.vault, objects.inventory
    for key_id, tier in zip(("k1", "k2", "k3"), tiers, strict=True):
        await vault.store_key(key_id, tier, BLOB, b"nonce", b"tag")
    await vault.store_key("k4", "GOLD", BLOB, b"nonce", b"tag")
    await vault.burn_key("k4")
    # Nothing here came without its indexes: nobody has to look for it.
    await vault.get_all_active_ids()
    await inventory.get_inventory()
    entries: list[InventoryEntry | None] = []
    for contact_id in (BOB, CAROL):
        await inventory.register_contact(contact_id, "BESTIE", contact_id.title())
        for tier in tiers:
            for key_id in ("1", "2", "3"):
                await inventory.store_key(contact_id, f"{tier[0]}{key_id}", tier, *HALVES)
        entries.append(await inventory.select_coin(contact_id, "BRONZE"))
    assert entries[0] is not None
    return entries[0]


Call = Callable[[Objects], Awaitable[Any]]


async def _used(objects: Objects) -> None:
    async with objects.vault.use_key("k1"):
        pass


async def _pages(objects: Objects) -> list[str]:
    return [contact_id async for page in objects.inventory.contact_pages() for contact_id in page]


def _entry(key_id: str) -> VaultEntry:
    stored = Clock()()
    return VaultEntry(key_id, "GOLD", BLOB, b"nonce", b"tag", "ACTIVE", stored, "kyber768_v1")


def _released(objects: Objects) -> Awaitable[bool]:
    assert objects.entry is not None
    return objects.inventory.release_coin(objects.entry)


CALLS: dict[str, Call] = {
    "vault.store_key": lambda o: o.vault.store_key("new", "GOLD", BLOB, b"nonce", b"tag"),
    "vault.store_key(k1)": lambda o: o.vault.store_key("k1", "GOLD", BLOB, b"nonce", b"tag"),
    "vault.store_keys": lambda o: o.vault.store_keys(
        [NewKey(key_id, "GOLD", BLOB, b"nonce", b"tag") for key_id in ("new 1", "k1", "new 2")]
    ),
    "vault.restore_keys": lambda o: o.vault.restore_keys([_entry("new"), _entry("k1")]),
    "vault.burn_key": lambda o: o.vault.burn_key("k1"),
    "vault.fetch_key": lambda o: o.vault.fetch_key("k1"),
    "vault.use_key": _used,
    "vault.exists": lambda o: o.vault.exists("k1"),
    "vault.count_active": lambda o: o.vault.count_active(),
    "vault.count_active(GOLD)": lambda o: o.vault.count_active("GOLD"),
    "vault.get_all_active_ids": lambda o: o.vault.get_all_active_ids(),
    "vault.get_all_active_ids(GOLD)": lambda o: o.vault.get_all_active_ids("GOLD"),
    "vault.purge_expired": lambda o: o.vault.purge_expired(),
    "vault.purge_expired(0)": lambda o: o.vault.purge_expired(0),
    "vault.get_stats": lambda o: o.vault.get_stats(),
    "inventory.register_contact": lambda o: o.inventory.register_contact(BOB, "MATE", "Bob"),
    "inventory.register_contact(new)": lambda o: o.inventory.register_contact("new", "MATE"),
    "inventory.set_contact_priority": lambda o: o.inventory.set_contact_priority(BOB, "STRANGER"),
    "inventory.forget_contact": lambda o: o.inventory.forget_contact(BOB),
    "inventory.get_contact_meta": lambda o: o.inventory.get_contact_meta(BOB),
    "inventory.store_key": lambda o: o.inventory.store_key(BOB, "new", "BRONZE", *HALVES),
    "inventory.store_key(B2)": lambda o: o.inventory.store_key(BOB, "B2", "BRONZE", *HALVES),
    "inventory.store_key(B1)": lambda o: o.inventory.store_key(BOB, "B1", "BRONZE", *HALVES),
    "inventory.store_key(budget)": lambda o: o.inventory.store_key(
        BOB, "new", "BRONZE", *HALVES, enforce_budget=True
    ),
    "inventory.store_keys": lambda o: o.inventory.store_keys(
        [NewCoin(BOB, key_id, "BRONZE", *HALVES) for key_id in ("new 1", "B2", "new 2")]
    ),
    "inventory.select_coin(GOLD)": lambda o: o.inventory.select_coin(BOB, "GOLD"),
    "inventory.select_coin(BRONZE)": lambda o: o.inventory.select_coin(BOB, "BRONZE"),
    "inventory.select_coins": lambda o: o.inventory.select_coins([BOB, "nobody"], "BRONZE"),
    "inventory.release_coin": _released,
    "inventory.consume_key": lambda o: o.inventory.consume_key(BOB, "B2"),
    "inventory.get_inventory": lambda o: o.inventory.get_inventory(BOB),
    "inventory.get_inventory()": lambda o: o.inventory.get_inventory(),
    "inventory.has_keys_for": lambda o: o.inventory.has_keys_for(BOB),
    "inventory.get_available_tiers": lambda o: o.inventory.get_available_tiers(BOB),
    "gc.garbage_collect": lambda o: o.gc.garbage_collect(),
    "gc.garbage_collect(0)": lambda o: o.gc.garbage_collect(0),
    "gc.dry_run": lambda o: o.gc.dry_run(),
    "gc.dry_run(0)": lambda o: o.gc.dry_run(0),
    "gc.collect_single_contact": lambda o: o.gc.collect_single_contact(BOB),
    "inventory.list_coins": lambda o: o.inventory.list_coins(BOB),
    "inventory.count_stale": lambda o: o.inventory.count_stale(0),
    "inventory.contact_pages": _pages,
    "reporter.get_storage_usage": lambda o: o.reporter.get_storage_usage(),
    "reporter.get_vault_report": lambda o: o.reporter.get_vault_report(),
    "reporter.get_replenish_needs": lambda o: o.reporter.get_replenish_needs(),
    "reporter.get_full_dashboard": lambda o: o.reporter.get_full_dashboard(),
    "db.get_maintenance_progress": lambda o: o.db.get_maintenance_progress(),
    "db.health": lambda o: o.db.health(),
    "db.check": lambda o: o.db.check(),
    "db.check(repair)": lambda o: o.db.check(repair=True),
}
"""By a name that begins with the method's: every one that touches the database."""


async def errors_of(call: Awaitable[Any]) -> list[BaseException]:
    """What a call raises, or the errors among the outcomes that a batch returns."""
    try:
        result = await call
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        return [error]
    outcomes = result.values() if isinstance(result, dict) else result
    if not isinstance(result, dict | list):
        return []
    return [each for each in outcomes if isinstance(each, BaseException)]
