"""Private halves: stored, read, burned, purged, counted."""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aqm_db import config
from aqm_db._io.seam import Argument, Call, Reply
from aqm_db._lua.loader import Code, Script
from aqm_db._model.checks import check_blob, check_category, check_id, check_time
from aqm_db._model.rows import Row, parse_number, row_of
from aqm_db.errors import (
    AQMDatabaseError,
    CorruptEntryError,
    InvalidArgumentError,
    KeyAlreadyBurnedError,
    KeyAlreadyExistsError,
    KeyExpiredError,
)
from aqm_db.types import NewKey, VaultEntry, VaultStats

from . import Scope
from .batch import ROWS_AT_ONCE, split
from .index import walk_ids
from .outcome import Progress, check_reply

STORE = Script("vault/store")
BURN = Script("vault/burn")
PURGE = Script("vault/purge")
COUNTERS = Script("vault/counters")
EXPLAIN = Script("vault/explain")

_log = logging.getLogger("aqm_db.vault")
TTL_MS: int = config.VAULT_KEY_TTL_SECONDS * 1000
GRACE_MS: int = config.VAULT_BURN_GRACE_SECONDS * 1000
SPENT_TTL_MS: int = config.VAULT_SPENT_TTL_SECONDS * 1000
_EXPIRED_AT_ONCE = 500
"""Expired keys taken off the counters by one script call: a few milliseconds of the server's."""
_FORGOTTEN_AT_ONCE = 10
"""Ids forgotten when one is burned: more than come, and no work that others wait for."""


def build_store(scope: Scope, key: NewKey, minted: Sequence[Argument] = ()) -> Call:
    """The call that stores a new private half.

    Args:
        scope: whose it is.
        key: the private half.
        minted: of one that is to be published its public half, its signature, how many active
            keys there may be of its tier, and what the names of rows begin with.

    Raises:
        InvalidArgumentError: a field has the wrong type or size.
    """
    return _build_store_since(scope, key, "", minted)


def build_restore(scope: Scope, now: int, entry: VaultEntry) -> Call:
    """The call that stores a private half with the age that it has.

    Args:
        scope: whose it is.
        now: what time it is (ms).
        entry: the private half.

    Raises:
        InvalidArgumentError: a field has the wrong type or size, or the key is too old.
    """
    if check_time("created_at", entry.created_at) + TTL_MS <= now:
        raise InvalidArgumentError("created_at", "is more than 30 days ago")
    return _build_store_since(scope, entry, entry.created_at)


def read_store(key: NewKey | VaultEntry, reply: Reply | AQMDatabaseError) -> bool:
    """True, once the reply says that the private half is stored."""
    try:
        check_reply(reply, key_id=key.key_id)
    except (KeyAlreadyExistsError, KeyExpiredError):
        _log.warning("duplicate_rejected", extra={"key_id": key.key_id})
        raise
    _log.debug("key_stored", extra={"key_id": key.key_id, "coin_category": key.coin_category})
    return True


def build_burn(scope: Scope, key_id: str) -> Call:
    """The call that burns a private half."""
    times = (GRACE_MS, TTL_MS, SPENT_TTL_MS)
    arguments = (scope.read_clock(), scope.request_ids(), key_id, *times, _FORGOTTEN_AT_ONCE)
    return Call(BURN, (*_row_keys(scope, key_id), scope.keys.vault_watch), arguments)


def read_burn(key_id: str, reply: Reply) -> bool:
    """True, once the reply says that the private half is burned."""
    try:
        check_reply(reply, key_id=key_id)
    except KeyAlreadyBurnedError:
        _log.warning("duplicate_rejected", extra={"key_id": key_id})
        raise
    _log.debug("key_burned", extra={"key_id": key_id})
    return True


async def read_row(scope: Scope, key_id: str) -> Row | None:
    """A private half as it is stored (HGETALL), or its tombstone; None if there is none."""
    [fields] = await scope.seam.read(("HGETALL", scope.keys.vault(key_id)))
    return row_of(f"vault key {key_id!r}", fields)


