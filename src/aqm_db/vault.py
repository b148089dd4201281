"""The Secure Vault: the owner's private halves, encrypted by the caller."""

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import overload

from . import config
from ._io.confirming import check_confirming
from ._io.redispy.clients import AnyAsyncClient, take_seam
from ._io.seam import Seam
from ._model.checks import check_category, check_clock, check_days, check_id, check_items
from ._model.defaults import DAY_MS, new_request_id
from ._model.keys import Keys
from ._model.tiers import active_of
from ._operations import Scope, private_halves
from ._operations.batch import run_batch
from ._operations.layout import prepare_vault
from .errors import (
    AQMDatabaseError,
    KeyAlreadyBurnedError,
    VaultUnavailableError,
)
from .types import NewKey, VaultEntry, VaultStats

_log = logging.getLogger("aqm_db.vault")


class AsyncSecureVault:
    """Private halves of coins: stored, fetched when a message arrives, burned once it is read.

    Args:
        client: a ``redis.asyncio.Redis``, or a ``RedisCluster`` if there is an owner, made with
            ``decode_responses=False``; fakeredis' works. A seam over another client library does,
            too, and confirms changes by itself.
        owner: whose vault it is, if several share a database; None uses the key names of the
            specification as they are.
        clock: milliseconds since the epoch, for tests, an int each time; None for the server's own
            clock (TIME).
        request_ids: a fresh id for every call, of ASCII letters, digits, ``-`` and ``_``.
        confirm_replicas: how many replicas must have a change before a call returns (WAIT).
        confirm_timeout: how long they are waited for, in ms.
        confirm_fsync: whether a change must be on the disks before a call returns (WAITAOF), the
            server's own and those of ``confirm_replicas`` replicas; ``connect`` says what that
            takes. Where it isn't so, each change raises, and its outcome is unknown.
        settle_timeout: how long a call whose caller is gone may take to find out what it did, and
            to take it back, in ms.

    Raises:
        TypeError: the client is neither a ``redis.asyncio.Redis`` nor a ``RedisCluster``.
        ValueError: the client decodes its responses.
        InvalidIdentifierError: the owner is no valid id.
        InvalidArgumentError: the number of replicas or the time to wait for them is out of range,
            or the client is a cluster's and there is no owner.

    Attributes:
        scope: what operations on it are made with, for other parts of this package.

    Every method also raises VaultUnavailableError, AccessDeniedError, NotWritableError and (on a
    cluster) ConcurrencyError where the server or the link gives cause (see :mod:`aqm_db.errors`).
    """

    def __init__(
        self,
        client: AnyAsyncClient | Seam,
        *,
        owner: str | None = None,
        clock: Callable[[], int] | None = None,
        request_ids: Callable[[], str] = new_request_id,
        confirm_replicas: int = 0,
        confirm_timeout: int = config.CONFIRM_TIMEOUT,
        confirm_fsync: bool = False,
        settle_timeout: int = config.SETTLE_TIMEOUT,
    ) -> None:
        keys = Keys(owner)
        confirming = check_confirming(
            confirm_replicas, confirm_timeout, confirm_fsync, settle_timeout
        )
        name = type(self).__name__
        seam, confirming = take_seam(client, VaultUnavailableError, name, keys, confirming)
        self.scope: Scope = Scope(seam, keys, check_clock(clock), request_ids, confirming)

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
            KeyAlreadyExistsError: the id is taken.
            KeyAlreadyBurnedError: a key of this id was burned.
            KeyExpiredError: a key of this id has expired, or was purged.
            CorruptEntryError: the stored counters are malformed; nothing was stored.
        """
        key = NewKey(key_id, coin_category, encrypted_blob, encryption_iv, auth_tag, coin_version)
        call = private_halves.build_store(self.scope, key)
        return private_halves.read_store(key, await self.scope.seam.run(call))

    async def store_keys(self, keys: Sequence[NewKey]) -> list[bool | AQMDatabaseError]:
        """Stores many private halves in one round trip; one that can't be stored stops no other.

        More than 200 take a round trip for each 200, so that other callers don't wait for all.

        Args:
            keys: what :meth:`store_key` takes, one by one.

        Returns:
            For each key True, or the error that :meth:`store_key` would have raised.

        Raises:
            InvalidArgumentError: an item isn't a NewKey; nothing was stored.
        """
        check_items("keys", keys, NewKey)
        build = partial(private_halves.build_store, self.scope)
        return await run_batch(self.scope.seam, keys, build, private_halves.read_store)

    async def restore_keys(self, entries: Sequence[VaultEntry]) -> list[bool | AQMDatabaseError]:
        """Stores private halves that were fetched before, each with its age: from a backup, say.

        Args:
            entries: what :meth:`fetch_key` returned.

        Returns:
            For each entry True, or the error that :meth:`store_key` would have raised; also
            InvalidArgumentError for one that is older than 30 days. One that the server lost
            before its end, though it was neither burned nor purged, comes back.

        Raises:
            InvalidArgumentError: an item isn't a VaultEntry; nothing was stored.
        """
        check_items("entries", entries, VaultEntry)
        now = await self.scope.ask_time() if entries else 0
        build = partial(private_halves.build_restore, self.scope, now)
        return await run_batch(self.scope.seam, entries, build, private_halves.read_store)

    async def burn_key(self, key_id: str) -> bool:
        """Erases a private half after its message was decrypted.

        Blob, nonce and tag are gone at once; a tombstone answers replays for 60 seconds, and the
        id is remembered until 30 days after the key would have expired.

        Returns:
            True.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            KeyNotFoundError: there is no such key.
            KeyExpiredError: there was one, and it has expired, or was purged.
            KeyAlreadyBurnedError: it was burned before: the message is a replay.
            CorruptEntryError: the stored row or the counters are malformed; they were left as they
                are.
        """
        check_id("key_id", key_id)
        call = private_halves.build_burn(self.scope, key_id)
        return private_halves.read_burn(key_id, await self.scope.seam.run(call))

    async def fetch_key(self, key_id: str) -> VaultEntry | None:
        """Reads a private half, and changes nothing.

        Returns:
            The entry; None if there is none, or it was burned.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: the stored row is malformed; it was left as it is.
        """
        row = await private_halves.read_row(self.scope, check_id("key_id", key_id))
        if row is None or row.status() == "BURNED":
            return None
        _log.debug("key_fetched", extra={"key_id": key_id})
        return private_halves.read_entry(key_id, row)

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
            KeyExpiredError: there was one, and it has expired, or was purged.
            KeyAlreadyBurnedError: it was burned before, or by someone else during the block.
            CorruptEntryError: the stored row is malformed; it was left as it is.
        """
        row = await private_halves.read_known_row(self.scope, check_id("key_id", key_id))
        if row.status() == "BURNED":
            raise KeyAlreadyBurnedError(f"key {key_id!r} was burned already")
        yield private_halves.read_entry(key_id, row)
        await self.burn_key(key_id)

    async def exists(self, key_id: str) -> bool:
        """Whether there is a key of this id, a burned one's tombstone included (EXISTS).

        Raises:
            InvalidIdentifierError: the id is no valid id.
        """
        check_id("key_id", key_id)
        [found] = await self.scope.seam.read(("EXISTS", self._vault_key(key_id)))
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
        counts = active_of(stats)
        return counts if coin_category is None else counts[coin_category]

    async def get_all_active_ids(self, coin_category: str | None = None) -> list[str]:
        """Lists active keys, of one tier or of all; malformed rows are logged and left out.

        Raises:
            InvalidCoinCategoryError: there is no such tier.
            CorruptEntryError: the index of active keys is malformed.
            SchemaVersionError: a later version of this library has written the database.
        """
        if coin_category is not None:
            check_category("coin_category", coin_category)
        is_whole = await prepare_vault(self.scope)
        return await private_halves.list_active_ids(self.scope, coin_category, is_whole=is_whole)

    async def purge_expired(self, max_age_days: int = config.VAULT_PURGE_MAX_AGE_DAYS) -> int:
        """Deletes active keys that are older than some days; malformed rows are logged and kept.

        Args:
            max_age_days: days since a key was stored, 0 to 36,500.

        Returns:
            How many keys left the counters as expired: those deleted now, and those that the
            server had expired by itself.

        Raises:
            InvalidArgumentError: the number of days is out of range.
            CorruptEntryError: the stored counters are malformed, or an index that old keys are
                listed in; nothing was deleted.
            SchemaVersionError: a later version of this library has written the database.
        """
        check_days("max_age_days", max_age_days)
        await prepare_vault(self.scope)
        return await private_halves.purge(self.scope, max_age_days * DAY_MS)

    async def get_stats(self) -> VaultStats:
        """Reads the counters, after taking off what the server expired meanwhile.

        Raises:
            CorruptEntryError: the stored counters are malformed.
        """
        return await private_halves.read_counters(self.scope)

    def _vault_key(self, key_id: str) -> str:
        return self.scope.keys.vault(key_id)
