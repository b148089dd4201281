"""What the inventory keeps for nothing, and how it's collected: many contacts at once."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from aqm_db._io.seam import Call, Reply
from aqm_db._lua.loader import Script
from aqm_db._model.tiers import TIERS
from aqm_db.errors import AQMDatabaseError

from . import Scope
from .batch import AT_ONCE
from .outcome import Progress, check_reply
from .stock import CLAIM_TTL_MS, COIN_TTL_MS, CONTACTS_AT_ONCE, PORTION, USED_TTL_MS

FIND_GARBAGE = Script("inventory/find_garbage")
COLLECT = Script("inventory/collect")

Mode: TypeAlias = Literal["delete", "count"]
"""Whether to remove, or to tell what would be removed."""
Counts: TypeAlias = list[int]
"""Of one contact: whether it was cleaned, and the coins that were removed, by tier and of none."""
COLLECTED_AT_ONCE = 100
"""Coins of one contact that one script collects: it writes for each."""
_START = (1, 0)
"""Where collecting begins: a tier's number, and a place in its queue."""


async def find_garbage(scope: Scope, contact_ids: Sequence[str], inactive_ms: int) -> list[str]:
    """Those of some contacts that may have something to collect.

    Args:
        scope: whose inventory it is.
        contact_ids: the contacts.
        inactive_ms: a contact whose last message is longer ago is inactive.
    """
    keys = scope.keys
    prefixes = (keys.metas, keys.useds, keys.used_untils, keys.queues, keys.rows)
    times = (COIN_TTL_MS, inactive_ms, USED_TTL_MS)
    arguments = (scope.read_clock(), *prefixes, *times, PORTION)
    found: list[str] = []
    left = list(contact_ids)
    while left:
        names = (keys.inv_aside, *keys.list_metas(left[:CONTACTS_AT_ONCE]))
        reply = await scope.seam.run(Call(FIND_GARBAGE, names, arguments))
        looked_at, *places = check_reply(reply)
        found += [left[place] for place in places]
        left = left[looked_at:]
    return found


async def collect(
    scope: Scope, contact_ids: Sequence[str], inactive_ms: int, mode: Mode, progress: Progress
) -> tuple[dict[str, Counts], dict[str, AQMDatabaseError]]:
    """Collects the garbage of some contacts, many coins in portions.

    Args:
        scope: whose inventory it is.
        contact_ids: the contacts, each once.
        inactive_ms: a contact whose last message is longer ago is inactive.
        mode: whether to delete.
        progress: told what was deleted.

    Returns:
        What was collected, by contact, and of whom it couldn't be, or not to the end.
    """
    totals: dict[str, Counts] = {}
    errors: dict[str, AQMDatabaseError] = {}
    places = dict.fromkeys(contact_ids, _START)
    while places:
        some = list(places)[:AT_ONCE]
        calls = [build_collect(scope, each, inactive_ms, mode, places.pop(each)) for each in some]
        replies = await scope.seam.run_all(calls)
        if mode == "delete":
            progress.add(replies, _count_changes)
        for contact_id, reply in zip(some, replies, strict=True):
            try:
                *counts, first, place = check_reply(reply, contact_id=contact_id)
            except AQMDatabaseError as error:
                errors[contact_id] = error
                continue
            totals[contact_id] = _add_counts(totals.get(contact_id, [0] * len(counts)), counts)
            if first:
                places[contact_id] = (first, place)
    return totals, errors


def build_collect(
    scope: Scope, contact_id: str, inactive_ms: int, mode: Mode, start: tuple[int, int]
) -> Call:
    """The call that collects a portion of one contact's garbage, from a place on."""
    names = scope.keys.of(contact_id)
    keys = (
        names.meta,
        names.used,
        names.used_until,
        names.claims + scope.request_ids(),
        *names.queues,
        scope.keys.inv_watch,
        scope.keys.inv_aside,
    )
    times = (COIN_TTL_MS, inactive_ms, USED_TTL_MS, CLAIM_TTL_MS)
    portion = (mode, COLLECTED_AT_ONCE, *start)
    return Call(COLLECT, keys, (scope.read_clock(), names.rows, *times, *portion))


def _count_changes(counts: Reply) -> int:
    """The contact, if it was cleaned, and the coins that were deleted."""
    return sum(counts[: 2 + len(TIERS)])


def _add_counts(before: Counts, counts: Counts) -> Counts:
    """Of two portions of one contact, which is cleaned once."""
    cleaned, *removed = map(sum, zip(before, counts, strict=True))
    return [min(cleaned, 1), *removed]
