"""The Smart Inventory: contacts' public halves, in three tiers."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast, overload

from . import config
from ._io.confirming import confirmation_of
from ._io.redispy.clients import AnyAsyncClient, seam_over
from ._io.seam import Argument, Call, ClientSeam, Reply, Seam
from ._lua import scripts
from ._model.checks import (
    check_caps,
    check_category,
    check_coin,
    check_count,
    check_days,
    check_entry,
    check_id,
    check_items,
    check_priority,
    check_text,
)
from ._model.defaults import DAY_MS, new_request_id, now_ms
from ._model.keys import Keys
from ._model.rows import Row, row_of
from ._model.tiers import TIERS, caps_of, priorities_above
from ._operations.batch import run_batch
from ._operations.collecting import remove_orphans
from ._operations.outcome import Progress, checked, names_claim
from .errors import (
    AQMDatabaseError,
    BudgetExceededError,
    ContactNotRegisteredError,
    CorruptEntryError,
    InvalidArgumentError,
    InventoryUnavailableError,
    KeyAlreadyExistsError,
    KeyAlreadyUsedError,
)
from .types import ContactMeta, InventoryEntry, InventorySummary, NewCoin

if TYPE_CHECKING:
    from ._operations.reservations import Reservations

_log = logging.getLogger("aqm_db.inventory")
COIN_TTL_MS: int = config.INV_COIN_TTL_SECONDS * 1000
USED_TTL_MS: int = config.INV_USED_TTL_SECONDS * 1000
CLAIM_TTL_MS: int = config.INV_CLAIM_TTL_SECONDS * 1000


class AsyncSmartInventory:
    """Public halves of contacts' coins: cached up to a cap, handed out at most once, oldest first.

    Args:
        client: a ``redis.asyncio.Redis``, or a ``RedisCluster`` if there is an owner, made with
            ``decode_responses=False``; fakeredis' works.
        owner: whose inventory it is, if several share a database; None uses the key names of the
            specification as they are.
        budget_caps: coins per contact, by priority and tier.
        budget_bytes: payload bytes of all cached coins together; see :meth:`store_key`.
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
        InvalidArgumentError: a cap is missing, or a number is out of range, or the client is a
            cluster's and there is no owner.

    Attributes:
        keys: the names of its Redis keys.
        clock: milliseconds since the epoch.
        budget_caps: coins per contact, by priority and tier.
        budget_bytes: payload bytes of all cached coins together; see :meth:`store_key`.
        request_ids: a fresh id for every call.

    Every method also raises InventoryUnavailableError, AccessDeniedError, NotWritableError and (on
    a cluster) ConcurrencyError where the server or the link gives cause (see
    :mod:`aqm_db.errors`).
    """

    def __init__(
        self,
        client: AnyAsyncClient,
        *,
        owner: str | None = None,
        budget_caps: Mapping[str, Mapping[str, int]] = config.BUDGET_CAPS,
        budget_bytes: int = config.INV_MAX_STORAGE_BYTES,
        clock: Callable[[], int] = now_ms,
        request_ids: Callable[[], str] = new_request_id,
        confirm_replicas: int = 0,
        confirm_timeout: int = config.CONFIRM_TIMEOUT,
        confirm_fsync: bool = False,
    ) -> None:
        self.keys: Keys = Keys(owner)
        self._confirmation = confirmation_of(
            self.keys, confirm_replicas, confirm_timeout, confirm_fsync
        )
        self._seam: Seam = self._seam_over(client, type(self).__name__)
        self.clock = clock
        self.budget_caps: Mapping[str, Mapping[str, int]] = check_caps("budget_caps", budget_caps)
        self.budget_bytes: int = check_count("budget_bytes", budget_bytes, 1)
        self.request_ids = request_ids

    async def register_contact(
        self, contact_id: str, priority: str, display_name: str = ""
    ) -> bool:
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
        check_id("contact_id", contact_id)
        check_priority("priority", priority)
        check_text("display_name", display_name)
        names = self.keys.of(contact_id)
        arguments = (self.request_ids(), priority, self.clock(), display_name)
        call = Call(scripts.INV_REGISTER, (names.meta, names.used), arguments)
        reply = await self._seam.run(call)
        [created] = checked(reply, contact_id=contact_id)
        return bool(created)

    async def set_contact_priority(self, contact_id: str, priority: str) -> bool:
        """Changes a contact's priority.

        A lower one drops the newest coins above its caps. A higher one drops nothing: coins above
        its caps stay until they are used, and no more are stored meanwhile.

        Returns:
            True.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            InvalidPriorityError: there is no such priority.
            ContactNotRegisteredError: there is no such contact.
            CorruptEntryError: the stored contact or one of its indexes is malformed.
        """
        check_id("contact_id", contact_id)
        check_priority("priority", priority)
        names = self.keys.of(contact_id)
        caps = self.budget_caps[priority]
        arguments: tuple[Argument, ...] = (
            priority,
            names.rows,
            CLAIM_TTL_MS,
            *(caps[tier] for tier in TIERS),
            *priorities_above(priority),
        )
        keys = (names.meta, names.used, names.claims + self.request_ids(), *names.queues)
        reply = await self._seam.run(Call(scripts.INV_SET_PRIORITY, keys, arguments))
        [dropped] = checked(reply, contact_id=contact_id)
        _log.info(
            "priority_changed",
            extra={"contact_id": contact_id, "priority": priority, "dropped": dropped},
        )
        return True

    async def forget_contact(self, contact_id: str) -> int:
        """Removes a contact with all coins, in whatever state they are.

        Coins that were used stay used: their ids are remembered for 30 days, and a contact that
        is registered again gets that memory back. Rows that no queue lists go as well, after a
        walk over the whole database (SCAN).

        Returns:
            How many coins were dropped.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            ContactNotRegisteredError: there is no such contact.
            CorruptEntryError: the memory of used coins is malformed; nothing was removed.
        """
        check_id("contact_id", contact_id)
        names = self.keys.of(contact_id)
        keys = (names.meta, names.used, names.claims + self.request_ids(), *names.queues)
        reply = await self._seam.run(
            Call(scripts.INV_FORGET, keys, (names.rows, USED_TTL_MS, CLAIM_TTL_MS))
        )
        [dropped] = checked(reply, contact_id=contact_id)
        with Progress() as progress:
            progress.made = True
            orphans = await remove_orphans(self._seam, self.keys, [contact_id], "delete")
        dropped += sum(deleted for _, deleted in orphans)
        _log.info("contact_forgotten", extra={"contact_id": contact_id, "dropped": dropped})
        return int(dropped)

    async def get_contact_meta(self, contact_id: str) -> ContactMeta | None:
        """Reads a contact.

        Returns:
            The contact; None if there is none.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: the stored contact is malformed; it was left as it is.
        """
        check_id("contact_id", contact_id)
        [fields] = await self._seam.read(("HGETALL", self._meta_key(contact_id)))
        row = row_of(f"contact {contact_id!r}", fields)
        if row is None:
            return None
        return ContactMeta(
            contact_id=contact_id,
            priority=row.priority(),
            last_msg_at=row.integer("last_msg_at"),
            display_name=row.text("display_name"),
        )

    async def store_key(
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
            expires_at: when its private half is gone, in ms since the epoch; None means 30 days
                from now.
            enforce_budget: whether ``budget_bytes`` is kept too, and slots count that are
                reserved for coins on their way; it walks the whole database (SCAN) to measure
                it. The contact's cap is always kept.

        Returns:
            True.

        Raises:
            InvalidArgumentError: an argument has the wrong type or size; nothing was stored.
            ContactNotRegisteredError: there is no such contact.
            BudgetExceededError: the contact's cap for this tier is reached, or the byte budget.
            NoSlotError: enforcing the budget took minutes, so that it might have been passed.
            KeyAlreadyExistsError: the coin is cached already, in whichever tier.
            KeyAlreadyUsedError: the coin was handed out before.
            CorruptEntryError: the stored contact or one of its indexes is malformed.
        """
        coin = NewCoin(contact_id, key_id, coin_category, public_key, signature, expires_at)
        if enforce_budget:
            [outcome] = await self._reservations().store_within_budget([coin])
            if isinstance(outcome, AQMDatabaseError):
                raise outcome
            return outcome
        return self._stored(coin, await self._seam.run(self._storing(coin)))

    async def store_keys(
        self, coins: Sequence[NewCoin], *, enforce_budget: bool = False
    ) -> list[bool | AQMDatabaseError]:
        """Caches many coins in one round trip; one that can't be cached stops no other.

        More than 500 take a round trip for each 500, so that other callers don't wait for all.

        Args:
            coins: what :meth:`store_key` takes, one by one; they may be of several contacts.
            enforce_budget: as of :meth:`store_key`; the byte budget goes to the contacts that
                come first.

        Returns:
            For each coin True, or the error that :meth:`store_key` would have raised.

        Raises:
            InvalidArgumentError: an item isn't a NewCoin; nothing was stored.
        """
        check_items("coins", coins, NewCoin)
        if enforce_budget:
            return await self._reservations().store_within_budget(coins)
        return await run_batch(self._seam, coins, self._storing, self._stored)

    async def select_coin(self, contact_id: str, desired_tier: str) -> InventoryEntry | None:
        """Takes the oldest coin of a tier, or of the next lower tier that has one.

        The coin is handed out to this caller alone, and never again. One that isn't used after
        all goes back with :meth:`release_coin`. A caller that is cancelled gets no coin, and none
        is lost: it's back in its queue when the cancellation goes on.

        A coin whose row is missing, malformed or stale is set aside and logged, and the next one is
        taken.

        This is the hot path (ZPOPMIN in spirit, one script in one round trip).

        Returns:
            The coin; None if there is none in this tier or below: fetch one from the server.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            InvalidCoinCategoryError: there is no such tier.
            ContactNotRegisteredError: there is no such contact.
            CorruptEntryError: the stored contact or one of its indexes is malformed; no coin was
                taken.
        """
        call = self._selecting(contact_id, desired_tier)
        reply = await self._seam.run(call, partial(self._taken_back, contact_id, call))
        return self._selected(contact_id, desired_tier, call, reply)

    async def select_coins(
        self, contact_ids: Sequence[str], desired_tier: str
    ) -> dict[str, InventoryEntry | AQMDatabaseError | None]:
        """Takes a coin of each of many contacts in one round trip: for a message to a group.

        One contact that has none, or can't be asked, stops no other. A caller that is cancelled
        gets no coin, and all are back in their queues when the cancellation goes on.

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
        check_items("contact_ids", contact_ids, str)
        check_category("desired_tier", desired_tier)
        if len(set(contact_ids)) < len(contact_ids):
            raise InvalidArgumentError("contact_ids", "must name each contact once")
        calls: dict[str, Call] = {}

        def selecting(contact_id: str) -> Call:
            return calls.setdefault(contact_id, self._selecting(contact_id, desired_tier))

        outcomes = await run_batch(
            self._seam,
            contact_ids,
            selecting,
            lambda contact_id, reply: self._selected(
                contact_id, desired_tier, calls[contact_id], reply
            ),
            lambda contact_id: partial(self._taken_back, contact_id, calls[contact_id]),
        )
        return dict(zip(contact_ids, outcomes, strict=True))

    async def release_coin(self, entry: InventoryEntry) -> bool:
        """Puts a coin that was selected and never used back at the head of its queue.

        Args:
            entry: what ``select_coin`` returned.

        Returns:
            True if the coin is back. False if it can't be: it was released before, its contact
            was forgotten or is worth no coin of this tier any more, or it is stale by now.

        Raises:
            InvalidArgumentError: the entry isn't one that ``select_coin`` returned.
            CorruptEntryError: the stored contact or one of its indexes is malformed.
        """
        check_entry("entry", entry)
        [released] = checked(
            await self._seam.run(self._release(entry)), contact_id=entry.contact_id
        )
        return bool(released)

    async def consume_key(self, contact_id: str, key_id: str) -> bool:
        """Removes one coin, for example when its signature turned out to be wrong.

        Returns:
            True if it was cached, False if not.

        Raises:
            InvalidIdentifierError: an id is no valid id.
            CorruptEntryError: one of the contact's indexes is malformed; nothing was removed.
        """
        check_id("contact_id", contact_id)
        check_id("key_id", key_id)
        names = self.keys.of(contact_id)
        keys = (
            names.row(key_id),
            names.claims + self.request_ids(),
            names.used,
            *names.queues,
        )
        arguments = (
            key_id,
            names.claims,
            self.clock(),
            CLAIM_TTL_MS,
            COIN_TTL_MS,
        )
        [removed] = checked(await self._seam.run(Call(scripts.INV_CONSUME, keys, arguments)))
        return bool(removed)

    @overload
    async def get_inventory(self, contact_id: None = None) -> dict[str, InventorySummary]: ...

    @overload
    async def get_inventory(self, contact_id: str) -> InventorySummary: ...

    async def get_inventory(
        self, contact_id: str | None = None
    ) -> dict[str, InventorySummary] | InventorySummary:
        """Counts cached coins by tier (ZCARD): of one contact, or of all by contact id.

        For all contacts it walks the whole database (SCAN), and malformed contacts are logged and
        left out.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            ContactNotRegisteredError: there is no such contact.
            CorruptEntryError: the stored contact is malformed.
        """
        if contact_id is not None:
            check_id("contact_id", contact_id)
            [summary] = await self._summaries([contact_id])
            if isinstance(summary, AQMDatabaseError):
                raise summary
            return summary
        inventory: dict[str, InventorySummary] = {}
        async for contact_ids in self.contact_pages():
            for found in await self._summaries(contact_ids):
                if isinstance(found, InventorySummary):
                    inventory[found.contact_id] = found
                else:
                    _log.warning("corrupt_entry", extra={"reason": str(found)})
        return inventory

    async def has_keys_for(self, contact_id: str) -> bool:
        """Whether at least one coin is cached for a contact, registered or not.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: a stored index is malformed.
        """
        return bool(await self.get_available_tiers(contact_id))

    async def get_available_tiers(self, contact_id: str) -> list[str]:
        """The tiers that have at least one coin cached, best first.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: a stored index is malformed.
        """
        check_id("contact_id", contact_id)
        counts = await self._seam.read(
            *(("ZCARD", queue) for queue in self.keys.of(contact_id).queues)
        )
        for count in counts:
            if isinstance(count, AQMDatabaseError):
                raise count
        return [tier for tier, count in zip(TIERS, counts, strict=True) if count]

    async def list_coins(self, contact_id: str) -> list[InventoryEntry]:
        """Reads a contact's cached coins, best tier and oldest first, and takes none of them.

        It's for a backup, or to look at them: a coin to be used comes from :meth:`select_coin`.
        Malformed rows are logged and left out.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: a stored index is malformed.
        """
        check_id("contact_id", contact_id)
        names = self.keys.of(contact_id)
        queues = await self._seam.read(*(("ZRANGE", queue, 0, -1) for queue in names.queues))
        key_ids: list[str] = []
        for queue in queues:
            if isinstance(queue, AQMDatabaseError):
                raise queue
            key_ids += [key_id.decode("utf-8", "replace") for key_id in queue]
        # A server takes no empty pipeline.
        reads = [("HGETALL", names.row(key_id)) for key_id in key_ids]
        rows = await self._seam.read(*reads) if reads else []
        coins: list[InventoryEntry] = []
        for key_id, fields in zip(key_ids, rows, strict=True):
            try:
                row = row_of(f"coin {key_id!r}", fields)
                coins += [] if row is None else [_coin_in(contact_id, key_id, row)]
            except CorruptEntryError:
                told = {"contact_id": contact_id, "key_id": key_id}
                _log.warning("corrupt_entry", extra=told)
        return coins

    async def count_stale(self, within_days: int = 0) -> dict[str, dict[str, int]]:
        """Counts cached coins whose private half is gone by then, by contact id and tier.

        It walks the whole database (SCAN), and malformed contacts are logged and left out.

        Args:
            within_days: days from now, 0 to 36,500; 0 counts what is stale already.

        Returns:
            Contacts that have such coins; a tier without any is 0.

        Raises:
            InvalidArgumentError: the number of days is out of range.
        """
        check_days("within_days", within_days)
        then = self.clock() + within_days * DAY_MS
        stale: dict[str, dict[str, int]] = {}
        async for contact_ids in self.contact_pages():
            replies = await self._seam.run_all(
                [
                    Call(scripts.INV_COUNT_STALE, names.queues, (names.rows, then, COIN_TTL_MS))
                    for names in map(self.keys.of, contact_ids)
                ]
            )
            for contact_id, reply in zip(contact_ids, replies, strict=True):
                try:
                    counts = checked(reply, contact_id=contact_id)
                except CorruptEntryError:
                    _log.warning("corrupt_entry", extra={"contact_id": contact_id})
                    continue
                if any(counts):
                    stale[contact_id] = dict(zip(TIERS, counts, strict=True))
        return stale

    async def contact_pages(self) -> AsyncIterator[list[str]]:
        """The ids of all contacts, page by page (SCAN): each at least once."""
        async for page in self._seam.scan(self.keys.meta_pattern()):
            contact_ids = [found for key in page if (found := self.keys.meta_id(key)) is not None]
            if contact_ids:
                yield contact_ids

    def _seam_over(self, client: AnyAsyncClient, user: str) -> ClientSeam:
        """The seam over a client of this inventory's database, whose changes are confirmed as here.

        Args:
            client: as of this class.
            user: the class or function that the client was passed to.
        """
        return seam_over(
            client,
            InventoryUnavailableError,
            user,
            self.keys.prefix,
            confirmation=self._confirmation,
        )

    async def _summaries(self, contact_ids: list[str]) -> list[InventorySummary | AQMDatabaseError]:
        reads = [
            command
            for names in map(self.keys.of, contact_ids)
            for command in (
                ("HGETALL", names.meta),
                *(("ZCARD", queue) for queue in names.queues),
            )
        ]
        replies = iter(await self._seam.read(*reads))
        return [
            _summary(contact_id, next(replies), [next(replies) for _ in TIERS])
            for contact_id in contact_ids
        ]

    def _reservations(self) -> "Reservations":
        from ._operations.reservations import Reservations  # noqa: PLC0415 - most programs reserve nothing

        return Reservations(self, self._seam, self.request_ids, self._storing, self._stored)

    def _storing(self, coin: NewCoin, lease: str | None = None) -> Call:
        check_coin(coin)
        request_id = self.request_ids()
        names = self.keys.of(coin.contact_id)
        keys = (
            names.row(coin.key_id),
            names.meta,
            names.used,
            names.claims + request_id,
            *names.queues,
            self.keys.inv_leases,
        )
        arguments: tuple[Argument, ...] = (
            request_id,
            coin.key_id,
            coin.coin_category,
            coin.public_key,
            coin.signature,
            self.clock(),
            "" if coin.expires_at is None else coin.expires_at,
            names.rows,
            COIN_TTL_MS,
            USED_TTL_MS,
            *caps_of(self.budget_caps, coin.coin_category),
        )
        return Call(scripts.INV_STORE, keys, arguments if lease is None else (*arguments, lease))

    def _stored(self, coin: NewCoin, reply: Reply | AQMDatabaseError) -> bool:
        told = {
            "contact_id": coin.contact_id,
            "key_id": coin.key_id,
            "coin_category": coin.coin_category,
        }
        try:
            checked(reply, contact_id=coin.contact_id, key_id=coin.key_id, tier=coin.coin_category)
        except (KeyAlreadyExistsError, KeyAlreadyUsedError):
            _log.warning("duplicate_rejected", extra=told)
            raise
        except BudgetExceededError:
            _log.info("budget_exceeded", extra=told)
            raise
        _log.debug("key_stored", extra=told)
        return True

    def _selecting(self, contact_id: str, desired_tier: str) -> Call:
        check_id("contact_id", contact_id)
        check_category("desired_tier", desired_tier)
        names = self.keys.of(contact_id)
        keys = (names.claims + self.request_ids(), names.meta, names.used, *names.queues)
        arguments: tuple[Argument, ...] = (
            names.rows,
            names.claims,
            self.clock(),
            COIN_TTL_MS,
            CLAIM_TTL_MS,
            desired_tier,
            *config.TIER_FALLBACK[desired_tier],
        )
        return Call(scripts.INV_SELECT, keys, arguments)

    def _selected(
        self, contact_id: str, desired_tier: str, call: Call, reply: Reply | AQMDatabaseError
    ) -> InventoryEntry | None:
        _, aside, *coin = checked(self._own(call, reply), contact_id=contact_id)
        if aside:
            _warn_of(contact_id, aside)
        if not coin:
            return None
        entry = self._deserialize_entry(contact_id, coin)
        told = {
            "contact_id": contact_id,
            "key_id": entry.key_id,
            "coin_category": entry.coin_category,
        }
        if entry.coin_category != desired_tier:
            _log.info("fallback_used", extra={**told, "desired_tier": desired_tier})
        _log.debug("coin_selected", extra=told)
        return entry

    def _taken_back(self, contact_id: str, call: Call, reply: Reply) -> Call | None:
        _, _, *coin = checked(self._own(call, reply))
        return self._release(self._deserialize_entry(contact_id, coin)) if coin else None

    def _own(self, call: Call, reply: Reply | AQMDatabaseError) -> Reply | AQMDatabaseError:
        """The reply of a selection, once it's sure that it is its own.

        Raises:
            InventoryUnavailableError: it's another call's, and nothing in it may be used.
        """
        if names_claim(call, reply) or isinstance(reply, AQMDatabaseError):
            return reply
        self._seam.distrust()
        raise InventoryUnavailableError(
            "the reply is to another call: the link is out of step", outcome_unknown=True
        )

    def _release(self, entry: InventoryEntry) -> Call:
        names = self.keys.of(entry.contact_id)
        keys = (
            names.row(entry.key_id),
            names.meta,
            names.used,
            names.claims + self.request_ids(),
            names.queues[TIERS.index(entry.coin_category)],
        )
        arguments = (
            entry.key_id,
            entry.coin_category,
            entry.public_key,
            entry.signature,
            entry.fetched_at,
            "" if entry.expires_at is None else entry.expires_at,
            cast("int", entry.used_at),
            self.clock(),
            COIN_TTL_MS,
            CLAIM_TTL_MS,
            *caps_of(self.budget_caps, entry.coin_category),
        )
        return Call(scripts.INV_RELEASE, keys, arguments)

    def _inv_key(self, contact_id: str, key_id: str) -> str:
        return self.keys.of(contact_id).row(key_id)

    def _idx_key(self, contact_id: str, coin_category: str) -> str:
        return self.keys.of(contact_id).queues[TIERS.index(coin_category)]

    def _meta_key(self, contact_id: str) -> str:
        return self.keys.of(contact_id).meta

    @staticmethod
    def _deserialize_entry(contact_id: str, coin: Reply) -> InventoryEntry:
        key_id, tier, public_key, signature, fetched_at, expires_at, used_at = coin
        try:
            return InventoryEntry(
                contact_id,
                key_id.decode(),
                tier.decode(),
                public_key,
                signature,
                int(fetched_at),
                None if expires_at is None else int(expires_at),
                int(used_at),
            )
        except UnicodeDecodeError:
            raise CorruptEntryError(f"a coin of {contact_id!r} has an id that is no text") from None


def _coin_in(contact_id: str, key_id: str, row: Row) -> InventoryEntry:
    return InventoryEntry(
        contact_id=contact_id,
        key_id=key_id,
        coin_category=row.category(),
        public_key=row.blob("public_key"),
        signature=row.blob("signature"),
        fetched_at=row.integer("fetched_at"),
        expires_at=row.integer("expires_at") if row.has("expires_at") else None,
    )


def _warn_of(contact_id: str, aside: list[bytes]) -> None:
    """Logs the coins that couldn't be handed out: each an id, and what was wrong with it."""
    for key_id, fault in zip(aside[::2], aside[1::2], strict=True):
        _log.warning(
            "coin_set_aside",
            extra={
                "contact_id": contact_id,
                "key_id": key_id.decode("utf-8", "replace"),
                "fault": fault.decode(),
            },
        )


def _summary(contact_id: str, meta: Any, counts: list[Any]) -> InventorySummary | AQMDatabaseError:
    name = f"contact {contact_id!r}"
    if any(isinstance(count, AQMDatabaseError) for count in counts):
        return CorruptEntryError(f"{name}: an index has the wrong type")
    try:
        row = row_of(name, meta)
        if row is None:
            return ContactNotRegisteredError(f"{name} is not registered")
        gold, silver, bronze = counts
        return InventorySummary(contact_id, gold, silver, bronze, row.priority())
    except CorruptEntryError as error:
        return error
