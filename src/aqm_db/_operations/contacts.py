"""Contacts: registered, looked at, changed, forgotten."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aqm_db._io.seam import Argument, Call, Reply
from aqm_db._lua.loader import Code, Script
from aqm_db._model.checks import check_id, check_priority, check_text
from aqm_db._model.keys import parse_ids
from aqm_db._model.rows import row_of
from aqm_db._model.tiers import PRIORITIES, TIERS, counts_of, deduct
from aqm_db.errors import AQMDatabaseError, ContactNotRegisteredError, CorruptEntryError
from aqm_db.types import ContactMeta, InventorySummary, Priority

from . import Scope
from .batch import run_batch, split
from .index import each_once
from .layout import prepare_inventory
from .outcome import Progress, check_reply
from .stock import CLAIM_TTL_MS, PORTION, USED_TTL_MS, count_stale

REGISTER = Script("inventory/register")
SET_PRIORITY = Script("inventory/set_priority")
FORGET = Script("inventory/forget")
SUMMARIZE = Script("inventory/summarize")

_PRIORITIES: Mapping[bytes | int, Priority] = {
    priority.encode(): check_priority("priority", priority) for priority in PRIORITIES
}
_WIDTH = 1 + len(TIERS)
"""What there is of each contact in a summary: its priority, and its coins of each tier."""
COUNTED_AT_ONCE = 500
"""Contacts of one script that does no more than count."""
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


async def register_all(
    scope: Scope, contacts: Sequence[tuple[str, str, str]]
) -> list[bool | AQMDatabaseError]:
    """Registers contacts, in few round trips; those that are registered stay as they are.

    Args:
        scope: whose they are.
        contacts: of each the id, the priority and the name.

    Returns:
        For each True, or the error that registering it alone would have raised.
    """

    def build(contact: tuple[str, str, str]) -> Call:
        return build_register(scope, *contact)

    def read(contact: tuple[str, str, str], reply: Reply | AQMDatabaseError) -> bool:
        check_reply(reply, contact_id=contact[0])
        return True

    return await run_batch(scope.seam, contacts, build, read)


async def set_priority(
    scope: Scope, contact_id: str, priority: str, caps: Mapping[str, Mapping[str, int]]
) -> None:
    """Changes a contact's priority; of many coins above its caps, portions go after that.

    Raises:
        InvalidArgumentError: an argument has the wrong type or value.
    """
    check_id("contact_id", contact_id)
    check_priority("priority", priority)
    dropped, more = 0, 1
    with Progress("set_contact_priority") as progress:
        while more:
            call = build_set_priority(scope, contact_id, priority, caps[priority], progress.count)
            reply = await scope.seam.run(call)
            # The priority is a change, too.
            progress.add([reply], lambda counts: counts[0] + (not progress.count))
            count, more = check_reply(reply, contact_id=contact_id)
            dropped += count
    _log.info(
        "priority_changed",
        extra={"contact_id": contact_id, "priority": priority, "dropped": dropped},
    )


def build_set_priority(
    scope: Scope, contact_id: str, priority: str, caps: Mapping[str, int], changed: int
) -> Call:
    """The call that changes a contact's priority, or goes on with that if it has changed things."""
    names = scope.keys.of(contact_id)
    arguments: tuple[Argument, ...] = (
        priority,
        names.rows,
        CLAIM_TTL_MS,
        PORTION,
        changed or "",
        *(caps[tier] for tier in TIERS),
    )
    claim = names.claims + scope.request_ids()
    keys = (names.meta, names.used, names.used_until, claim, *names.queues)
    return Call(SET_PRIORITY, keys, arguments)


async def forget(scope: Scope, contact_id: str) -> int:
    """Removes a contact with all coins; returns how many these were.

    Of many, portions go first. What is noted of one that is gone already goes as well.
    """
    check_id("contact_id", contact_id)
    dropped, more = 0, 1
    with Progress("forget_contact") as progress:
        while more:
            reply = await scope.seam.run(build_forget(scope, contact_id))
            # The contact is a change, too.
            progress.add([reply], lambda counts: counts[0] + counts[1])
            if reply[0] == Code.NOT_REGISTERED and progress.count:
                # Somebody else has come to the end of it.
                break
            count, _, more = check_reply(reply, contact_id=contact_id)
            dropped += count
    _log.info("contact_forgotten", extra={"contact_id": contact_id, "dropped": dropped})
    return dropped


