"""Coins at hand: selected ahead of their use, and handed out without a round trip.

An optional extra: ``pip install 'aqm-db[background]'``. It is for asyncio programs; there is no
synchronous counterpart: what refills beside the program needs an event loop, and a thread, which
has nothing else to do, may as well wait for ``select_coin``.
"""

import logging
import random
from bisect import insort
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias, cast

from ._background import Backoff, Bell, import_anyio, make_event, run_beside, share_out
from ._io.redispy.async_loops import Home
from ._io.shielding import finish_after
from ._model.checks import check_category, check_count, check_id, check_items
from ._model.defaults import Sleep, read_elapsed_ms
from ._model.tiers import TIERS, Caps
from ._operations import Scope
from ._operations.batch import AT_ONCE
from ._operations.stock import find_end, log_fallback, warn_of_stale
from ._operations.taking import Look, PutBack, Selection, is_settled, put_back, take, take_one
from .errors import (
    AQMDatabaseError,
    ContactNotRegisteredError,
    CorruptEntryError,
    InventoryUnavailableError,
    UnavailableError,
)
from .types import CoinCategory, InventoryEntry, PrefetchCounts

import_anyio(__name__)
_log = logging.getLogger("aqm_db.prefetcher")
Select: TypeAlias = Callable[[str, str], Awaitable[InventoryEntry | None]]
"""The inventory's ``select_coin``."""
_TAKEN_AT_ONCE: Final = 16
"""Coins in one round trip: whoever else uses the event loop waits for no more than these."""
_PORTIONS_AT_ONCE: Final = 16
"""Such round trips that are under way at once: disks and replicas confirm them together."""
_LINK: Final = ("", "refill")
_RETURN: Final = ("", "return")
"""What the pauses after failures are about."""
_FIRST_PAUSE_MS: Final = 1_000
_LONGEST_PAUSE_MS: Final = 60_000


