"""Public calls that take several changing requests, and how one ends halfway."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aqm_db import sync
from aqm_db._operations import collecting, contacts
from aqm_db.backup import export_backup, import_backup
from aqm_db.errors import AQMDatabaseError
from aqm_db.minter import AsyncMinter, FreshCoin
from aqm_db.types import NewCoin, NewKey
from tests.faults.support.halfway import act_halfway
from tests.faults.support.public_calls import CAROL, Objects
from tests.faults.support.tried_calls import BLOB, HALVES
from tests.support.faces import ASYNC, Face
from tests.support.samples import BOB, Clock

ALICE = "aqm:{alice}:"
MANY = 1200
"""Keys of more than two pages, and of more than two portions of a batch."""


@dataclass(frozen=True)
class Scene:
    """A database of Alice's, and what else a call takes.

    Attributes:
        on: what calls are made on; they are awaited on both faces.
        client: their client.
        face: its face.
        find_admin: a client, of the server that has her keys now, that may do everything.
        clock: the time of the database.
        path: a file of its own.
    """

    on: Objects
    client: Any
    face: Face
    find_admin: Callable[[], Any]
    clock: Clock
    path: Path

    def count_keys(self, *patterns: str) -> int:
        """How many Redis keys Alice has with such names."""
        admin = self.find_admin()
        return sum(len(set(admin.scan_iter(ALICE + each, count=1000))) for each in patterns)


@dataclass(frozen=True)
class Several:
    """A call that takes several requests.

    Attributes:
        name: what it's called.
        prepare: makes what it works on.
        call: the call.
        due: before which request it's hindered.
        times: before how many of these.
        count_left: what it still has to change, one by one, as the test sees it.
        is_asynchronous: whether it has no synchronous twin.
    """

    name: str
    prepare: Callable[[Scene], Awaitable[object]]
    call: Callable[[Scene], Awaitable[object]]
    due: str
    times: int
    count_left: Callable[[Scene], int]
    is_asynchronous: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Hindrance:
    """What ends a call halfway.

    Attributes:
        name: what it's called.
        error: what it raises.
        strike: lets it happen.
        mend: takes it back.
    """

    name: str
    error: type[AQMDatabaseError]
    strike: Callable[[], object]
    mend: Callable[[], object]


async def tell_what_was_done(
    scene: Scene, several: Several, hindrance: Hindrance, monkeypatch: pytest.MonkeyPatch
) -> AQMDatabaseError:
    """Hinders a call halfway: its error tells how far it came, and its repetition does the rest."""
    await several.prepare(scene)
    before = await asyncio.to_thread(several.count_left, scene)
    with monkeypatch.context() as patched:
        patched.setattr(contacts, "PORTION", 2)
        patched.setattr(collecting, "COLLECTED_AT_ONCE", 2)
        act_halfway(patched, several.due, several.times, hindrance.strike)
        with pytest.raises(hindrance.error) as caught:
            await several.call(scene)
    await asyncio.to_thread(hindrance.mend)
    left = await asyncio.to_thread(several.count_left, scene)
    assert 0 < left < before
    assert caught.value.outcome_unknown is True
    assert caught.value.carried_out == before - left
    await several.call(scene)
    assert await asyncio.to_thread(several.count_left, scene) == 0
    return caught.value


async def _befriend(scene: Scene) -> None:
    """Two contacts with three coins each, one of which no queue lists any more."""
    inventory = scene.on.inventory
    for contact_id in (BOB, CAROL):
        await inventory.register_contact(contact_id, "BESTIE")
        coins = [NewCoin(contact_id, f"{contact_id}{n}", "BRONZE", *HALVES) for n in range(3)]
        assert await inventory.store_keys(coins) == [True] * 3
        admin = scene.find_admin()
        admin.zrem(f"{ALICE}inv:v1:idx:{contact_id}:BRONZE", f"{contact_id}0")
        admin.zadd(f"{ALICE}inv:v1:aside", {f"{contact_id}:{contact_id}0": 0})
    # Nobody has written for 0 days.
    scene.clock.advance(ms=1)


async def _fill(scene: Scene) -> None:
    assert await scene.on.vault.store_keys(many_keys()) == [True] * MANY
    scene.clock.advance(days=2)


async def _keep(scene: Scene) -> None:
    """A backup of an owner who has lost everything."""
    await _befriend(scene)
    for key_id in ("k1", "k2", "k3"):
        await scene.on.vault.store_key(key_id, "GOLD", BLOB, b"nonce", b"tag")
    await scene.on.vault.burn_key("k3")
    if scene.face is ASYNC:
        await export_backup(scene.on.db, scene.path)
    else:
        await asyncio.to_thread(sync.export_backup, _bare(scene), scene.path)
    await scene.on.db.delete_owner("alice")


async def _restore(scene: Scene) -> object:
    if scene.face is ASYNC:
        return await import_backup(scene.on.db, scene.path, inventory=True)
    return await asyncio.to_thread(sync.import_backup, _bare(scene), scene.path, inventory=True)


async def _spoil(scene: Scene) -> None:
    """A private half that would stay for ever, and coins that no queue lists."""
    await _befriend(scene)
    await scene.on.vault.store_key("k1", "GOLD", BLOB, b"nonce", b"tag")
    scene.find_admin().persist(f"{ALICE}vault:v1:key:k1")


async def _nothing(_: Scene) -> None:
    """An empty database."""


async def _top_up(scene: Scene) -> object:
    first = scene.count_keys("vault:v1:key:*")
    ids = iter(range(first, MANY))

    def mint(tier: Any) -> FreshCoin:
        return FreshCoin(NewKey(f"m{next(ids)}", tier, BLOB, b"nonce", b"tag"), *HALVES)

    return await AsyncMinter(scene.on.vault, mint, targets={"GOLD": 5}, batch=2).top_up()


def many_keys() -> list[NewKey]:
    """Keys for more than two portions."""
    return [NewKey(f"k{number}", "BRONZE", BLOB, b"nonce", b"tag") for number in range(MANY)]


def _bare(scene: Scene) -> Any:
    database: Any = scene.on.db
    return database.wrapped


def _count_inactive(scene: Scene, *contacts: str) -> int:
    """Coins of contacts, and the contacts themselves who are worth any."""
    admin = scene.find_admin()
    priorities = [admin.hget(f"{ALICE}inv:v1:meta:{each}", "priority") for each in contacts]
    coins = scene.count_keys(*(f"inv:v1:key:{each}:*" for each in contacts))
    return len(priorities) - priorities.count(b"STRANGER") + coins


def _count_lost(scene: Scene) -> int:
    """What the backup has of two halves, a burned one, two contacts and their listed coins."""
    spent: int = scene.find_admin().zcard(f"{ALICE}vault:v1:spent")
    return 9 - spent - scene.count_keys("vault:v1:key:*", "inv:v1:meta:*", "inv:v1:key:*")


def _count_spoiled(scene: Scene) -> int:
    admin = scene.find_admin()
    listed = [admin.zscore(f"{ALICE}inv:v1:idx:{each}:BRONZE", f"{each}0") for each in (BOB, CAROL)]
    return listed.count(None) + int(admin.ttl(f"{ALICE}vault:v1:key:k1") == -1)


SEVERAL = [
    Several(
        "forget_contact",
        _befriend,
        lambda scene: scene.on.inventory.forget_contact(BOB),
        "inv_forget",
        2,
        lambda scene: scene.count_keys(f"inv:v1:meta:{BOB}", f"inv:v1:key:{BOB}:*"),
    ),
    Several(
        "collect_single_contact",
        _befriend,
        lambda scene: scene.on.gc.collect_single_contact(BOB),
        "inv_collect",
        2,
        lambda scene: _count_inactive(scene, BOB),
    ),
    Several(
        "garbage_collect",
        _befriend,
        lambda scene: scene.on.gc.garbage_collect(0),
        "inv_collect",
        2,
        lambda scene: _count_inactive(scene, BOB, CAROL),
    ),
    Several(
        "delete_owner",
        _fill,
        lambda scene: scene.on.db.delete_owner("alice"),
        "UNLINK",
        2,
        lambda scene: scene.count_keys("*"),
    ),
    Several(
        "purge_expired",
        _fill,
        lambda scene: scene.on.vault.purge_expired(1),
        "vault_purge",
        2,
        lambda scene: scene.count_keys("vault:v1:key:*"),
    ),
    Several("import_backup", _keep, _restore, "inv_store", 1, _count_lost),
    Several(
        "check",
        _spoil,
        lambda scene: scene.on.db.check(repair=True),
        "inv_check_coin",
        1,
        _count_spoiled,
    ),
    Several(
        "top_up",
        _nothing,
        _top_up,
        "vault_store",
        2,
        lambda scene: 5 - scene.count_keys("vault:v1:key:*"),
        is_asynchronous=True,
    ),
]
