"""Rows of public halves that no queue lists: hand edits leave them, and what was set aside."""

from collections.abc import Collection
from typing import Literal, TypeAlias

from aqm_db._io.seam import Call, Seam
from aqm_db._lua import scripts
from aqm_db._model.keys import Keys

from .outcome import checked

Mode: TypeAlias = Literal["delete", "count"]
"""Whether to remove, or to tell what would be removed."""


async def remove_orphans(
    seam: Seam, keys: Keys, contact_ids: Collection[str], mode: Mode
) -> list[tuple[str, int]]:
    """Removes such rows of some contacts, after a walk over the whole database (SCAN).

    Returns:
        For each row that was looked at its tier, and 1 if it was removed or 0 if a queue lists it.
    """
    removed: list[tuple[str, int]] = []
    if not contact_ids:
        return removed
    async for page in seam.scan(keys.inv_pattern()):
        rows = [
            (keys.of(found[0]), found[1])
            for key in page
            if (found := keys.inv_ids(key)) is not None and found[0] in contact_ids
        ]
        replies = await seam.run_all(
            [
                Call(scripts.INV_DROP_ORPHAN, (names.row(key_id), *names.queues), (key_id, mode))
                for names, key_id in rows
            ]
        )
        for reply in replies:
            [deleted, tier] = checked(reply)
            removed.append(((tier or b"").decode("utf-8", "replace"), deleted))
    return removed
