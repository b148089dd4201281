"""Calls on many keys: they go out in portions, and what blocks is done beside the event loop."""

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
from aqm_db.backup import _file, export_backup, import_backup
from aqm_db.types import NewCoin, NewKey
from tests.support.samples import BOB

MANY = 700
_MOST = 500
"""What a portion may hold, at most."""
_PLENTY = {each: dict.fromkeys(caps, MANY) for each, caps in config.BUDGET_CAPS.items()}


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
    """Those that wrote or read a file's lines."""
    seen: list[threading.Thread] = []

    def note(function: Any) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            seen.append(threading.current_thread())
            return function(*args, **kwargs)

        return noted

    noted = SimpleNamespace(dumps=note(json.dumps), loads=note(json.loads))
    monkeypatch.setattr(_file, "json", noted)
    return seen


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
    assert len(threads) >= 2 * MANY
    assert threading.main_thread() not in threads


def test_a_backup_without_an_event_loop(tmp_path: Path, threads: list[threading.Thread]) -> None:
    """The caller's thread does it."""
    with sync.connect("memory://") as db:
        db.vault.store_keys(_make_keys())
        sync.export_backup(db, tmp_path / "backup")
    assert set(threads) == {threading.current_thread()}


@pytest.mark.asyncio
async def test_many_coins_are_listed(portions: list[int]) -> None:
    """In portions, all of them in order."""
    async with connect("memory://", budget_caps=_PLENTY) as db:
        key_ids = await _stock(db, BOB, MANY)
        portions.clear()
        assert [coin.key_id for coin in await db.inventory.list_coins(BOB)] == key_ids
        assert max(portions) <= ROWS_AT_ONCE


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
        listed = [half.key_id for half in await list_pending(db.vault.scope, MANY)]
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