async def read_known_row(scope: Scope, key_id: str) -> Row:
    """The same of an id that must be known.

    Raises:
        KeyAlreadyBurnedError: it was burned, and the tombstone is gone.
        KeyExpiredError: it has expired, or was purged.
        KeyNotFoundError: there was none, as far as anybody remembers.
    """
    row_key, _, expiry, spent = _row_keys(scope, key_id)
    call = Call(EXPLAIN, (row_key, expiry, spent), (key_id,))
    while (row := await read_row(scope, key_id)) is None:
        # It raises, unless a row came in between.
        check_reply(await scope.seam.run(call), key_id=key_id)
    return row


def read_entry(key_id: str, row: Row) -> VaultEntry:
    """The private half in a row.

    Raises:
        CorruptEntryError: a field is missing or malformed.
    """
    return VaultEntry(
        key_id=key_id,
        coin_category=row.category(),
        encrypted_blob=row.blob("encrypted_blob"),
        encryption_iv=row.blob("encryption_iv"),
        auth_tag=row.blob("auth_tag"),
        status=row.status(),
        created_at=row.integer("created_at"),
        coin_version=row.text("coin_version"),
    )


async def read_entries(
    scope: Scope, key_ids: Sequence[str]
) -> AsyncIterator[VaultEntry | CorruptEntryError]:
    """Private halves, read in portions; a malformed one is an error, and one that is gone none."""
    for some in split(key_ids, ROWS_AT_ONCE):
        reads = (("HGETALL", scope.keys.vault(key_id)) for key_id in some)
        for key_id, fields in zip(some, await scope.seam.read(*reads), strict=True):
            try:
                row = row_of(f"vault key {key_id!r}", fields)
                if row is not None and row.status() != "BURNED":
                    yield read_entry(key_id, row)
            except CorruptEntryError as error:
                yield error


async def list_active_ids(
    scope: Scope, coin_category: str | None, *, is_whole: bool = True
) -> list[str]:
    """The ids of active keys, of one tier or of all; malformed rows are logged and left out.

    Args:
        scope: whose they are.
        coin_category: their tier.
        is_whole: whether their index lists all of them; otherwise the database is walked over.
    """
    # A walk may come by a key twice.
    found: dict[str, None] = {}
    async for key_id, row in _walk_fields(scope, "status", "coin_category", is_whole=is_whole):
        if isinstance(row, AQMDatabaseError):
            _log.warning("corrupt_entry", extra={"key_id": key_id})
        elif row[0] == b"ACTIVE" and (not coin_category or row[1] == coin_category.encode()):
            found[key_id] = None
    return list(found)


async def list_births(scope: Scope, *, is_whole: bool = True) -> dict[str, tuple[str, int]]:
    """Active keys by their ids: the tier, and when each was created, in ms since the epoch.

    Malformed rows are logged and left out.

    Args:
        scope: whose they are.
        is_whole: as of :func:`list_active_ids`.
    """
    fields = ("status", "coin_category", "created_at")
    found: dict[str, tuple[str, int]] = {}
    async for key_id, row in _walk_fields(scope, *fields, is_whole=is_whole):
        status, tier, created_at = [None] * 3 if isinstance(row, AQMDatabaseError) else row
        time = None if created_at is None else parse_number(created_at)
        if status == b"ACTIVE" and tier is not None and time is not None:
            found[key_id] = tier.decode("utf-8", "replace"), time
        elif status in {None, b"ACTIVE"} and row != [None] * 3:
            _log.warning("corrupt_entry", extra={"key_id": key_id})
    return found


async def purge(scope: Scope, age_ms: int) -> int:
    """Deletes active keys that are older than some time; malformed rows are logged and kept.

    Returns:
        How many keys left the counters as expired: those deleted now, and those that the server
        had expired by itself.
    """
    with Progress("purge_expired") as progress:
        await read_counters(scope, progress)
        before = await scope.ask_time() - age_ms
        async for key_ids in _list_pages(scope):
            rows = await scope.seam.read(
                *(("HGET", scope.keys.vault(key_id), "created_at") for key_id in key_ids)
            )
            # The script looks again: what is read here only saves calls for young keys.
            old = [
                key_id
                for key_id, created_at in zip(key_ids, rows, strict=True)
                if not isinstance(created_at, bytes)
                or (time := parse_number(created_at)) is None
                or time < before
            ]
            replies = await scope.seam.run_all(
                [_build_purge(scope, key_id, age_ms) for key_id in old]
            )
            progress.add(replies)
            for key_id, reply in zip(old, replies, strict=True):
                if isinstance(reply, list) and reply[0] == Code.CORRUPT:
                    # The row: an index of the wrong type is an error, which all rows share.
                    _log.warning("corrupt_entry", extra={"key_id": key_id})
                    continue
                [deleted] = check_reply(reply, key_id=key_id)
                if deleted:
                    _log.debug("key_expired", extra={"key_id": key_id})
    return progress.count


