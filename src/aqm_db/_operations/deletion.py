"""The end of an owner: all that is kept is found by indexes, which go last."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, TypeAlias

from aqm_db._io.seam import Argument, ClientSeam
from aqm_db._model.keys import parse_ids
from aqm_db._model.kinds import (
    INVENTORY_KINDS,
    VAULT_KINDS,
    DatabaseName,
    Kind,
    list_fixed_names,
)

from . import Scope
from .batch import AT_ONCE
from .index import walk_ids, walk_indexes, walk_names
from .outcome import Progress

_Pages: TypeAlias = AsyncIterator[Sequence[Argument]]


async def delete_all(
    seam: ClientSeam, scope: Scope, databases: Sequence[DatabaseName], progress: Progress
) -> None:
    """Deletes all that an owner has, but for claims, which end by themselves.

    Whatever lists others goes after them, so that a call that has failed can be made again.

    Args:
        seam: deletes.
        scope: whose it is, over the same seam.
        databases: what is there.
        progress: told how many keys were deleted.

    Raises:
        CorruptEntryError: an index has the wrong type, and nobody knows what it should list.
    """
    names: list[Argument] = []
    for database in databases:
        list_pages, _ = _CONTENTS[database]
        async for page in list_pages(scope):
            names += page
            while len(names) >= AT_ONCE:
                await _delete_portion(seam, names[:AT_ONCE], progress)
                del names[:AT_ONCE]
    for database in databases:
        _, kinds = _CONTENTS[database]
        names += list_fixed_names(scope.keys, kinds)
    await _delete_portion(seam, names, progress)


async def _delete_portion(seam: ClientSeam, names: Sequence[Argument], progress: Progress) -> None:
    # Counted first: where a reply is lost, the repetition finds none of them.
    found = await seam.read(*(("EXISTS", name) for name in dict.fromkeys(names)))
    await seam.delete(*names)
    progress.add(found)


async def _list_vault_pages(scope: Scope) -> _Pages:
    """Private halves, and tombstones."""
    keys = scope.keys
    for index in (keys.vault_expiry, keys.vault_spent, keys.vault_unpublished):
        async for key_ids in walk_ids(scope, index):
            yield [keys.vault(key_id) for key_id in key_ids]


async def _list_inventory_pages(scope: Scope) -> _Pages:
    """Public halves, and what is kept of contacts; each queue after its coins."""
    keys = scope.keys
    async for members in walk_names(scope, keys.inv_aside):
        yield [keys.aside_row(member) for member in members]
    async for members in scope.seam.scan("*", keys.inv_contacts):
        async for page in _list_contact_keys(scope, parse_ids(members)):
            yield page
    async for contact_ids in walk_ids(scope, keys.inv_forgotten):
        async for page in _list_contact_keys(scope, contact_ids):
            yield page


async def _list_contact_keys(scope: Scope, contact_ids: Sequence[str]) -> _Pages:
    contacts = [scope.keys.of(contact_id) for contact_id in contact_ids]
    by_queue = {queue: names for names in contacts for queue in names.queues}
    async for queue, entries in walk_indexes(scope, list(by_queue)):
        yield [by_queue[queue].row(found) for found in parse_ids(member for member, _ in entries)]
    for names in contacts:
        yield [names.meta, names.used, names.used_until, *names.queues]


_CONTENTS: Final[Mapping[DatabaseName, tuple[Callable[[Scope], _Pages], Sequence[Kind]]]] = {
    "vault": (_list_vault_pages, VAULT_KINDS),
    "inventory": (_list_inventory_pages, INVENTORY_KINDS),
}
"""What lists the keys of each that have ids, and the kinds of the others."""
