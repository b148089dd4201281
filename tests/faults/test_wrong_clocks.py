"""Clocks that give anything but milliseconds: an error that names them, and nothing half done.

A clock is a client's own. What is made of a wrong value would be malformed for ever.
"""

import enum
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db import AsyncMinter, AsyncSmartInventory, connect
from aqm_db.backup import export_backup
from aqm_db.errors import InvalidArgumentError
from aqm_db.minter import FreshCoin
from aqm_db.types import CoinCategory, NewKey
from tests.conftest import INVENTORY_DB
from tests.faults.support.fault_table import Tally
from tests.faults.support.public_calls import CALLS, Objects, errors_of, furnish, objects_over
from tests.faults.support.restored_database import Kept
from tests.support.backends import VALKEY_9, Backend, Servers
from tests.support.faces import ASYNC, FACES, Face
from tests.support.samples import BOB, Clock

pytestmark = pytest.mark.asyncio

NOW = Clock().now


class Foreign:
    """An int of another library's: it can be made one, and isn't one."""

    def __index__(self) -> int:
        """As numpy's have it."""
        return NOW


WRONG: dict[str, Any] = {
    "float": float(NOW),
    "nan": float("nan"),
    "infinity": float("inf"),
    "None": None,
    "bool": True,
    "text": str(NOW),
    "bytes": b"1",
    "foreign int": Foreign(),
    "negative": -1,
    "after 9999": 253_402_300_800_000,
    "huge": 10**5000,
}


class Moment(enum.IntEnum):
    """An int that doesn't show itself as one."""

    NOW = Clock().now


def files(directory: Path) -> list[str]:
    """The names in a directory."""
    return [path.name for path in directory.iterdir()]


class Wrong:
    """A clock that gives a wrong value, and counts how often it's read."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.readings = 0

    def __call__(self) -> Any:
        """The wrong value."""
        self.readings += 1
        return self.value


@pytest.fixture(
    params=[(VALKEY_9, face) for face in FACES],
    ids=lambda place: f"{place[0].name}-{place[1]}",
)
def place(request: pytest.FixtureRequest) -> tuple[Backend, Face]:
    """A server and a face."""
    backend, face = request.param
    return backend, face


@pytest_asyncio.fixture
async def client(place: tuple[Backend, Face], servers: Servers) -> AsyncIterator[Redis]:
    """A client on an empty database."""
    client = servers[place[0]].client(INVENTORY_DB)
    await client.flushdb()
    yield client
    await client.flushdb()
    await client.aclose()


@pytest.mark.parametrize("kind", WRONG)
async def test_a_wrong_clock_changes_nothing(
    client: Redis, place: tuple[Backend, Face], servers: Servers, kind: str, tally: Tally
) -> None:
    """Whatever reads the clock is refused for what it gave, and has changed nothing by then."""
    backend, face = place
    entry = await furnish(objects_over(client))
    kept = Kept(client)
    await kept.keep()
    clock = Wrong(WRONG[kind])
    own: Any = client if face is ASYNC else servers[backend].sync_client(INVENTORY_DB)
    objects: Objects = objects_over(own, face, clock=clock, entry=entry, name="wrong")
    reading: set[str] = set()
    for name, call in CALLS.items():
        before = await kept.put_back()
        clock.readings = 0
        errors = await errors_of(call(objects))
        if not clock.readings:
            continue
        reading.add(name.partition("(")[0])
        after = await kept.content()
        wrong = [
            error
            for error in errors
            if not isinstance(error, InvalidArgumentError) or error.argument != "clock"
        ]
        tally.add(
            "clock that gives a wrong value",
            wrong=len(wrong) + (not errors) + (after != before),
            case=f"{kind}, {name}: {errors}",
        )
    assert reading >= {
        *("vault.store_key", "vault.store_keys", "vault.restore_keys", "vault.purge_expired"),
        *("inventory.register_contact", "inventory.store_key", "inventory.store_keys"),
        *("inventory.select_coin", "inventory.select_coins", "inventory.release_coin"),
        *("inventory.consume_key", "inventory.count_stale", "db.check"),
        *("gc.garbage_collect", "gc.dry_run", "gc.collect_single_contact"),
    }
    if own is not client:
        own.close()


@pytest.mark.parametrize("place", [(VALKEY_9, ASYNC)], indirect=True, ids=[""])
@pytest.mark.parametrize("kind", WRONG)
async def test_a_wrong_clock_of_whoever_uses_them(
    client: Redis, kind: str, tmp_path: Path, tally: Tally
) -> None:
    """A minter stores nothing, and a backup leaves no file."""
    objects = objects_over(client, clock=Wrong(WRONG[kind]))
    marks = {"inv:v1:schema": "2", "vault:v1:schema": "2"}
    await client.mset(marks)

    def mint(tier: CoinCategory) -> FreshCoin:
        return FreshCoin(NewKey("k", tier, b"blob", b"iv", b"tag"), b"public", b"signature")

    async def export() -> object:
        return await export_backup(objects.db, tmp_path / "file")

    for call in (AsyncMinter(objects.vault, mint).top_up, export):
        with pytest.raises(InvalidArgumentError) as caught:
            await call()
        tally.add(
            "clock that gives a wrong value",
            wrong=int(caught.value.argument != "clock") + (await client.dbsize() != len(marks)),
        )
    assert files(tmp_path) == []


@pytest.mark.parametrize("place", [(VALKEY_9, ASYNC)], indirect=True, ids=[""])
async def test_an_int_of_another_class_is_an_int(client: Redis) -> None:
    """However it shows itself, it's stored as the number that it is."""
    objects = objects_over(client, clock=lambda: Moment.NOW)
    await objects.inventory.register_contact(BOB, "BESTIE")
    meta = await objects.inventory.get_contact_meta(BOB)
    assert meta is not None
    assert meta.last_msg_at == NOW


@pytest.mark.parametrize("place", [(VALKEY_9, ASYNC)], indirect=True, ids=[""])
async def test_what_is_no_clock(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """It's refused where it's given, before anything is opened."""
    wrong: Any = 1_800_000_000_000
    with pytest.raises(InvalidArgumentError, match="^clock: must be callable"):
        AsyncSmartInventory(client, clock=wrong)
    # Nothing can be opened without it.
    monkeypatch.setitem(sys.modules, "fakeredis", None)
    with pytest.raises(InvalidArgumentError, match="^clock: must be callable"):
        connect("memory://", clock=wrong)


@pytest.mark.parametrize("place", [(VALKEY_9, ASYNC)], indirect=True, ids=[""])
async def test_a_clock_that_is_passed_on_is_checked_once(client: Redis) -> None:
    """And for all owners of a database."""
    clock = Wrong(NOW)
    objects = objects_over(client, clock=clock)
    for name in ("alice", "carol"):
        before = clock.readings
        database = objects.db.for_owner(name)
        await database.inventory.register_contact(BOB, "BESTIE")
        assert clock.readings == before + 1
        assert database.inventory.clock is objects.db.inventory.clock
