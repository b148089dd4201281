"""Backups: whole or refused, private, and no used key comes back to life."""

import errno
import hashlib
import json
import os
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncClientDatabase, AsyncSecureVault, AsyncSmartInventory, connect
from aqm_db._operations.memory import SpentHalf
from aqm_db.backup import BackupReport, export_backup, import_backup
from aqm_db.errors import (
    InvalidArgumentError,
    InventoryUnavailableError,
    KeyAlreadyExistsError,
    NotWritableError,
)
from aqm_db.types import ContactMeta, InventoryEntry, NewCoin, NewKey, VaultEntry
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.samples import BOB, DAY_MS, Clock, SampleKey, halves, sample_key, snapshot, stock

pytestmark = pytest.mark.asyncio


@pytest.fixture
def db(vault_client: Redis, inventory_client: Redis, clock: Clock) -> AsyncClientDatabase:
    """An empty database."""
    return AsyncClientDatabase(vault_client, inventory_client, clock=clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the backup goes."""
    return tmp_path / "alice.backup"


async def filled(db: AsyncClientDatabase, clock: Clock) -> dict[str, SampleKey]:
    """Two private halves, one burned, and Bob with two coins."""
    keys = {key_id: sample_key(key_id, "SILVER") for key_id in ("k1", "k2", "burned")}
    for key in keys.values():
        await db.vault.store_key(**key)
        clock.advance(days=1)
    await db.vault.burn_key("burned")
    await db.inventory.register_contact(BOB, "BESTIE", "Bob")
    await stock(db.inventory, BOB, "GOLD", "g1")
    await db.inventory.store_key(
        BOB, "s1", "SILVER", *halves("SILVER"), expires_at=clock() + 9 * DAY_MS
    )
    return keys


async def emptied(db: AsyncClientDatabase) -> None:
    """Loses everything."""
    for client in db.resources.clients:
        await client.flushdb()


def put(path: Path, content: bytes) -> None:
    """Replaces a file."""
    path.write_bytes(content)


def content_of(path: Path) -> bytes:
    """What is in a file."""
    return path.read_bytes()


def mode(path: Path) -> int:
    """Who may do what with a file."""
    return path.stat().st_mode & 0o777


def files(directory: Path) -> list[str]:
    """The names in a directory."""
    return [path.name for path in directory.iterdir()]


async def test_a_vault_is_restored(db: AsyncClientDatabase, clock: Clock, path: Path) -> None:
    """Each private half is as it was, and as old as it was; the counters count it."""
    keys = await filled(db, clock)
    before = await db.vault.fetch_key("k1")
    assert await export_backup(db, path) == BackupReport(2, 1, 2, 0)
    await emptied(db)
    assert await import_backup(db, path) == BackupReport(2, 0, 0, 0)
    assert await db.vault.fetch_key("k1") == before
    assert before is not None
    assert before.encrypted_blob == keys["k1"]["encrypted_blob"]
    assert await db.vault.count_active("SILVER") == 2
    assert not await db.vault.exists("burned")
    assert await db.inventory.get_contact_meta(BOB) is None
    # The older one expires first, in the index of expiry too.
    client = db.resources.clients[0]
    key = "vault:v1:key:"
    ages = await client.pttl(key + "k2") - await client.pttl(key + "k1")
    assert abs(ages - DAY_MS) < 60_000
    await client.delete(key + "k1")
    assert await db.vault.count_active("SILVER") == 1


async def test_a_restored_key_expires_when_it_would_have(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """Its private half isn't kept longer than it was promised to be."""
    await filled(db, clock)
    await export_backup(db, path)
    await emptied(db)
    clock.advance(days=27)
    assert await import_backup(db, path) == BackupReport(1, 0, 0, 1)
    assert await db.vault.get_all_active_ids() == ["k2"]


async def test_used_keys_are_left_out(db: AsyncClientDatabase, clock: Clock, path: Path) -> None:
    """Those that the program knows of, and those whose tombstone is there still."""
    await filled(db, clock)
    await db.vault.store_key(**sample_key("k3", "BRONZE"))
    await export_backup(db, path)
    await db.vault.burn_key("k1")
    assert await import_backup(db, path, used=["k2"]) == BackupReport(0, 0, 0, 3)
    assert sorted(await db.vault.get_all_active_ids()) == ["k2", "k3"]
    await emptied(db)
    assert await import_backup(db, path, used=["k1", "k2", "other"]) == BackupReport(1, 0, 0, 2)
    assert await db.vault.get_all_active_ids() == ["k3"]


async def test_an_inventory_is_restored_when_told_to(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """Contacts and coins, each coin with the time that it's stale at."""
    await filled(db, clock)
    [gold, silver] = await db.inventory.list_coins(BOB)
    await export_backup(db, path)
    await emptied(db)
    clock.advance(days=1)
    assert await import_backup(db, path, inventory=True) == BackupReport(2, 1, 2, 0)
    meta = await db.inventory.get_contact_meta(BOB)
    assert meta is not None
    assert (meta.priority, meta.display_name) == ("BESTIE", "Bob")
    [restored_gold, restored_silver] = await db.inventory.list_coins(BOB)
    assert restored_gold.public_key == gold.public_key
    assert restored_gold.expires_at == gold.fetched_at + 30 * DAY_MS
    assert restored_silver.expires_at == silver.expires_at


async def test_coins_that_have_expired_are_left_out(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """Those with a time of their own, and then those without."""
    await filled(db, clock)
    await export_backup(db, path)
    for days, left in ((9, ["g1"]), (21, [])):
        clock.advance(days=days)
        await emptied(db)
        report = await import_backup(db, path, inventory=True)
        assert (report.contacts, report.public_halves) == (1, len(left))
        assert [coin.key_id for coin in await db.inventory.list_coins(BOB)] == left


async def test_coins_that_were_used_are_left_out(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """The database remembers them, so that even a restored inventory hands none out twice."""
    await filled(db, clock)
    await export_backup(db, path)
    entry = await db.inventory.select_coin(BOB, "GOLD")
    assert entry is not None
    assert await import_backup(db, path, inventory=True) == BackupReport(0, 1, 0, 4)
    assert [coin.key_id for coin in await db.inventory.list_coins(BOB)] == ["s1"]


async def test_malformed_rows_are_left_out(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """What can't be read doesn't keep the rest from being saved."""
    await filled(db, clock)
    vault_client, inventory_client = db.resources.clients
    await vault_client.hdel("vault:v1:key:k1", "auth_tag")
    await inventory_client.set("inv:v1:meta:carol", "x")
    await inventory_client.hset(f"inv:v1:key:{BOB}:g1", "fetched_at", "x")
    assert await export_backup(db, path) == BackupReport(1, 1, 1, 2)
    await emptied(db)
    assert await import_backup(db, path, inventory=True) == BackupReport(1, 1, 1, 0)


async def test_what_went_away_meanwhile_is_left_out(
    db: AsyncClientDatabase, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk through a database may name what another program has just removed."""

    async def pages() -> AsyncIterator[list[str]]:
        yield ["gone"]

    async def ids() -> list[str]:
        return ["gone"]

    monkeypatch.setattr(db.inventory, "contact_pages", pages)
    monkeypatch.setattr(db.vault, "get_all_active_ids", ids)
    assert await export_backup(db, path) == BackupReport(0, 0, 0, 0)


async def test_a_contact_that_a_walk_comes_by_twice(
    db: AsyncClientDatabase, clock: Clock, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It's in the file once, and so are its coins."""
    await filled(db, clock)

    async def pages() -> AsyncIterator[list[str]]:
        yield [BOB, BOB]
        yield [BOB]

    monkeypatch.setattr(db.inventory, "contact_pages", pages)
    assert await export_backup(db, path) == BackupReport(2, 1, 2, 0)


async def test_the_file_is_private(db: AsyncClientDatabase, clock: Clock, path: Path) -> None:
    """Its owner alone can read it, and nothing is left beside it."""
    await filled(db, clock)
    await export_backup(db, path)
    assert mode(path) == 0o600
    assert files(path.parent) == [path.name]


async def test_a_file_is_never_replaced(
    db: AsyncClientDatabase, clock: Clock, path: Path, tmp_path: Path
) -> None:
    """Nor written where there is no directory."""
    await filled(db, clock)
    put(path, b"precious")
    for wrong in (path, tmp_path / "missing" / "file"):
        with pytest.raises(InvalidArgumentError, match="^path: '.*' can't be used: ") as caught:
            await export_backup(db, wrong)
        assert caught.value.argument == "path"
        assert isinstance(caught.value.__cause__, OSError)
    assert content_of(path) == b"precious"
    assert files(tmp_path) == [path.name]


@pytest.mark.parametrize("code", ["EPERM", "EOPNOTSUPP", "ENOTSUP", "EMLINK", "ENOSYS", "EXDEV"])
async def test_a_file_where_there_are_no_links(
    db: AsyncClientDatabase,
    clock: Clock,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
) -> None:
    """On a memory stick for example: it's whole and private, and replaces none."""
    keys = await filled(db, clock)
    monkeypatch.setattr(os, "link", _refuse(code))
    await export_backup(db, path)
    assert mode(path) == 0o600
    assert files(path.parent) == [path.name]
    content = content_of(path)
    with pytest.raises(InvalidArgumentError, match="^path: '.*' can't be used: File exists"):
        await export_backup(db, path)
    assert content_of(path) == content
    await emptied(db)
    assert (await import_backup(db, path)).private_halves == len(keys) - 1


class _EndedError(BaseException):
    """What ends a program, as far as the writing of a file is concerned."""


async def test_a_name_is_taken_before_it_is_given(
    db: AsyncClientDatabase, clock: Clock, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ends in between leaves an empty file, which isn't taken for a backup."""
    await filled(db, clock)
    found: list[bytes] = []

    def stop(_: Path, target: Path) -> None:
        found.append(content_of(target))
        raise _EndedError

    monkeypatch.setattr(os, "link", _refuse("EPERM"))
    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(_EndedError):
        await export_backup(db, path)
    assert (found, files(path.parent)) == ([b""], [])
    put(path, b"")
    with pytest.raises(InvalidArgumentError, match="is no backup, or was cut off"):
        await import_backup(db, path)


def _refuse(code: str) -> Callable[..., None]:
    def link(*_: object) -> None:
        number = getattr(errno, code)
        raise OSError(number, os.strerror(number))

    return link


async def test_what_is_not_whole_is_refused(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """A file that was cut off anywhere, or altered anywhere, restores nothing."""
    await filled(db, clock)
    await export_backup(db, path)
    content = content_of(path)
    await emptied(db)
    for end in range(0, len(content) - 1, 41):
        put(path, content[:end])
        with pytest.raises(InvalidArgumentError, match=r"^path: (is no backup|was altered)"):
            await import_backup(db, path)
    for place in range(0, len(content) - 70, 53):
        altered = bytearray(content)
        altered[place] ^= 1
        put(path, bytes(altered))
        with pytest.raises(InvalidArgumentError, match="^path: "):
            await import_backup(db, path)
    assert await snapshot(cast("Redis", db.resources.clients[0])) == {}


def sealed(path: Path, *lines: Any) -> None:
    """Writes lines with a checksum that is right."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    seal = json.dumps({"sha256": hashlib.sha256(body).hexdigest()})
    path.write_bytes(body + seal.encode() + b"\n")


HEADER = {"format": "aqm_db backup", "version": 2, "created_at": 0}
PRIVATE = {
    "kind": "private",
    "key_id": "k",
    "coin_category": "GOLD",
    "coin_version": "v",
    "encrypted_blob": "YQ==",
    "encryption_iv": "YQ==",
    "auth_tag": "YQ==",
    "created_at": 0,
}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([{"format": "other"}], "is no backup"),
        (["text"], "is no backup"),
        (
            [{**HEADER, "version": 4}],
            "is a backup of another version than this aqm_db reads: 1, 2, 3",
        ),
        (
            [{"format": "aqm_db backup"}],
            "is a backup of another version than this aqm_db reads: 1, 2, 3",
        ),
        ([{"version": 1}], "is no backup, or was cut off$"),
        ([], "is no backup, or was cut off$"),
    ],
)
async def test_what_is_not_understood_is_refused(
    db: AsyncClientDatabase, path: Path, lines: list[Any], complaint: str
) -> None:
    """The error says what is wrong with the file."""
    sealed(path, *lines)
    with pytest.raises(InvalidArgumentError, match=f"^path: {complaint}"):
        await import_backup(db, path)


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        (5, "it's no object"),
        ({}, "kind is missing"),
        ({"kind": ["private"]}, "kind is no text"),
        ({"kind": "other"}, "kind is none that is known"),
        ({"kind": "private"}, "key_id is missing"),
        ({**PRIVATE, "key_id": ["secret"]}, "key_id is no text"),
        ({**PRIVATE, "key_id": ""}, "key_id: must be 1 to 256 bytes of valid UTF-8"),
        ({**PRIVATE, "created_at": "secret"}, "created_at is no whole number"),
        ({**PRIVATE, "created_at": True}, "created_at is no whole number"),
        ({**PRIVATE, "auth_tag": "secret"}, "auth_tag is no Base64"),
        ({**PRIVATE, "auth_tag": "\u20ac"}, "auth_tag is no Base64"),
        ({"kind": "contact", "contact_id": "secret"}, "priority is missing"),
        ({"kind": "public", "contact_id": "secret", "key_id": None}, "key_id is no text"),
        (
            {"kind": "spent", "key_id": "k", "fate": "secret", "ends": 1},
            "fate is none that is known",
        ),
        (
            {"kind": "spent", "key_id": "", "fate": "gone", "ends": 1},
            "key_id: must be 1 to 256 bytes of valid UTF-8",
        ),
        ({"kind": "spent", "key_id": "k", "fate": "gone", "ends": -1}, "ends: must be 0 to .*"),
        (
            {"kind": "used", "contact_id": "", "key_id": "k"},
            "contact_id: must be 1 to 256 bytes of valid UTF-8",
        ),
        (
            {"kind": "used", "contact_id": "c", "key_id": "k", "used_at": None},
            "used_at is no whole number",
        ),
        (
            {"kind": "used", "contact_id": "c", "key_id": "k", "ends": 10**16},
            "ends: must be 0 to .*",
        ),
    ],
)
async def test_a_record_that_is_not_understood_is_refused(
    path: Path, clock: Clock, record: Any, complaint: str
) -> None:
    """The error names the line and the field, and nothing of what is there; nothing is restored."""
    sealed(path, HEADER, {**PRIVATE, "created_at": clock()}, record)
    wanted = f"^path: holds a record that isn't understood, in line 3: {complaint}$"
    async with connect("memory://", clock=clock) as db:
        with pytest.raises(InvalidArgumentError, match=wanted) as caught:
            await import_backup(db, path)
        assert await db.vault.get_all_active_ids() == []
    assert "secret" not in "".join(traceback.format_exception(caught.value))


async def test_what_was_altered_need_not_be_understood(db: AsyncClientDatabase, path: Path) -> None:
    """The checksum is looked at before what any record says, and after whether each is JSON."""
    sealed(path, HEADER, {"kind": "other"}, {"kind": "another"})
    content = content_of(path)
    put(path, content.replace(b"another", b"brother"))
    with pytest.raises(InvalidArgumentError, match="^path: was altered: its checksum differs$"):
        await import_backup(db, path)
    put(path, content.replace(b'"another"', b"another"))
    with pytest.raises(InvalidArgumentError, match="line 3 is no JSON$"):
        await import_backup(db, path)


async def test_lines_that_end_otherwise(db: AsyncClientDatabase, clock: Clock, path: Path) -> None:
    """A carriage return before a line's end is no part of it, as JSON has it."""
    private = {**PRIVATE, "created_at": clock()}
    body = b"".join(json.dumps(line).encode() + b"\r\n" for line in (HEADER, private))
    seal = json.dumps({"sha256": hashlib.sha256(body).hexdigest()})
    put(path, body + seal.encode())
    assert await import_backup(db, path) == BackupReport(1, 0, 0, 0)


async def test_a_file_that_holds_less_than_it_should_is_refused(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """Of any kind, though its checksum is right; nothing is restored, and it's said."""
    await filled(db, clock)
    await use(db)
    await export_backup(db, path)
    header, *records, _ = map(json.loads, content_of(path).splitlines())
    nouns = {
        "private": "1 of 2 private halves",
        "contact": "0 of 1 contacts",
        "public": "0 of 1 public halves",
        "spent": "0 of 1 private halves that are gone",
        "used": "0 of 1 coins that were used",
    }
    assert header["holds"] == {"private": 2, "contact": 1, "public": 1, "spent": 1, "used": 1}
    await emptied(db)
    for kind, shown in nouns.items():
        left = [record for record in records if record["kind"] != kind]
        kept = [record for record in records if record["kind"] == kind][1:]
        sealed(path, header, *left, *kept)
        with pytest.raises(InvalidArgumentError, match=f"^path: isn't whole: it holds {shown}$"):
            await import_backup(db, path)
    for client in db.resources.clients:
        assert await snapshot(cast("Redis", client)) == {}
    sealed(path, header, *records)
    assert (await import_backup(db, path)).private_halves == 2


@pytest.mark.parametrize(
    ("holds", "complaint"),
    [
        (None, "it's no object"),
        ({"private": 0}, "contact is missing"),
        ({"private": "secret"}, "private is no whole number"),
    ],
)
async def test_a_file_that_does_not_say_how_much_it_should_hold_is_refused(
    db: AsyncClientDatabase, path: Path, holds: Any, complaint: str
) -> None:
    """The error names what is wrong with it, and nothing of what is there."""
    sealed(path, {**HEADER, "version": 3, "holds": holds})
    with pytest.raises(
        InvalidArgumentError, match=f"^path: was altered: in its header, {complaint}$"
    ):
        await import_backup(db, path)


async def use(db: AsyncClientDatabase) -> None:
    """Uses one of Bob's coins."""
    assert await db.inventory.select_coin(BOB, "GOLD") is not None


async def test_what_is_nested_too_deeply_is_refused(db: AsyncClientDatabase, path: Path) -> None:
    """It's no backup, whatever its checksum says; nor is what is no JSON at all."""
    for line, content in ((1, b"[" * 100_000 + b"\n{}\n"), (3, b"{}\n{}\nsecret")):
        put(path, content)
        wanted = f"^path: is no backup, or was cut off: line {line} is no JSON$"
        with pytest.raises(InvalidArgumentError, match=wanted) as caught:
            await import_backup(db, path)
        assert caught.value.__cause__ is None


async def test_contacts_that_can_not_be_registered_are_left_out(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """Neither an id that is none nor what stands in a contact's place keeps the rest out."""
    contacts = [
        {"kind": "contact", "contact_id": contact_id, "priority": "MATE", "display_name": ""}
        for contact_id in ("", "carol", BOB)
    ]
    private = {**PRIVATE, "created_at": clock()}
    sealed(path, HEADER, private, *contacts)
    await db.resources.clients[1].set("inv:v1:meta:carol", "x")
    assert await import_backup(db, path, inventory=True) == BackupReport(1, 1, 0, 2)
    assert list(await db.inventory.get_inventory()) == [BOB]


async def test_a_malformed_queue_is_left_out(
    db: AsyncClientDatabase, clock: Clock, path: Path
) -> None:
    """Everything else is saved."""
    await filled(db, clock)
    await db.inventory.register_contact("carol", "MATE")
    await db.resources.clients[1].set("inv:v1:idx:carol:GOLD", "x")
    assert await export_backup(db, path) == BackupReport(2, 2, 2, 1)


async def test_a_path_may_be_a_text(db: AsyncClientDatabase, clock: Clock, path: Path) -> None:
    """What is no path at all is refused before anything is read."""
    await filled(db, clock)
    await export_backup(db, str(path))
    assert await import_backup(db, str(path)) == BackupReport(0, 0, 0, 2)
    wrong: list[Any] = [None, 5, b"file", "a\0b"]
    for other in wrong:
        with pytest.raises(InvalidArgumentError, match="^path: must be a str or a path"):
            await export_backup(db, other)
        with pytest.raises(InvalidArgumentError, match="^path: must be a str or a path"):
            await import_backup(db, other)


async def test_what_the_server_does_not_take_is_not_left_out(clock: Clock, path: Path) -> None:
    """The caller hears of it, and of what was restored before; another time restores the rest."""
    with RunningServer(VALKEY_9) as server:
        db = AsyncClientDatabase(server.client(0), server.client(1), clock=clock)
        await db.vault.store_keys(
            [NewKey(f"k{n}", "GOLD", b"b" * 20_000, b"i", b"t") for n in range(1200)]
        )
        await export_backup(db, path)
        # Not lazily: what is being freed would count as used.
        await db.resources.clients[0].execute_command("FLUSHDB", "SYNC")
        used = (await db.resources.clients[0].info("memory"))["used_memory"]
        await db.resources.clients[0].config_set("maxmemory", used + 8_000_000)
        with pytest.raises(NotWritableError):
            await import_backup(db, path)
        restored = await db.vault.count_active("GOLD")
        assert 0 < restored < 1200
        await db.resources.clients[0].config_set("maxmemory", 0)
        assert await import_backup(db, path) == BackupReport(1200 - restored, 0, 0, restored)
        await db.aclose()


async def test_an_inventory_that_goes_away_once_the_vault_was_restored(
    clock: Clock, path: Path
) -> None:
    """The error says that something may have been done."""
    sealed(
        path,
        HEADER,
        {"kind": "private", **PRIVATE, "created_at": clock()},
        {"kind": "contact", "contact_id": BOB, "priority": "MATE", "display_name": ""},
    )
    with RunningServer(VALKEY_9) as server, RunningServer(VALKEY_9) as other:
        never = Retry(NoBackoff(), 0)
        db = AsyncClientDatabase(server.client(0), other.client(0, retry=never), clock=clock)
        other.kill()
        with pytest.raises(InventoryUnavailableError) as caught:
            await import_backup(db, path, inventory=True)
        assert caught.value.outcome_unknown is True
        assert await db.vault.exists("k")
        await db.aclose()


async def test_a_missing_file(db: AsyncClientDatabase, path: Path) -> None:
    """The error says so."""
    with pytest.raises(InvalidArgumentError, match="^path: '.*' can't be used: No such file"):
        await import_backup(db, path)


async def test_used_must_be_ids(db: AsyncClientDatabase, path: Path) -> None:
    """A text would be taken for a list of letters."""
    wrong: list[Any] = ["k1", [5], None]
    for used in wrong:
        with pytest.raises(InvalidArgumentError, match="^used"):
            await import_backup(db, path, used=used)


# What a backup is made of, on both faces -----------------------------------------------------


async def test_list_coins(
    inventory: AsyncSmartInventory, registered_bestie: str, clock: Clock
) -> None:
    """Best tier first, oldest first, and none is taken."""
    assert await inventory.list_coins(registered_bestie) == []
    await stock(inventory, registered_bestie, "SILVER", "s1", "s2")
    public, signature = halves("GOLD")
    await inventory.store_key(registered_bestie, "g1", "GOLD", public, signature, expires_at=2**42)
    coins = await inventory.list_coins(registered_bestie)
    assert [coin.key_id for coin in coins] == ["g1", "s1", "s2"]
    assert coins[0] == InventoryEntry(
        registered_bestie, "g1", "GOLD", public, signature, clock(), 2**42
    )
    assert await inventory.list_coins(registered_bestie) == coins


async def test_list_coins_passes_over_what_is_not_one(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """A dangling entry and malformed rows are left out; a malformed index is an error."""
    await stock(inventory, registered_bestie, "SILVER", "s1", "s2", "s3", "s4")
    prefix = f"inv:v1:key:{registered_bestie}:"
    await inventory_client.delete(prefix + "s1")
    await inventory_client.hset(prefix + "s2", "expires_at", "x")
    await inventory_client.set(prefix + "s3", "x")
    assert [coin.key_id for coin in await inventory.list_coins(registered_bestie)] == ["s4"]
    await inventory_client.set(f"inv:v1:idx:{registered_bestie}:GOLD", "x")
    with pytest.raises(Exception, match="wrong type"):
        await inventory.list_coins(registered_bestie)


async def test_restore_keys(vault: AsyncSecureVault, clock: Clock) -> None:
    """Each with its age; one that can't be restored stops no other."""
    entry = VaultEntry("k1", "GOLD", b"blob", b"iv", b"tag", "ACTIVE", clock(), "v")
    old = VaultEntry("k2", "GOLD", b"blob", b"iv", b"tag", "ACTIVE", clock() - 30 * DAY_MS, "v")
    outcomes = await vault.restore_keys([entry, old, entry])
    assert outcomes[0] is True
    assert isinstance(outcomes[1], InvalidArgumentError)
    assert outcomes[1].argument == "created_at"
    assert isinstance(outcomes[2], KeyAlreadyExistsError)
    assert await vault.fetch_key("k1") == entry


async def test_a_record_has_every_field(db: AsyncClientDatabase, path: Path, clock: Clock) -> None:
    """Of each kind: a field that is new can't be left out in silence."""
    await filled(db, clock)
    await export_backup(db, path)
    with path.open("rb") as file:
        _, *records, _ = map(json.loads, file)
    named = {record["kind"]: record.keys() - {"kind"} for record in records}
    # What there is of the others is made anew.
    assert named == {
        "private": {field.name for field in fields(VaultEntry)} - {"status"},
        "contact": {field.name for field in fields(ContactMeta)} - {"last_msg_at"},
        "public": {field.name for field in fields(NewCoin)},
        "spent": set(SpentHalf._fields),
    }
