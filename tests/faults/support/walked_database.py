"""A database that takes many pages to walk, and what each operation that walks it has to find."""

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from aqm_db import AsyncClientDatabase, connect, sync
from aqm_db._io import answers
from aqm_db._model.defaults import now_ms
from aqm_db._model.keys import Keys
from aqm_db._operations import index, memory
from aqm_db._operations.memory import SpentHalf, UsedCoin, remember_spent, remember_used
from aqm_db._operations.outcome import Progress
from aqm_db.backup import export_backup
from aqm_db.integrity import _vault
from aqm_db.types import NewKey
from tests.faults.support.fault_table import Tally
from tests.support.faces import ASYNC, Face
from tests.support.samples import DAY_MS, is_claim

OWNER = "alice"
"""Whose database it is."""
HALVES = {f"k{number}" for number in range(1100)}
CONTACTS = {f"c{number}" for number in range(900)}
OTHERS = {f"other{number}" for number in range(500)}
SPENT = {f"gone{number}" for number in range(1300)}
USED = {f"used{number}" for number in range(1300)}
_DAYS = 10

Walk: TypeAlias = Callable[[AsyncClientDatabase], Awaitable[int]]
"""An operation that walks; it says how much of what is there it didn't find."""


@asynccontextmanager
async def open_by(face: Face, url: str) -> AsyncGenerator[AsyncClientDatabase]:
    """Opens the database of :data:`OWNER`; where calls don't suspend, they can be awaited, too."""
    if face is ASYNC:
        async with connect(url, owner=OWNER) as db:
            yield db
    else:
        with sync.connect(url, owner=OWNER) as sync_db:
            yield sync_db.asynchronous


async def furnish(db: AsyncClientDatabase) -> None:
    """Fills the database of :data:`OWNER`, and others' besides."""
    await db.vault.store_keys(
        [NewKey(key_id, "GOLD", b"b", b"n", b"t") for key_id in sorted(HALVES)]
    )
    await asyncio.gather(
        *(db.inventory.register_contact(contact_id, "MATE") for contact_id in sorted(CONTACTS)),
        *(db.for_owner(owner).inventory.register_contact("c", "MATE") for owner in sorted(OTHERS)),
    )
    ends = now_ms() + _DAYS * DAY_MS
    halves = [SpentHalf(key_id, "burned", ends) for key_id in SPENT]
    await remember_spent(db.vault.scope, halves, Progress("furnish"))
    coins = [UsedCoin("c0", key_id, now_ms(), None) for key_id in USED]
    await remember_used(db.inventory.scope, coins, Progress("furnish"))


@contextmanager
def interrupt_walks(act: Callable[[], object], *, times: int = 100) -> Generator[None]:
    """Has something happen in the middle of walks: after the first page of each.

    Args:
        act: what happens.
        times: how often, at most.
    """
    done: set[object] = set()

    def interrupt(walk: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def interrupted(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            # Where it is, and what is walked over: a walk that begins anew may begin others anew.
            name = args[:3]
            async for page in walk(*args, **kwargs):
                yield page
                if name not in done and len(done) < times:
                    done.add(name)
                    act()

        return interrupted

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(answers, "scan", interrupt(answers.scan))
        walk_index = interrupt(index.walk_index)
        for module in (index, memory, _vault):
            patched.setattr(module, "walk_index", walk_index)
        yield
    assert done, "nothing was walked"


async def _list_active(db: AsyncClientDatabase) -> int:
    return len(HALVES - set(await db.vault.get_all_active_ids()))


async def _export(db: AsyncClientDatabase) -> int:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "backup"
        await export_backup(db, path)
        records = map(json.loads, path.read_bytes().splitlines()[1:-1])
        found = {
            (record["kind"], record.get("key_id", record.get("contact_id"))) for record in records
        }
    wanted = {"private": HALVES, "contact": CONTACTS, "spent": SPENT, "used": USED}
    return len({(kind, name) for kind, names in wanted.items() for name in names} - found)


async def _list_contacts(db: AsyncClientDatabase) -> int:
    return len(CONTACTS - (await db.inventory.get_inventory()).keys())


async def _check(db: AsyncClientDatabase) -> int:
    report = await db.check()
    assert report.clean
    # Nothing is counted twice, either.
    lost = len(HALVES) - report.private_halves, len(CONTACTS) - report.contacts
    assert min(lost) >= 0
    return sum(lost)


async def _iterate_owners(db: AsyncClientDatabase) -> int:
    owners = [owner async for owner in db.iter_owners()]
    assert len(owners) == len(set(owners))
    return len({OWNER, *OTHERS}.difference(owners))


async def _purge(db: AsyncClientDatabase) -> int:
    purged = await db.vault.purge_expired(0)
    return len(HALVES) - purged + len(await db.vault.get_all_active_ids())


async def _dry_run(db: AsyncClientDatabase) -> int:
    found = await db.gc.dry_run(0)
    return len(CONTACTS) - found.contacts_cleaned


async def _collect(db: AsyncClientDatabase) -> int:
    collected = await db.gc.garbage_collect(0)
    return len(CONTACTS) - collected.contacts_cleaned


async def _delete(db: AsyncClientDatabase) -> int:
    await db.delete_owner(OWNER)
    keys = ("KEYS", Keys(OWNER).pattern())
    left = [await scope.seam.read(keys) for scope in (db.vault.scope, db.inventory.scope)]
    return sum(not is_claim(name) for [names] in left for name in names)


WALKS: dict[str, Walk] = {
    "get_all_active_ids": _list_active,
    "export_backup": _export,
    "get_inventory": _list_contacts,
    "check": _check,
    "iter_owners": _iterate_owners,
    "dry_run": _dry_run,
    "garbage_collect": _collect,
    "purge_expired": _purge,
    "delete_owner": _delete,
}
"""By name; those that change nothing first, and none that leaves another one nothing to do."""


FEW = ("get_all_active_ids", "iter_owners", "delete_owner")
"""One for each way in which a seam comes to be."""


async def walk_all(
    db: AsyncClientDatabase,
    act: Callable[[], object],
    tally: Tally,
    fault: str,
    names: Iterable[str] = WALKS,
) -> None:
    """Tries operations while something happens in the middle of each of their walks."""
    for name in names:
        with interrupt_walks(act):
            tally.add(fault, lost=await WALKS[name](db), case=name)
