"""A backup of one owner's database: a file that is checked as a whole before anything is restored.

::

    await export_backup(db, Path("alice.backup"))
    ...
    await import_backup(db, Path("alice.backup"), used=burned_since)

What a private half is encrypted with isn't in it; public halves and names of contacts are.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from os import PathLike
from typing import TypeVar

from aqm_db._model.checks import check_items, check_path
from aqm_db._operations.batch import ROWS_AT_ONCE, split
from aqm_db._operations.memory import (
    list_spent,
    list_used,
    remember_spent,
    remember_used,
)
from aqm_db._operations.outcome import Progress
from aqm_db._operations.private_halves import read_entries
from aqm_db.database import AsyncClientDatabase
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    ConcurrencyError,
    CorruptEntryError,
    InvalidArgumentError,
    NotWritableError,
    UnavailableError,
)

from ._file import Record, read_records, write_records
from ._records import (
    describe_counts,
    make_contact_record,
    make_private_record,
    make_public_record,
    make_spent_record,
    make_used_record,
    parse_records,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What was written to a file, or restored from one.

    Attributes:
        private_halves: keys of the vault.
        contacts: contacts of the inventory.
        public_halves: coins of the inventory.
        left_out: what was not taken: malformed, expired or used by now, above a cap, or there
            already. A malformed coin is in the log only.
    """

    private_halves: int
    contacts: int
    public_halves: int
    left_out: int


async def export_backup(db: AsyncClientDatabase, path: str | PathLike[str]) -> BackupReport:
    """Writes one owner's database to a file that is readable by its owner alone (0600).

    It walks the owner's indexes: what changes meanwhile is in the file as it was before or
    after, and what is there throughout is in it, whichever server takes over meanwhile. Burned
    keys are left out, and so are malformed rows; of what was used, burned or has expired, the ids
    are kept as long as the database remembers them.

    Args:
        db: the database.
        path: a file that doesn't exist yet.

    Raises:
        InvalidArgumentError: the file exists, or can't be written.
        CorruptEntryError: one of a contact's indexes is malformed; there is no file.

    It also raises what every method of the vault and of the inventory does. The file is written
    beside the event loop; whoever is cancelled then gets the whole file, or none.
    """
    file = check_path("path", path)
    left_out = 0
    # Texts and numbers, which the garbage collector passes over: it stops the event loop.
    private: list[Record] = []
    async for entry in read_entries(db.vault.scope, await db.vault.get_all_active_ids()):
        if isinstance(entry, CorruptEntryError):
            left_out += 1
        else:
            private.append(make_private_record(entry))
    contacts: dict[str, Record] = {}
    public: dict[tuple[str, str], Record] = {}
    async for page in db.inventory.contact_pages():
        for contact_id in page:
            try:
                meta = await db.inventory.get_contact_meta(contact_id)
            except CorruptEntryError:
                left_out += 1
                continue
            if meta is None:
                continue
            contacts[contact_id] = make_contact_record(meta)
            try:
                coins = await db.inventory.list_coins(contact_id)
            except CorruptEntryError:
                left_out += 1
                continue
            for coin in coins:
                public[coin.contact_id, coin.key_id] = make_public_record(coin)
    # After the keys: what was used or burned in between is known as such, and isn't restored.
    with suppress(CorruptEntryError):
        # What the server expired is remembered from here on.
        await db.vault.get_stats()
    spent = await list_spent(db.vault.scope)
    used = await list_used(db.inventory.scope)
    created_at = await db.inventory.scope.ask_time()

    counts = {
        "spent": len(spent),
        "used": len(used),
        "private": len(private),
        "contact": len(contacts),
        "public": len(public),
    }
    records = chain(
        map(make_spent_record, spent),
        map(make_used_record, used),
        private,
        contacts.values(),
        public.values(),
    )
    header = {"created_at": created_at, **describe_counts(counts)}
    await db.resources.run_blocking(lambda: write_records(file, header, records))
    return BackupReport(len(private), len(contacts), len(public), left_out)


async def import_backup(
    db: AsyncClientDatabase,
    path: str | PathLike[str],
    *,
    used: Sequence[str] = (),
    inventory: bool = False,
) -> BackupReport:
    """Restores a vault from a file, and an inventory only when told to.

    First it learns what the file knows of used, burned and expired keys, so that none of these
    comes back, from whatever source; one that an older state of the database still holds goes.
    What is there otherwise stays as it is, and is left out. Each private half keeps its age.
    One whose public half waited to be published isn't offered again: it may have been published
    since, and a coin that is offered twice is used twice.

    Args:
        db: where to.
        path: a file that :func:`export_backup` wrote.
        used: ids of keys that were burned since the file was written, as far as the program
            knows; they're left out.
        inventory: whether coins are restored, too. Those that were handed out since the file was
            written would come back to life, and a coin that is used twice isn't a one-time key
            any more: only for a database that no message was sent from since.

    Raises:
        InvalidArgumentError: the file is no backup, not as it was written, or holds fewer entries
            of a kind than it says that it should; nothing was restored.
        UnavailableError: a database can't be reached.
        AccessDeniedError: the server forbids a command or a key.
        NotWritableError: the server takes no writes now.
        ConcurrencyError: the owner's slot is being moved.
        CorruptEntryError: the stored counters are malformed.

    What was restored before one of these stays, and importing the file again restores the rest.
    """
    check_items("used", used, str)
    file = check_path("path", path)
    content = await db.resources.run_blocking(lambda: parse_records(*read_records(file)))
    excluded = set(used)
    halves = [entry for entry in content.private if entry.key_id not in excluded]
    with Progress("import_backup") as progress:
        await remember_spent(db.vault.scope, content.spent, progress)
        await remember_used(db.inventory.scope, content.used, progress)
        restored = await _restore_all(
            db.vault.restore_keys, halves, (*_HINDRANCES, CorruptEntryError), progress
        )
        report = BackupReport(restored, 0, 0, len(content.private) - restored)
        if not inventory:
            return report
        refused = 0
        for contact in content.contacts:
            try:
                await db.inventory.register_contact(*contact)
            except (InvalidArgumentError, CorruptEntryError):
                refused += 1
            else:
                progress.add([1])
        restored = await _restore_all(
            db.inventory.store_keys, content.public, _HINDRANCES, progress
        )
    return replace(
        report,
        contacts=len(content.contacts) - refused,
        public_halves=restored,
        left_out=report.left_out + refused + len(content.public) - restored,
    )


_HINDRANCES: tuple[type[AQMDatabaseError], ...] = (
    UnavailableError,
    AccessDeniedError,
    NotWritableError,
    ConcurrencyError,
)
"""What is no fault of the key that it's said of, so that the next one fares no better."""


async def _restore_all(
    restore: Callable[[Sequence[T]], Awaitable[list[bool | AQMDatabaseError]]],
    items: Sequence[T],
    hindrances: tuple[type[AQMDatabaseError], ...],
    progress: Progress,
) -> int:
    """Restores keys; returns how many there are more than before."""
    count = 0
    for some in split(items, ROWS_AT_ONCE):
        outcomes = await restore(some)
        progress.add(outcomes)
        for outcome in outcomes:
            if isinstance(outcome, hindrances):
                raise outcome
        count += outcomes.count(True)
    return count
