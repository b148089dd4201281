"""Public halves: stored, handed out, released, consumed, listed, counted."""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from aqm_db import config
from aqm_db._io.seam import Argument, Call, Reply
from aqm_db._lua.loader import Code, Script
from aqm_db._model.checks import check_category, check_coin, check_id
from aqm_db._model.rows import Row, row_of
from aqm_db._model.tiers import TIERS, Caps, caps_of
from aqm_db.errors import (
    AQMDatabaseError,
    BudgetExceededError,
    CoinExpiredError,
    CorruptEntryError,
    InventoryUnavailableError,
    KeyAlreadyExistsError,
    KeyAlreadyUsedError,
)
from aqm_db.types import InventoryEntry, NewCoin

from . import Scope
from .batch import ROWS_AT_ONCE, split
from .claims import names_claim
from .outcome import check_reply

STORE = Script("inventory/store")
SELECT = Script("inventory/select")
RELEASE = Script("inventory/release")
CONSUME = Script("inventory/consume")
COUNT_STALE = Script("inventory/count_stale")

_log = logging.getLogger("aqm_db.inventory")
COIN_TTL_MS: int = config.INV_COIN_TTL_SECONDS * 1000
USED_TTL_MS: int = config.INV_USED_TTL_SECONDS * 1000
CLAIM_TTL_MS: int = config.INV_CLAIM_TTL_SECONDS * 1000
PORTION = 200
"""Coins that one script looks at, or drops: others wait for it."""
CONTACTS_AT_ONCE = 125
"""Contacts whose coins one script looks at."""
_FIRST_QUEUE, _TIER = 6, 3
"""Where a selection names its queues, and its tier."""


def build_store(scope: Scope, coin: NewCoin, caps: Caps, lease: str | None = None) -> Call:
    """The call that stores a coin.

    Args:
        scope: whose inventory it is.
        coin: the coin.
        caps: coins per contact, by priority and tier.
        lease: the lease whose slot it takes.

    Raises:
        InvalidArgumentError: a field has the wrong type or size.
    """
    check_coin(coin)
    request_id = scope.request_ids()
    names = scope.keys.of(coin.contact_id)
    keys = (
        names.row(coin.key_id),
        names.meta,
        names.used,
        names.used_until,
        names.claims + request_id,
        *names.queues,
        scope.keys.inv_totals,
        scope.keys.inv_leases,
        scope.keys.inv_coming,
        scope.keys.inv_watch,
        scope.keys.inv_aside,
    )
    arguments: tuple[Argument, ...] = (
        scope.read_clock(),
        request_id,
        coin.key_id,
        coin.coin_category,
        coin.public_key,
        coin.signature,
        "" if coin.expires_at is None else coin.expires_at,
        names.rows,
        COIN_TTL_MS,
        USED_TTL_MS,
        *caps_of(caps, coin.coin_category),
    )
    if lease is not None:
        arguments = (*arguments, lease)
    return Call(STORE, keys, arguments, coin.coin_category)


def read_store(coin: NewCoin, reply: Reply | AQMDatabaseError) -> bool:
    """True, once the reply says that the coin is stored."""
    about = _describe(coin)
    try:
        check_reply(reply, contact_id=coin.contact_id, key_id=coin.key_id, tier=coin.coin_category)
    except (KeyAlreadyExistsError, KeyAlreadyUsedError):
        _log.warning("duplicate_rejected", extra=about)
        raise
    except CoinExpiredError:
        _log.warning("expired_rejected", extra=about)
        raise
    except BudgetExceededError:
        _log.info("budget_exceeded", extra=about)
        raise
    _log.debug("key_stored", extra=about)
    return True


def build_select(
    scope: Scope, contact_id: str, desired_tier: str, *, is_exact: bool = False
) -> Call:
    """The call that takes a coin.

    Args:
        scope: whose inventory it is.
        contact_id: whose coin.
        desired_tier: of which tier.
        is_exact: whether one of a lower tier won't do.

    Raises:
        InvalidArgumentError: an argument has the wrong type or value.
    """
    check_id("contact_id", contact_id)
    check_category("desired_tier", desired_tier)
    names = scope.keys.of(contact_id)
    queues = names.queues[TIERS.index(desired_tier) :]
    keys = (
        names.claims + scope.request_ids(),
        names.meta,
        names.used,
        names.used_until,
        scope.keys.inv_watch,
        scope.keys.inv_aside,
        *(queues[:1] if is_exact else queues),
    )
    arguments = (scope.read_clock(), names.rows, names.claims, desired_tier)
    return Call(SELECT, keys, arguments, desired_tier, scope.claims)


def read_select(
    scope: Scope, contact_id: str, call: Call, reply: Reply | AQMDatabaseError
) -> InventoryEntry | None:
    """The coin that a selection was given; None if there is none.

    Raises:
        InventoryUnavailableError: the reply is another call's, and nothing in it may be used.
    """
    _, aside, *coin = check_reply(_check_own(scope, call, reply), contact_id=contact_id)
    if aside:
        _warn_of_aside(contact_id, aside)
    if not coin:
        return None
    entry = _read_coin(contact_id, coin)
    if entry.coin_category != call.tier:
        log_fallback(entry, call.tier)
    # Each call pays for what is described here, and few programs listen.
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("coin_selected", extra=_describe(entry))
    return entry


