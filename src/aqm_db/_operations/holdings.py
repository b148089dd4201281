"""What an inventory holds of many contacts, in few round trips: for a backup."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from aqm_db._io.seam import Argument
from aqm_db._model.tiers import TIERS
from aqm_db.errors import CorruptEntryError
from aqm_db.types import ContactMeta, InventoryEntry

from . import Scope
from .batch import AT_ONCE, split
from .contacts import parse_meta
from .stock import list_key_ids, read_coins, read_key_ids

_WIDTH = 1 + len(TIERS)
"""What is asked for of each contact: itself, and its queues."""
_CONTACTS_AT_ONCE = AT_ONCE // _WIDTH
_SHORT = 20
"""A queue with fewer coins is read together with others': any that the paper's caps allow."""


class Holdings(NamedTuple):
    """A part of an inventory.

    Attributes:
        contacts: some contacts.
        coins: some coins, of contacts that were named before, or here.
        malformed: how many contacts can't be read, or have an index that can't.
    """

    contacts: list[ContactMeta]
    coins: list[InventoryEntry]
    malformed: int


async def list_holdings(scope: Scope, contact_ids: Sequence[str]) -> AsyncIterator[Holdings]:
    """Contacts and their coins, a portion at a time; those that are gone are left out.

    Malformed coins are logged and left out. A contact with a malformed index comes without coins.
    """
    for some in split(contact_ids, _CONTACTS_AT_ONCE):
        replies = await scope.seam.read(
            *(command for contact_id in some for command in _list_commands(scope, contact_id))
        )
        contacts: list[ContactMeta] = []
        places: list[tuple[str, str]] = []
        malformed = 0
        for contact_id, reply in zip(some, split(replies, _WIDTH), strict=True):
            fields, *queues = reply
            try:
                contact = parse_meta(contact_id, fields)
                if contact is None:
                    continue
                contacts.append(contact)
                key_ids = read_key_ids(queues)
                if max(map(len, queues)) == _SHORT:
                    # Whole, and not from there on: who takes its first coin moves all others up.
                    key_ids = await list_key_ids(scope, contact_id)
            except CorruptEntryError:
                malformed += 1
                continue
            places += [(contact_id, key_id) for key_id in key_ids]
        yield Holdings(contacts, [], malformed)
        async for coins in read_coins(scope, places):
            yield Holdings([], coins, 0)


def _list_commands(scope: Scope, contact_id: str) -> list[tuple[Argument, ...]]:
    names = scope.keys.of(contact_id)
    queues = [("ZRANGE", queue, 0, _SHORT - 1) for queue in names.queues]
    return [("HGETALL", names.meta), *queues]