def build_forget(scope: Scope, contact_id: str) -> Call:
    """The call that forgets a contact, or drops a portion of its coins where these are many."""
    names = scope.keys.of(contact_id)
    keys = (
        names.meta,
        names.used,
        names.used_until,
        names.claims + scope.request_ids(),
        *names.queues,
        scope.keys.inv_contacts,
        scope.keys.inv_forgotten,
        scope.keys.inv_aside,
    )
    about = (scope.read_clock(), contact_id, names.rows, names.claims)
    return Call(FORGET, keys, (*about, USED_TTL_MS, CLAIM_TTL_MS, PORTION))


async def read_meta(scope: Scope, contact_id: str) -> ContactMeta | None:
    """A contact; None if there is none."""
    check_id("contact_id", contact_id)
    [fields] = await scope.seam.read(("HGETALL", scope.keys.of(contact_id).meta))
    return parse_meta(contact_id, fields)


def parse_meta(contact_id: str, fields: Any) -> ContactMeta | None:
    """A contact as a server gives it (HGETALL); None if there is none.

    Raises:
        CorruptEntryError: it's malformed.
    """
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
    keys = scope.keys
    is_whole = await prepare_inventory(scope)
    walked = ("*", keys.inv_contacts) if is_whole else (keys.meta_pattern(),)
    async for page in scope.seam.scan(*walked):
        contact_ids = parse_ids(page) if is_whole else list(filter(None, map(keys.meta_id, page)))
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
    async for page in summarize_pages(scope):
        inventory |= {found.contact_id: found for found in page}
    return inventory


async def summarize_pages(scope: Scope) -> AsyncIterator[list[InventorySummary]]:
    """The same, page by page, so that nobody waits until all of many are looked at."""
    async for contact_ids in each_once(list_pages(scope)):
        page: list[InventorySummary] = []
        for found in await _summarize_page(scope, contact_ids):
            if isinstance(found, InventorySummary):
                page.append(found)
            elif not isinstance(found, ContactNotRegisteredError):
                # One that was forgotten since the page was read is none of them.
                _log.warning("corrupt_entry", extra={"reason": str(found)})
        yield page


async def leave_out_stale(
    scope: Scope, summaries: Sequence[InventorySummary]
) -> list[InventorySummary]:
    """The same contacts without coins that are stale by now, and so are handed out to nobody."""
    holders = [each.contact_id for each in summaries if any(counts_of(each).values())]
    stale = await count_stale(scope, holders, 0) if holders else {}
    return [
        deduct(each, stale[each.contact_id]) if each.contact_id in stale else each
        for each in summaries
    ]


def build_summary(scope: Scope, contact_ids: Sequence[str]) -> Call:
    """The call that counts the coins of some contacts."""
    keys = scope.keys
    return Call(SUMMARIZE, keys.list_metas(contact_ids), (keys.metas, keys.queues))


def read_priorities(reply: Reply | AQMDatabaseError) -> list[object]:
    """What is stored as the priority of each contact that was counted."""
    return check_reply(reply)[::_WIDTH]


async def _summarize_page(
    scope: Scope, contact_ids: Sequence[str]
) -> list[InventorySummary | AQMDatabaseError]:
    summaries: list[InventorySummary | AQMDatabaseError] = []
    for some in split(contact_ids, COUNTED_AT_ONCE):
        found = check_reply(await scope.seam.run(build_summary(scope, some)))
        parts = (found[part::_WIDTH] for part in range(_WIDTH))
        for contact_id, priority, gold, silver, bronze in zip(some, *parts, strict=True):
            known = _PRIORITIES.get(priority)
            if known is None or gold < 0 or silver < 0 or bronze < 0:
                summaries.append(_explain(contact_id, priority, min(gold, silver, bronze)))
            else:
                summaries.append(InventorySummary(contact_id, gold, silver, bronze, known))
    return summaries


def _explain(contact_id: str, priority: bytes | int | None, least: int) -> AQMDatabaseError:
    """Why there is no summary of a contact."""
    name = f"contact {contact_id!r}"
    if least < 0:
        return CorruptEntryError(f"{name}: an index has the wrong type")
    if priority is None:
        return ContactNotRegisteredError(f"{name} is not registered")
    if isinstance(priority, int):
        return CorruptEntryError(f"{name}: not a hash")
    return CorruptEntryError(f"{name}: field priority is missing or malformed")
