"""Reservations: slots of the inventory, kept for coins that are on their way.

A reservation is a lease in the database for each contact and tier. Leases count against the caps
and the byte budget until they end, so that any number of programs never fetch, or store, more than
fits. What they hold is kept in totals, and so is how many coins were ever stored; coins that go
are not counted, which would slow each selection down. So the totals say how many may be stored at
most, and the coins are counted (measured) only where that leaves no room.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

from aqm_db import config
from aqm_db._io.seam import Argument, Call, Reply
from aqm_db._lua.loader import Code, Script
from aqm_db._model.checks import check_category, check_coin
from aqm_db._model.tiers import TIERS, Caps, counts_of, flatten_caps
from aqm_db.errors import (
    AQMDatabaseError,
    BudgetExceededError,
    CorruptEntryError,
    InvalidArgumentError,
    NoSlotError,
)
from aqm_db.types import CoinCategory, NewCoin

from . import Scope
from .batch import AT_ONCE, is_unfinished, run_batch, run_portions, split
from .contacts import summarize_pages
from .outcome import check_reply
from .stock import COIN_TTL_MS, build_store, read_store

RESERVE = Script("inventory/reserve")
UNRESERVE = Script("inventory/unreserve")

_log = logging.getLogger("aqm_db.inventory")
_LEASE_TTL_MS = config.INV_LEASE_TTL_SECONDS * 1000
_CONTACTS_AT_ONCE = 25
"""Contacts of one script, with a lease for each of their tiers: that takes some 2 ms."""


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


class _Measured(NamedTuple):
    """What was counted.

    Attributes:
        added: how many coins had ever been stored before it began, by tier.
        found: how many are stored.
    """

    added: tuple[Argument, ...]
    found: tuple[Argument, ...]


_UNMEASURED = _Measured(("",) * len(TIERS), ("",) * len(TIERS))


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
        measured = _UNMEASURED
        try:
            for contact_ids in split(list(wanted), _CONTACTS_AT_ONCE):
                portion = {each: wanted[each] for each in contact_ids if any(wanted[each].values())}
                if not portion:
                    continue
                names, reply = await self._try_reserve(portion, lasting_ms, measured)
                while _is_stale(reply):
                    # Within what may be stored there is no room: is it?
                    measured = await self._measure()
                    names, reply = await self._try_reserve(portion, lasting_ms, measured)
                leases |= self._read_reserve(portion, names, reply)
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
        return await run_portions(coins, self._store_portion)

    async def end(self, leases: Iterable[Lease | AQMDatabaseError]) -> None:
        """Ends leases; where the server can't be asked, they end by themselves."""
        names = [lease.name for lease in leases if isinstance(lease, Lease) and lease.slots]
        ended = 0
        try:
            for some in split(names, AT_ONCE):
                check_reply(await self._scope.seam.run(self._build_unreserve(some)))
                ended += len(some)
        except AQMDatabaseError as error:
            about = {"count": len(names) - ended, "error": type(error).__name__}
            _log.warning("lease_not_ended", extra=about)

    async def _store_portion(self, coins: Sequence[NewCoin]) -> list[bool | AQMDatabaseError]:
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

    async def _measure(self) -> "_Measured":
        [replies] = await self._scope.seam.read(("HMGET", self._scope.keys.inv_totals, *TIERS))
        if isinstance(replies, AQMDatabaseError):
            raise replies
        # What is stored from here on is counted twice, if it's found.
        found = dict.fromkeys(TIERS, 0)
        async for page in summarize_pages(self._scope):
            for summary in page:
                for tier, count in counts_of(summary).items():
                    found[tier] += count
        return _Measured(tuple(map(_read_count, replies)), tuple(found.values()))

    async def _try_reserve(
        self, wanted: Wanted, lasting_ms: int, measured: "_Measured"
    ) -> tuple[list[str], Reply | AQMDatabaseError]:
        """The names that the leases would have, and the reply."""
        request_id = self._scope.request_ids()
        names = [
            _name_lease(request_id, contact_id, tier)
            for contact_id, tiers in wanted.items()
            for tier in tiers
        ]
        while True:
            call = self._build_reserve(wanted, request_id, lasting_ms, measured)
            [reply] = await self._scope.seam.run_all([call], [partial(self._undo_reserve, names)])
            if not is_unfinished(reply):
                return names, reply
            # Some of what was found may have been set aside.
            measured = _UNMEASURED

    def _build_reserve(
        self, wanted: Wanted, request_id: str, lasting_ms: int, measured: "_Measured"
    ) -> Call:
        keys = self._scope.keys
        arguments: list[Argument] = [
            self._scope.read_clock(),
            request_id,
            lasting_ms,
            COIN_TTL_MS,
            self._budgeted.budget_bytes,
            keys.metas,
            keys.queues,
            keys.rows,
            *measured.added,
            *measured.found,
            *(config.COIN_SIZE_BYTES[tier] for tier in TIERS),
            *flatten_caps(self._budgeted.budget_caps),
        ]
        for contact_id, tiers in wanted.items():
            arguments += (contact_id, *(tiers.get(tier, 0) for tier in TIERS))
        names = (keys.inv_leases, keys.inv_leases_until, keys.inv_coming, keys.inv_totals)
        return Call(RESERVE, (*names, keys.inv_watch, keys.inv_aside), arguments)

    def _read_reserve(
        self, wanted: Wanted, names: Sequence[str], reply: Reply | AQMDatabaseError
    ) -> Leases:
        is_given = _has_code(reply, Code.OK)
        parts = check_reply(reply) if is_given else [reply] * len(wanted)
        leases: Leases = {}
        remaining = iter(names)
        for (contact_id, tiers), part in zip(wanted.items(), parts, strict=True):
            for tier in tiers:
                leases[contact_id, tier] = self._read_lease(
                    contact_id, tier, tiers[tier], next(remaining), part
                )
        return leases

    def _read_lease(
        self,
        contact_id: str,
        tier: CoinCategory,
        wanted: int,
        name: str,
        part: Reply | AQMDatabaseError,
    ) -> Lease | AQMDatabaseError:
        try:
            slots, count, cap, taken = check_reply(part, contact_id=contact_id)[TIERS.index(tier)]
        except AQMDatabaseError as error:
            return error
        refusal = None
        if slots < wanted:
            refusal = (
                BudgetExceededError(contact_id, tier, count, cap)
                if slots == max(cap - count, 0)
                else BudgetExceededError(
                    contact_id, tier, taken, self._budgeted.budget_bytes, unit="bytes"
                )
            )
        return Lease(name, slots, refusal)

    def _undo_reserve(self, names: Sequence[str], _: Reply) -> Call:
        return self._build_unreserve(names)

    def _build_unreserve(self, names: Sequence[str]) -> Call:
        keys = self._scope.keys
        return Call(
            UNRESERVE,
            (keys.inv_leases, keys.inv_leases_until, keys.inv_coming, keys.inv_totals),
            names,
        )

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


def _read_count(field: bytes | None) -> int:
    try:
        return int(field or 0)
    except ValueError:
        raise CorruptEntryError("the inventory's totals are malformed") from None


def _name_lease(request_id: str, contact_id: str, tier: CoinCategory) -> str:
    """What the lease of a request is called."""
    return f"{request_id}:{tier}:{contact_id}"


def _place_of(coin: NewCoin) -> tuple[str, CoinCategory]:
    """Whose slot a coin takes, and of which tier."""
    return coin.contact_id, check_category("coin_category", coin.coin_category)


def _is_stale(reply: Reply | AQMDatabaseError) -> bool:
    return _has_code(reply, Code.STALE)


def _has_code(reply: Reply | AQMDatabaseError, code: Code) -> bool:
    return isinstance(reply, list) and reply[0] == code
