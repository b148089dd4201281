"""Garbage collection of the Smart Inventory: inactive contacts' coins, and stale ones."""

import logging
from functools import partial

from . import config
from ._io.redispy.clients import AnyAsyncClient, take_seam
from ._io.seam import Reply, Seam
from ._model.checks import check_days, check_id, check_kind
from ._model.defaults import DAY_MS
from ._model.tiers import TIERS
from ._operations.collecting import Mode, build_collect, drop_orphans, find_orphans, remove_orphans
from ._operations.outcome import Progress, check_reply
from .errors import ContactNotRegisteredError, CorruptEntryError, InventoryUnavailableError
from .inventory import AsyncSmartInventory
from .types import GCResult

_log = logging.getLogger("aqm_db.gc")
_AT_ONCE = -(2**52)
"""Since when everybody is inactive, who will ever write (ms)."""


class AsyncGarbageCollector:
    """Removes what the inventory keeps for nothing.

    A contact without a message for some days loses all coins and becomes a STRANGER; every other
    contact loses the coins that are stale. Whether a contact is inactive is checked again in the
    step that deletes, so one that a coin is selected for meanwhile keeps its coins.

    Args:
        inventory: what to collect from; its owner, clock and confirmations hold here too.
        client: the inventory's client, or a seam, as of the inventory.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the client decodes its responses.

    Every method also raises InventoryUnavailableError, AccessDeniedError, NotWritableError and (on
    a cluster) ConcurrencyError where the server or the link gives cause (see
    :mod:`aqm_db.errors`).
    """

    def __init__(self, inventory: AsyncSmartInventory, client: AnyAsyncClient | Seam) -> None:
        check_kind("inventory", inventory, AsyncSmartInventory)
        scope, name = inventory.scope, type(self).__name__
        seam, _ = take_seam(client, InventoryUnavailableError, name, scope.keys, scope.confirming)
        self._inventory = inventory
        self._scope = scope.replace_seam(seam)

    async def garbage_collect(self, inactive_days: int = config.INV_GC_INACTIVE_DAYS) -> GCResult:
        """Collects from all contacts.

        It walks the whole database (SCAN): for background use. Malformed contacts are logged and
        left as they are.

        Args:
            inactive_days: days without a message, 0 to 36,500.

        Raises:
            InvalidArgumentError: the number of days is out of range.
        """
        result = await self._collect_inactive(inactive_days, "delete")
        _log.info(
            "gc_completed",
            extra={
                "contacts_cleaned": result.contacts_cleaned,
                "keys_deleted": result.keys_deleted,
                "bytes_freed": result.bytes_freed,
            },
        )
        return result

    async def collect_single_contact(self, contact_id: str) -> GCResult:
        """Removes all coins of one contact, who becomes a STRANGER: someone was blocked, say.

        Those that no queue lists are found by a walk over the whole database (SCAN), before
        anything is removed: who may not walk collects nothing.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            ContactNotRegisteredError: there is no such contact.
            CorruptEntryError: the stored contact or one of its indexes is malformed.
        """
        check_id("contact_id", contact_id)
        call = build_collect(self._scope, contact_id, _AT_ONCE, "delete")
        # Before anything is changed: what forbids or hinders the walk leaves all as it is.
        orphans = await find_orphans(self._scope, contact_id)
        with Progress("collect_single_contact") as progress:
            reply = await self._scope.seam.run(call)
            progress.add([reply], _count_changes)
            [cleaned, _, *deleted] = check_reply(reply, contact_id=contact_id)
            removed = await drop_orphans(self._scope, orphans, "delete", progress)
        return _sum_up(cleaned, [*zip(TIERS, deleted, strict=True), *removed])

    async def dry_run(self, inactive_days: int = config.INV_GC_INACTIVE_DAYS) -> GCResult:
        """What :meth:`garbage_collect` would remove now; nothing is changed.

        Raises:
            InvalidArgumentError: the number of days is out of range.
        """
        return await self._collect_inactive(inactive_days, "count")

    async def _collect_inactive(self, inactive_days: int, mode: Mode) -> GCResult:
        check_days("inactive_days", inactive_days)
        inactive_ms = inactive_days * DAY_MS
        cleaned = 0
        inactive: set[str] = set()
        removed: list[tuple[str, int]] = []
        # SCAN may name a contact twice, which counting must not.
        seen: set[str] = set()
        with Progress("garbage_collect") as progress:
            async for page in self._inventory.contact_pages():
                contact_ids = [each for each in dict.fromkeys(page) if each not in seen]
                if mode == "count":
                    seen.update(contact_ids)
                build = partial(build_collect, self._scope, inactive_ms=inactive_ms, mode=mode)
                replies = await self._scope.seam.run_all(list(map(build, contact_ids)))
                if mode == "delete":
                    progress.add(replies, _count_changes)
                for contact_id, reply in zip(contact_ids, replies, strict=True):
                    try:
                        [is_cleaned, is_inactive, *deleted] = check_reply(
                            reply, contact_id=contact_id
                        )
                    except ContactNotRegisteredError:
                        # Forgotten since the page was read.
                        continue
                    except CorruptEntryError:
                        _log.warning("corrupt_entry", extra={"contact_id": contact_id})
                        continue
                    cleaned += is_cleaned
                    if is_inactive:
                        inactive.add(contact_id)
                    removed += zip(TIERS, deleted, strict=True)
            # Of all who are inactive: an earlier call may have failed before it came to these.
            removed += await remove_orphans(self._scope, inactive, mode, progress)
        return _sum_up(cleaned, removed)


def _count_changes(counts: Reply) -> int:
    """The contact, if it was cleaned, and the coins that were deleted."""
    is_cleaned, _, *deleted = counts
    return sum(deleted, is_cleaned)


def _sum_up(contacts_cleaned: int, removed: list[tuple[str, int]]) -> GCResult:
    return GCResult(
        contacts_cleaned=contacts_cleaned,
        keys_deleted=sum(count for _, count in removed),
        bytes_freed=sum(config.COIN_SIZE_BYTES.get(tier, 0) * count for tier, count in removed),
    )
