"""The Smart Inventory: contacts' public halves, in three tiers."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, overload
from weakref import WeakSet

from . import config
from ._io.confirming import check_confirming
from ._io.redispy.clients import AnyAsyncClient, take_seam
from ._io.seam import Seam
from ._model.checks import (
    check_caps,
    check_category,
    check_clock,
    check_count,
    check_days,
    check_entry,
    check_items,
)
from ._model.defaults import DAY_MS, new_request_id
from ._model.keys import Keys
from ._model.tiers import TIERS
from ._operations import Scope, contacts, stock, taking
from ._operations.batch import run_batch, run_to_end
from ._operations.claims import Claims
from .errors import AQMDatabaseError, InvalidArgumentError, InventoryUnavailableError
from .types import ContactMeta, InventoryEntry, InventorySummary, NewCoin

if TYPE_CHECKING:
    from .prefetcher import AsyncPrefetcher


class AsyncSmartInventory:
    """Public halves of contacts' coins: cached up to a cap, handed out at most once, oldest first.

    Args:
        client: a ``redis.asyncio.Redis``, or a ``RedisCluster`` if there is an owner, made with
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
        TypeError: the client is neither a ``redis.asyncio.Redis`` nor a ``RedisCluster``.
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
        client: AnyAsyncClient | Seam,
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
        keys = Keys(owner)
        confirming = check_confirming(
            confirm_replicas, confirm_timeout, confirm_fsync, settle_timeout
        )
        name = type(self).__name__
        seam, confirming = take_seam(client, InventoryUnavailableError, name, keys, confirming)
        self.scope: Scope = Scope(seam, keys, check_clock(clock), request_ids, confirming, Claims())
        self.budget_caps: Mapping[str, Mapping[str, int]] = check_caps("budget_caps", budget_caps)
        self.budget_bytes: int = check_count("budget_bytes", budget_bytes, 1)
        self._prefetchers: WeakSet[AsyncPrefetcher] = WeakSet()

    @property
    def keys(self) -> Keys:
        """The names of its Redis keys."""
        return self.scope.keys

    @property
    def clock(self) -> Callable[[], int] | None:
        """Milliseconds since the epoch; None for the server's own clock."""
        return self.scope.clock

    @property
    def request_ids(self) -> Callable[[], str]:
        """A fresh id for every call."""
        return self.scope.request_ids

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
        call = contacts.build_register(self.scope, contact_id, priority, display_name)
        return contacts.read_register(contact_id, await self.scope.seam.run(call))

    async def set_contact_priority(self, contact_id: str, priority: str) -> bool:
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
        try:
            await contacts.set_priority(self.scope, contact_id, priority, self.budget_caps)
        finally:
            self._drop_prefetched(contact_id)
        return True

    async def forget_contact(self, contact_id: str) -> int:
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
        try:
            return await contacts.forget(self.scope, contact_id)
        finally:
            self._drop_prefetched(contact_id)

    async def get_contact_meta(self, contact_id: str) -> ContactMeta | None:
        """Reads a contact.

        Returns:
            The contact; None if there is none.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: the stored contact is malformed; it was left as it is.
        """
        return await contacts.read_meta(self.scope, contact_id)

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
        coin = NewCoin(contact_id, key_id, coin_category, public_key, signature, expires_at)
        if enforce_budget:
            [outcome] = await self._store_within_budget([coin])
            if isinstance(outcome, AQMDatabaseError):
                raise outcome
            return outcome
        call = stock.build_store(self.scope, coin, self.budget_caps)
        return stock.read_store(coin, await run_to_end(self.scope.seam, call))

    async def store_keys(
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
        check_items("coins", coins, NewCoin)
        if enforce_budget:
            return await self._store_within_budget(coins)
        build = partial(stock.build_store, self.scope, caps=self.budget_caps)
        return await run_batch(self.scope.seam, coins, build, stock.read_store)

    async def select_coin(self, contact_id: str, desired_tier: str) -> InventoryEntry | None:
        """Takes the oldest coin of a tier, or of the next lower tier that has one.

        The coin is handed out to this caller alone, and never again. One that isn't used after
        all goes back with :meth:`release_coin`. A caller that is cancelled gets no coin, and none
        is lost: it's back in its queue when the cancellation goes on.

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
        scope = self.scope
        call = stock.build_select(scope, contact_id, desired_tier)
        undo = partial(stock.undo_select, scope, self.budget_caps, contact_id, call)
        reply = await scope.seam.run(call, undo)
        while (following := stock.continue_select(contact_id, call, reply)) is not None:
            reply = await scope.seam.run(following, undo)
        return stock.read_select(scope, contact_id, call, reply)

    async def select_coins(
        self, contact_ids: Sequence[str], desired_tier: str
    ) -> dict[str, InventoryEntry | AQMDatabaseError | None]:
        """Takes a coin of each of many contacts in one round trip: for a message to a group.

        More than 200 take a round trip for each 200, so that other callers don't wait for all.
        One contact that has none, or can't be asked, stops no other. A caller that is cancelled
        gets no coin, and all are back in their queues when the cancellation goes on; after
        ``settle_timeout`` it goes on, and what is left goes back in the background.

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
        wanted = [taking.Selection(contact_id, desired_tier) for contact_id in contact_ids]
        outcomes = await taking.take(self.scope, self.budget_caps, wanted)
        return dict(zip(contact_ids, outcomes, strict=True))

    def prefetch(
        self,
        *,
        ahead: int = 2,
        contacts: Sequence[str] | None = None,
        tiers: Sequence[str] = ("GOLD",),
        most_contacts: int = 100,
    ) -> AbstractAsyncContextManager["AsyncPrefetcher"]:
        """Keeps coins at hand as long as the block runs, which are handed out without a round trip.

        ::

            async with db.inventory.prefetch(ahead=2) as at_hand:
                coin = await at_hand.select_coin("bob", "GOLD")

        Of each contact and tier it selects up to ``ahead`` coins in advance. What is handed out is
        made up for in the background, in one round trip for many, and confirmed before it's at
        hand: the strongest ``confirm_replicas`` and ``confirm_fsync`` cost its caller nothing.
        Where nothing is at hand, the database is asked as :meth:`select_coin` does.

        - At the end of the block, however it ends, what wasn't handed out goes back to its place
          in its queue. What can't go back, since the server is gone or the database was closed
          inside the block, is used up, and logged with its number (``coins_not_returned``); so
          it is, in silence, when the program is killed: at most ``ahead`` coins of each contact
          and tier. A refill whose outcome nobody knows uses up as many, and one each time that
          it's tried again. Whoever is cancelled waits for ``settle_timeout`` at most; then it goes
          on in the background.
        - The oldest comes first. What another caller puts back meanwhile with
          :meth:`release_coin` comes first in its queue, behind what is at hand already.
        - Only coins of the very tier that was wanted are at hand for it. A lower tier's is handed
          out when the database says, in this call, that it has none of the better ones: then the
          one that is at hand, or else the database's.
        - A stale coin isn't handed out: how long it lasts is counted from when it was selected,
          by the server's clock, on the program's clock that never steps and counts suspension.
        - A contact who is forgotten, or has another priority, loses what is at hand: at once
          through this object, else when it's next refilled. :meth:`consume_key` removes a coin
          that is at hand, too.
        - Coins at hand are in no cap, no list and no count, as others that were handed out; once
          they are back, there may be so many more than the cap. To select one ahead is a sign of
          life of its contact, as :meth:`select_coin` is.
        - A refill that fails is logged (``prefetch_failed``). It's tried again with the first call
          after a pause of a second, and twice as long each time, up to a minute; or as soon as a
          call finds that the database answers.
        - It serves the event loop and the process that it's entered in, and raises anywhere else.

        Args:
            ahead: coins of each contact and tier that are kept at hand.
            contacts: whose coins are kept at hand; None for those who were written to last.
            tiers: which of the named contacts' tiers are kept at hand from the beginning; others
                are once they were wanted.
            most_contacts: of how many contacts coins are kept, if none are named; those of whoever
                wasn't written to for longest go back.

        Raises:
            ImportError: anyio isn't installed (the extra ``background``).
            InvalidArgumentError: an argument has the wrong type or value.
        """
        from .prefetcher import AsyncPrefetcher  # noqa: PLC0415 - it needs an extra

        prefetcher = AsyncPrefetcher(
            self.scope,
            self.budget_caps,
            self.select_coin,
            ahead=ahead,
            contacts=contacts,
            tiers=tiers,
            most_contacts=most_contacts,
        )
        self._prefetchers.add(prefetcher)
        return prefetcher.running()

    async def release_coin(self, entry: InventoryEntry) -> bool:
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
        check_entry("entry", entry)
        call = stock.build_release(self.scope, entry, self.budget_caps)
        return stock.read_release(entry, await self.scope.seam.run(call))

    async def consume_key(self, contact_id: str, key_id: str) -> bool:
        """Removes one coin, for example when its signature turned out to be wrong.

        Returns:
            True if it was cached, False if not.

        Raises:
            InvalidIdentifierError: an id is no valid id.
            CorruptEntryError: one of the contact's indexes is malformed; nothing was removed.
        """
        call = stock.build_consume(self.scope, contact_id, key_id)
        is_removed = stock.read_consume(await self.scope.seam.run(call))
        at_hand = [each.discard(contact_id, key_id) for each in tuple(self._prefetchers)]
        return is_removed or any(at_hand)

    @overload
    async def get_inventory(self, contact_id: None = None) -> dict[str, InventorySummary]: ...

    @overload
    async def get_inventory(self, contact_id: str) -> InventorySummary: ...

    async def get_inventory(
        self, contact_id: str | None = None
    ) -> dict[str, InventorySummary] | InventorySummary:
        """Counts cached coins by tier (ZCARD): of one contact, or of all by contact id.

        Of all contacts, malformed ones are logged and left out.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            ContactNotRegisteredError: there is no such contact.
            CorruptEntryError: the stored contact is malformed.
        """
        if contact_id is None:
            return await contacts.summarize_all(self.scope)
        return await contacts.summarize(self.scope, contact_id)

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
        return await stock.list_tiers(self.scope, contact_id)

    async def list_coins(self, contact_id: str) -> list[InventoryEntry]:
        """Reads a contact's cached coins, best tier and oldest first, and takes none of them.

        It's for a backup, or to look at them: a coin to be used comes from :meth:`select_coin`.
        Malformed rows are logged and left out.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            CorruptEntryError: a stored index is malformed.
        """
        return await stock.list_coins(self.scope, contact_id)

    async def count_stale(self, within_days: int = 0) -> dict[str, dict[str, int]]:
        """Counts cached coins that nobody may encrypt for by then, by contact id and tier.

        Malformed contacts are logged and left out.

        Args:
            within_days: days from now, 0 to 36,500; 0 counts what is stale already.

        Returns:
            Contacts that have such coins; a tier without any is 0.

        Raises:
            InvalidArgumentError: the number of days is out of range.
        """
        check_days("within_days", within_days)
        stale: dict[str, dict[str, int]] = {}
        async for contact_ids in self.contact_pages():
            stale |= await stock.count_stale(self.scope, contact_ids, within_days * DAY_MS)
        return stale

    async def contact_pages(self) -> AsyncIterator[list[str]]:
        """The ids of all contacts, page by page (SSCAN): each at least once."""
        async for contact_ids in contacts.list_pages(self.scope):
            yield contact_ids

    async def _store_within_budget(self, coins: Sequence[NewCoin]) -> list[bool | AQMDatabaseError]:
        from ._operations.reservations import Reservations  # noqa: PLC0415 - few programs reserve

        return await Reservations(self).store_within_budget(coins)

    def _drop_prefetched(self, contact_id: str) -> None:
        for prefetcher in tuple(self._prefetchers):
            prefetcher.drop(contact_id)

    def _inv_key(self, contact_id: str, key_id: str) -> str:
        return self.keys.of(contact_id).row(key_id)

    def _idx_key(self, contact_id: str, coin_category: str) -> str:
        return self.keys.of(contact_id).queues[TIERS.index(coin_category)]

    def _meta_key(self, contact_id: str) -> str:
        return self.keys.of(contact_id).meta
