"""Contacts: registered, looked at, changed, forgotten."""

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aqm_db._io.seam import Argument, Call, Reply
from aqm_db._lua.loader import Code, Script
from aqm_db._model.checks import check_id, check_priority, check_text
from aqm_db._model.keys import parse_id
from aqm_db._model.rows import row_of
from aqm_db._model.tiers import TIERS, name_count_field
from aqm_db.errors import AQMDatabaseError, ContactNotRegisteredError, CorruptEntryError
from aqm_db.types import ContactMeta, InventorySummary

from . import Scope
from .collecting import drop_orphans, find_orphans
from .layout import prepare_inventory
from .outcome import Progress, check_reply
from .stock import CLAIM_TTL_MS, USED_TTL_MS

REGISTER = Script("inventory/register")
SET_PRIORITY = Script("inventory/set_priority")
FORGET = Script("inventory/forget")

_log = logging.getLogger("aqm_db.inventory")


def build_register(scope: Scope, contact_id: str, priority: str, display_name: str) -> Call:
    """The call that registers a contact.

    Raises:
        InvalidArgumentError: an argument has the wrong type or value.
    """
    check_id("contact_id", contact_id)
    check_priority("priority", priority)
    check_text("display_name", display_name)
    names = scope.keys.of(contact_id)
    request_id = scope.request_ids()
    keys = (
        names.meta,
        names.used,
        names.used_until,
        names.claims + request_id,
        scope.keys.inv_contacts,
        scope.keys.inv_forgotten,
    )
    arguments = (scope.read_clock(), request_id, contact_id, priority, display_name)
    return Call(REGISTER, keys, arguments)


def read_register(contact_id: str, reply: Reply) -> bool:
    """Whether the contact is new."""
    [created] = check_reply(reply, contact_id=contact_id)
    return bool(created)


def build_set_priority(
    scope: Scope, contact_id: str, priority: str, caps: Mapping[str, Mapping[str, int]]
) -> Call:
    """The call that changes a contact's priority.

    Raises:
        InvalidArgumentError: an argument has the wrong type or value.
    """
    check_id("contact_id", contact_id)
    check_priority("priority", priority)
    names = scope.keys.of(contact_id)
    arguments: tuple[Argument, ...] = (
        priority,
        names.rows,
        CLAIM_TTL_MS,
        *(caps[priority][tier] for tier in TIERS),
    )
    claim = names.claims + scope.request_ids()
    keys = (names.meta, names.used, names.used_until, claim, *names.queues)
    return Call(SET_PRIORITY, keys, arguments)


def read_set_priority(contact_id: str, priority: str, reply: Reply) -> bool:
    """True, once the reply says that the priority is changed."""
    [dropped] = check_reply(reply, contact_id=contact_id)
    _log.info(
        "priority_changed",
        extra={"contact_id": contact_id, "priority": priority, "dropped": dropped},
    )
    return True


async def forget(scope: Scope, contact_id: str) -> int:
    """Removes a contact with all coins; returns how many these were.

    One that a call has forgotten which failed then loses the rows that it left behind.
    """
    check_id("contact_id", contact_id)
    names = scope.keys.of(contact_id)
    claim = names.claims + scope.request_ids()
    keys = (
        names.meta,
        names.used,
        names.used_until,
        claim,
        *names.queues,
        scope.keys.inv_contacts,
        scope.keys.inv_forgotten,
    )
    times = (USED_TTL_MS, CLAIM_TTL_MS)
    call = Call(FORGET, keys, (scope.read_clock(), contact_id, names.rows, names.claims, *times))
    # Before anything is changed: what forbids or hinders the walk leaves the contact as it is.
    orphans = await find_orphans(scope, contact_id)
    with Progress("forget_contact") as progress:
        reply = await scope.seam.run(call)
        # The contact is a change, too.
        progress.add([reply], lambda counts: 1 + sum(counts))
        removed = await drop_orphans(scope, orphans, "delete", progress)
        dropped = sum(deleted for _, deleted in removed)
        if not (reply[0] == Code.NOT_REGISTERED and dropped):
            dropped += sum(check_reply(reply, contact_id=contact_id))
    _log.info("contact_forgotten", extra={"contact_id": contact_id, "dropped": dropped})
    return dropped


async def read_meta(scope: Scope, contact_id: str) -> ContactMeta | None:
    """A contact; None if there is none."""
    check_id("contact_id", contact_id)
    [fields] = await scope.seam.read(("HGETALL", scope.keys.of(contact_id).meta))
    row = row_of(f"contact {contact_id!r}", fields)
    if row is None:
        return None
    return ContactMeta(
        contact_id=contact_id,
        priority=row.priority(),
        last_msg_at=row.integer("last_msg_at"),
        display_name=row.text("display_name"),
    )


async def list_pages(scope: Scope) -> AsyncIterator[list[str]]:
    """The ids of all contacts, page by page (SSCAN): each at least once.

    Raises:
        CorruptEntryError: what is stored in the index's place is malformed.
        SchemaVersionError: a later version of this library has written the database.
    """
    await prepare_inventory(scope)
    async for page in scope.seam.scan("*", scope.keys.inv_contacts):
        contact_ids = [found for each in page if (found := parse_id(each)) is not None]
        if contact_ids:
            yield contact_ids


async def summarize(scope: Scope, contact_id: str) -> InventorySummary:
    """How many coins a contact has of each tier."""
    check_id("contact_id", contact_id)
    [summary] = await _summarize_page(scope, [contact_id])
    if isinstance(summary, AQMDatabaseError):
        raise summary
    return summary


async def summarize_all(scope: Scope) -> dict[str, InventorySummary]:
    """The same of all contacts; malformed ones are logged and left out."""
    inventory: dict[str, InventorySummary] = {}
    async for contact_ids in list_pages(scope):
        for found in await _summarize_page(scope, contact_ids):
            if isinstance(found, InventorySummary):
                inventory[found.contact_id] = found
            elif not isinstance(found, ContactNotRegisteredError):
                # One that was forgotten since the page was read is none of them.
                _log.warning("corrupt_entry", extra={"reason": str(found)})
    return inventory


async def _summarize_page(
    scope: Scope, contact_ids: list[str]
) -> list[InventorySummary | AQMDatabaseError]:
    reads = [
        command
        for names in map(scope.keys.of, contact_ids)
        for command in (("HGETALL", names.meta), *(("ZCARD", queue) for queue in names.queues))
    ]
    replies = iter(await scope.seam.read(*reads))
    return [
        _read_summary(contact_id, next(replies), [next(replies) for _ in TIERS])
        for contact_id in contact_ids
    ]


def _read_summary(
    contact_id: str, meta: Any, counts: list[Any]
) -> InventorySummary | AQMDatabaseError:
    name = f"contact {contact_id!r}"
    if any(isinstance(count, AQMDatabaseError) for count in counts):
        return CorruptEntryError(f"{name}: an index has the wrong type")
    try:
        row = row_of(name, meta)
        if row is None:
            return ContactNotRegisteredError(f"{name} is not registered")
        named = {name_count_field(tier): count for tier, count in zip(TIERS, counts, strict=True)}
        return InventorySummary(contact_id, priority=row.priority(), **named)
    except CorruptEntryError as error:
        return error
