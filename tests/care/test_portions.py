"""Calls on many keys: they go out in portions, and what blocks is done beside the event loop."""

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aqm_db import AsyncClientDatabase, config, connect, sync
from aqm_db._io.gate import Gate
from aqm_db._operations.batch import ROWS_AT_ONCE
from aqm_db._operations.publishing import FreshCoin, list_pending, store_fresh, take_off_published
from aqm_db.backup import BackupReport, _file, _records, export_backup, import_backup
from aqm_db.errors import KeyAlreadyUsedError
from aqm_db.types import NewCoin, NewKey, VaultEntry
from tests.support.samples import BOB, DAY_MS

MANY = 700
_MOST = 500
"""What a portion may hold, at most."""
_PLENTY = {each: dict.fromkeys(caps, MANY) for each, caps in config.BUDGET_CAPS.items()}
_CONTACTS = 150


@pytest.fixture
def portions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much each request held."""
    sizes: list[int] = []
    read, run_all = Gate.read, Gate.run_all

    async def note_read(gate: Gate, *commands: Any) -> Any:
        sizes.append(len(commands))
        return await read(gate, *commands)

    async def note_run_all(gate: Gate, calls: Sequence[Any], *rest: Any) -> Any:
        sizes.append(len(calls))
        return await run_all(gate, calls, *rest)

    monkeypatch.setattr(Gate, "read", note_read)
    monkeypatch.setattr(Gate, "run_all", note_run_all)
    return sizes


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """Those that wrote or read a file."""
    seen: list[threading.Thread] = []

    def note() -> Any:
        seen.append(threading.current_thread())
        return hashlib.sha256()

    monkeypatch.setattr(_file, "hashlib", SimpleNamespace(sha256=note))
    return seen


@pytest.fixture
def living(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many parsed records there were after each that was parsed."""
    counts: list[int] = []
    alive = 0

    def watch(kind: Any) -> Any:
        def begin(record: Any, **given: Any) -> None:
            nonlocal alive
            kind.__init__(record, **given)
            alive += 1
            counts.append(alive)

        def end(_: object) -> None:
            nonlocal alive
            alive -= 1

        members = {"__slots__": (), "__init__": begin, "__del__": end}
        return type(kind.__name__, (kind,), members)

    for kind in (VaultEntry, NewCoin):
        monkeypatch.setattr(_records, kind.__name__, watch(kind))
    return counts


def _make_keys() -> list[NewKey]:
    return [NewKey(f"k{number}", "GOLD", b"b", b"n", b"t") for number in range(MANY)]


@pytest.mark.asyncio
async def test_a_backup_of_many_keys(
    tmp_path: Path, portions: list[int], threads: list[threading.Thread]
) -> None:
    """Nothing is sent at once that others would wait for, and the file is another thread's."""
    path = tmp_path / "backup"
    async with connect("memory://") as db:
        await db.vault.store_keys(_make_keys())
        portions.clear()
        assert (await export_backup(db, path)).private_halves == MANY
    async with connect("memory://") as db:
        assert (await import_backup(db, path)).private_halves == MANY
        assert len(await db.vault.get_all_active_ids()) == MANY
    assert max(portions) <= _MOST
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_a_backup_without_an_event_loop(tmp_path: Path, threads: list[threading.Thread]) -> None:
    """The caller's thread does it."""
    with sync.connect("memory://") as db:
        db.vault.store_keys(_make_keys())
        sync.export_backup(db, tmp_path / "backup")
    assert set(threads) == {threading.current_thread()}


@pytest.mark.asyncio
async def test_an_import_holds_one_portion(tmp_path: Path, living: list[int]) -> None:
    """Objects stop all threads when the garbage collector looks at them, and when they are freed.

    While a file is checked, too; so each record is parsed twice.
    """
    path = tmp_path / "backup"
    async with connect("memory://", budget_caps=_PLENTY) as db:
        await db.vault.store_keys(_make_keys())
        await _stock(db, BOB, MANY)
        await export_backup(db, path)
    async with connect("memory://", budget_caps=_PLENTY) as db:
        assert await import_backup(db, path, inventory=True) == BackupReport(MANY, 1, MANY, 0)
    assert len(living) == 2 * 2 * MANY
    # One more is being parsed where the last portion is still at hand.
    assert max(living) <= 2 * ROWS_AT_ONCE
    assert living[MANY] == living[0] == 1


