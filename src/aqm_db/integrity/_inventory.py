"""The integrity check of the inventory."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from aqm_db._io.seam import Argument, Call
from aqm_db._lua.loader import Script
from aqm_db._model.keys import parse_id, parse_ids
from aqm_db._model.rows import row_of
from aqm_db._model.tiers import TIERS, flatten_caps
from aqm_db._operations import Scope
from aqm_db._operations.index import walk_ids, walk_names
from aqm_db._operations.stock import CLAIM_TTL_MS, COIN_TTL_MS, USED_TTL_MS
from aqm_db.errors import AQMDatabaseError, CorruptEntryError
from aqm_db.inventory import AsyncSmartInventory

from ._walk import FoundKey, Inspection, Item, decode_name

CHECK_COIN = Script("inventory/check_coin")
CHECK_CONTACT = Script("inventory/check_contact")
CHECK_CLAIM = Script("inventory/check_claim")


class Counts(NamedTuple):
    """How many of each were looked at."""

    public_halves: int
    contacts: int


async def check_inventory(inventory: AsyncSmartInventory, inspection: Inspection) -> Counts:
    """Checks contacts, queues, public halves and claims."""
    caps = flatten_caps(inventory.budget_caps)
    indexes = (inspection.keys.inv_contacts, inspection.keys.inv_forgotten)

    def coin(contact_id: str, key_id: bytes) -> Item:
        names = inspection.keys.of(contact_id)
        valid = int(parse_id(key_id) is not None)
        times = (COIN_TTL_MS, USED_TTL_MS)
        keys = (
            names.meta,
            names.used,
            names.used_until,
            *names.queues,
            inspection.keys.inv_totals,
            inspection.keys.inv_aside,
        )
        arguments: tuple[Argument, ...] = (
            inventory.scope.read_clock(),
            names.rows,
            key_id,
            valid,
            inspection.mode,
            *times,
            *caps,
        )
        call = Call(CHECK_COIN, keys, arguments)
        return Item(names.row(decode_name(key_id)), key_id, call)

    def contact(contact_id: str) -> Item:
        names = inspection.keys.of(contact_id)
        keys = (names.meta, names.used, names.used_until, *indexes)
        arguments = (inventory.scope.read_clock(), contact_id, inspection.mode, USED_TTL_MS)
        return Item(names.meta, contact_id.encode(), Call(CHECK_CONTACT, keys, arguments))

    def claim(name: str) -> Item:
        call = Call(CHECK_CLAIM, (name,), (inspection.mode, CLAIM_TTL_MS))
        return Item(name, b"", call)

    # A walk may come by a key twice.
    public_halves: set[str] = set()
    contacts: set[str] = set()
    own = {"public_half", "queue", "contact", "claim"}
    async for page in inspection.walk(own):
        rows = page["public_half"]
        public_halves.update(row.name for row in rows)
        contacts.update(found.name for found in page["contact"])
        await _check_contacts(inspection, page["contact"])
        memories = [*page["used_coins"], *page["used_coins_until"]]
        listed = dict.fromkeys(found.ids[0] for found in (*page["contact"], *memories))
        await inspection.examine(map(contact, listed))
        await inspection.examine(coin(row.ids[0], row.ids[1].encode()) for row in rows)
        entries = await _list_entries(inspection, page["queue"])
        await inspection.examine_entries([coin(*entry) for entry in entries])
        await inspection.examine(claim(found.name) for found in page["claim"])
    async for contact_ids in _list_listed(inventory.scope):
        await inspection.examine(map(contact, contact_ids))
    async for rows_aside in _list_aside(inventory.scope):
        await inspection.examine(coin(*each) for each in rows_aside)
    return Counts(len(public_halves), len(contacts))


async def _list_listed(scope: Scope) -> AsyncIterator[list[str]]:
    """The contacts in both indexes; one of the wrong type has been noted."""
    with suppress(CorruptEntryError):
        async for members in scope.seam.scan("*", scope.keys.inv_contacts):
            yield parse_ids(members)
    with suppress(CorruptEntryError):
        async for contact_ids in walk_ids(scope, scope.keys.inv_forgotten):
            yield contact_ids


async def _list_aside(scope: Scope) -> AsyncIterator[list[tuple[str, bytes]]]:
    """The rows in the index of those that were set aside: their contacts, and their ids."""
    with suppress(CorruptEntryError):
        async for members in walk_names(scope, scope.keys.inv_aside):
            names = [scope.keys.inv_ids(scope.keys.aside_row(member)) for member in members]
            yield [(found[0], found[1].encode()) for found in names if found is not None]


async def _check_contacts(inspection: Inspection, contacts: Sequence[FoundKey]) -> None:
    replies = await inspection.seam.read(*(("HGETALL", contact.name) for contact in contacts))
    for contact, reply in zip(contacts, replies, strict=True):
        try:
            row = row_of("the contact", reply)
            if row is not None:
                row.priority()
                row.integer("last_msg_at")
                row.text("display_name")
        except CorruptEntryError as error:
            inspection.note("corrupt_contact", contact.name, str(error))


async def _list_entries(
    inspection: Inspection, queues: Sequence[FoundKey]
) -> list[tuple[str, bytes]]:
    """All entries of some queues, each with its contact; what is wrong with a queue is noted."""
    # A queue is no longer than its cap allows, so it is read as a whole.
    replies = await inspection.seam.read(*(("ZRANGE", queue.name, 0, -1) for queue in queues))
    registered = await inspection.find_existing(
        [inspection.keys.of(queue.ids[0]).meta for queue in queues]
    )
    entries: list[tuple[str, bytes]] = []
    for queue, members, known in zip(queues, replies, registered, strict=True):
        contact_id, tier = queue.ids
        if tier not in TIERS:
            inspection.note_foreign(queue.name)
        elif isinstance(members, AQMDatabaseError):
            inspection.note_wrong_type(queue.name)
        else:
            entries += ((contact_id, member) for member in members)
            if members and not known:
                inspection.note("unregistered_contact", queue.name, "its contact isn't registered")
    return entries
