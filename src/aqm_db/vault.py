"""The Secure Vault: the owner's private halves, encrypted by the caller."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, overload

from . import config
from ._io.confirming import confirmation_of
from ._io.redispy.clients import AnyAsyncClient, seam_over
from ._io.seam import Argument, Call, Reply, Seam
from ._lua import scripts
from ._model.checks import check_blob, check_category, check_days, check_id, check_items, check_time
from ._model.defaults import DAY_MS, new_request_id, now_ms
from ._model.keys import Keys
from ._model.rows import Row, row_of, whole_number
from ._operations.batch import run_batch
from ._operations.outcome import Progress, checked
from .errors import (
    AQMDatabaseError,
    CorruptEntryError,
    InvalidArgumentError,
    KeyAlreadyBurnedError,
    KeyAlreadyExistsError,
    KeyNotFoundError,
    VaultUnavailableError,
)
from .types import NewKey, VaultEntry, VaultStats

if TYPE_CHECKING:
    from ._operations.publishing import Unpublished

_log = logging.getLogger("aqm_db.vault")
TTL_MS: int = config.VAULT_KEY_TTL_SECONDS * 1000
GRACE_MS: int = config.VAULT_BURN_GRACE_SECONDS * 1000
_EXPIRED_AT_ONCE = 1000
"""Expired keys taken off the counters by one script call: a few milliseconds of the server's."""


