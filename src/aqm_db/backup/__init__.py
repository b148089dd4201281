"""A backup of one owner's database: a file that is checked as a whole before anything is restored.

::

    await export_backup(db, Path("alice.backup"))
    ...
    await import_backup(db, Path("alice.backup"), used=burned_since)

What a private half is encrypted with isn't in it; public halves and names of contacts are.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from os import PathLike
from typing import TypeVar

from aqm_db._model.checks import check_items, check_path
from aqm_db._operations.contacts import register_all
from aqm_db._operations.holdings import list_holdings
from aqm_db._operations.index import each_once
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
    NotWritableError,
    UnavailableError,
)

from ._file import make_line, write_records
from ._pile import Pile
from ._records import (
    KINDS,
    describe_counts,
    make_contact_record,
    make_private_record,
    make_public_record,
    make_spent_record,
    make_used_record,
    read_content,
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
    piles = {kind: Pile() for kind in KINDS}
    left_out = await _pile_vault(db, piles) + await _pile_inventory(db, piles)
    # After the keys: what was used or burned in between is known as such, and isn't restored.
    with suppress(CorruptEntryError):
        # What the server expired is remembered from here on.
        await db.vault.get_stats()
    async for spent in list_spent(db.vault.scope):
        piles["spent"].add_all(map(make_spent_record, spent))
    async for used in list_used(db.inventory.scope):
        piles["used"].add_all(map(make_used_record, used))
    created_at = await db.inventory.scope.ask_time()

    counts = {kind: len(pile) for kind, pile in piles.items()}
    header = {"created_at": created_at, **describe_counts(counts)}
    lines = chain.from_iterable(pile.take() for pile in piles.values())
    await db.resources.run_blocking(lambda: write_records(file, header, lines))
    return BackupReport(counts["private"], counts["contact"], counts["public"], left_out)


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
    content = await db.resources.run_blocking(lambda: read_content(file))
    excluded = set(used)
    with Progress("import_backup") as progress:
        for spent in content.spent.take():
            await remember_spent(db.vault.scope, spent, progress)
        for coins in content.used.take():
            await remember_used(db.inventory.scope, coins, progress)
        halves = (
            [entry for entry in some if entry.key_id not in excluded]
            for some in content.private.take()
        )
        restored = await _restore_all(
            db.vault.restore_keys, halves, (*_HINDRANCES, CorruptEntryError), progress
        )
        report = BackupReport(restored, 0, 0, len(content.private) - restored)
        if not inventory:
            return report
        registered = await _restore_all(
            partial(register_all, db.inventory.scope),
            content.contacts.take(),
            _HINDRANCES,
            progress,
        )
        restored = await _restore_all(
            db.inventory.store_keys, content.public.take(), _HINDRANCES, progress
        )
    refused = len(content.contacts) - registered
    return replace(
        report,
        contacts=registered,
        public_halves=restored,
        left_out=report.left_out + refused + len(content.public) - restored,
    )


async def _pile_vault(db: AsyncClientDatabase, piles: Mapping[str, Pile]) -> int:
    """Reads a vault into lines, portion by portion; returns how many rows are malformed."""
    malformed = 0
    async for entry in read_entries(db.vault.scope, await db.vault.get_all_active_ids()):
        if isinstance(entry, CorruptEntryError):
            malformed += 1
        else:
            piles["private"].add(make_line(make_private_record(entry)))
    return malformed


async def _pile_inventory(db: AsyncClientDatabase, piles: Mapping[str, Pile]) -> int:
    """The same of an inventory."""
    malformed = 0
    async for page in each_once(db.inventory.contact_pages()):
        async for held in list_holdings(db.inventory.scope, page):
            malformed += held.malformed
            piles["contact"].add_all(map(make_contact_record, held.contacts))
            piles["public"].add_all(map(make_public_record, held.coins))
    return malformed


_HINDRANCES: tuple[type[AQMDatabaseError], ...] = (
    UnavailableError,
    AccessDeniedError,
    NotWritableError,
    ConcurrencyError,
)
"""What is no fault of the key that it's said of, so that the next one fares no better."""


async def _restore_all(
    restore: Callable[[Sequence[T]], Awaitable[list[bool | AQMDatabaseError]]],
    portions: Iterable[Sequence[T]],
    hindrances: tuple[type[AQMDatabaseError], ...],
    progress: Progress,
) -> int:
    """Restores keys; returns how many there are more than before."""
    count = 0
    for some in portions:
        outcomes = await restore(some)
        progress.add(outcomes)
        for outcome in outcomes:
            if isinstance(outcome, hindrances):
                raise outcome
        count += outcomes.count(True)
    return count
