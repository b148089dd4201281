"""What is remembered of keys that are gone: coins that were used, and burned or expired halves."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple, TypeAlias

from aqm_db._io.seam import Argument, Call
from aqm_db._lua.loader import Script
from aqm_db._model.keys import ContactKeys, parse_id
from aqm_db.errors import AQMDatabaseError, CorruptEntryError

from . import Scope
from .batch import AT_ONCE, split
from .contacts import list_pages
from .index import walk_index, walk_indexes
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


async def list_used(scope: Scope) -> list[UsedCoin]:
    """All coins that were used, of contacts that were forgotten, too.

    One that is in the inventory was released, and so is left out. Keys of the wrong type and
    entries that no call has written are passed over.

    Raises:
        CorruptEntryError: an index of contacts is malformed.
        SchemaVersionError: a later version of this library has written the database.
    """
    found: dict[tuple[str, str], UsedCoin] = {}
    async for contact_ids in list_pages(scope):
        await _add_used(scope, contact_ids, found)
    async for entries in walk_index(scope, scope.keys.inv_forgotten):
        contact_ids = [each for member, _ in entries if (each := parse_id(member)) is not None]
        await _add_used(scope, contact_ids, found)
    return list(found.values())


async def list_spent(scope: Scope) -> list[SpentHalf]:
    """All private halves that are remembered as gone; what no call has written is passed over."""
    found: dict[str, SpentHalf] = {}
    with suppress(CorruptEntryError):
        async for entries in walk_index(scope, scope.keys.vault_spent):
            for member, score in entries:
                key_id = parse_id(member)
                place = int(score % 1 * _QUARTERS) if 0 <= score < float("inf") else len(FATES)
                if key_id is not None and place < len(FATES):
                    found[key_id] = SpentHalf(key_id, FATES[place], int(score))
    return list(found.values())


async def remember_used(scope: Scope, coins: Sequence[UsedCoin], progress: Progress) -> None:
    """Adds to the memory of used coins, and to what is remembered of each.

    One that the inventory holds, as it was before that use, is dropped.
    """
    by_contact: dict[str, list[UsedCoin]] = defaultdict(list)
    for coin in coins:
        by_contact[coin.contact_id].append(coin)
    for contact_id, own in by_contact.items():
        names = scope.keys.of(contact_id)
        indexes = (scope.keys.inv_forgotten, scope.keys.inv_aside)
        keys = (names.meta, names.used, names.used_until, *names.queues, *indexes)
        for portion in split(own, AT_ONCE):
            items: list[Argument] = []
            for coin in portion:
                items += (coin.key_id, _write(coin.used_at), _write(coin.ends))
            arguments = (scope.read_clock(), contact_id, names.rows, USED_TTL_MS, *items)
            check_reply(await scope.seam.run(Call(REMEMBER_USED, keys, arguments)))
            progress.add([len(portion)])


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


async def _add_used(
    scope: Scope, contact_ids: Sequence[str], found: dict[tuple[str, str], UsedCoin]
) -> None:
    """Adds the used coins of some contacts."""
    contacts = {contact_id: scope.keys.of(contact_id) for contact_id in contact_ids}
    by_index = {
        index: (contact_id, names)
        for contact_id, names in contacts.items()
        for index in (names.used, names.used_until)
    }
    async for index, entries in walk_indexes(scope, list(by_index)):
        await _add_page(scope, *by_index[index], [member for member, _ in entries], found)


async def _add_page(
    scope: Scope,
    contact_id: str,
    names: ContactKeys,
    members: Sequence[bytes],
    found: dict[tuple[str, str], UsedCoin],
) -> None:
    key_ids = [key_id for member in members if (key_id := parse_id(member)) is not None]
    commands = [
        command
        for key_id in key_ids
        for command in (
            ("ZSCORE", names.used, key_id),
            ("ZSCORE", names.used_until, key_id),
            # Last of the three: one that is back by then is known as used no longer.
            ("EXISTS", names.row(key_id)),
        )
    ]
    replies = await scope.seam.read(*commands) if commands else []
    for key_id, used_at, ends, is_back in zip(
        key_ids, replies[::3], replies[1::3], replies[2::3], strict=True
    ):
        coin = UsedCoin(contact_id, key_id, _read(used_at), _read(ends))
        if not is_back and (coin.used_at is not None or coin.ends is not None):
            found[contact_id, key_id] = coin


def _read(score: Any) -> int | None:
    """A time in a reply; None if there is none, or none that a call has written."""
    if score is None or isinstance(score, AQMDatabaseError):
        return None
    time = float(score)
    return int(time) if 0 <= time < float("inf") else None


def _write(time: int | None) -> Argument:
    return "" if time is None else time