class AsyncSecureVault:
    """Private halves of coins: stored, fetched when a message arrives, burned once it is read.

    Args:
        client: a ``redis.asyncio.Redis``, or a ``RedisCluster`` if there is an owner, made with
            ``decode_responses=False``; fakeredis' works.
        owner: whose vault it is, if several share a database; None uses the key names of the
            specification as they are.
        clock: milliseconds since the epoch.
        request_ids: a fresh id for every call, of ASCII letters, digits, ``-`` and ``_``.
        confirm_replicas: how many replicas must have a change before a call returns (WAIT).
        confirm_timeout: how long they are waited for, in ms.
        confirm_fsync: whether a change must be on the disks before a call returns (WAITAOF), the
            server's own and those of ``confirm_replicas`` replicas.

    Raises:
        TypeError: the client is neither a ``redis.asyncio.Redis`` nor a ``RedisCluster``.
        ValueError: the client decodes its responses.
        InvalidIdentifierError: the owner is no valid id.
        InvalidArgumentError: the number of replicas or the time to wait for them is out of range,
            or the client is a cluster's and there is no owner.

    Every method also raises VaultUnavailableError, AccessDeniedError, NotWritableError and (on a
    cluster) ConcurrencyError where the server or the link gives cause (see :mod:`aqm_db.errors`).
    """

    def __init__(
        self,
        client: AnyAsyncClient,
        *,
        owner: str | None = None,
        clock: Callable[[], int] = now_ms,
        request_ids: Callable[[], str] = new_request_id,
        confirm_replicas: int = 0,
        confirm_timeout: int = config.CONFIRM_TIMEOUT,
        confirm_fsync: bool = False,
    ) -> None:
        self._keys = Keys(owner)
        self._seam: Seam = seam_over(
            client,
            VaultUnavailableError,
            type(self).__name__,
            self._keys.prefix,
            confirmation=confirmation_of(
                self._keys, confirm_replicas, confirm_timeout, confirm_fsync
            ),
        )
        self._clock = clock
        self._request_ids = request_ids

    async def store_key(
        self,
        key_id: str,
        coin_category: str,
        encrypted_blob: bytes,
        encryption_iv: bytes,
        auth_tag: bytes,
        coin_version: str = "kyber768_v1",
    ) -> bool:
        """Stores a private half for 30 days.

        Args:
            key_id: the coin's id, the same as of its public half.
            coin_category: its tier.
            encrypted_blob: the private half, encrypted by the caller.
            encryption_iv: the nonce it was encrypted with.
            auth_tag: the tag that authenticates it.
            coin_version: what kind of key it is.

        Returns:
            True.

        Raises:
            InvalidArgumentError: an argument has the wrong type or size; nothing was stored.
            KeyAlreadyExistsError: the id is taken, by a burned key's tombstone too.
            CorruptEntryError: the stored counters are malformed; nothing was stored.
        """
        key = NewKey(key_id, coin_category, encrypted_blob, encryption_iv, auth_tag, coin_version)
        return self._stored(key, await self._seam.run(self._storing(key)))

    async def store_keys(self, keys: Sequence[NewKey]) -> list[bool | AQMDatabaseError]:
        """Stores many private halves in one round trip; one that can't be stored stops no other.

        More than 500 take a round trip for each 500, so that other callers don't wait for all.

        Args:
            keys: what :meth:`store_key` takes, one by one.

        Returns:
            For each key True, or the error that :meth:`store_key` would have raised.

        Raises:
            InvalidArgumentError: an item isn't a NewKey; nothing was stored.
        """
        check_items("keys", keys, NewKey)
        return await run_batch(self._seam, keys, self._storing, self._stored)

    async def restore_keys(self, entries: Sequence[VaultEntry]) -> list[bool | AQMDatabaseError]:
        """Stores private halves that were fetched before, each with its age: from a backup, say.

        Args:
            entries: what :meth:`fetch_key` returned.

        Returns:
            For each entry True, or the error that :meth:`store_key` would have raised; also
            InvalidArgumentError for one that is older than 30 days.

        Raises:
            InvalidArgumentError: an item isn't a VaultEntry; nothing was stored.
        """
        check_items("entries", entries, VaultEntry)
        return await run_batch(self._seam, entries, self._restoring, self._stored)

    async def burn_key(self, key_id: str) -> bool:
        """Erases a private half after its message was decrypted.

        Blob, nonce and tag are gone at once; a tombstone answers replays for 60 seconds.

        Returns:
            True.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            KeyNotFoundError: there is no such key.
            KeyAlreadyBurnedError: it was burned before: the message is a replay.
            CorruptEntryError: the stored row or the counters are malformed; they were left as they
                are.
        """
        check_id("key_id", key_id)
        arguments = (self._request_ids(), key_id, GRACE_MS, TTL_MS)
        reply = await self._seam.run(Call(scripts.VAULT_BURN, self._row_keys(key_id), arguments))
        try:
            checked(reply, key_id=key_id)
        except KeyAlreadyBurnedError:
            _log.warning("duplicate_rejected", extra={"key_id": key_id})
            raise
        _log.debug("key_burned", extra={"key_id": key_id})
        return True

    async def fetch_key(self, key_id: str) -> VaultEntry | None:
        """Reads a private half, and changes nothing.

        Returns:
            The entry; None if there is none, or it was burned.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: the stored row is malformed; it was left as it is.
        """
        row = await self._read(key_id)
        if row is None or row.status() == "BURNED":
            return None
        _log.debug("key_fetched", extra={"key_id": key_id})
        return self._deserialize_entry(key_id, row)

    @asynccontextmanager
    async def use_key(self, key_id: str) -> AsyncGenerator[VaultEntry]:
        """Fetches a private half, and burns it when the block ends without an error.

        A block that raises, or is cancelled, keeps the key: a forged message must not burn it.

        ::

            async with vault.use_key(message.key_id) as entry:
                text = decrypt(entry, message)

        Yields:
            The entry.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            KeyNotFoundError: there is no such key.
            KeyAlreadyBurnedError: it was burned before, or by someone else during the block.
            CorruptEntryError: the stored row is malformed; it was left as it is.
        """
        row = await self._read(key_id)
        if row is None:
            raise KeyNotFoundError(f"no key {key_id!r}")
        if row.status() == "BURNED":
            raise KeyAlreadyBurnedError(f"key {key_id!r} was burned already")
        yield self._deserialize_entry(key_id, row)
        await self.burn_key(key_id)

    async def exists(self, key_id: str) -> bool:
        """Whether there is a key of this id, a burned one's tombstone included (EXISTS).

        Raises:
            InvalidIdentifierError: the id is no valid id.
        """
        check_id("key_id", key_id)
        [found] = await self._seam.read(("EXISTS", self._vault_key(key_id)))
        return bool(found)

    @overload
    async def count_active(self, coin_category: None = None) -> dict[str, int]: ...

    @overload
    async def count_active(self, coin_category: str) -> int: ...

    async def count_active(self, coin_category: str | None = None) -> dict[str, int] | int:
        """Counts active keys: of one tier, or of each.

        Raises:
            InvalidCoinCategoryError: there is no such tier.
            CorruptEntryError: the stored counters are malformed.
        """
        if coin_category is not None:
            check_category("coin_category", coin_category)
        stats = await self.get_stats()
        counts = {
            "GOLD": stats.active_gold,
            "SILVER": stats.active_silver,
            "BRONZE": stats.active_bronze,
        }
        return counts if coin_category is None else counts[coin_category]

    async def get_all_active_ids(self, coin_category: str | None = None) -> list[str]:
        """Lists active keys, of one tier or of all; malformed rows are logged and left out.

        It walks the whole database (SCAN): for background use.

        Raises:
            InvalidCoinCategoryError: there is no such tier.
        """
        if coin_category is not None:
            check_category("coin_category", coin_category)
        # SCAN may name a key twice.
        found: dict[str, None] = {}
        async for key_ids in self._pages():
            rows = await self._seam.read(
                *(
                    ("HMGET", self._vault_key(key_id), "status", "coin_category")
                    for key_id in key_ids
                )
            )
            for key_id, row in zip(key_ids, rows, strict=True):
                if isinstance(row, AQMDatabaseError):
                    _log.warning("corrupt_entry", extra={"key_id": key_id})
                elif row[0] == b"ACTIVE" and (
                    not coin_category or row[1] == coin_category.encode()
                ):
                    found[key_id] = None
        return list(found)

    async def purge_expired(self, max_age_days: int = config.VAULT_PURGE_MAX_AGE_DAYS) -> int:
        """Deletes active keys that are older than some days; malformed rows are logged and kept.

        It walks the whole database (SCAN): for background use.

        Args:
            max_age_days: days since a key was stored, 0 to 36,500.

        Returns:
            How many keys left the counters as expired: those deleted now, and those that the
            server had expired by itself.

        Raises:
            InvalidArgumentError: the number of days is out of range.
            CorruptEntryError: the stored counters are malformed.
        """
        check_days("max_age_days", max_age_days)
        before = self._clock() - max_age_days * DAY_MS
        purged, _ = await self._counters()
        with Progress() as progress:
            progress.made = purged > 0
            async for key_ids in self._pages():
                rows = await self._seam.read(
                    *(("HGET", self._vault_key(key_id), "created_at") for key_id in key_ids)
                )
                # The script looks again: what is read here only saves calls for young keys.
                old = [
                    key_id
                    for key_id, created_at in zip(key_ids, rows, strict=True)
                    if not isinstance(created_at, bytes)
                    or (time := whole_number(created_at)) is None
                    or time < before
                ]
                replies = await self._seam.run_all(
                    [
                        Call(scripts.VAULT_PURGE, self._row_keys(key_id), (key_id, before))
                        for key_id in old
                    ]
                )
                progress.made = progress.made or bool(old)
                for key_id, reply in zip(old, replies, strict=True):
                    try:
                        [deleted] = checked(reply, key_id=key_id)
                    except CorruptEntryError:
                        _log.warning("corrupt_entry", extra={"key_id": key_id})
                    else:
                        purged += deleted
                        if deleted:
                            _log.debug("key_expired", extra={"key_id": key_id})
        return purged

    async def get_stats(self) -> VaultStats:
        """Reads the counters, after taking off what the server expired meanwhile.

        Raises:
            CorruptEntryError: the stored counters are malformed.
        """
        _, stats = await self._counters()
        return stats

    async def _counters(self) -> tuple[int, VaultStats]:
        """How many expired keys were taken off the counters, and what these are then."""
        taken_off = 0
        while True:
            [gone, *values] = checked(
                await self._seam.run(
                    Call(
                        scripts.VAULT_COUNTERS,
                        (self._keys.vault_stats, self._keys.vault_expiry),
                        (self._keys.vault_prefix, _EXPIRED_AT_ONCE),
                    )
                )
            )
            taken_off += gone
            if gone < _EXPIRED_AT_ONCE:
                if taken_off:
                    _log.info("key_expired", extra={"count": taken_off})
                return taken_off, VaultStats(*values)

    async def _pages(self) -> AsyncIterator[list[str]]:
        """The ids of all stored keys, page by page; names that aren't ours are passed over."""
        async for page in self._seam.scan(self._keys.vault_pattern()):
            key_ids = [key_id for key in page if (key_id := self._keys.vault_id(key)) is not None]
            if key_ids:
                yield key_ids

    def _unpublished(self) -> "Unpublished":
        from ._operations.publishing import Unpublished  # noqa: PLC0415 - most programs publish nothing

        return Unpublished(self._seam, self._keys, self._storing, self._stored)

    def _storing(self, key: NewKey, minted: Sequence[Argument] = ()) -> Call:
        return self._storing_since(key, self._clock(), TTL_MS, minted)

    def _restoring(self, entry: VaultEntry) -> Call:
        left = check_time("created_at", entry.created_at) + TTL_MS - self._clock()
        if left <= 0:
            raise InvalidArgumentError("created_at", "is more than 30 days ago")
        return self._storing_since(entry, entry.created_at, left)

    def _storing_since(
        self,
        key: NewKey | VaultEntry,
        created_at: int,
        left: int,
        minted: Sequence[Argument] = (),
    ) -> Call:
        check_id("key_id", key.key_id)
        check_category("coin_category", key.coin_category)
        check_blob("encrypted_blob", key.encrypted_blob)
        check_blob("encryption_iv", key.encryption_iv)
        check_blob("auth_tag", key.auth_tag)
        check_id("coin_version", key.coin_version)
        arguments: tuple[Argument, ...] = (
            self._request_ids(),
            key.key_id,
            key.coin_category,
            key.encrypted_blob,
            key.encryption_iv,
            key.auth_tag,
            key.coin_version,
            created_at,
            TTL_MS,
            left,
            *minted,
        )
        keys = (*self._row_keys(key.key_id), self._keys.vault_unpublished)
        return Call(scripts.VAULT_STORE, keys, arguments)

    def _stored(self, key: NewKey | VaultEntry, reply: Reply | AQMDatabaseError) -> bool:
        try:
            checked(reply, key_id=key.key_id)
        except KeyAlreadyExistsError:
            _log.warning("duplicate_rejected", extra={"key_id": key.key_id})
            raise
        _log.debug("key_stored", extra={"key_id": key.key_id, "coin_category": key.coin_category})
        return True

    async def _read(self, key_id: str) -> Row | None:
        check_id("key_id", key_id)
        [fields] = await self._seam.read(("HGETALL", self._vault_key(key_id)))
        return row_of(f"vault key {key_id!r}", fields)

    def _row_keys(self, key_id: str) -> tuple[str, str, str]:
        return self._vault_key(key_id), self._keys.vault_stats, self._keys.vault_expiry

    def _vault_key(self, key_id: str) -> str:
        return self._keys.vault(key_id)

    @staticmethod
    def _deserialize_entry(key_id: str, row: Row) -> VaultEntry:
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
