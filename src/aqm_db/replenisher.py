"""Replenishing: contacts' coins fetched as they are used up, and none of them lost.

An optional extra: ``pip install 'aqm-db[background]'``. It is for asyncio programs; there is no
synchronous counterpart.
"""

import logging
import random as random_module
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from . import config
from ._background import (
    Backoff,
    Raised,
    call_client,
    delay_cancellation,
    give_out,
    import_anyio,
    run_beside,
    share_out,
)
from ._model.checks import check_callable, check_count, check_kind, check_seconds, check_tiers
from ._model.defaults import Sleep, read_elapsed_ms
from ._model.tiers import PRIORITIES, counts_of, needs_of
from ._operations.contacts import leave_out_stale, summarize_pages
from ._operations.reservations import Lease, Leases, Reservations
from .errors import (
    AQMDatabaseError,
    BudgetExceededError,
    InvalidArgumentError,
    InvalidCoinError,
    NoSlotError,
)
from .inventory import AsyncSmartInventory
from .types import CoinCategory, InventorySummary, NewCoin, Priority

import_anyio(__name__)
_log = logging.getLogger("aqm_db.replenisher")
_MOST_UNREPORTED: int = config.INV_UNREPORTED_COINS

Source: TypeAlias = Callable[[str, CoinCategory, int], Awaitable[Sequence[NewCoin]]]
"""Fetches up to so many coins of a contact and tier."""
Verifier: TypeAlias = Callable[[str, NewCoin], Any]
"""Looks at a contact's coin; it refuses one by raising, or by returning (an awaitable of) False."""
OnLow: TypeAlias = Callable[[str, CoinCategory, int], Awaitable[None]]
"""Is told a contact, a tier, and how many coins of it are left."""


@dataclass(frozen=True, slots=True)
class RefusedCoin:
    """A coin that was fetched and not stored: it's the caller's again.

    Attributes:
        coin: as the source gave it.
        reason: why it was not stored.
    """

    coin: NewCoin
    reason: Exception

    @property
    def may_be_stored(self) -> bool:
        """Whether nobody knows, since the server didn't answer; storing it again tells."""
        return isinstance(self.reason, AQMDatabaseError) and self.reason.outcome_unknown


