"""The synchronous face: the same classes and functions, without an event loop.

Generated from the asynchronous classes by ``python src/generate_sync.py``; do not edit.

::

    from aqm_db.sync import connect

    with connect() as db:
        coin = db.inventory.select_coin("bob", "GOLD")
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from . import backup, config, connection, database
from ._io import opening
from ._io.driving import drive
from ._io.redispy.clients import (
    AnySyncClient,
    SyncClient,
    unwrap_client,
    wrap_client,
    wrap_client_or_seam,
)
from ._io.redispy.faces import SYNC
from ._io.resources import Resources
from ._io.seam import Seam
from ._model.defaults import new_request_id
from ._model.keys import Keys
from ._sync_support import Wrapper, drive_block, drive_iterator, unwrap, wrap
from .backup import BackupReport
from .database import AsyncClientDatabase
from .embedded import EmbeddedServer
from .errors import AQMDatabaseError
from .gc import AsyncGarbageCollector
from .inventory import AsyncSmartInventory
from .stats import AsyncStorageReporter
from .types import (
    ContactMeta,
    Dashboard,
    GCResult,
    HealthStatus,
    InventoryEntry,
    InventorySummary,
    MaintenanceProgress,
    NewCoin,
    NewKey,
    StorageReport,
    VaultEntry,
    VaultStats,
)
from .vault import AsyncSecureVault

if TYPE_CHECKING:
    from .doctor import Diagnosis
    from .integrity import IntegrityReport

__all__ = [
    "ClientDatabase",
    "GarbageCollector",
    "SecureVault",
    "SmartInventory",
    "StorageReporter",
    "close_all",
    "connect",
    "create_inventory_client",
    "create_vault_client",
    "export_backup",
    "health_check",
    "import_backup",
]


class SecureVault(Wrapper[AsyncSecureVault]):
    """Private halves of coins: stored, fetched when a message arrives, burned once it is read.

    Args:
        client: a ``redis.Redis``, or a ``RedisCluster`` if there is an owner, made with
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
        TypeError: the client is neither a ``redis.Redis`` nor a ``RedisCluster``.
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
        client: AnySyncClient | Seam,
        *,
        owner: str | None = None,
        clock: Callable[[], int] | None = None,
        request_ids: Callable[[], str] = new_request_id,
        confirm_replicas: int = 0,
        confirm_timeout: int = config.CONFIRM_TIMEOUT,
        confirm_fsync: bool = False,
        settle_timeout: int = config.SETTLE_TIMEOUT,
    ) -> None:
        super().__init__(
            AsyncSecureVault(
                wrap_client_or_seam(client, "SecureVault"),
                owner=owner,
                clock=clock,
                request_ids=request_ids,
                confirm_replicas=confirm_replicas,
                confirm_timeout=confirm_timeout,
                confirm_fsync=confirm_fsync,
                settle_timeout=settle_timeout,
            )
        )

    def store_key(
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
        return drive(
            self.asynchronous.store_key(
                key_id, coin_category, encrypted_blob, encryption_iv, auth_tag, coin_version
            )
        )

    def store_keys(self, keys: Sequence[NewKey]) -> list[bool | AQMDatabaseError]:
        """Stores many private halves in one round trip; one that can't be stored stops no other.

        More than 200 take a round trip for each 200, so that other callers don't wait for all.

        Args:
            keys: what :meth:`store_key` takes, one by one.

        Returns:
            For each key True, or the error that :meth:`store_key` would have raised.

        Raises:
            InvalidArgumentError: an item isn't a NewKey; nothing was stored.
        """
        return drive(self.asynchronous.store_keys(keys))

    def restore_keys(self, entries: Sequence[VaultEntry]) -> list[bool | AQMDatabaseError]:
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
        return drive(self.asynchronous.restore_keys(entries))

    def burn_key(self, key_id: str) -> bool:
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
        return drive(self.asynchronous.burn_key(key_id))

    def fetch_key(self, key_id: str) -> VaultEntry | None:
        """Reads a private half, and changes nothing.

        Returns:
            The entry; None if there is none, or it was burned.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: the stored row is malformed; it was left as it is.
        """
        return drive(self.asynchronous.fetch_key(key_id))

    @contextmanager
    def use_key(self, key_id: str) -> Generator[VaultEntry]:
        """Fetches a private half, and burns it when the block ends without an error.

        A block that raises keeps the key: a forged message must not burn it.

        ::

            with vault.use_key(message.key_id) as entry:
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
        with drive_block(self.asynchronous.use_key(key_id)) as value:
            yield value

    def exists(self, key_id: str) -> bool:
        """Whether there is a key of this id, a burned one's tombstone included (EXISTS).

        Raises:
            InvalidIdentifierError: the id is no valid id.
        """
        return drive(self.asynchronous.exists(key_id))

    @overload
    def count_active(self, coin_category: None = None) -> dict[str, int]: ...

    @overload
    def count_active(self, coin_category: str) -> int: ...

    def count_active(self, coin_category: str | None = None) -> dict[str, int] | int:
        """Counts active keys: of one tier, or of each.

        Raises:
            InvalidCoinCategoryError: there is no such tier.
            CorruptEntryError: the stored counters are malformed.
        """
        coroutine: Any = self.asynchronous.count_active(coin_category)
        result: dict[str, int] | int = drive(coroutine)
        return result

    def get_all_active_ids(self, coin_category: str | None = None) -> list[str]:
        """Lists active keys, of one tier or of all; malformed rows are logged and left out.

        Raises:
            InvalidCoinCategoryError: there is no such tier.
            CorruptEntryError: the index of active keys is malformed.
            SchemaVersionError: a later version of this library has written the database.
        """
        return drive(self.asynchronous.get_all_active_ids(coin_category))

    def purge_expired(self, max_age_days: int = config.VAULT_PURGE_MAX_AGE_DAYS) -> int:
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
        return drive(self.asynchronous.purge_expired(max_age_days))

    def get_stats(self) -> VaultStats:
        """Reads the counters, after taking off what the server expired meanwhile.

        Raises:
            CorruptEntryError: the stored counters are malformed.
        """
        return drive(self.asynchronous.get_stats())

    def _vault_key(self, key_id: str) -> str:
        return self.asynchronous._vault_key(key_id)  # noqa: SLF001 - specified


class SmartInventory(Wrapper[AsyncSmartInventory]):
    """Public halves of contacts' coins: cached up to a cap, handed out at most once, oldest first.

    Args:
        client: a ``redis.Redis``, or a ``RedisCluster`` if there is an owner, made with
            ``decode_responses=False``; fakeredis' works. A seam over another client library does,
            too, and confirms changes by itself.
        owner: whose inventory it is, if several share a database; None uses the key names of the
            specification as they are.
        budget_caps: coins per contact, by priority and tier.
        budget_bytes: payload bytes of all cached coins together; see :meth:`store_key`.
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
        TypeError: the client is neither a ``redis.Redis`` nor a ``RedisCluster``.
        ValueError: the client decodes its responses.
        InvalidIdentifierError: the owner is no valid id.
        InvalidArgumentError: a cap is missing, or a number is out of range, or the client is a
            cluster's and there is no owner.

    Attributes:
        budget_caps: coins per contact, by priority and tier.
        budget_bytes: payload bytes of all cached coins together; see :meth:`store_key`.
        scope: what operations on it are made with, for other parts of this package.

    Every method also raises InventoryUnavailableError, AccessDeniedError, NotWritableError and (on
    a cluster) ConcurrencyError where the server or the link gives cause (see
    :mod:`aqm_db.errors`).
    """

    def __init__(
        self,
        client: AnySyncClient | Seam,
        *,
        owner: str | None = None,
        budget_caps: Mapping[str, Mapping[str, int]] = config.BUDGET_CAPS,
        budget_bytes: int = config.INV_MAX_STORAGE_BYTES,
        clock: Callable[[], int] | None = None,
        request_ids: Callable[[], str] = new_request_id,
        confirm_replicas: int = 0,
        confirm_timeout: int = config.CONFIRM_TIMEOUT,
        confirm_fsync: bool = False,
        settle_timeout: int = config.SETTLE_TIMEOUT,
    ) -> None:
        super().__init__(
            AsyncSmartInventory(
                wrap_client_or_seam(client, "SmartInventory"),
                owner=owner,
                budget_caps=budget_caps,
                budget_bytes=budget_bytes,
                clock=clock,
                request_ids=request_ids,
                confirm_replicas=confirm_replicas,
                confirm_timeout=confirm_timeout,
                confirm_fsync=confirm_fsync,
                settle_timeout=settle_timeout,
            )
        )

    @property
    def budget_caps(self) -> Mapping[str, Mapping[str, int]]:
        """Coins per contact, by priority and tier."""
        return self.asynchronous.budget_caps

    @property
    def budget_bytes(self) -> int:
        """Payload bytes of all cached coins together; see :meth:`store_key`."""
        return self.asynchronous.budget_bytes

    @property
    def keys(self) -> Keys:
        """The names of its Redis keys."""
        return self.asynchronous.keys

    @property
    def clock(self) -> Callable[[], int] | None:
        """Milliseconds since the epoch; None for the server's own clock."""
        return self.asynchronous.clock

    @property
    def request_ids(self) -> Callable[[], str]:
        """A fresh id for every call."""
        return self.asynchronous.request_ids

    def register_contact(self, contact_id: str, priority: str, display_name: str = "") -> bool:
        """Registers a contact; one that is registered stays as it is.

        Args:
            contact_id: who it is.
            priority: how many coins to cache for them.
            display_name: what to show for them.

        Returns:
            True if the contact is new, False if it was registered before.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            InvalidPriorityError: there is no such priority.
            InvalidArgumentError: the display name is no text of at most 64 KiB.
            CorruptEntryError: what is stored in the contact's place is malformed.
        """
        return drive(self.asynchronous.register_contact(contact_id, priority, display_name))

    def set_contact_priority(self, contact_id: str, priority: str) -> bool:
        """Changes a contact's priority.

        A lower one drops the newest coins above its caps, many of them in portions. A call that
        fails in between (``carried_out``) is finished by asking again. A higher one drops nothing:
        coins above its caps stay until they are used, and no more are stored meanwhile.

        Returns:
            True.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            InvalidPriorityError: there is no such priority.
            ContactNotRegisteredError: there is no such contact.
            CorruptEntryError: the stored contact or one of its indexes is malformed.
        """
        return drive(self.asynchronous.set_contact_priority(contact_id, priority))

    def forget_contact(self, contact_id: str) -> int:
        """Removes a contact with all coins, in whatever state they are.

        Coins that were used stay used: their ids are remembered for 30 days, or to their own
        end, and a contact that is registered again gets that memory back. Of many coins portions
        go first, and the contact with the last; a call that fails in between (``carried_out``) is
        finished by asking again.

        Returns:
            How many coins were dropped.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            ContactNotRegisteredError: there is no such contact, nor anything that one has left; so
                it is when an earlier call did it whose outcome was unknown.
            CorruptEntryError: the memory of used coins or an index is malformed; nothing was
                removed.
        """
        return drive(self.asynchronous.forget_contact(contact_id))

    def get_contact_meta(self, contact_id: str) -> ContactMeta | None:
        """Reads a contact.

        Returns:
            The contact; None if there is none.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: the stored contact is malformed; it was left as it is.
        """
        return drive(self.asynchronous.get_contact_meta(contact_id))

    def store_key(
        self,
        contact_id: str,
        key_id: str,
        coin_category: str,
        public_key: bytes,
        signature: bytes,
        *,
        expires_at: int | None = None,
        enforce_budget: bool = False,
    ) -> bool:
        """Caches a contact's coin, at the end of its tier's queue.

        Args:
            contact_id: whose coin it is.
            key_id: the coin's id.
            coin_category: its tier.
            public_key: the key to encrypt for.
            signature: the contact's signature; check it before, nothing here does.
            expires_at: until when it may be encrypted for, in ms since the epoch; None means for
                30 days from now.
            enforce_budget: whether ``budget_bytes`` is kept too, and slots count that are
                reserved for coins on their way. Where there may be no room, the coins of all
                contacts are counted. The contact's cap is always kept.

        Returns:
            True.

        Raises:
            InvalidArgumentError: an argument has the wrong type or size; nothing was stored.
            ContactNotRegisteredError: there is no such contact.
            BudgetExceededError: the contact's cap for this tier is reached, or the byte budget.
            NoSlotError: enforcing the budget took minutes, so that it might have been passed.
            KeyAlreadyExistsError: the coin is cached already, in whichever tier.
            KeyAlreadyUsedError: the coin was handed out before.
            CoinExpiredError: ``expires_at`` has passed.
            CorruptEntryError: the stored contact or one of its indexes is malformed.
        """
        return drive(
            self.asynchronous.store_key(
                contact_id,
                key_id,
                coin_category,
                public_key,
                signature,
                expires_at=expires_at,
                enforce_budget=enforce_budget,
            )
        )

    def store_keys(
        self, coins: Sequence[NewCoin], *, enforce_budget: bool = False
    ) -> list[bool | AQMDatabaseError]:
        """Caches many coins in one round trip; one that can't be cached stops no other.

        More than 200 take a round trip for each 200, so that other callers don't wait for all.

        Args:
            coins: what :meth:`store_key` takes, one by one; they may be of several contacts.
            enforce_budget: as of :meth:`store_key`; the byte budget goes to the contacts that
                come first.

        Returns:
            For each coin True, or the error that :meth:`store_key` would have raised.

        Raises:
            InvalidArgumentError: an item isn't a NewCoin; nothing was stored.
        """
        return drive(self.asynchronous.store_keys(coins, enforce_budget=enforce_budget))

    def select_coin(self, contact_id: str, desired_tier: str) -> InventoryEntry | None:
        """Takes the oldest coin of a tier, or of the next lower tier that has one.

        The coin is handed out to this caller alone, and never again. One that isn't used after all
        goes back with :meth:`release_coin`.

        A coin whose row is missing, malformed or stale is set aside and logged, and the next one is
        taken.

        This is the hot path (ZPOPMIN in spirit, one script in one round trip; another one follows
        when 25 coins couldn't be handed out, so that nobody else waits for long).

        Returns:
            The coin; None if there is none in this tier or below: fetch one from the server.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            InvalidCoinCategoryError: there is no such tier.
            ContactNotRegisteredError: there is no such contact.
            CorruptEntryError: the stored contact or one of its indexes is malformed; no coin was
                taken.
        """
        return drive(self.asynchronous.select_coin(contact_id, desired_tier))

    def select_coins(
        self, contact_ids: Sequence[str], desired_tier: str
    ) -> dict[str, InventoryEntry | AQMDatabaseError | None]:
        """Takes a coin of each of many contacts in one round trip: for a message to a group.

        More than 200 take a round trip for each 200, so that other callers don't wait for all. One
        contact that has none, or can't be asked, stops no other.

        Args:
            contact_ids: whose coins; each contact once.
            desired_tier: as of :meth:`select_coin`.

        Returns:
            By contact id what :meth:`select_coin` would have returned, or the error that it would
            have raised.

        Raises:
            InvalidArgumentError: an item isn't a str, or is there twice; nothing was taken.
            InvalidCoinCategoryError: there is no such tier.
        """
        return drive(self.asynchronous.select_coins(contact_ids, desired_tier))

    def release_coin(self, entry: InventoryEntry) -> bool:
        """Puts a coin that was selected and never used back to its place in the queue.

        Coins that are released come back in the order in which they were stored, whatever the
        order of the releases, and what was stored or selected meanwhile.

        Args:
            entry: what ``select_coin`` returned.

        Returns:
            True if the coin is back. False if it can't be: it was released before, its contact
            was forgotten (and maybe registered again) or is worth no coin of this tier any more,
            it is stale by now, or the entry lacks its ``origin``.

        Raises:
            InvalidArgumentError: the entry isn't one that ``select_coin`` returned.
            CorruptEntryError: the stored contact or one of its indexes is malformed.
        """
        return drive(self.asynchronous.release_coin(entry))

    def consume_key(self, contact_id: str, key_id: str) -> bool:
        """Removes one coin, for example when its signature turned out to be wrong.

        Returns:
            True if it was cached, False if not.

        Raises:
            InvalidIdentifierError: an id is no valid id.
            CorruptEntryError: one of the contact's indexes is malformed; nothing was removed.
        """
        return drive(self.asynchronous.consume_key(contact_id, key_id))

    @overload
    def get_inventory(self, contact_id: None = None) -> dict[str, InventorySummary]: ...

    @overload
    def get_inventory(self, contact_id: str) -> InventorySummary: ...

    def get_inventory(
        self, contact_id: str | None = None
    ) -> dict[str, InventorySummary] | InventorySummary:
        """Counts cached coins by tier (ZCARD): of one contact, or of all by contact id.

        Of all contacts, malformed ones are logged and left out.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            ContactNotRegisteredError: there is no such contact.
            CorruptEntryError: the stored contact is malformed.
        """
        coroutine: Any = self.asynchronous.get_inventory(contact_id)
        result: dict[str, InventorySummary] | InventorySummary = drive(coroutine)
        return result

    def has_keys_for(self, contact_id: str) -> bool:
        """Whether at least one coin is cached for a contact, registered or not.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: a stored index is malformed.
        """
        return drive(self.asynchronous.has_keys_for(contact_id))

    def get_available_tiers(self, contact_id: str) -> list[str]:
        """The tiers that have at least one coin cached, best first.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: a stored index is malformed.
        """
        return drive(self.asynchronous.get_available_tiers(contact_id))

    def list_coins(self, contact_id: str) -> list[InventoryEntry]:
        """Reads a contact's cached coins, best tier and oldest first, and takes none of them.

        It's for a backup, or to look at them: a coin to be used comes from :meth:`select_coin`.
        Malformed rows are logged and left out.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: a stored index is malformed.
        """
        return drive(self.asynchronous.list_coins(contact_id))

    def count_stale(self, within_days: int = 0) -> dict[str, dict[str, int]]:
        """Counts cached coins that nobody may encrypt for by then, by contact id and tier.

        Malformed contacts are logged and left out.

        Args:
            within_days: days from now, 0 to 36,500; 0 counts what is stale already.

        Returns:
            Contacts that have such coins; a tier without any is 0.

        Raises:
            InvalidArgumentError: the number of days is out of range.
        """
        return drive(self.asynchronous.count_stale(within_days))

    def contact_pages(self) -> Iterator[list[str]]:
        """The ids of all contacts, page by page (SSCAN): each at least once."""
        return drive_iterator(self.asynchronous.contact_pages())

    def _inv_key(self, contact_id: str, key_id: str) -> str:
        return self.asynchronous._inv_key(contact_id, key_id)  # noqa: SLF001 - specified

    def _idx_key(self, contact_id: str, coin_category: str) -> str:
        return self.asynchronous._idx_key(contact_id, coin_category)  # noqa: SLF001 - specified

    def _meta_key(self, contact_id: str) -> str:
        return self.asynchronous._meta_key(contact_id)  # noqa: SLF001 - specified


class GarbageCollector(Wrapper[AsyncGarbageCollector]):
    """Removes what the inventory keeps for nothing.

    A contact without a message for some days loses all coins and becomes a STRANGER; every other
    contact loses the coins that are stale. Whether a contact is inactive is checked again in the
    step that deletes, so one that a coin is selected for meanwhile keeps its coins.

    Args:
        inventory: what to collect from; its owner, clock and confirmations hold here too.
        client: the inventory's client, or a seam, as of the inventory.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the client decodes its responses.

    Every method also raises InventoryUnavailableError, AccessDeniedError, NotWritableError and (on
    a cluster) ConcurrencyError where the server or the link gives cause (see
    :mod:`aqm_db.errors`).
    """

    def __init__(self, inventory: SmartInventory, client: AnySyncClient | Seam) -> None:
        super().__init__(
            AsyncGarbageCollector(
                unwrap("inventory", inventory, SmartInventory),
                wrap_client_or_seam(client, "GarbageCollector"),
            )
        )

    def garbage_collect(self, inactive_days: int = config.INV_GC_INACTIVE_DAYS) -> GCResult:
        """Collects from all contacts.

        Malformed contacts are logged and left as they are.

        Args:
            inactive_days: days without a message, 0 to 36,500.

        Raises:
            InvalidArgumentError: the number of days is out of range.
        """
        return drive(self.asynchronous.garbage_collect(inactive_days))

    def collect_single_contact(self, contact_id: str) -> GCResult:
        """Removes all coins of one contact, who becomes a STRANGER: someone was blocked, say.

        Many coins go in portions; a call that fails in between (``carried_out``) is finished by
        asking again. Coins that were set aside go as well.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            ContactNotRegisteredError: there is no such contact.
            CorruptEntryError: the stored contact or one of its indexes is malformed.
        """
        return drive(self.asynchronous.collect_single_contact(contact_id))

    def dry_run(self, inactive_days: int = config.INV_GC_INACTIVE_DAYS) -> GCResult:
        """What :meth:`garbage_collect` would remove now; nothing is changed.

        Raises:
            InvalidArgumentError: the number of days is out of range.
        """
        return drive(self.asynchronous.dry_run(inactive_days))


class StorageReporter(Wrapper[AsyncStorageReporter]):
    """Storage use, stock and what is missing.

    Args:
        vault: the owner's private halves.
        inventory: contacts' public halves.

    Raises:
        TypeError: an argument is of the wrong kind.

    Its methods raise what the methods of these raise.
    """

    def __init__(self, vault: SecureVault, inventory: SmartInventory) -> None:
        super().__init__(
            AsyncStorageReporter(
                unwrap("vault", vault, SecureVault), unwrap("inventory", inventory, SmartInventory)
            )
        )

    def get_storage_usage(self) -> StorageReport:
        """Payload bytes of cached coins, against the inventory's budget."""
        return drive(self.asynchronous.get_storage_usage())

    def get_vault_report(self) -> VaultStats:
        """The vault's counters."""
        return drive(self.asynchronous.get_vault_report())

    def get_replenish_needs(self) -> dict[str, dict[str, int]]:
        """How many coins to fetch, by contact id and tier, until each cap is reached.

        Contacts who are STRANGERs are left out; 0 means that a tier is full. Stale coins are
        missing, though they take room until they are gone.
        """
        return drive(self.asynchronous.get_replenish_needs())

    def get_full_dashboard(self) -> Dashboard:
        """All reports, from one reading of each database."""
        return drive(self.asynchronous.get_full_dashboard())


class ClientDatabase(Wrapper[AsyncClientDatabase]):
    """A vault and an inventory, with what belongs to them; :func:`connect` makes one.

    Args:
        vault_client: of the vault's database; it's closed with this object.
        inventory_client: of the inventory's; it may be the same client.
        server: the embedded server that both talk to; it's given back with this object.
        resources: what another database has, in the place of these; nothing is closed then.
        owner: as of :func:`connect`, like all that follow.
        budget_caps: coins per contact, by priority and tier.
        budget_bytes: payload bytes of all cached coins together.
        clock: milliseconds since the epoch, for tests, an int each time; None for the server's own
            clock (TIME).
        request_ids: a fresh id for every call.
        confirm_replicas: how many replicas must have a change before a call returns.
        confirm_timeout: how long they are waited for, in ms.
        confirm_fsync: whether a change must be on the disks.
        settle_timeout: how long a call whose caller is gone may take, in ms.

    Raises:
        TypeError: a client is of the wrong kind.
        ValueError: a client decodes its responses.
        InvalidIdentifierError: the owner is no valid id.
        InvalidArgumentError: another argument has the wrong type or value.

    Attributes:
        vault: the owner's private halves.
        inventory: contacts' public halves.
        gc: the inventory's garbage collector.
        reporter: reports over both.
        resources: what it shares with the databases of other owners, for this package.
        gates: the way of all of its calls, for this package.
    """

    def __init__(
        self,
        vault_client: AnySyncClient,
        inventory_client: AnySyncClient,
        *,
        server: EmbeddedServer | None = None,
        resources: Resources | None = None,
        owner: str | None = None,
        budget_caps: Mapping[str, Mapping[str, int]] = config.BUDGET_CAPS,
        budget_bytes: int = config.INV_MAX_STORAGE_BYTES,
        clock: Callable[[], int] | None = None,
        request_ids: Callable[[], str] = new_request_id,
        confirm_replicas: int = 0,
        confirm_timeout: int = config.CONFIRM_TIMEOUT,
        confirm_fsync: bool = False,
        settle_timeout: int = config.SETTLE_TIMEOUT,
    ) -> None:
        super().__init__(
            AsyncClientDatabase(
                wrap_client(vault_client, "ClientDatabase"),
                wrap_client(inventory_client, "ClientDatabase"),
                server=server,
                resources=resources,
                owner=owner,
                budget_caps=budget_caps,
                budget_bytes=budget_bytes,
                clock=clock,
                request_ids=request_ids,
                confirm_replicas=confirm_replicas,
                confirm_timeout=confirm_timeout,
                confirm_fsync=confirm_fsync,
                settle_timeout=settle_timeout,
            )
        )

    @cached_property
    def vault(self) -> SecureVault:
        """The owner's private halves."""
        return wrap(SecureVault, self.asynchronous.vault)

    @cached_property
    def inventory(self) -> SmartInventory:
        """Contacts' public halves."""
        return wrap(SmartInventory, self.asynchronous.inventory)

    @cached_property
    def gc(self) -> GarbageCollector:
        """The inventory's garbage collector."""
        return wrap(GarbageCollector, self.asynchronous.gc)

    @cached_property
    def reporter(self) -> StorageReporter:
        """Reports over both."""
        return wrap(StorageReporter, self.asynchronous.reporter)

    def health(self) -> HealthStatus:
        """Whether both databases answer, and what they hold: within two seconds.

        See :func:`~aqm_db.health_check`.
        """
        return drive(self.asynchronous.health())

    def for_owner(self, owner: str) -> "ClientDatabase":
        """The database of another owner, over the same clients and their connections.

        It costs no I/O and no connection, so a server of many users can make one for each call.
        Closing it closes nothing: what ``connect`` opened is closed with the database that
        ``connect`` gave.

        Args:
            owner: whose data it is.

        Returns:
            A database with the same caps, clock, request ids and metrics.

        Raises:
            InvalidIdentifierError: the owner is no valid id.
            VaultUnavailableError: the database was closed.
        """
        return wrap(ClientDatabase, self.asynchronous.for_owner(owner))

    def iter_owners(self) -> Iterator[str]:
        """The owners that have any data here, each once, in no order; data without one isn't told.

        It walks the whole database (SCAN), on a cluster each primary's, and again if a slot was
        moved meanwhile: for background use. Where a replica takes over, it goes on there. An owner
        that comes or goes meanwhile may be missed, and so may one whose slot is moved twice.
        One of whom no more than claims is left, for 30 seconds, isn't named.

        Raises:
            VaultUnavailableError: a server can't be reached.
            InventoryUnavailableError: the same, between the first database and the second.
            AccessDeniedError: the user may not walk the database.
        """
        return drive_iterator(self.asynchronous.iter_owners())

    def delete_owner(self, owner: str) -> int:
        """Deletes all that is kept of an owner, tombstones included (UNLINK).

        It costs what the owner has, whatever others have. Claims end by themselves within 30
        seconds, and are no part of it. It may be called again, after a failure for example. What
        the owner's programs store meanwhile may stay. It's confirmed as other changes are, also
        what an earlier call deleted.

        Args:
            owner: whose data it is.

        Returns:
            How many Redis keys were deleted.

        Raises:
            InvalidIdentifierError: the owner is no valid id.
            VaultUnavailableError: the server can't be reached.
            InventoryUnavailableError: the same, between the first database and the second.
            AccessDeniedError: the user may not read the owner's keys, or delete.
            NotWritableError: the server takes no writes now.
            ConcurrencyError: the owner's slot is being moved.
            CorruptEntryError: an index has the wrong type, so that nobody knows what it listed;
                it's left, and so is what would have been deleted after it.
        """
        return drive(self.asynchronous.delete_owner(owner))

    def get_maintenance_progress(self) -> MaintenanceProgress | None:
        """How far the last round of maintenance over all owners is; None if there was none.

        The database that began it knows: its own owner's, if it has one.

        Raises:
            InventoryUnavailableError: the server can't be reached.
            AccessDeniedError: the user may not read it.
            CorruptEntryError: what is stored of it is malformed.
        """
        return drive(self.asynchronous.get_maintenance_progress())

    def doctor(self) -> "Diagnosis":
        """Looks for what could lose keys or give them away, and for what the user may not do.

        It changes nothing. Whether a server is supported still is asked of ``clock``, or of this
        machine's. What the server refuses to tell is a warning among the findings; a
        command that the user may not run leaves a line in the server's ``ACL LOG``.

        Returns:
            The findings, each with its severity and its remedy.

        Raises:
            VaultUnavailableError: the vault's server can't be reached.
            InventoryUnavailableError: the inventory's server can't be reached.
            EmbeddedServerError: the directory of an embedded database can't be read any more.
        """
        return drive(self.asynchronous.doctor())

    def check(self, *, repair: bool = False) -> "IntegrityReport":
        """Finds what doesn't fit: counters, lost rows and entries, malformed or foreign keys.

        It walks both databases (SCAN), and others may work meanwhile. See
        :mod:`aqm_db.integrity` for what is checked, and how it is mended.

        Args:
            repair: whether to mend what can be mended; no key that could be used is lost.

        Raises:
            InvalidArgumentError: ``repair`` isn't a bool.
            UnavailableError: a database can't be reached.
            AccessDeniedError: the server forbids a command or a key.
            NotWritableError: the server takes no writes now.
        """
        return drive(self.asynchronous.check(repair=repair))

    def close(self) -> None:
        """Closes everything that ``connect`` opened; calling it again does nothing.

        Later ones raise VaultUnavailableError or InventoryUnavailableError, those of the databases
        that :meth:`for_owner` gave too; closing one of these closes nothing.

        Raises:
            EmbeddedServerError: the disk of an embedded database is full, or fails, and what was
                acknowledged isn't in its file. Everything is closed, and the server goes on with
                it in its memory: open the database, and close it again, once there's room.
        """
        drive(self.asynchronous.aclose())

    def __enter__(self) -> Self:
        drive(self.asynchronous.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        drive(self.asynchronous.__aexit__(kind, error, traceback))


def connect(
    url: str | None = None,
    *,
    owner: str | None = None,
    budget_caps: Mapping[str, Mapping[str, int]] = config.BUDGET_CAPS,
    budget_bytes: int = config.INV_MAX_STORAGE_BYTES,
    clock: Callable[[], int] | None = None,
    request_ids: Callable[[], str] = new_request_id,
    confirm_replicas: int = 0,
    confirm_timeout: int = config.CONFIRM_TIMEOUT,
    confirm_fsync: bool = False,
    settle_timeout: int = config.SETTLE_TIMEOUT,
    allow_unsafe: bool = False,
) -> ClientDatabase:
    """Opens a database.

    ::

        with connect() as db:
            coin = db.inventory.select_coin("bob", "GOLD")

        db = connect("redis://localhost")
        ...
        db.close()

    Args:
        url: what to open:

            - ``embedded:///path``: a private, durable Valkey server in that directory, which is
              started, or joined if it runs; ``embedded://``: in the user's data directory;
            - ``memory://``: fakeredis in this process, gone when it's closed: for tests;
            - ``redis://``, ``rediss://``, ``unix://``: a server of yours, the vault in database
              0 and the inventory in 1;
            - ``redis+cluster://host:port,host:port``: a cluster of yours, the vault and the
              inventory of an owner in one slot;
            - ``redis+sentinel://host:port,host:port/name``: whichever server is the primary, as
              these sentinels say, the vault and the inventory in database 0; sentinels that want
              a password get ``?sentinel_password=...`` (and ``&sentinel_username=...``);
            - ``rediss+cluster``, ``rediss+sentinel``: the same with TLS, but sentinels are asked
              without it;
            - None: ``$AQM_DB_URL``, or ``embedded://``.
        owner: whose data it is, if several share a database; a cluster needs one.
        budget_caps: coins per contact, by priority and tier.
        budget_bytes: payload bytes of all cached coins together; see the inventory's ``store_key``.
        clock: milliseconds since the epoch, for tests, an int each time; None for the server's own
            clock (TIME), by which private halves and claims end all the same.
        request_ids: a fresh id for every call, of ASCII letters, digits, ``-`` and ``_``.
        confirm_replicas: how many replicas must have a change before a call returns (WAIT). One
            that isn't confirmed raises VaultUnavailableError or InventoryUnavailableError, and
            its outcome is unknown: a coin that was to be handed out stays claimed.
        confirm_timeout: how long they are waited for, in ms, from when the change is sent. Changes
            of callers at the same time wait together; those that come meanwhile wait next.
        confirm_fsync: whether a change must be on the disks before a call returns (WAITAOF), the
            server's own and those of ``confirm_replicas`` replicas. It takes an append-only file,
            and ``appendfsync always`` (CONFIG GET tells), or Redis 8.0, where with everysec each
            call waits for up to two seconds, so give it as long: Valkey, and Redis before, say
            too early that the disk has it, also replicas that write theirs so. An embedded server
            is set to always, until it ends. One of yours is refused, and where the setting is
            changed later, each change raises, and its outcome is unknown.
        settle_timeout: how long a call whose caller is gone may take to find out what it did, and
            to take it back, in ms (1 to 4,000).
        allow_unsafe: whether to open a server that deletes keys to make room (an eviction policy
            and a memory limit), or a replica.

    Raises:
        InvalidArgumentError: an argument has the wrong type or value, or the server can't do what
            it says.
        UnsafeServerError: the server deletes keys to make room, or is a replica; or a primary of
            the cluster is so.
        EmbeddedServerError: the embedded server can't be started or joined.
        SchemaVersionError: a later version of this library has written the owner's data.
        VaultUnavailableError: the server can't be reached, or the owner's primary in a cluster; or
            the sentinels don't know the name.
        InventoryUnavailableError: the same, between the first database and the second.
        AccessDeniedError: the name or the password is wrong, or the sentinels'; or the user may not
            enter the database, or do what opening it takes.
    """
    connecting = database.connect(
        url,
        owner=owner,
        budget_caps=budget_caps,
        budget_bytes=budget_bytes,
        clock=clock,
        request_ids=request_ids,
        confirm_replicas=confirm_replicas,
        confirm_timeout=confirm_timeout,
        confirm_fsync=confirm_fsync,
        settle_timeout=settle_timeout,
        allow_unsafe=allow_unsafe,
    )
    return wrap(ClientDatabase, drive(connecting.open(SYNC)))


def create_vault_client(
    *, host: str = config.REDIS_HOST, port: int = config.REDIS_PORT
) -> SyncClient:
    """Makes a client for the vault's logical database (0), and pings it.

    Raises:
        VaultUnavailableError: the server can't be reached.
        AccessDeniedError: the server wants a password; give ``connect`` a url with one.
    """
    return unwrap_client(drive(opening.create_vault_client(SYNC, host=host, port=port)))


def create_inventory_client(
    *, host: str = config.REDIS_HOST, port: int = config.REDIS_PORT
) -> SyncClient:
    """Makes a client for the inventory's logical database (1), and pings it.

    Raises:
        InventoryUnavailableError: the server can't be reached.
        AccessDeniedError: the server wants a password; give ``connect`` a url with one.
    """
    return unwrap_client(drive(opening.create_inventory_client(SYNC, host=host, port=port)))


def health_check(vault_client: AnySyncClient, inventory_client: AnySyncClient) -> HealthStatus:
    """Asks both databases how they are; one that doesn't answer is an answer, not an error.

    It takes two seconds at most, whatever is silent.

    Returns:
        Whether each answers, its number of Redis keys (DBSIZE), and the seconds since the
        vault's server started: of a cluster the keys of all its primaries, which the vault and
        the inventory share, and the seconds since the last of them started. A cluster of which
        one doesn't answer isn't connected; the numbers are those of the others.
    """
    return drive(
        connection.health_check(
            wrap_client(vault_client, "health_check"), wrap_client(inventory_client, "health_check")
        )
    )


def close_all(vault_client: AnySyncClient, inventory_client: AnySyncClient) -> None:
    """Closes both clients."""
    drive(
        connection.close_all(
            wrap_client(vault_client, "close_all"), wrap_client(inventory_client, "close_all")
        )
    )


def export_backup(db: ClientDatabase, path: str | PathLike[str]) -> BackupReport:
    """Writes one owner's database to a file that is readable by its owner alone (0600).

    It walks the owner's indexes: what changes meanwhile is in the file as it was before or
    after, and what is there throughout is in it, whichever server takes over meanwhile. Burned
    keys are left out, and so are malformed rows; of what was used, burned or has expired, the ids
    are kept as long as the database remembers them.

    Args:
        db: the database.
        path: a file that doesn't exist yet.

    Raises:
        InvalidArgumentError: the file exists, or can't be written.
        CorruptEntryError: one of a contact's indexes is malformed; there is no file.

    It also raises what every method of the vault and of the inventory does.
    """
    return drive(backup.export_backup(unwrap("db", db, ClientDatabase), path))


def import_backup(
    db: ClientDatabase,
    path: str | PathLike[str],
    *,
    used: Sequence[str] = (),
    inventory: bool = False,
) -> BackupReport:
    """Restores a vault from a file, and an inventory only when told to.

    First it learns what the file knows of used, burned and expired keys, so that none of these
    comes back, from whatever source; one that an older state of the database still holds goes.
    What is there otherwise stays as it is, and is left out. Each private half keeps its age.
    One whose public half waited to be published isn't offered again: it may have been published
    since, and a coin that is offered twice is used twice.

    Args:
        db: where to.
        path: a file that :func:`export_backup` wrote.
        used: ids of keys that were burned since the file was written, as far as the program
            knows; they're left out.
        inventory: whether coins are restored, too. Those that were handed out since the file was
            written would come back to life, and a coin that is used twice isn't a one-time key
            any more: only for a database that no message was sent from since.

    Raises:
        InvalidArgumentError: the file is no backup, not as it was written, or holds fewer entries
            of a kind than it says that it should; nothing was restored.
        UnavailableError: a database can't be reached.
        AccessDeniedError: the server forbids a command or a key.
        NotWritableError: the server takes no writes now.
        ConcurrencyError: the owner's slot is being moved.
        CorruptEntryError: the stored counters are malformed.

    What was restored before one of these stays, and importing the file again restores the rest.
    """
    return drive(
        backup.import_backup(unwrap("db", db, ClientDatabase), path, used=used, inventory=inventory)
    )