class AsyncPrefetcher:
    """Coins that are at hand; the inventory's ``prefetch`` makes it, and says what it does.

    Args:
        scope: whose inventory it is.
        caps: coins per contact, by priority and tier.
        select: asks the database for one coin.
        ahead: coins of each contact and tier that are kept at hand.
        contacts: whose; None for those who were written to last.
        tiers: what is kept at hand of these from the beginning.
        most_contacts: of how many, if it's those who were written to last.

    Raises:
        InvalidArgumentError: an argument has the wrong type or value.
    """

    def __init__(
        self,
        scope: Scope,
        caps: Caps,
        select: Select,
        *,
        ahead: int,
        contacts: Sequence[str] | None,
        tiers: Sequence[str],
        most_contacts: int,
    ) -> None:
        self._scope = scope
        self._caps = caps
        self._select = select
        self._ahead = check_count("ahead", ahead, 1)
        self._most = check_count("most_contacts", most_contacts, 1)
        self._named: frozenset[str] | None = None
        check_items("tiers", tiers, str)
        self._tiers: list[CoinCategory] = [
            check_category(f"tiers[{place}]", tier) for place, tier in enumerate(tiers)
        ]
        if contacts is not None:
            check_items("contacts", contacts, str)
            for place, contact_id in enumerate(contacts):
                check_id(f"contacts[{place}]", contact_id)
            self._named = frozenset(contacts)
        self._home = Home(self._leave)
        self._bell = Bell()
        self._backoff = Backoff(_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS, read_elapsed_ms, random.random)
        self._failure: AQMDatabaseError | None = None
        self._is_open = False
        self._is_failing = False
        self._contacts: OrderedDict[str, _Contact] = OrderedDict()
        self._short: dict[_Queue, None] = {}
        self._returning: dict[PutBack, None] = {}
        self._hits: dict[str, int] = dict.fromkeys(TIERS, 0)
        self._misses: dict[str, int] = dict.fromkeys(TIERS, 0)

    async def select_coin(self, contact_id: str, desired_tier: str) -> InventoryEntry | None:
        """Hands out the oldest coin of a tier that is at hand; else it asks the database.

        Where one is at hand, there is no I/O, and the event loop doesn't turn. Nothing else is
        told apart from the inventory's ``select_coin``: a coin is handed out once, the next lower
        tier's if there is none of this one, and :meth:`AsyncSmartInventory.release_coin` puts it
        back.

        Returns:
            The coin; None if there is none in this tier or below.

        Raises:
            InvalidArgumentError: a ``clock`` of yours gave something else than a time.
            InventoryUnavailableError: this is another event loop, or another process, than that
                of the block; nothing was handed out.

        Where it asks the database, it raises what the inventory's ``select_coin`` does.
        """
        if (refusal := self._home.find_refusal()) is not None:
            raise InventoryUnavailableError(str(refusal))
        queue = self._find_queue(contact_id, desired_tier)
        if queue is not None and queue.coins and (entry := self._take(queue)) is not None:
            self._hits[queue.tier] += 1
            self._contacts.move_to_end(contact_id)
            self._want(queue)
            return entry
        check_id("contact_id", contact_id)
        tier = check_category("desired_tier", desired_tier)
        self._misses[tier] += 1
        try:
            entry = await self._ask(contact_id, tier)
        except ContactNotRegisteredError:
            self._drop(contact_id)
            raise
        if self._is_failing:
            # It answers again.
            self._recover()
        # Of a tier that has none, nothing is to be had ahead.
        if entry is not None and entry.coin_category == tier:
            self._keep(contact_id, tier)
        return entry

    def read_counts(self) -> PrefetchCounts:
        """What was handed out so far, and what is at hand."""
        at_hand: dict[str, int] = dict.fromkeys(TIERS, 0)
        for contact in self._contacts.values():
            for queue in contact.queues.values():
                at_hand[queue.tier] += len(queue.coins)
        return PrefetchCounts(dict(self._hits), dict(self._misses), at_hand)

    def drop(self, contact_id: str) -> None:
        """Has a contact's coins that are at hand go back; for the inventory."""
        home = self._home
        if home.find_refusal() is None:
            self._drop(contact_id)
        elif home.loop is not None and not home.is_inherited:
            # An event loop that is closed just now has nothing at hand any more.
            with suppress(RuntimeError):
                home.loop.call_soon_threadsafe(self._drop, contact_id)

    def discard(self, contact_id: str, key_id: str) -> bool:
        """Forgets a coin that is at hand, and says whether it was; for the inventory."""
        if self._home.find_refusal() is not None:
            return False
        contact = self._contacts.get(contact_id)
        for queue in contact.queues.values() if contact is not None else ():
            for held in queue.coins:
                if held.entry.key_id == key_id:
                    queue.coins.remove(held)
                    return True
        return False

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["AsyncPrefetcher"]:
        """Keeps coins at hand until the block ends; for the inventory."""
        self._home.find_refusal()
        self._is_open = True
        for contact_id in sorted(self._named or ()):
            for tier in self._tiers:
                self._keep(contact_id, tier)
        try:
            async with run_beside(self._work, None):
                try:
                    yield self
                finally:
                    self._leave_nothing()
        except BaseException as error:
            await self._end(error)
            raise
        await self._end(None)

    # Handing out ---------------------------------------------------------------------------

    def _find_queue(self, contact_id: str, tier: str) -> "_Queue | None":
        try:
            contact = self._contacts.get(contact_id)
            return None if contact is None else contact.queues.get(tier)
        except TypeError:
            # What has no hash is no id, and refused as such.
            return None

    def _take(self, queue: "_Queue") -> InventoryEntry | None:
        """The oldest coin that isn't stale."""
        # First, since a clock of the client's may fail.
        now = self._read_clock()
        while queue.coins:
            held = queue.coins.pop(0)
            if now < held.until:
                return held.entry
            warn_of_stale(held.entry)
            # The server decides, by a clock that doesn't jump.
            self._put_back(held.entry)
        return None

    async def _ask(self, contact_id: str, tier: CoinCategory) -> InventoryEntry | None:
        """Asks the database; what is at hand of a lower tier comes before what is there of it."""
        tiers = TIERS[TIERS.index(tier) :]
        entry: InventoryEntry | None = None
        is_told = is_last = False
        place = 0
        while entry is None and not is_last:
            each = tiers[place]
            began = self._read_clock()
            coming = self._list_coming(contact_id, tiers[place:])
            is_last = not self._may_have(contact_id, tiers[place + 1 :])
            if is_last:
                entry = await self._select(contact_id, each)
                is_told = each == tier
            else:
                wanted = Selection(contact_id, each, is_exact=True)
                entry = await take_one(self._scope, self._caps, wanted)
            for older in coming:
                if not older.is_set():
                    await self._await_older(entry, older)
            if entry is not None:
                entry = self._exchange(entry, began)
            if entry is None:
                # Of this tier there is none in the database, or of none that are left.
                is_told = False
                entry = self._take_best(contact_id, tiers if is_last else tiers[: place + 2])
            place += 1
        if entry is not None and entry.coin_category != tier and not is_told:
            log_fallback(entry, tier)
        return entry

    def _may_have(self, contact_id: str, tiers: Iterable[CoinCategory]) -> bool:
        """Whether a coin of some tiers is at hand, or about to be."""
        queues = (self._find_queue(contact_id, tier) for tier in tiers)
        return any(queue is not None and (queue.coins or queue.coming) for queue in queues)

    def _list_coming(self, contact_id: str, tiers: Iterable[CoinCategory]) -> list[Any]:
        """The ends of the refills that are under way for some tiers."""
        queues = (self._find_queue(contact_id, tier) for tier in tiers)
        return [queue.coming for queue in queues if queue is not None and queue.coming]

    async def _await_older(self, entry: InventoryEntry | None, coming: Any) -> None:
        """Waits for what was taken before a coin, which goes back if its caller is gone.

        The refill began before the call did, so that both end in the time that a call may take.
        """
        try:
            await coming.wait()
        except BaseException:
            if entry is not None:
                self._put_back(entry)
            raise

    def _exchange(self, entry: InventoryEntry, began: int) -> InventoryEntry | None:
        """The oldest of a coin and those of its kind that are at hand, where the others stay."""
        queue = self._find_queue(entry.contact_id, entry.coin_category)
        held = self._hold(entry, began)
        if queue is None or not queue.coins or held.place < queue.coins[0].place:
            return entry
        # A refill took an older one before this call did, and was answered meanwhile.
        queue.add(held)
        return self._take(queue)

    def _take_best(self, contact_id: str, tiers: Iterable[CoinCategory]) -> InventoryEntry | None:
        """The first coin that is at hand of some tiers."""
        for tier in tiers:
            queue = self._find_queue(contact_id, tier)
            if queue is not None and (entry := self._take(queue)) is not None:
                self._want(queue)
                return entry
        return None

    def _hold(self, entry: InventoryEntry, began: int) -> "_Held":
        """A coin, and until when it may be handed out.

        By a clock of the client's that is its end. Without one, it's as long as it was until its
        end when the server handed it out, by the server's clock, on a clock that never steps and
        counts suspension, from before the server was asked.
        """
        place, _, _ = (entry.origin or b"").partition(b" ")
        until = find_end(entry)
        if self._scope.clock is None:
            until += began - (entry.used_at or 0)
        return _Held(float(place), until, entry)

    def _read_clock(self) -> int:
        clock = self._scope.clock
        return read_elapsed_ms() if clock is None else clock()

    # What is kept --------------------------------------------------------------------------

    def _keep(self, contact_id: str, tier: CoinCategory) -> None:
        """Keeps coins of a contact and tier at hand from now on."""
        if not self._is_open or (self._named is not None and contact_id not in self._named):
            return
        contact = self._contacts.get(contact_id)
        if contact is None:
            contact = self._contacts[contact_id] = _Contact(contact_id)
        self._contacts.move_to_end(contact_id)
        queue = contact.queues.get(tier)
        if queue is None:
            queue = contact.queues[tier] = _Queue(contact, tier)
        self._want(queue)
        if self._named is None and len(self._contacts) > self._most:
            self._drop(next(iter(self._contacts)))

    def _want(self, queue: "_Queue") -> None:
        """Has a queue refilled, if something is missing, and it isn't too early after a failure."""
        if self._is_open and len(queue.coins) < self._ahead:
            self._short[queue] = None
            if not self._is_failing or self._backoff.is_over(_LINK):
                self._bell.ring()

    def _put_back(self, entry: InventoryEntry) -> None:
        self._returning[PutBack(entry)] = None
        if self._is_open:
            self._bell.ring()

    def _drop(self, contact_id: str) -> None:
        """Has a contact's coins go back; the next call begins anew."""
        contact = self._contacts.pop(contact_id, None)
        for queue in contact.queues.values() if contact is not None else ():
            self._short.pop(queue, None)
            for held in queue.empty():
                self._put_back(held.entry)

    def _leave_nothing(self) -> None:
        """Has everything go back, and keeps nothing from now on."""
        self._is_open = False
        for contact_id in tuple(self._contacts):
            self._drop(contact_id)

    def _leave(self) -> None:
        """Forgets everything: in a process that was forked it's the other one's."""
        self._is_open = False
        self._contacts = OrderedDict()
        self._short = {}
        self._returning = {}

    # Beside the program --------------------------------------------------------------------

    async def _work(self, _: Sleep) -> None:
        while True:
            await self._bell.wait()
            began = read_elapsed_ms()
            error = None
            while error is None and (self._may_give_back() or self._short):
                # First, since nobody has more coins than are to be at hand.
                error = await self._try_to_give_back(began) or await self._refill()
            if error is None:
                self._recover()
            else:
                self._is_failing = True
                self._backoff.add_failure(_LINK, began)
                _warn(error)

    def _recover(self) -> None:
        self._is_failing = False
        self._backoff.forget_failures(_LINK)
        if self._short or self._may_give_back():
            self._bell.ring()

    def _may_give_back(self) -> bool:
        """Whether something goes back, and it isn't too early after a failure."""
        return bool(self._returning) and self._backoff.is_over(_RETURN)

    async def _try_to_give_back(self, began: int) -> AQMDatabaseError | None:
        """Puts back what goes back; returns why nobody is refilled then, either."""
        if not self._may_give_back():
            return None
        error = await self._give_back()
        if error is None:
            self._backoff.forget_failures(_RETURN)
        elif not isinstance(error, UnavailableError):
            # What the server refuses is in nobody else's way.
            self._backoff.add_failure(_RETURN, began)
            _warn(error)
            return None
        return error

    async def _refill(self) -> AQMDatabaseError | None:
        """Takes what is missing, or some of it; returns why that failed."""
        self._failure = None
        planned: list[_Portion] = []
        try:
            # What comes of a request whose outcome nobody knows is used up: one is enough to see
            # whether it works again.
            planned.append(self._plan(1 if self._is_failing else _TAKEN_AT_ONCE))
            if self._is_failing or not self._short:
                await self._take_portion(planned[0])
            else:
                workers = [self._take_portion] * _PORTIONS_AT_ONCE
                await share_out(self._give_portions(planned), workers)
        finally:
            for portion in planned:
                portion.end()
        return self._failure

    async def _give_portions(self, planned: "list[_Portion]") -> "AsyncGenerator[_Portion]":
        """One after the other, as long as there are any and none has failed."""
        while planned[-1].queues:
            yield planned[-1]
            planned.append(self._plan(_TAKEN_AT_ONCE if self._failure is None else 0))

    async def _take_portion(self, portion: "_Portion") -> None:
        """Takes the coins of a portion, if there are any."""
        queues = portion.queues
        if not queues:
            return
        look = Look(dict.fromkeys(queue.contact.contact_id for queue in queues))
        wanted = [
            Selection(queue.contact.contact_id, queue.tier, is_exact=True) for queue in queues
        ]
        began = 0
        try:
            began = self._read_clock()
            *outcomes, _ = await take(self._scope, self._caps, [*wanted, look])
        except AQMDatabaseError as error:
            outcomes = [error] * len(queues)
        finally:
            portion.end()
        for contact_id, priority in look.priorities.items():
            self._note_priority(contact_id, priority)
        for queue, outcome in zip(queues, outcomes, strict=True):
            if isinstance(outcome, InventoryEntry):
                self._is_failing = False
                self._receive(queue, outcome, began)
            elif outcome is None:
                # It answers, and has no more for now.
                self._is_failing = False
                self._short.pop(queue, None)
            elif not self._is_over(queue, outcome):
                self._failure = outcome

    def _is_over(self, queue: "_Queue", error: AQMDatabaseError) -> bool:
        """Whether it's no use to refill a queue again before somebody has asked the database."""
        if isinstance(error, ContactNotRegisteredError):
            self._drop(queue.contact.contact_id)
        elif isinstance(error, CorruptEntryError):
            # That call is told.
            _warn(error)
            self._short.pop(queue, None)
        else:
            if self._is_kept(queue):
                self._short[queue] = None
            return False
        return True

    def _plan(self, most: int) -> "_Portion":
        """What is taken next: so many coins at most."""
        portion = _Portion()
        planned: list[_Queue] = []
        for queue in self._short:
            if most <= 0:
                break
            # Of what is under way for one, nobody knows yet how much it comes to.
            if queue.coming is None:
                missing = max(self._ahead - len(queue.coins), 0)
                if missing <= most:
                    planned.append(queue)
                portion.add(queue, min(missing, most))
                most -= missing
        for queue in planned:
            del self._short[queue]
        return portion

    def _note_priority(self, contact_id: str, priority: object) -> None:
        """Whoever has another priority than before begins anew."""
        contact = self._contacts.get(contact_id)
        if contact is not None:
            if contact.priority is None:
                contact.priority = priority
            elif contact.priority != priority:
                self._drop(contact_id)

    def _receive(self, queue: "_Queue", entry: InventoryEntry, began: int) -> None:
        """Puts a coin to those that are at hand, if it's still wanted there."""
        contact = queue.contact
        _, _, registration = (entry.origin or b"").partition(b" ")
        if contact.registration is None:
            contact.registration = registration
        elif contact.registration != registration:
            # Who was forgotten and registered again is another contact.
            self._drop(contact.contact_id)
        if self._is_kept(queue):
            queue.add(self._hold(entry, began))
        else:
            self._put_back(entry)

    def _is_kept(self, queue: "_Queue") -> bool:
        return self._contacts.get(queue.contact.contact_id) is queue.contact

    async def _give_back(self) -> AQMDatabaseError | None:
        """Puts back what isn't to be at hand any more; returns why that failed."""
        while self._returning:
            coins = list(self._returning)[:AT_ONCE]
            try:
                outcomes = await put_back(self._scope, self._caps, coins)
            except AQMDatabaseError as error:
                return error
            failure = None
            for coin, outcome in zip(coins, outcomes, strict=True):
                if is_settled(outcome):
                    self._returning.pop(coin, None)
                else:
                    failure = cast("AQMDatabaseError", outcome)
            if failure is not None:
                return failure
        return None

    async def _end(self, error: BaseException | None) -> None:
        """Gives back everything; whoever is cancelled waits for so long, and then it goes on."""
        try:
            if error is None:
                await self._give_all_back()
            else:
                await self._finish_after(error)
        except BaseException as interruption:
            await self._finish_after(interruption)
            raise

    async def _finish_after(self, error: BaseException) -> None:
        seconds = self._scope.confirming.settle_timeout / 1000
        if self._returning and not await finish_after(error, [self._give_all_back], seconds):
            _log.warning("settling_delayed", extra={"operation": "prefetch"})

    async def _give_all_back(self) -> None:
        error = await self._give_back()
        if error is not None:
            about = {"count": len(self._returning), "error": type(error).__name__}
            _log.warning("coins_not_returned", extra=about)
            self._returning.clear()


