"""What the inventory keeps for nothing: collected coins, and rows that no queue lists."""

from collections.abc import Collection
from typing import Literal, TypeAlias

from aqm_db._io.seam import Call
from aqm_db._lua.loader import Script

from . import Scope
from .outcome import check_reply
from .stock import CLAIM_TTL_MS, COIN_TTL_MS, USED_TTL_MS

COLLECT = Script("inventory/collect")
DROP_ORPHAN = Script("inventory/drop_orphan")

Mode: TypeAlias = Literal["delete", "count"]
"""Whether to remove, or to tell what would be removed."""


def build_collect(scope: Scope, contact_id: str, inactive_ms: int, mode: Mode) -> Call:
    """The call that collects one contact's garbage.

    Args:
        scope: whose inventory it is.
        contact_id: the contact; its reply counts what was deleted, by tier.
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


async def remove_orphans(
    scope: Scope, contact_ids: Collection[str], mode: Mode
) -> list[tuple[str, int]]:
    """Removes rows of some contacts that no queue lists, after a walk over the database (SCAN).

    Hand edits leave such rows, and coins that were set aside.

    Returns:
        For each row that was looked at its tier, and 1 if it was removed or 0 if a queue lists it.
    """
    removed: list[tuple[str, int]] = []
    if not contact_ids:
        return removed
    keys = scope.keys
    async for page in scope.seam.scan(keys.inv_pattern()):
        rows = [
            (keys.of(found[0]), found[1])
            for key in page
            if (found := keys.inv_ids(key)) is not None and found[0] in contact_ids
        ]
        replies = await scope.seam.run_all(
            [
                Call(DROP_ORPHAN, (names.row(key_id), *names.queues), (key_id, mode))
                for names, key_id in rows
            ]
        )
        for reply in replies:
            [deleted, tier] = check_reply(reply)
            removed.append(((tier or b"").decode("utf-8", "replace"), deleted))
    return removed