def continue_select(contact_id: str, call: Call, reply: Reply | AQMDatabaseError) -> Call | None:
    """The call that goes on where a selection stopped; None if it has come to its end.

    It's about the same claim: a copy of an earlier one that comes late finds what a later one took.
    """
    # Hardly any is, which is seen at a glance; but on a link that is out of step it's of any type.
    if not isinstance(reply, list) or reply[:1] != [Code.UNFINISHED]:
        return None
    if not names_claim(call, reply):
        return None
    _, _, aside, tier, place = reply
    _warn_of_aside(contact_id, aside)
    before = cast("str | bytes", call.arguments[_TIER])
    begun = before if isinstance(before, str) else before.decode()
    passed = TIERS.index(tier.decode()) - TIERS.index(begun)
    keys = (*call.keys[:_FIRST_QUEUE], *call.keys[_FIRST_QUEUE + passed :])
    # Of the claim's first request a copy may be on its way, so its claim is never said to be over.
    return Call(SELECT, keys, (*call.arguments[:_TIER], tier, place), call.tier)


def read_given_tier(reply: Reply) -> str | None:
    """The tier of the coin in a selection's reply that says OK; None if there is none."""
    _, _, _, *coin = reply
    return coin[1].decode() if coin else None


def undo_select(scope: Scope, caps: Caps, contact_id: str, call: Call, reply: Reply) -> Call | None:
    """The call that puts back what a selection was given, if it was given anything."""
    _, _, *coin = check_reply(_check_own(scope, call, reply))
    return build_release(scope, _read_coin(contact_id, coin), caps) if coin else None


def build_release(scope: Scope, entry: InventoryEntry, caps: Caps) -> Call:
    """The call that puts a coin back that was handed out."""
    names = scope.keys.of(entry.contact_id)
    keys = (
        names.row(entry.key_id),
        names.meta,
        names.used,
        names.claims + scope.request_ids(),
        names.queues[TIERS.index(entry.coin_category)],
        scope.keys.inv_totals,
        scope.keys.inv_watch,
    )
    arguments = (
        scope.read_clock(),
        entry.key_id,
        entry.coin_category,
        entry.public_key,
        entry.signature,
        entry.fetched_at,
        "" if entry.expires_at is None else entry.expires_at,
        cast("int", entry.used_at),
        entry.origin or b"",
        COIN_TTL_MS,
        CLAIM_TTL_MS,
        *caps_of(caps, entry.coin_category),
    )
    return Call(RELEASE, keys, arguments, entry.coin_category)


def read_release(entry: InventoryEntry, reply: Reply | AQMDatabaseError) -> bool:
    """Whether the coin is back."""
    [released] = check_reply(reply, contact_id=entry.contact_id)
    return bool(released)


def build_consume(scope: Scope, contact_id: str, key_id: str) -> Call:
    """The call that removes one coin.

    Raises:
        InvalidIdentifierError: an id is no valid id.
    """
    check_id("contact_id", contact_id)
    check_id("key_id", key_id)
    names = scope.keys.of(contact_id)
    keys = (
        names.row(key_id),
        names.claims + scope.request_ids(),
        names.used,
        names.used_until,
        *names.queues,
        scope.keys.inv_aside,
    )
    times = (CLAIM_TTL_MS, COIN_TTL_MS, USED_TTL_MS)
    arguments = (scope.read_clock(), key_id, names.claims, *times)
    return Call(CONSUME, keys, arguments)


def read_consume(reply: Reply) -> bool:
    """Whether the coin was there."""
    [removed] = check_reply(reply)
    return bool(removed)


async def list_tiers(scope: Scope, contact_id: str) -> list[str]:
    """The tiers of which a contact has coins, best first (ZCARD)."""
    check_id("contact_id", contact_id)
    counts = await scope.seam.read(
        *(("ZCARD", queue) for queue in scope.keys.of(contact_id).queues)
    )
    for count in counts:
        if isinstance(count, AQMDatabaseError):
            raise count
    return [tier for tier, count in zip(TIERS, counts, strict=True) if count]


async def list_coins(scope: Scope, contact_id: str) -> list[InventoryEntry]:
    """A contact's coins, best tier and oldest first; malformed rows are logged and left out."""
    places = [(contact_id, key_id) for key_id in await list_key_ids(scope, contact_id)]
    return [coin async for some in read_coins(scope, places) for coin in some]


async def list_key_ids(scope: Scope, contact_id: str) -> list[str]:
    """The ids of a contact's coins, best tier and oldest first.

    Raises:
        CorruptEntryError: an index has the wrong type.
    """
    check_id("contact_id", contact_id)
    queues = scope.keys.of(contact_id).queues
    return read_key_ids(await scope.seam.read(*(("ZRANGE", queue, 0, -1) for queue in queues)))


