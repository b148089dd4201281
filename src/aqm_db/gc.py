"""Garbage collection of the Smart Inventory: inactive contacts' coins, and stale ones."""

import logging
import operator
from collections.abc import Iterable, Mapping

from . import config
from ._io.redispy.clients import AnyAsyncClient, take_seam
from ._io.seam import Seam
from ._model.checks import check_days, check_id, check_kind
from ._model.defaults import DAY_MS
from ._model.tiers import TIERS
from ._operations.collecting import Counts, Mode, collect, find_garbage
from ._operations.index import each_once
from ._operations.outcome import Progress
from .errors import (
    AQMDatabaseError,
    ContactNotRegisteredError,
    CorruptEntryError,
    InventoryUnavailableError,
)
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

        Malformed contacts are logged and left as they are.

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

        Many coins go in portions; a call that fails in between (``carried_out``) is finished by
        asking again. Coins that were set aside go as well.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            ContactNotRegisteredError: there is no such contact.
            CorruptEntryError: the stored contact or one of its indexes is malformed.
        """
        check_id("contact_id", contact_id)
        with Progress("collect_single_contact") as progress:
            found = await collect(self._scope, [contact_id], _AT_ONCE, "delete", progress)
            collected, [*errors] = found[0].values(), found[1].values()
            if errors:
                raise errors[0]
        return _sum_up(collected)

    async def dry_run(self, inactive_days: int = config.INV_GC_INACTIVE_DAYS) -> GCResult:
        """What :meth:`garbage_collect` would remove now; nothing is changed.

        Raises:
            InvalidArgumentError: the number of days is out of range.
        """
        return await self._collect_inactive(inactive_days, "count")

    async def _collect_inactive(self, inactive_days: int, mode: Mode) -> GCResult:
        check_days("inactive_days", inactive_days)
        inactive_ms = inactive_days * DAY_MS
        collected: list[Counts] = []
        pages = self._inventory.contact_pages()
        if mode == "count":
            # What is deleted twice is gone once, and may be back after a failover.
            pages = each_once(pages)
        with Progress("garbage_collect") as progress:
            async for page in pages:
                found = await find_garbage(self._scope, page, inactive_ms)
                totals, errors = await collect(self._scope, found, inactive_ms, mode, progress)
                collected += totals.values()
                _pass_over(errors)
        return _sum_up(collected)


def _pass_over(errors: Mapping[str, AQMDatabaseError]) -> None:
    """Goes on without contacts that are malformed, or were forgotten since they were listed."""
    for contact_id, error in errors.items():
        if isinstance(error, CorruptEntryError):
            _log.warning("corrupt_entry", extra={"contact_id": contact_id})
        elif not isinstance(error, ContactNotRegisteredError):
            raise error


def _sum_up(collected: Iterable[Counts]) -> GCResult:
    """What was collected of all contacts; the size of a coin without a tier isn't known."""
    none: Counts = [0] * (2 + len(TIERS))
    cleaned, *removed = map(sum, zip(none, *collected, strict=True))
    sizes = (config.COIN_SIZE_BYTES[tier] for tier in TIERS)
    return GCResult(
        contacts_cleaned=cleaned,
        keys_deleted=sum(removed),
        bytes_freed=sum(map(operator.mul, removed, sizes)),
    )
