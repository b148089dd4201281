"""What is remembered of keys that are gone: coins that were used, and burned or expired halves."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from aqm_db._io.seam import Argument, Call, Reply
from aqm_db._lua.loader import Script
from aqm_db._model.keys import ContactKeys, parse_id
from aqm_db.errors import AQMDatabaseError, CorruptEntryError

from . import Scope
from .batch import AT_ONCE, ROWS_AT_ONCE, split
from .contacts import list_pages
from .index import walk_ids, walk_index, walk_indexes
from .outcome import Progress, check_reply
from .private_halves import GRACE_MS, SPENT_TTL_MS
from .stock import USED_TTL_MS

REMEMBER_USED = Script("inventory/remember")
REMEMBER_SPENT = Script("vault/remember")

Fate: TypeAlias = Literal["gone", "purged", "burned"]
"""How a private half went: the server let it go, it was deleted for its age, or it was burned."""
FATES: tuple[Fate, ...] = ("gone", "purged", "burned")
"""In the order of the quarters that ``_lua/shared/spent.lua`` keeps them as."""
_QUARTERS = 4


class UsedCoin(NamedTuple):
    """A coin that was used.

    Attributes:
        contact_id: whose it is.
        key_id: its id.
        used_at: when it was used, in ms; None if that is forgotten.
        ends: when it can't be used any more, if it outlives the 30 days of memory.
    """

    contact_id: str
    key_id: str
    used_at: int | None
    ends: int | None


class SpentHalf(NamedTuple):
    """A private half that is gone.

    Attributes:
        key_id: its id.
        fate: how it went.
        ends: when it would have expired by itself, in ms.
    """

    key_id: str
    fate: Fate
    ends: int


async def list_used(scope: Scope) -> AsyncIterator[list[UsedCoin]]:
    """All coins that were used, of contacts that were forgotten, too: page by page, each once.

    One that is in the inventory was released, and so is left out. Keys of the wrong type and
    entries that no call has written are passed over.

    Raises:
        CorruptEntryError: an index of contacts is malformed.
        SchemaVersionError: a later version of this library has written the database.
    """
    # Texts, which the garbage collector passes over; a row's name stands for contact and coin.
    found: set[str] = set()
    async for contact_ids in _list_contacts(scope):
        contacts = {contact_id: scope.keys.of(contact_id) for contact_id in contact_ids}
        by_index = {
            index: (contact_id, names)
            for contact_id, names in contacts.items()
            for index in (names.used, names.used_until)
        }
        places: list[_Place] = []
        async for index, entries in walk_indexes(scope, list(by_index)):
            contact_id, names = by_index[index]
            for member, _ in entries:
                key_id = parse_id(member)
                if key_id is not None and names.row(key_id) not in found:
                    found.add(names.row(key_id))
                    places.append(_Place(contact_id, names, key_id))
            while len(places) >= ROWS_AT_ONCE:
                yield await _read_used(scope, places[:ROWS_AT_ONCE])
                del places[:ROWS_AT_ONCE]
        if places:
            yield await _read_used(scope, places)


async def list_spent(scope: Scope) -> AsyncIterator[list[SpentHalf]]:
    """All private halves that are remembered as gone, page by page, each once.

    What no call has written is passed over.
    """
    found: set[str] = set()
    with suppress(CorruptEntryError):
        async for entries in walk_index(scope, scope.keys.vault_spent):
            page: list[SpentHalf] = []
            for member, score in entries:
                key_id = parse_id(member)
                place = int(score % 1 * _QUARTERS) if 0 <= score < float("inf") else len(FATES)
                if key_id is not None and place < len(FATES) and key_id not in found:
                    found.add(key_id)
                    page.append(SpentHalf(key_id, FATES[place], int(score)))
            yield page


async def remember_used(scope: Scope, coins: Sequence[UsedCoin], progress: Progress) -> None:
    """Adds to the memory of used coins, and to what is remembered of each.

    One that the inventory holds, as it was before that use, is dropped.
    """
    by_contact: dict[str, list[UsedCoin]] = defaultdict(list)
    for coin in coins:
        by_contact[coin.contact_id].append(coin)
    portions = [portion for own in by_contact.values() for portion in split(own, AT_ONCE)]
    for some in split(portions, AT_ONCE):
        replies = await scope.seam.run_all([_build_remember_used(scope, each) for each in some])
        for portion, reply in zip(some, replies, strict=True):
            progress.add([reply], partial(_count, portion))
        for reply in replies:
            check_reply(reply)


async def remember_spent(scope: Scope, halves: Sequence[SpentHalf], progress: Progress) -> None:
    """Adds to the memory of private halves that are gone.

    One that the vault holds is burned, if it was burned.

    Raises:
        CorruptEntryError: the stored counters are malformed.
    """
    keys = (scope.keys.vault_stats, scope.keys.vault_expiry, scope.keys.vault_spent)
    for portion in split(halves, AT_ONCE):
        items: list[Argument] = []
        for half in portion:
            items += half
        fixed = (scope.read_clock(), scope.request_ids(), scope.keys.vault_prefix, GRACE_MS)
        call = Call(REMEMBER_SPENT, keys, (*fixed, SPENT_TTL_MS, *items))
        check_reply(await scope.seam.run(call))
        progress.add([len(portion)])


def _build_remember_used(scope: Scope, coins: Sequence[UsedCoin]) -> Call:
    """The call that remembers some coins of one contact."""
    contact_id = coins[0].contact_id
    names = scope.keys.of(contact_id)
    indexes = (scope.keys.inv_forgotten, scope.keys.inv_aside)
    keys = (names.meta, names.used, names.used_until, *names.queues, *indexes)
    items: list[Argument] = []
    for coin in coins:
        items += (coin.key_id, _write(coin.used_at), _write(coin.ends))
    return Call(
        REMEMBER_USED, keys, (scope.read_clock(), contact_id, names.rows, USED_TTL_MS, *items)
    )


def _count(coins: Sequence[UsedCoin], _: Reply) -> int:
    """How many changes a reply that says OK stands for."""
    return len(coins)


async def _list_contacts(scope: Scope) -> AsyncIterator[list[str]]:
    """The ids of contacts, and then of those that were forgotten, page by page."""
    async for contact_ids in list_pages(scope):
        yield contact_ids
    async for contact_ids in walk_ids(scope, scope.keys.inv_forgotten):
        yield contact_ids


class _Place(NamedTuple):
    """Where a used coin may be remembered."""

    contact_id: str
    names: ContactKeys
    key_id: str


async def _read_used(scope: Scope, places: Sequence[_Place]) -> list[UsedCoin]:
    """Some coins, those of them that are used."""
    commands = [
        command
        for _, names, key_id in places
        for command in (
            ("ZSCORE", names.used, key_id),
            ("ZSCORE", names.used_until, key_id),
            # Last of the three: one that is back by then is known as used no longer.
            ("EXISTS", names.row(key_id)),
        )
    ]
    coins: list[UsedCoin] = []
    for place, reply in zip(places, split(await scope.seam.read(*commands), 3), strict=True):
        used_at, ends, is_back = reply
        coin = UsedCoin(place.contact_id, place.key_id, _read(used_at), _read(ends))
        if not is_back and (coin.used_at is not None or coin.ends is not None):
            coins.append(coin)
    return coins


def _read(score: Any) -> int | None:
    """A time in a reply; None if there is none, or none that a call has written."""
    if score is None or isinstance(score, AQMDatabaseError):
        return None
    time = float(score)
    return int(time) if 0 <= time < float("inf") else None


def _write(time: int | None) -> Argument:
    return "" if time is None else time
