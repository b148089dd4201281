"""Reservations: slots of the inventory, kept for coins that are on their way.

A reservation is a lease in the database for each contact and tier. Leases count against the caps
and the byte budget until they end, so that any number of programs never fetch, or store, more than
fits. Stored bytes are not counted by each operation, which would slow all of them down: they are
measured, and an epoch, which moves on when a lease ends, tells whether the measurement still holds.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

from aqm_db import config
from aqm_db._io.seam import Argument, Call, Reply
from aqm_db._lua.loader import Code, Script
from aqm_db._model.checks import check_category, check_coin
from aqm_db._model.tiers import TIERS, Caps, bytes_of, flatten_caps
from aqm_db.errors import AQMDatabaseError, BudgetExceededError, InvalidArgumentError, NoSlotError
from aqm_db.types import CoinCategory, NewCoin

from . import Scope
from .batch import run_batch
from .contacts import summarize_all
from .outcome import check_reply
from .stock import build_store, read_store

RESERVE = Script("inventory/reserve")
UNRESERVE = Script("inventory/unreserve")

_log = logging.getLogger("aqm_db.inventory")
_LEASE_TTL_MS = config.INV_LEASE_TTL_SECONDS * 1000


@dataclass(frozen=True, slots=True)
class Lease:
    """Slots of one contact's tier.

    Attributes:
        name: what it's called in the database.
        slots: how many coins it's for; with none, there is nothing in the database.
        refusal: which budget is in the way of all slots that were wanted.
    """

    name: str
    slots: int
    refusal: BudgetExceededError | None


Wanted: TypeAlias = Mapping[str, Mapping[CoinCategory, int]]
"""Slots by contact id and tier; the budget goes to the contacts that come first."""
Leases: TypeAlias = dict[tuple[str, CoinCategory], Lease | AQMDatabaseError]
"""By contact id and tier, what was reserved, or why the contact could not be looked at."""


class Budgeted(Protocol):
    """What has slots: an inventory.

    Attributes:
        scope: what operations on it are made with.
        budget_caps: coins per contact, by priority and tier.
        budget_bytes: payload bytes of all cached coins together.
    """

    scope: Scope
    budget_caps: Caps
    budget_bytes: int


class Reservations:
    """The reservations of an inventory.

    Args:
        budgeted: whose slots they are; its budgets hold as they are when slots are reserved.
    """

    def __init__(self, budgeted: Budgeted) -> None:
        self._budgeted = budgeted
        self._scope = budgeted.scope

    async def reserve(self, wanted: Wanted, lasting_ms: int = _LEASE_TTL_MS) -> Leases:
        """Reserves what is wanted, or as much of it as the caps and the byte budget leave.

        Args:
            wanted: slots by contact id and tier.
            lasting_ms: when the leases end by themselves, in ms from now.
        """
        leases: Leases = {}
        waiting = list(wanted)
        try:
            while waiting:
                epoch, stored_bytes = await self._measure()
                request_ids = [self._scope.request_ids() for _ in waiting]
                calls = [
                    self._build_reserve(
                        contact_id,
                        wanted[contact_id],
                        request_id,
                        lasting_ms,
                        epoch,
                        stored_bytes,
                    )
                    for contact_id, request_id in zip(waiting, request_ids, strict=True)
                ]
                names = list(map(_name_leases, request_ids, waiting))
                undos = [partial(self._undo_reserve, each) for each in names]
                replies = await self._scope.seam.run_all(calls, undos)
                outcomes = list(zip(waiting, names, replies, strict=True))
                # Each repetition means that another program ended a lease: some are getting on.
                waiting = [contact_id for contact_id, _, reply in outcomes if _is_stale(reply)]
                for contact_id, each, reply in outcomes:
                    if not _is_stale(reply):
                        leases |= self._read_reserve(contact_id, wanted[contact_id], each, reply)
        except BaseException:
            await self.end(leases.values())
            raise
        return leases

    async def store(
        self, coins: Sequence[NewCoin], leases: Leases
    ) -> list[bool | AQMDatabaseError]:
        """Stores coins in reserved slots: for each True, or why it was not stored."""
        build = partial(self._build_store, leases)
        read = partial(self._read_store, leases)
        return await run_batch(self._scope.seam, coins, build, read)

    async def store_within_budget(self, coins: Sequence[NewCoin]) -> list[bool | AQMDatabaseError]:
        """Stores coins as far as the caps and the byte budget allow, beside all reservations."""
        # A clock that errs is found out while nothing is reserved.
        self._scope.read_clock()
        wanted: dict[str, dict[CoinCategory, int]] = {}
        for coin in coins:
            # What is wrong with a coin is said when it's stored.
            try:
                contact_id, tier = _place_of(check_coin(coin))
            except InvalidArgumentError:
                continue
            tiers = wanted.setdefault(contact_id, {})
            tiers[tier] = tiers.get(tier, 0) + 1
        leases = await self.reserve(wanted)
        try:
            return await self.store(coins, leases)
        finally:
            await self.end(leases.values())

    async def end(self, leases: Iterable[Lease | AQMDatabaseError]) -> None:
        """Ends leases; where the server can't be asked, they end by themselves."""
        names = [lease.name for lease in leases if isinstance(lease, Lease) and lease.slots]
        if not names:
            return
        try:
            check_reply(await self._scope.seam.run(self._build_unreserve(names)))
        except AQMDatabaseError as error:
            _log.warning(
                "lease_not_ended", extra={"count": len(names), "error": type(error).__name__}
            )

    async def _measure(self) -> tuple[bytes, int]:
        """The epoch, and then the payload bytes of all cached coins."""
        [epoch] = await self._scope.seam.read(("GET", self._scope.keys.inv_epoch))
        if isinstance(epoch, AQMDatabaseError):
            raise epoch
        inventory = await summarize_all(self._scope)
        return epoch or b"0", sum(map(bytes_of, inventory.values()))

    def _build_reserve(
        self,
        contact_id: str,
        wanted: Mapping[CoinCategory, int],
        request_id: str,
        lasting_ms: int,
        epoch: bytes,
        stored_bytes: int,
    ) -> Call:
        names = self._scope.keys.of(contact_id)
        keys = self._scope.keys
        arguments: tuple[Argument, ...] = (
            request_id,
            contact_id,
            lasting_ms,
            self._budgeted.budget_bytes,
            stored_bytes,
            epoch,
            *(wanted.get(tier, 0) for tier in TIERS),
            *(config.COIN_SIZE_BYTES[tier] for tier in TIERS),
            *flatten_caps(self._budgeted.budget_caps),
        )
        return Call(
            RESERVE,
            (keys.inv_leases, keys.inv_epoch, names.meta, *names.queues, keys.inv_watch),
            arguments,
        )

    def _read_reserve(
        self,
        contact_id: str,
        wanted: Mapping[CoinCategory, int],
        names: Sequence[str],
        reply: Reply | AQMDatabaseError,
    ) -> Leases:
        try:
            tiers = check_reply(reply, contact_id=contact_id)
        except AQMDatabaseError as error:
            return dict.fromkeys(((contact_id, tier) for tier in wanted), error)
        leases: Leases = {}
        for tier, name, (slots, count, cap, taken) in zip(TIERS, names, tiers, strict=True):
            refusal = None
            if slots < wanted.get(tier, 0):
                refusal = (
                    BudgetExceededError(contact_id, tier, count, cap)
                    if slots == max(cap - count, 0)
                    else BudgetExceededError(
                        contact_id, tier, taken, self._budgeted.budget_bytes, unit="bytes"
                    )
                )
            if tier in wanted:
                leases[contact_id, tier] = Lease(name, slots, refusal)
        return leases

    def _undo_reserve(self, names: Sequence[str], _: Reply) -> Call:
        return self._build_unreserve(names)

    def _build_unreserve(self, names: Sequence[str]) -> Call:
        keys = self._scope.keys
        return Call(UNRESERVE, (keys.inv_leases, keys.inv_epoch), names)

    def _build_store(self, leases: Leases, coin: NewCoin) -> Call:
        lease = leases.get(_place_of(check_coin(coin)))
        if isinstance(lease, AQMDatabaseError):
            raise lease
        if lease is None:
            raise NoSlotError(f"nothing is reserved for key {coin.key_id!r}")
        return build_store(self._scope, coin, self._budgeted.budget_caps, lease.name)

    def _read_store(self, leases: Leases, coin: NewCoin, reply: Reply | AQMDatabaseError) -> bool:
        lease = leases.get(_place_of(coin))
        if isinstance(lease, Lease) and lease.refusal and _has_code(reply, Code.NO_SLOT):
            return read_store(coin, lease.refusal)
        return read_store(coin, reply)


def _name_leases(request_id: str, contact_id: str) -> list[str]:
    """What the leases of a request are called, by tier."""
    return [f"{request_id}:{tier}:{contact_id}" for tier in TIERS]


def _place_of(coin: NewCoin) -> tuple[str, CoinCategory]:
    """Whose slot a coin takes, and of which tier."""
    return coin.contact_id, check_category("coin_category", coin.coin_category)


def _is_stale(reply: Reply | AQMDatabaseError) -> bool:
    return _has_code(reply, Code.STALE)


def _has_code(reply: Reply | AQMDatabaseError, code: Code) -> bool:
    return isinstance(reply, list) and reply[0] == code
