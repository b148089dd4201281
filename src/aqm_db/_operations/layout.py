"""The version of the layout that a database's keys have, and how an older one gets to it.

Without an owner, a database may hold what was written by hand, or by another program that knows the
specification's names: it has no indexes, and no mark. Whoever first asks for all contacts or keys
has its indexes made, in one walk, and marks it. Whatever an owner has was written with its indexes.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from aqm_db._io.facts import read_unless_refused
from aqm_db._io.seam import Call, Seam
from aqm_db._lua.loader import Script
from aqm_db._model.keys import Keys
from aqm_db._model.rows import parse_number
from aqm_db.errors import (
    AccessDeniedError,
    CorruptEntryError,
    NotWritableError,
    SchemaVersionError,
)

from . import Scope
from .batch import AT_ONCE, split
from .outcome import check_reply
from .private_halves import TTL_MS
from .stock import USED_TTL_MS

if TYPE_CHECKING:
    from aqm_db._model.kinds import DatabaseName

MARK = Script("layout/mark")
ADOPT_HALF = Script("vault/adopt")
ADOPT_CONTACT = Script("inventory/adopt")
ADOPT_ROW = Script("inventory/adopt_row")

LAYOUT = 2
"""What this library reads and writes: 1 is the specification's, 2 has indexes of everything."""


async def check_layout(seam: Seam, keys: Keys) -> None:
    """Asks whether a server answers (PING), and refuses what a later version has written there.

    Who may not read the mark isn't told, and of a malformed one whoever needs it is.

    Raises:
        SchemaVersionError: a mark is higher than what is known here.
    """
    names: dict[DatabaseName, str] = {"vault": keys.vault_schema, "inventory": keys.inv_schema}
    reads = (("GET", name) for name in names.values())
    replies = await read_unless_refused(seam, ("PING",), *reads)
    if replies is None:
        await seam.read(("PING",))
        return
    for database, mark in zip(names, replies[1:], strict=True):
        with suppress(CorruptEntryError):
            _read_mark(database, mark)


async def prepare_vault(scope: Scope) -> bool:
    """Sees to it that all private halves are in their index.

    Returns:
        Whether they are; not where something isn't, and nothing can be written.

    Raises:
        SchemaVersionError: a later version has written them.
        CorruptEntryError: the mark is malformed, or an index.
    """
    return await _prepare(scope, "vault", scope.keys.vault_schema, _adopt_halves)


async def prepare_inventory(scope: Scope) -> bool:
    """Sees to it that all contacts are in their index, and all rows that no queue lists.

    Returns:
        As of :func:`prepare_vault`.

    Raises:
        SchemaVersionError: a later version has written them.
        CorruptEntryError: the mark is malformed, or an index.
    """
    return await _prepare(scope, "inventory", scope.keys.inv_schema, _adopt_contacts)


async def try_adoption(vault: Scope, inventory: Scope) -> None:
    """Asks for a step of the walk that has yet to be made, if one has.

    Who may not walk is told while nothing is changed; where there is nothing to adopt, nobody has
    to.

    Raises:
        AccessDeniedError: the user may not walk.
        SchemaVersionError: a later version has written the data.
        CorruptEntryError: a mark is malformed.
    """
    if not await _is_whole(vault, "vault", vault.keys.vault_schema):
        await vault.try_walk(vault.keys.vault_pattern())
    if not await _is_whole(inventory, "inventory", inventory.keys.inv_schema):
        await inventory.try_walk(inventory.keys.meta_pattern())


def build_mark(name: str) -> Call:
    """The call that marks a database as one whose indexes are whole."""
    return Call(MARK, (name,), (LAYOUT,))


def build_adopt_half(scope: Scope, key_id: str) -> Call:
    """The call that lists a private half, if it's active."""
    keys = scope.keys
    return Call(ADOPT_HALF, (keys.vault(key_id), keys.vault_expiry), (key_id, TTL_MS))


def build_adopt_contact(scope: Scope, contact_id: str) -> Call:
    """The call that lists a contact, or what is left of one that was forgotten."""
    keys, names = scope.keys, scope.keys.of(contact_id)
    return Call(
        ADOPT_CONTACT,
        (names.meta, names.used, names.used_until, keys.inv_contacts, keys.inv_forgotten),
        (contact_id, USED_TTL_MS),
    )


def build_adopt_row(scope: Scope, contact_id: str, key_id: str) -> Call:
    """The call that notes a public half, if no queue lists it."""
    names = scope.keys.of(contact_id)
    return Call(ADOPT_ROW, (names.row(key_id), scope.keys.inv_aside, *names.queues), (key_id,))


def _read_mark(database: "DatabaseName", mark: object) -> int | None:
    """The version that a mark names; None if there is no mark."""
    if mark is None:
        return None
    version = parse_number(mark) if isinstance(mark, bytes) else None
    if version is None:
        raise CorruptEntryError(f"the {database}'s version is malformed")
    if version > LAYOUT:
        raise SchemaVersionError(database, version, LAYOUT)
    return version


async def _is_whole(scope: Scope, database: "DatabaseName", mark: str) -> bool:
    [found] = await scope.seam.read(("GET", mark))
    version = _read_mark(database, found)
    # Whatever an owner has was written with its indexes.
    return bool(scope.keys.prefix) or version == LAYOUT


async def _prepare(
    scope: Scope, database: "DatabaseName", mark: str, adopt: Callable[[Scope], Awaitable[None]]
) -> bool:
    if await _is_whole(scope, database, mark):
        return True
    try:
        await adopt(scope)
        check_reply(await scope.seam.run(build_mark(mark)))
    except (AccessDeniedError, NotWritableError):
        # Whoever may write does it; who reads meanwhile walks over all that there is.
        return False
    return True


async def _adopt_halves(scope: Scope) -> None:
    keys = scope.keys
    async for page in scope.seam.scan(keys.vault_pattern()):
        key_ids = [found for key in page if (found := keys.vault_id(key)) is not None]
        await _run_portions(scope, [build_adopt_half(scope, key_id) for key_id in key_ids])
    _check_indexes(await scope.seam.read(("ZCARD", keys.vault_expiry)))


async def _adopt_contacts(scope: Scope) -> None:
    keys = scope.keys
    patterns = {keys.meta_pattern(): keys.meta_id, keys.used_pattern(): keys.used_id}
    for pattern, read_id in patterns.items():
        async for page in scope.seam.scan(pattern):
            contact_ids = [found for key in page if (found := read_id(key)) is not None]
            calls = [build_adopt_contact(scope, each) for each in dict.fromkeys(contact_ids)]
            await _run_portions(scope, calls)
    async for page in scope.seam.scan(keys.inv_pattern()):
        ids = [pair for key in page if (pair := keys.inv_ids(key)) is not None]
        await _run_portions(scope, [build_adopt_row(scope, *pair) for pair in ids])
    _check_indexes(
        await scope.seam.read(
            ("SCARD", keys.inv_contacts), ("ZCARD", keys.inv_forgotten), ("ZCARD", keys.inv_aside)
        )
    )


def _check_indexes(counts: Sequence[object]) -> None:
    """Raises what is wrong with an index: what it should list isn't in it."""
    for count in counts:
        if isinstance(count, CorruptEntryError):
            raise count


async def _run_portions(scope: Scope, calls: Sequence[Call]) -> None:
    for portion in split(calls, AT_ONCE):
        for reply in await scope.seam.run_all(portion):
            # What is malformed isn't listed, and an integrity check tells of it.
            if not isinstance(reply, CorruptEntryError):
                check_reply(reply)