@pytest.mark.asyncio
async def test_many_coins_are_listed(portions: list[int]) -> None:
    """In portions, all of them in order."""
    async with connect("memory://", budget_caps=_PLENTY) as db:
        key_ids = await _stock(db, BOB, MANY)
        portions.clear()
        assert [coin.key_id for coin in await db.inventory.list_coins(BOB)] == key_ids
        assert max(portions) <= ROWS_AT_ONCE


@pytest.mark.asyncio
async def test_an_export_of_a_contact_with_many_coins(portions: list[int], tmp_path: Path) -> None:
    """It has all of them, in order."""
    path = tmp_path / "backup"
    async with connect("memory://", budget_caps=_PLENTY) as db:
        key_ids = await _stock(db, BOB, MANY)
        portions.clear()
        assert await export_backup(db, path) == BackupReport(0, 1, MANY, 0)
        assert max(portions) <= _MOST
    records = map(json.loads, path.read_bytes().splitlines())
    assert [each["key_id"] for each in records if each.get("kind") == "public"] == key_ids


@pytest.mark.asyncio
async def test_many_contacts(portions: list[int], tmp_path: Path) -> None:
    """They are asked for, and registered, in few round trips, and not one after the other."""
    path = tmp_path / "backup"
    async with connect("memory://") as db:
        for number in range(_CONTACTS):
            await db.inventory.register_contact(f"c{number}", "BESTIE")
            await _stock(db, f"c{number}", 1)
            assert await db.inventory.select_coin(f"c{number}", "GOLD") is not None
            await _stock(db, f"c{number}", 1, "d")
        portions.clear()
        assert await export_backup(db, path) == BackupReport(0, _CONTACTS, _CONTACTS, 0)
        assert len(portions) < _CONTACTS
        assert max(portions) <= _MOST
    async with connect("memory://") as db:
        portions.clear()
        report = await import_backup(db, path, inventory=True)
        assert report == BackupReport(0, _CONTACTS, _CONTACTS, 0)
        assert len(portions) < _CONTACTS
        assert max(portions) <= _MOST
        with pytest.raises(KeyAlreadyUsedError):
            await _stock(db, "c0", 1)


async def _stock(
    db: AsyncClientDatabase, contact_id: str, count: int, prefix: str = "g"
) -> list[str]:
    """Stores GOLD coins of a contact; returns their ids."""
    await db.inventory.register_contact(contact_id, "BESTIE")
    key_ids = [f"{prefix}{number}" for number in range(count)]
    for outcome in await db.inventory.store_keys(
        [NewCoin(contact_id, key_id, "GOLD", b"p", b"s") for key_id in key_ids]
    ):
        if isinstance(outcome, Exception):
            raise outcome
    return key_ids


@pytest.mark.asyncio
@pytest.mark.parametrize("others_publish", [False, True])
async def test_many_that_wait_to_be_published(
    portions: list[int], monkeypatch: pytest.MonkeyPatch, *, others_publish: bool
) -> None:
    """All are listed once, though all were stored at one time, and others take some off."""
    async with connect("memory://", clock=lambda: 10**12) as db:
        coins = [FreshCoin(key, b"p", b"s") for key in _make_keys()]
        await store_fresh(db.vault.scope, coins, 10**6)
        if others_publish:
            _publish_meanwhile(monkeypatch, db)
        portions.clear()
        listed = [half.key_id for half in await list_pending(db.vault.scope, MANY, DAY_MS)]
        assert len(set(listed)) == len(listed)
        assert len(listed) == MANY
        left = MANY - 1 if others_publish else MANY
        assert await take_off_published(db.vault.scope, listed) == left
        assert max(portions) <= _MOST


def _publish_meanwhile(monkeypatch: pytest.MonkeyPatch, db: AsyncClientDatabase) -> None:
    """The first page's first coin is published by somebody else before the second page."""
    read = Gate.read
    asked = 0

    async def publish_and_read(gate: Gate, *commands: Any) -> Any:
        nonlocal asked
        if commands and commands[0][0] == "ZRANGE":
            asked += 1
            if asked == 2:
                await take_off_published(db.vault.scope, ["k0"])
        return await read(gate, *commands)

    monkeypatch.setattr(Gate, "read", publish_and_read)