class _Held(NamedTuple):
    """A coin that is at hand.

    Attributes:
        place: in its contact's queue.
        until: when it's stale, in ms.
        entry: the coin.
    """

    place: float
    until: int
    entry: InventoryEntry


_place_of = attrgetter("place")


class _Queue:
    """A contact's coins of one tier that are at hand, the oldest first.

    Args:
        contact: whose.
        tier: of which tier.

    Attributes:
        contact: whose.
        tier: of which tier.
        coins: what is at hand.
        coming: the end of the refill that is under way; None if there is none.
    """

    __slots__ = ("coins", "coming", "contact", "tier")

    def __init__(self, contact: "_Contact", tier: CoinCategory) -> None:
        self.contact = contact
        self.tier: CoinCategory = tier
        self.coins: list[_Held] = []
        self.coming: Any = None

    def add(self, held: _Held) -> None:
        """Puts one to the others, in order."""
        insort(self.coins, held, key=_place_of)

    def empty(self) -> list[_Held]:
        """Takes all of them away."""
        coins, self.coins = self.coins, []
        return coins


class _Portion:
    """Coins that are taken in one round trip.

    Attributes:
        queues: what they are for, each as often as a coin of it is to be taken.
    """

    def __init__(self) -> None:
        self.queues: list[_Queue] = []
        self._event = make_event()

    def add(self, queue: _Queue, count: int) -> None:
        """Adds so many coins of a queue; there may be none missing any more."""
        for _ in range(count):
            queue.coming = self._event
            self.queues.append(queue)

    def end(self) -> None:
        """Tells who waits for it that nothing is under way any more."""
        for queue in self.queues:
            if queue.coming is self._event:
                queue.coming = None
        self._event.set()


class _Contact:
    """Whose coins are at hand.

    Args:
        contact_id: who it is.

    Attributes:
        contact_id: who it is.
        queues: the coins, by tier.
        priority: what was stored as the priority; None if nobody knows yet.
        registration: the request that registered the contact; None if nobody knows yet.
    """

    __slots__ = ("contact_id", "priority", "queues", "registration")

    def __init__(self, contact_id: str) -> None:
        self.contact_id = contact_id
        self.queues: dict[str, _Queue] = {}
        self.priority: object = None
        self.registration: bytes | None = None


def _warn(error: AQMDatabaseError) -> None:
    _log.warning("prefetch_failed", extra={"error": type(error).__name__})