async def read_counters(scope: Scope, progress: Progress | None = None) -> VaultStats:
    """The counters, after taking expired keys off.

    Keys that are gone before their time are logged: the server's clock was set ahead, for however
    short a time, or somebody has deleted them.

    Args:
        scope: whose they are.
        progress: told how many were taken off, where that counts as a change.
    """
    own = scope.keys
    keys = (own.vault_stats, own.vault_expiry, own.vault_spent, own.vault_watch)
    arguments = (scope.read_clock(), own.vault_prefix, SPENT_TTL_MS, _EXPIRED_AT_ONCE)
    call = Call(COUNTERS, keys, arguments)
    taken_off = 0
    while True:
        [gone, early, *values] = check_reply(await scope.seam.run(call))
        taken_off += gone
        if progress is not None:
            progress.add([gone])
        if early:
            _log.warning("keys_lost", extra={"count": early})
        if gone < _EXPIRED_AT_ONCE:
            if taken_off:
                _log.info("key_expired", extra={"count": taken_off})
            return VaultStats(*values)


def _build_purge(scope: Scope, key_id: str, age_ms: int) -> Call:
    keys = (*_row_keys(scope, key_id), scope.keys.vault_watch)
    return Call(PURGE, keys, (scope.read_clock(), key_id, age_ms, TTL_MS))


async def _walk_fields(
    scope: Scope, *fields: str, is_whole: bool
) -> AsyncIterator[tuple[str, Any]]:
    """The ids of all private halves, each with fields of its row, or with what is wrong with it."""
    async for key_ids in _list_pages(scope) if is_whole else _walk_pages(scope):
        rows = await scope.seam.read(
            *(("HMGET", scope.keys.vault(key_id), *fields) for key_id in key_ids)
        )
        for each in zip(key_ids, rows, strict=True):
            yield each


async def _list_pages(scope: Scope) -> AsyncIterator[list[str]]:
    """The ids of all private halves, page by page; those of some that are gone, too."""
    async for key_ids in walk_ids(scope, scope.keys.vault_expiry):
        if key_ids:
            yield key_ids


async def _walk_pages(scope: Scope) -> AsyncIterator[list[str]]:
    """The same of what no index lists (SCAN)."""
    async for page in scope.seam.scan(scope.keys.vault_pattern()):
        key_ids = [key_id for key in page if (key_id := scope.keys.vault_id(key)) is not None]
        if key_ids:
            yield key_ids


def _build_store_since(
    scope: Scope,
    key: NewKey | VaultEntry,
    since: Argument,
    minted: Sequence[Argument] = (),
) -> Call:
    check_id("key_id", key.key_id)
    check_category("coin_category", key.coin_category)
    check_blob("encrypted_blob", key.encrypted_blob)
    check_blob("encryption_iv", key.encryption_iv)
    check_blob("auth_tag", key.auth_tag)
    check_id("coin_version", key.coin_version)
    arguments: tuple[Argument, ...] = (
        scope.read_clock(),
        scope.request_ids(),
        key.key_id,
        key.coin_category,
        key.encrypted_blob,
        key.encryption_iv,
        key.auth_tag,
        key.coin_version,
        since,
        TTL_MS,
        *minted,
    )
    names = scope.keys
    keys = (*_row_keys(scope, key.key_id), names.vault_unpublished, names.vault_watch)
    return Call(STORE, keys, arguments, key.coin_category)


def _row_keys(scope: Scope, key_id: str) -> tuple[str, str, str, str]:
    keys = scope.keys
    return keys.vault(key_id), keys.vault_stats, keys.vault_expiry, keys.vault_spent
