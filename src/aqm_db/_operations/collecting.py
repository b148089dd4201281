"""What the inventory keeps for nothing: collected coins, and rows that no queue lists."""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Literal, TypeAlias

from aqm_db._io.seam import Call
from aqm_db._lua.loader import Script
from aqm_db._model.keys import ContactKeys
from aqm_db._model.tiers import TIERS
from aqm_db.errors import AQMDatabaseError

from . import Scope
from .batch import AT_ONCE
from .outcome import Progress, check_reply
from .stock import CLAIM_TTL_MS, COIN_TTL_MS, USED_TTL_MS

COLLECT = Script("inventory/collect")
DROP_ORPHAN = Script("inventory/drop_orphan")

Mode: TypeAlias = Literal["delete", "count"]
"""Whether to remove, or to tell what would be removed."""
Row: TypeAlias = tuple[ContactKeys, str]
"""A public half: the names of its contact's keys, and its id."""


def build_collect(scope: Scope, contact_id: str, inactive_ms: int, mode: Mode) -> Call:
    """The call that collects one contact's garbage.

    Args:
        scope: whose inventory it is.
        contact_id: the contact; its reply says whether it was cleaned and is inactive, and counts
            what was deleted, by tier.
        inactive_ms: a contact whose last message is longer ago is inactive.
        mode: whether to delete.
    """
    names = scope.keys.of(contact_id)
    keys = (
        names.meta,
        names.used,
        names.used_until,
        names.claims + scope.request_ids(),
        *names.queues,
        scope.keys.inv_watch,
    )
    times = (COIN_TTL_MS, inactive_ms, USED_TTL_MS, CLAIM_TTL_MS)
    return Call(COLLECT, keys, (scope.read_clock(), names.rows, *times, mode))


async def find_orphans(scope: Scope, contact_id: str) -> list[Row]:
    """Rows of a contact that no queue lists, found by a walk over the database (SCAN).

    Whoever takes the contact's queues away looks for them before: a walk that is forbidden, or
    fails, does so while nothing is changed.
    """
    rows = [row async for page in _scan_rows(scope, [contact_id]) for row in page]
    orphans: list[Row] = []
    for first in range(0, len(rows), AT_ONCE):
        some = rows[first : first + AT_ONCE]
        scores = await scope.seam.read(
            *(("ZSCORE", queue, key_id) for names, key_id in some for queue in names.queues)
        )
        for place, row in enumerate(some):
            found = scores[place * len(TIERS) : (place + 1) * len(TIERS)]
            # What has the wrong type lists nothing.
            if all(isinstance(score, AQMDatabaseError | None) for score in found):
                orphans.append(row)
    return orphans


async def remove_orphans(
    scope: Scope, contact_ids: Collection[str], mode: Mode, progress: Progress
) -> list[tuple[str, int]]:
    """Removes rows of some contacts that no queue lists, in a walk over the database (SCAN).

    Args:
        scope: whose inventory it is.
        contact_ids: the contacts.
        mode: whether to delete.
        progress: told what was deleted.

    Returns:
        As :func:`drop_orphans`, for each row that was looked at.
    """
    removed: list[tuple[str, int]] = []
    # SCAN may name a row twice, which counting must not.
    counted: set[str] = set()
    if contact_ids:
        async for page in _scan_rows(scope, contact_ids):
            named = {names.row(key_id): (names, key_id) for names, key_id in page}
            rows = [row for name, row in named.items() if name not in counted]
            if mode == "count":
                counted.update(named)
            removed += await drop_orphans(scope, rows, mode, progress)
    return removed


async def drop_orphans(
    scope: Scope, rows: Sequence[Row], mode: Mode, progress: Progress
) -> list[tuple[str, int]]:
    """Removes those of some rows that no queue lists.

    Hand edits leave such rows, and coins that were set aside.

    Returns:
        For each row its tier, and 1 if it was removed or 0 if a queue lists it.
    """
    removed: list[tuple[str, int]] = []
    for first in range(0, len(rows), AT_ONCE):
        replies = await scope.seam.run_all(
            [
                Call(DROP_ORPHAN, (names.row(key_id), *names.queues), (key_id, mode))
                for names, key_id in rows[first : first + AT_ONCE]
            ]
        )
        if mode == "delete":
            progress.add(replies, lambda counts: counts[0])
        for reply in replies:
            [deleted, tier] = check_reply(reply)
            removed.append(((tier or b"").decode("utf-8", "replace"), deleted))
    return removed


async def _scan_rows(scope: Scope, contact_ids: Collection[str]) -> AsyncIterator[list[Row]]:
    keys = scope.keys
    async for page in scope.seam.scan(keys.inv_pattern()):
        yield [
            (keys.of(found[0]), found[1])
            for key in page
            if (found := keys.inv_ids(key)) is not None and found[0] in contact_ids
        ]