@dataclass(frozen=True, slots=True)
class Replenished:
    """What became of one contact's tier. ``got`` is ``stored`` and the refused coins together.

    Attributes:
        contact_id: the contact.
        coin_category: the tier.
        needed: coins missing to the cap.
        asked: coins that the source was asked for; 0 where nothing could be reserved.
        got: coins that it gave.
        stored: coins that are stored now.
        refused: coins that are not.
        error: what the source raised, or why fewer coins were asked for than needed.
    """

    contact_id: str
    coin_category: CoinCategory
    needed: int
    asked: int = 0
    got: int = 0
    stored: int = 0
    refused: tuple[RefusedCoin, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class ReplenishReport:
    """What a run did, by contact and tier, in the order in which it came to its end."""

    results: tuple[Replenished, ...]

    @property
    def stored(self) -> int:
        """How many coins were stored."""
        return sum(result.stored for result in self.results)

    @property
    def refused(self) -> tuple[RefusedCoin, ...]:
        """All coins that were fetched and not stored."""
        return tuple(coin for result in self.results for coin in result.refused)


OnReport: TypeAlias = Callable[[ReplenishReport], Awaitable[None]]
"""Is told what a run did."""


class AsyncReplenisher:
    """Fetches the coins that are missing to each contact's cap, BESTIEs' first.

    ::

        replenisher = AsyncReplenisher(db.inventory, fetch_from_server)
        report = await replenisher.replenish()

        async with replenisher.running(every=60):
            ...

    Slots are reserved in the database before the source is asked, within the contact's caps and the
    inventory's byte budget, so that any number of replenishers, in other programs and on other
    devices too, never fetch more than fits. A reservation ends with its fetch; what a program that
    was killed had reserved is free again after ``lease_seconds``.

    No coin that the source gave is lost: it's stored, or it is in the report, which somebody has to
    take. When the caller is
    cancelled, sources that are running are waited for, since what they fetch can't be fetched
    again, and it's stored before the cancellation goes on; what could not be stored is kept for
    :meth:`take_unreported`. So the source needs a timeout of its own. What is handed back may find
    room later: the inventory's ``store_keys(coins, enforce_budget=True)`` says.

    Args:
        inventory: what to fill.
        source: the client's own. What it raises is reported, and stops no other contact.
        verifier: looks at each coin before it's stored; a plain function or a coroutine function.
        low_water: by tier, the number of coins below which a contact's tier is filled, up to its
            cap; without it, as soon as one is missing.
        on_low: told each contact's tier that is below that mark, each time one is seen.
        concurrency: sources running at once.
        backoff_seconds: how long a contact's tier is left alone after the source failed, or gave
            nothing that could be stored; twice as long each time, less a random part of up to a
            half.
        max_backoff_seconds: the longest such pause.
        lease_seconds: when reserved slots become free by themselves, counted from the beginning
            of a run. It should be longer than a run takes, with the source's timeout for each
            round of ``concurrency`` fetches: a source that answers later may have fetched what
            doesn't fit any more, which is then handed back.
        random: a number from 0 up to 1.

    Raises:
        TypeError: the inventory is of the wrong kind.
        InvalidArgumentError: another argument is.
    """

    def __init__(
        self,
        inventory: AsyncSmartInventory,
        source: Source,
        *,
        verifier: Verifier | None = None,
        low_water: Mapping[CoinCategory, int] | Mapping[str, int] | None = None,
        on_low: OnLow | None = None,
        concurrency: int = 4,
        backoff_seconds: float = 30,
        max_backoff_seconds: float = 3600,
        lease_seconds: float = config.INV_LEASE_TTL_SECONDS,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        check_kind("inventory", inventory, AsyncSmartInventory)
        self._inventory = inventory
        self._reservations = Reservations(inventory)
        self._source = check_callable("source", source)
        self._verifier = None if verifier is None else check_callable("verifier", verifier)
        self._marks = {} if low_water is None else check_tiers("low_water", low_water)
        self._on_low = None if on_low is None else check_callable("on_low", on_low)
        self._concurrency = check_count("concurrency", concurrency, 1)
        self._backoff = Backoff(
            int(check_seconds("backoff_seconds", backoff_seconds) * 1000),
            int(check_seconds("max_backoff_seconds", max_backoff_seconds) * 1000),
            inventory.clock or read_elapsed_ms,
            check_callable("random", random),
        )
        self._lease_ms = int(check_seconds("lease_seconds", lease_seconds) * 1000)
        self._unreported: list[Replenished] = []

    async def replenish(self, contact_id: str | None = None) -> ReplenishReport:
        """Fills the tiers that are below their marks: of all contacts, or of one.

        Contacts who are STRANGERs get nothing; coins that are stale are no stock. Of all contacts,
        tiers are passed over that are being left alone; of one, they are not.

        Raises:
            InvalidIdentifierError: the id is no valid id.
            ContactNotRegisteredError: there is no such contact.
            CorruptEntryError: the stored contact is malformed.

        It also raises what every method of the inventory does: all of it before the first coin is
        fetched, or not at all.
        """
        missing = await self._find_missing(contact_id)
        leases = await self._reservations.reserve(missing, self._lease_ms)
        results: list[Replenished] = []

        async def fill(place: tuple[str, CoinCategory]) -> None:
            whose, tier = place
            needed, lease = missing[whose][tier], leases[place]
            # From here on there may be coins that exist nowhere else.
            with delay_cancellation():
                try:
                    if isinstance(lease, AQMDatabaseError):
                        result = Replenished(whose, tier, needed, error=lease)
                    elif not lease.slots:
                        result = Replenished(whose, tier, needed, error=lease.refusal)
                    else:
                        result = await self._fill(_Order(whose, tier, needed, lease))
                    results.append(result)
                finally:
                    await self._reservations.end([leases.pop(place)])

        try:
            # Not a task for each: whoever else uses the event loop would wait until all have begun.
            workers = [fill] * min(self._concurrency, len(leases))
            await share_out(give_out(list(leases)), workers)
        except BaseException:
            self._keep(results)
            with delay_cancellation():
                await self._reservations.end(leases.values())
            raise
        return ReplenishReport(tuple(results))

    def take_unreported(self) -> tuple[Replenished, ...]:
        """What was refused in runs whose report reached nobody; each result is given out once.

        Those runs were cancelled, or ran in the background without anyone taking their reports. Of
        more than 1,000 refused coins, the oldest are dropped, which is logged.
        """
        unreported, self._unreported = tuple(self._unreported), []
        return unreported

    @asynccontextmanager
    async def running(
        self,
        *,
        every: float,
        on_report: OnReport | None = None,
        sleep: Sleep | None = None,
    ) -> AsyncGenerator[None]:
        """Replenishes all contacts in the background, as long as the block runs.

        What fails is logged, and tried again the next time. At the end of the block, sources that
        are running are waited for, and what they gave is stored.

        Args:
            every: seconds between two runs.
            on_report: told what each run did. Without it, or when it raises, what was refused is
                kept for :meth:`take_unreported`.
            sleep: waits for some seconds; None is ``anyio.sleep``.

        Raises:
            InvalidArgumentError: an argument is of the wrong kind.

        An error that isn't the database's, nor of the client's own functions, ends the block, and
        comes out of it.
        """
        check_seconds("every", every)
        if on_report is not None:
            check_callable("on_report", on_report)

        async def work(sleep: Sleep) -> None:
            while True:
                await self._run_once(on_report)
                await sleep(every)

        async with run_beside(work, sleep):
            yield

    async def _run_once(self, on_report: OnReport | None) -> None:
        try:
            report = await self.replenish()
        except AQMDatabaseError as error:
            # The next time may be better.
            _warn("replenish_failed", error)
            return
        is_taken = False
        try:
            if on_report is not None:
                answer = await call_client(on_report, report)
                if isinstance(answer, Raised):
                    _warn("replenish_failed", answer.error)
                else:
                    is_taken = True
        finally:
            if not is_taken:
                self._keep(report.results)

    def _keep(self, results: Iterable[Replenished]) -> None:
        self._unreported += (result for result in results if result.refused)
        excess = sum(len(result.refused) for result in self._unreported) - _MOST_UNREPORTED
        if excess > 0:
            _log.warning("refused_dropped", extra={"count": excess})
        while excess > 0:
            oldest = self._unreported.pop(0)
            if excess < len(oldest.refused):
                self._unreported.insert(0, replace(oldest, refused=oldest.refused[excess:]))
            excess -= len(oldest.refused)

    async def _find_missing(self, contact_id: str | None) -> dict[str, dict[CoinCategory, int]]:
        """What to fetch, by contact and tier, highest priority first."""
        if contact_id is not None:
            found = [await self._inventory.get_inventory(contact_id)]
            [summary] = await leave_out_stale(self._inventory.scope, found)
            return {contact_id: {tier: count async for tier, count in self._list_low(summary)}}
        by_priority: dict[Priority, dict[str, dict[CoinCategory, int]]] = {
            priority: {} for priority in PRIORITIES
        }
        seen: set[str] = set()
        # Page by page: whoever else uses the event loop waits for no more than one.
        async for page in summarize_pages(self._inventory.scope):
            for summary in await leave_out_stale(self._inventory.scope, page):
                whose = summary.contact_id
                seen.add(whose)
                tiers: dict[CoinCategory, int] = {
                    tier: count
                    async for tier, count in self._list_low(summary)
                    if self._backoff.is_over((whose, tier))
                }
                if tiers:
                    by_priority[summary.priority][whose] = tiers
        # Pauses of contacts who are gone would stay for ever.
        self._backoff.forget_others(seen)
        missing: dict[str, dict[CoinCategory, int]] = {}
        for contacts in by_priority.values():
            missing |= contacts
        return missing

    async def _list_low(self, summary: InventorySummary) -> AsyncIterator[tuple[CoinCategory, int]]:
        """A contact's tiers that are below their marks, and what is missing to their caps."""
        needs = needs_of([summary], self._inventory.budget_caps)
        needed_of = needs.get(summary.contact_id, {})
        for tier, count in counts_of(summary).items():
            needed = needed_of.get(tier, 0)
            if needed and count < self._marks.get(tier, count + needed):
                await self._tell_low(summary.contact_id, tier, count)
                yield tier, needed

    async def _tell_low(self, contact_id: str, tier: CoinCategory, count: int) -> None:
        if self._on_low is None:
            return
        answer = await call_client(self._on_low, contact_id, tier, count)
        if isinstance(answer, Raised):
            # Whoever listens must not stop the fetching.
            _warn("on_low_failed", answer.error, contact_id=contact_id, coin_category=tier)

    async def _fill(self, order: "_Order") -> Replenished:
        """Fetches, verifies and stores."""
        subject = (order.contact_id, order.tier)
        try:
            # While there are no coins yet that could be lost: it's the client's own, and may fail.
            began = self._backoff.clock()
        except InvalidArgumentError as error:
            return order.make_result(error=error)
        coins = await call_client(self._source, order.contact_id, order.tier, order.lease.slots)
        if not isinstance(coins, Raised):
            # What holds them is the source's own, too.
            coins = await call_client(list, coins)
        if isinstance(coins, Raised):
            self._backoff.add_failure(subject, began)
            _warn("source_failed", coins.error, **order.describe())
            return order.make_result(error=coins.error)
        outcomes = [await self._find_fault(order, coin) for coin in coins]
        good = [place for place, fault in enumerate(outcomes) if fault is None]
        stored = await self._store([coins[place] for place in good], order)
        for place, outcome in zip(good, stored, strict=True):
            outcomes[place] = outcome
        refused = tuple(
            RefusedCoin(coin, fault)
            for coin, fault in zip(coins, outcomes, strict=True)
            if fault is not None
        )
        if len(refused) < len(coins):
            self._backoff.forget_failures(subject)
        else:
            self._backoff.add_failure(subject, began)
        _log.info(
            "replenished", extra={**order.describe(), "got": len(coins), "refused": len(refused)}
        )
        return order.make_result(
            got=len(coins),
            stored=len(coins) - len(refused),
            refused=refused,
            error=order.lease.refusal,
        )

    async def _find_fault(self, order: "_Order", coin: Any) -> Exception | None:
        """Why a coin is none of those that were asked for."""
        if not isinstance(coin, NewCoin):
            return InvalidArgumentError("source", f"gave a {type(coin).__name__}, not a NewCoin")
        if (coin.contact_id, coin.coin_category) != (order.contact_id, order.tier):
            return InvalidArgumentError("source", "gave a coin of another contact or tier")
        if self._verifier is None:
            return None
        verdict = await call_client(self._verifier, order.contact_id, coin)
        if isinstance(verdict, Raised):
            return verdict.error
        return InvalidCoinError("the verifier refused the coin") if verdict is False else None

    async def _store(
        self, coins: Sequence[NewCoin], order: "_Order"
    ) -> list[AQMDatabaseError | None]:
        """Stores coins; for each None, or why it was not stored."""
        leases: Leases = {(order.contact_id, order.tier): order.lease}
        faults = await _await_outcomes(self._reservations.store(coins, leases), len(coins))
        # The source gave more than it was asked for, or took longer than the lease lasts: there
        # may be room all the same.
        left = [
            place
            for place, fault in enumerate(faults)
            if isinstance(fault, NoSlotError | BudgetExceededError)
        ]
        if left:
            await self._reservations.end([order.lease])
            again = self._reservations.store_within_budget([coins[place] for place in left])
            for place, fault in zip(left, await _await_outcomes(again, len(left)), strict=True):
                faults[place] = fault
        return faults


@dataclass(frozen=True, slots=True)
class _Order:
    """Coins to be fetched: of whom, how many are missing, and the slots that are reserved."""

    contact_id: str
    tier: CoinCategory
    needed: int
    lease: Lease

    def describe(self) -> dict[str, object]:
        """What logs say of it."""
        return {
            "contact_id": self.contact_id,
            "coin_category": self.tier,
            "asked": self.lease.slots,
        }

    def make_result(self, **result: Any) -> Replenished:
        """What became of it."""
        return Replenished(
            self.contact_id, self.tier, self.needed, asked=self.lease.slots, **result
        )


def _warn(event: str, error: Exception, **about: object) -> None:
    _log.warning(event, extra={**about, "error": type(error).__name__})


async def _await_outcomes(
    storing: Awaitable[list[bool | AQMDatabaseError]], count: int
) -> list[AQMDatabaseError | None]:
    """For each coin None if it was stored, or why not; one failure of the link speaks for all."""
    try:
        outcomes = await storing
    except AQMDatabaseError as error:
        return [error] * count
    return [None if outcome is True else cast("AQMDatabaseError", outcome) for outcome in outcomes]
