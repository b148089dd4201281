"""Backups carry what was used, burned and has expired: an import brings none of it back."""

import hashlib
import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase
from aqm_db.backup import BackupReport, export_backup, import_backup
from aqm_db.errors import (
    AQMDatabaseError,
    CorruptEntryError,
    KeyAlreadyBurnedError,
    KeyAlreadyUsedError,
    KeyExpiredError,
)
from aqm_db.types import VaultStats
from tests.support.samples import BOB, DAY_MS, Clock, halves, sample_key, stock

pytestmark = pytest.mark.asyncio

USED = f"inv:v1:used:{BOB}"
UNTIL = f"inv:v1:used_until:{BOB}"


@pytest.fixture
def db(vault_client: Redis, inventory_client: Redis, clock: Clock) -> AsyncClientDatabase:
    """An empty database."""
    return AsyncClientDatabase(vault_client, inventory_client, clock=clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the backup goes."""
    return tmp_path / "alice.backup"


async def emptied(db: AsyncClientDatabase) -> None:
    """Loses everything."""
    for client in db.resources.clients:
        await client.flushdb()


async def dumped(client: Any) -> dict[bytes, tuple[int, bytes]]:
    """Everything in a client's database, to be put back as it was."""
    return {
        name: (max(await client.pttl(name), 0), await client.dump(name))
        for name in await client.keys()
    }


async def put_back(client: Any, content: dict[bytes, tuple[int, bytes]]) -> None:
    """Restores an older state of a database, as a snapshot of its server does."""
    await client.flushdb()
    for name, (left, value) in content.items():
        await client.restore(name, left, value)


def lines_of(path: Path) -> list[Any]:
    """The header and the records of a file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()[:-1]]


async def keep(db: AsyncClientDatabase, key_id: str, expires_at: int | None = None) -> None:
    """Stores a coin of Bob's."""
    await db.inventory.store_key(BOB, key_id, "GOLD", *halves("GOLD"), expires_at=expires_at)


async def take(db: AsyncClientDatabase) -> str:
    """Takes the coin that is next."""
    entry = await db.inventory.select_coin(BOB, "GOLD")
    assert entry is not None
    return entry.key_id


async def refusals(*calls: Awaitable[object]) -> list[type[AQMDatabaseError] | None]:
    """Which error each call ends with."""
    found: list[type[AQMDatabaseError] | None] = []
    for call in calls:
        try:
            await call
        except AQMDatabaseError as error:
            found.append(type(error))
        else:
            found.append(None)
    return found


async def test_a_used_coin_does_not_come_back_with_a_restored_inventory(
    db: AsyncClientDatabase, inventory_client: Redis, clock: Clock, path: Path
) -> None:
    """Neither from its source, nor from a file; each is remembered as long as before."""
    ends = clock.now + 90 * DAY_MS
    await db.inventory.register_contact(BOB, "BESTIE")
    for key_id in ("short", "long", "released"):
        await keep(db, key_id, ends if key_id == "long" else None)
    assert [await take(db), await take(db)] == ["short", "long"]
    entry = await db.inventory.select_coin(BOB, "GOLD")
    assert entry is not None
    assert await db.inventory.release_coin(entry)
    used_at = clock.now
    assert await export_backup(db, path) == BackupReport(0, 1, 1, 0)
    await emptied(db)
    clock.advance(days=1)
    assert await import_backup(db, path, inventory=True) == BackupReport(0, 1, 1, 0)
    assert await inventory_client.zrange(USED, 0, -1, withscores=True) == [
        (b"long", used_at),
        (b"short", used_at),
    ]
    assert await inventory_client.zrange(UNTIL, 0, -1, withscores=True) == [(b"long", ends)]
    assert await inventory_client.pttl(USED) == await inventory_client.pttl(UNTIL) == -1
    wanted = [KeyAlreadyUsedError, KeyAlreadyUsedError]
    assert await refusals(keep(db, "short"), keep(db, "long", ends)) == wanted
    assert await take(db) == "released"
    clock.advance(days=40)
    assert await refusals(keep(db, "short"), keep(db, "long", ends)) == [None, wanted[1]]


async def test_it_is_learned_before_anything_is_restored(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """A key that was used between two steps of an export is in the file twice, and comes once."""
    await db.inventory.register_contact(BOB, "BESTIE")
    await stock(db.inventory, BOB, "GOLD", "g1", "g2")
    for key_id in ("k1", "k2"):
        await db.vault.store_key(**sample_key(key_id, "GOLD"))
    await export_backup(db, path)
    [_, *before] = lines_of(path)
    assert await take(db) == "g1"
    await db.vault.burn_key("k1")
    later = path.with_suffix(".later")
    await export_backup(db, later)
    header, *after = lines_of(later)
    both = [record for record in after if record["kind"] in ("used", "spent")]
    assert len(both) == 2
    # Whatever stands first in the file.
    seal(path, header, *before, *both)
    await emptied(db)
    clock.advance(days=1)
    assert await import_backup(db, path, inventory=True) == BackupReport(1, 1, 1, 2)
    assert await db.vault.get_all_active_ids() == ["k2"]
    assert [coin.key_id for coin in await db.inventory.list_coins(BOB)] == ["g2"]


def seal(path: Path, *lines: Any) -> None:
    """Writes lines with a checksum that is right."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    seal = json.dumps({"sha256": hashlib.sha256(body).hexdigest()})
    path.write_bytes(body + seal.encode() + b"\n")


async def test_the_memory_of_a_forgotten_contact_is_kept(
    db: AsyncClientDatabase, inventory_client: Redis, clock: Clock, path: Path
) -> None:
    """It comes back with the contact, and ends by itself until then, restored coins or not."""
    ends = clock.now + 90 * DAY_MS
    await db.inventory.register_contact(BOB, "BESTIE")
    await keep(db, "long", ends)
    await keep(db, "short")
    await take(db)
    await take(db)
    await db.inventory.forget_contact(BOB)
    assert await export_backup(db, path) == BackupReport(0, 0, 0, 0)
    await emptied(db)
    clock.advance(days=31)
    await import_backup(db, path)
    assert not await inventory_client.exists(USED)
    assert 58 * DAY_MS < await inventory_client.pttl(UNTIL) <= 59 * DAY_MS
    await db.inventory.register_contact(BOB, "BESTIE")
    assert await refusals(keep(db, "long", ends), keep(db, "short")) == [KeyAlreadyUsedError, None]


async def test_a_burned_key_does_not_come_back_with_a_restored_vault(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """Nor one that expired or was purged; an old file, or a late message, is told why."""
    for key_id in ("burned", "purged", "expired", "left"):
        await db.vault.store_key(**sample_key(key_id, "GOLD"))
    old = path.with_suffix(".old")
    await export_backup(db, old)
    vault: Any = db.resources.clients[0]
    await db.vault.burn_key("burned")
    await vault.hset("vault:v1:key:purged", "created_at", clock.now - 9 * DAY_MS)
    assert await db.vault.purge_expired(8) == 1
    await vault.delete("vault:v1:key:expired")
    assert await export_backup(db, path) == BackupReport(1, 0, 0, 0)
    await emptied(db)
    clock.advance(days=1)
    assert await import_backup(db, path) == BackupReport(1, 0, 0, 0)
    # The server let one go before its time: a file that has it may bring it back.
    assert await import_backup(db, old) == BackupReport(1, 0, 0, 3)
    assert sorted(await db.vault.get_all_active_ids()) == ["expired", "left"]
    assert await refusals(db.vault.burn_key("burned"), db.vault.burn_key("purged")) == [
        KeyAlreadyBurnedError,
        KeyExpiredError,
    ]


async def test_an_import_into_an_older_state_takes_what_was_used_since(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """A server's snapshot brought them back: the coin goes, and the private half is burned."""
    await db.inventory.register_contact(BOB, "BESTIE")
    await stock(db.inventory, BOB, "GOLD", "g1", "g2", "g3")
    for key_id in ("k1", "k2", "k3"):
        await db.vault.store_key(**sample_key(key_id, "GOLD"))
    vault, inventory = (cast("Redis", client) for client in db.resources.clients)
    before = await dumped(vault), await dumped(inventory)
    assert [await take(db), await take(db)] == ["g1", "g2"]
    await db.vault.burn_key("k1")
    clock.advance(days=2)
    await export_backup(db, path)
    await put_back(vault, before[0])
    await put_back(inventory, before[1])
    # One is used here, too, and released: this inventory knows better.
    assert await take(db) == "g1"
    entry = await db.inventory.select_coin(BOB, "GOLD")
    assert entry is not None
    assert entry.key_id == "g2"
    assert await db.inventory.release_coin(entry)
    for _ in range(2):
        assert await import_backup(db, path) == BackupReport(0, 0, 0, 2)
        assert [coin.key_id for coin in await db.inventory.list_coins(BOB)] == ["g2", "g3"]
        assert sorted(await db.vault.get_all_active_ids()) == ["k2", "k3"]
        assert await db.vault.get_stats() == VaultStats(2, 0, 0, 1, 0)
    assert await refusals(db.vault.burn_key("k1")) == [KeyAlreadyBurnedError]
    assert (await db.check()).clean


async def test_what_is_known_is_neither_shortened_nor_called_less(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """An older file is merged into what the database knows better, in any order."""
    ends = clock.now + 90 * DAY_MS
    await db.inventory.register_contact(BOB, "BESTIE")
    await keep(db, "g", ends)
    await db.vault.store_key(**sample_key("k", "GOLD"))
    await take(db)
    await db.vault.burn_key("k")
    clients = [cast("Redis", client) for client in db.resources.clients]
    await export_backup(db, path)
    known = [await client.zrange(name, 0, -1, withscores=True) for client, name in _names(clients)]
    header, *records = lines_of(path)
    older = path.with_suffix(".older")
    spent: dict[str, Any] = {"fate": "gone", "ends": clock.now + DAY_MS}
    used: dict[str, Any] = {"used_at": clock.now - 9, "ends": ends - 9}
    changes = {"spent": spent, "used": used}
    seal(older, header, *({**record, **changes.get(record["kind"], {})} for record in records))
    for files in ((older, path), (path, older)):
        await emptied(db)
        for file in files:
            await import_backup(db, file)
        found = [
            await client.zrange(name, 0, -1, withscores=True) for client, name in _names(clients)
        ]
        assert found == known


def _names(clients: list[Redis]) -> list[tuple[Redis, str]]:
    return [(clients[0], "vault:v1:spent"), (clients[1], USED), (clients[1], UNTIL)]


@pytest.mark.parametrize("version", [1, 2])
async def test_a_file_of_an_earlier_version_is_read(
    db: AsyncClientDatabase, clock: Clock, path: Path, version: int
) -> None:
    """It doesn't say how much it should hold; one of version 1 says nothing of what was used."""
    await db.vault.store_key(**sample_key("k", "GOLD"))
    await export_backup(db, path)
    header, *records = lines_of(path)
    assert header.pop("holds") == {"private": 1, "contact": 0, "public": 0, "spent": 0, "used": 0}
    assert header["version"] == 3
    seal(path, {**header, "version": version}, *records)
    await emptied(db)
    clock.advance(days=1)
    assert await import_backup(db, path) == BackupReport(1, 0, 0, 0)


async def test_what_was_forgotten_is_not_remembered_anew(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """An import of an old file adds nothing that would be forgotten at once."""
    await db.inventory.register_contact(BOB, "BESTIE")
    await keep(db, "g", clock.now + 60 * DAY_MS)
    await db.vault.store_key(**sample_key("k", "GOLD"))
    await take(db)
    await db.vault.burn_key("k")
    await export_backup(db, path)
    await emptied(db)
    clock.advance(days=60, ms=1)
    await import_backup(db, path)
    assert [await client.dbsize() for client in db.resources.clients] == [0, 0]


async def test_what_no_call_has_written_is_passed_over(
    db: AsyncClientDatabase, vault_client: Redis, inventory_client: Redis, path: Path
) -> None:
    """Names, entries and times that were written by hand keep nobody from a backup."""
    await db.inventory.register_contact(BOB, "BESTIE")
    await stock(db.inventory, BOB, "GOLD", "g")
    await take(db)
    odd: dict[Any, float] = {b"\xff": 1, "x" * 300: 1, "late": float("inf"), "early": -1}
    await inventory_client.zadd(USED, odd)
    await inventory_client.set("inv:v1:used:string", "x")
    await inventory_client.zadd("inv:v1:used:\xff:x", {"k": 1})
    await inventory_client.zadd("inv:v1:used_forever:x", {"k": 1})
    await vault_client.zadd("vault:v1:spent", {**odd, "k": 5.75, "good": 5.5})
    await vault_client.set("vault:v1:stats", "x")
    await export_backup(db, path)
    gone = [record for record in lines_of(path)[1:] if record["kind"] in ("spent", "used")]
    assert gone == [
        {"kind": "spent", "key_id": "good", "fate": "burned", "ends": 5},
        {"kind": "used", "contact_id": BOB, "key_id": "g", "used_at": gone[-1]["used_at"]},
    ]
    assert await refusals(import_backup(db, path)) == [CorruptEntryError]


async def test_many_are_carried(db: AsyncClientDatabase, clock: Clock, path: Path) -> None:
    """More than one call takes; each of several contacts has its own."""
    many = {f"k{number}": clock.now for number in range(1100)}
    vault, inventory = (cast("Redis", client) for client in db.resources.clients)
    await vault.zadd("vault:v1:spent", {key: float(at) for key, at in many.items()})
    for name in (USED, "inv:v1:used:carol"):
        await inventory.zadd(name, {key: float(at) for key, at in many.items()})
    await export_backup(db, path)
    await emptied(db)
    await import_backup(db, path)
    assert await vault.zcard("vault:v1:spent") == 1100
    assert await inventory.zcard(USED) == await inventory.zcard("inv:v1:used:carol") == 1100


async def test_a_coin_that_was_used_after_the_memory_of_its_first_use_goes(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """Of a use that is 30 days old only the coin's end is known: enough for a stale snapshot."""
    ends = clock.now + 90 * DAY_MS
    await db.inventory.register_contact(BOB, "BESTIE")
    await keep(db, "long", ends)
    inventory = cast("Redis", db.resources.clients[1])
    before = await dumped(inventory)
    await take(db)
    clock.advance(days=31)
    await keep(db, "other")
    await export_backup(db, path)
    await put_back(inventory, before)
    await import_backup(db, path)
    assert await db.inventory.list_coins(BOB) == []
    assert await refusals(keep(db, "long", ends)) == [KeyAlreadyUsedError]