def read_key_ids(queues: Sequence[Any]) -> list[str]:
    """The ids in some queues, as a server gives them (ZRANGE).

    Raises:
        CorruptEntryError: one of them has the wrong type.
    """
    key_ids: list[str] = []
    for queue in queues:
        if isinstance(queue, AQMDatabaseError):
            raise queue
        key_ids += [key_id.decode("utf-8", "replace") for key_id in queue]
    return key_ids


async def read_coins(
    scope: Scope, places: Sequence[tuple[str, str]]
) -> AsyncIterator[list[InventoryEntry]]:
    """Coins, in portions; malformed rows are logged and left out.

    Args:
        scope: whose they are.
        places: of each its contact, and its id.
    """
    for some in split(places, ROWS_AT_ONCE):
        reads = [("HGETALL", scope.keys.of(contact).row(key_id)) for contact, key_id in some]
        coins: list[InventoryEntry] = []
        for (contact_id, key_id), fields in zip(some, await scope.seam.read(*reads), strict=True):
            try:
                row = row_of(f"coin {key_id!r}", fields)
                coins += [] if row is None else [_read_row(contact_id, key_id, row)]
            except CorruptEntryError:
                about = {"contact_id": contact_id, "key_id": key_id}
                _log.warning("corrupt_entry", extra=about)
        yield coins


async def count_stale(
    scope: Scope, contact_ids: Sequence[str], within_ms: int
) -> dict[str, dict[str, int]]:
    """Counts coins that are stale in some time, by contact id and tier.

    Contacts without any are left out, and malformed ones are logged.
    """
    keys = scope.keys
    fixed = (
        scope.read_clock(),
        keys.metas,
        keys.rows,
        keys.queues,
        within_ms,
        COIN_TTL_MS,
        PORTION,
    )
    counts: dict[str, list[int]] = {}
    left, start = list(contact_ids), (1, 0)
    while left:
        call = Call(COUNT_STALE, keys.list_metas(left[:CONTACTS_AT_ONCE]), (*fixed, *start))
        contacts, first, place, *found = check_reply(await scope.seam.run(call))
        start = (first, place)
        for number, contact_id in enumerate(left[: len(found) // len(TIERS)]):
            seen = found[number * len(TIERS) : (number + 1) * len(TIERS)]
            before = counts.get(contact_id, [0] * len(TIERS))
            counts[contact_id] = [sum(pair) for pair in zip(before, seen, strict=True)]
            if -1 in seen:
                _log.warning("corrupt_entry", extra={"contact_id": contact_id})
        left = left[contacts:]
    return {
        contact_id: dict(zip(TIERS, found, strict=True))
        for contact_id, found in counts.items()
        if any(found) and min(found) >= 0
    }


def log_fallback(entry: InventoryEntry, desired_tier: str | None) -> None:
    """Logs that a coin of a lower tier was handed out."""
    _log.info("fallback_used", extra={**_describe(entry), "desired_tier": desired_tier})


def find_end(entry: InventoryEntry) -> int:
    """When a coin is stale, in ms since the epoch."""
    return entry.fetched_at + COIN_TTL_MS if entry.expires_at is None else entry.expires_at


def warn_of_stale(entry: InventoryEntry) -> None:
    """Logs that a coin wasn't handed out, since it's stale by now."""
    _warn_of_aside(entry.contact_id, [entry.key_id.encode(), b"stale"])


def _describe(coin: NewCoin | InventoryEntry) -> dict[str, str]:
    """What logs say of a coin."""
    return {
        "contact_id": coin.contact_id,
        "key_id": coin.key_id,
        "coin_category": coin.coin_category,
    }


def _check_own(
    scope: Scope, call: Call, reply: Reply | AQMDatabaseError
) -> Reply | AQMDatabaseError:
    """The reply of a selection, once it's sure that it is its own."""
    if names_claim(call, reply) or isinstance(reply, AQMDatabaseError):
        return reply
    scope.seam.distrust()
    raise InventoryUnavailableError(
        "the reply is to another call: the link is out of step", outcome_unknown=True
    )


def _read_coin(contact_id: str, coin: Reply) -> InventoryEntry:
    """A coin as a selection's reply holds it."""
    key_id, tier, public_key, signature, fetched_at, expires_at, receipt = coin
    used_at, _, origin = receipt.partition(b" ")
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
            origin,
        )
    except UnicodeDecodeError:
        raise CorruptEntryError(f"a coin of {contact_id!r} has an id that is no text") from None


def _read_row(contact_id: str, key_id: str, row: Row) -> InventoryEntry:
    """A coin as it is stored."""
    return InventoryEntry(
        contact_id=contact_id,
        key_id=key_id,
        coin_category=row.category(),
        public_key=row.blob("public_key"),
        signature=row.blob("signature"),
        fetched_at=row.integer("fetched_at"),
        expires_at=row.integer("expires_at") if row.has("expires_at") else None,
    )


def _warn_of_aside(contact_id: str, aside: list[bytes]) -> None:
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
