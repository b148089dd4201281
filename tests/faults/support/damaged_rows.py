"""What can be wrong with what is stored, and which calls have to say so."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from redis.asyncio import Redis

from aqm_db.errors import (
    AQMDatabaseError,
    ContactNotRegisteredError,
    CorruptEntryError,
    KeyExpiredError,
)
from tests.support.samples import BOB

ROW = "vault:v1:key:k1"
STATS = "vault:v1:stats"
EXPIRY = "vault:v1:expiry"
SPENT = "vault:v1:spent"
COIN = f"inv:v1:key:{BOB}:B2"
META = f"inv:v1:meta:{BOB}"
QUEUES = tuple(f"inv:v1:idx:{BOB}:{tier}" for tier in ("GOLD", "SILVER", "BRONZE"))
QUEUE = QUEUES[2]
USED = f"inv:v1:used:{BOB}"
USED_UNTIL = f"inv:v1:used_until:{BOB}"
LEASES = "inv:v1:leases"
UNTIL = "inv:v1:leases_until"
COMING = "inv:v1:coming"
TOTALS = "inv:v1:totals"
RESERVING = {LEASES, UNTIL, COMING, TOTALS}

NO_INTEGERS: tuple[str | bytes, ...] = (
    *("", "-1", "1.5", " 1", "nan", "inf", "\u0663", b"\xff"),
    # Whole numbers, but larger than a time, a double, or what Python turns into an int.
    *("9" * 16, "9" * 400, "9" * 5000),
)

UNREADABLE: tuple[bytes | None, ...] = (None, b"\xff")
"""A field that is missing, and one that is no text."""

Outcomes = dict[str, type[AQMDatabaseError] | None]
"""By call: the error that is due; None where the call works that fails on an undamaged database."""


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong with the furnished database.

    Attributes:
        name: what it's called in a failure.
        key: the key that is damaged.
        inflict: does the damage.
        outcomes: what calls do other than on the undamaged database.
        kept: whether every call has to leave the key as it is, except those that remove it.
    """

    name: str
    key: str
    inflict: Callable[[Redis], Awaitable[Any]]
    outcomes: Outcomes = field(default_factory=dict)
    kept: bool = False

    def __str__(self) -> str:
        return self.name


def due(error: type[AQMDatabaseError] | None, *calls: str) -> Outcomes:
    """The same outcome for several calls."""
    return dict.fromkeys(calls, error)


_READ_ROW = due(CorruptEntryError, "vault.fetch_key", "vault.use_key")
_CHANGE_ROW = _READ_ROW | due(CorruptEntryError, "vault.burn_key")
_READ_STATS = due(
    CorruptEntryError,
    *("vault.count_active", "vault.count_active(GOLD)", "vault.get_stats"),
    *("vault.purge_expired", "vault.purge_expired(0)"),
    *("reporter.get_vault_report", "reporter.get_full_dashboard"),
)
_BURN = due(CorruptEntryError, "vault.burn_key", "vault.use_key")
_STORE_KEY = due(CorruptEntryError, "vault.store_key", "vault.store_keys", "vault.restore_keys")

_STORE_COIN = (
    "inventory.store_key(budget)",
    "inventory.store_key",
    "inventory.store_key(B2)",
    "inventory.store_key(B1)",
)
_WRITE_META = (
    *_STORE_COIN,
    *("inventory.store_keys", "inventory.set_contact_priority", "gc.collect_single_contact"),
    *("inventory.select_coin(GOLD)", "inventory.select_coin(BRONZE)", "inventory.select_coins"),
)
_READ_META = due(CorruptEntryError, "inventory.get_contact_meta")
_SUMMARISE = due(CorruptEntryError, "inventory.get_inventory")
_COUNT = _SUMMARISE | due(
    CorruptEntryError,
    *("inventory.has_keys_for", "inventory.get_available_tiers", "inventory.list_coins"),
)


def damages() -> list[Damage]:
    """All of them."""
    return [*_of_rows(), *_of_counters(), *_of_coins(), *_of_contacts(), *_of_indexes(), *_names()]


def _of_rows() -> Iterator[Damage]:
    yield _string(ROW, _CHANGE_ROW)
    yield _gone(
        ROW,
        # The index says that there was one: it isn't stored anew, and may be restored.
        due(
            KeyExpiredError,
            *("vault.burn_key", "vault.use_key", "vault.store_key(k1)", "vault.store_keys"),
        )
        | due(None, "vault.restore_keys"),
    )
    yield _extra(ROW)
    for name in ("status", "coin_category"):
        for value in (*UNREADABLE, b"", b"LOST"):
            yield _field(ROW, name, value, _CHANGE_ROW, kept=True)
    for name in ("encrypted_blob", "encryption_iv", "auth_tag", "coin_version", "created_at"):
        yield _field(ROW, name, None, _READ_ROW)
    yield _field(ROW, "coin_version", b"\xff", _READ_ROW)
    for number in NO_INTEGERS:
        yield _field(ROW, "created_at", number, _READ_ROW)
    for value in UNREADABLE:
        yield _field(ROW, "by", value)


def _of_counters() -> Iterator[Damage]:
    yield _string(STATS, _READ_STATS | _BURN | _STORE_KEY)
    yield _gone(STATS)
    yield _extra(STATS)
    listing = ("vault.get_all_active_ids", "vault.get_all_active_ids(GOLD)")
    yield _string(EXPIRY, _READ_STATS | _BURN | _STORE_KEY | due(CorruptEntryError, *listing))
    yield _gone(EXPIRY)
    yield _string(SPENT, _BURN | _STORE_KEY | due(CorruptEntryError, "vault.purge_expired(0)"))
    for number in NO_INTEGERS:
        yield _field(STATS, "active_gold", number, _READ_STATS | _BURN | _STORE_KEY)
    for number in ("-1", "9" * 5000):
        yield _field(STATS, "total_burned", number, _READ_STATS | _BURN)
        yield _field(STATS, "total_expired", number, _READ_STATS)


def _of_coins() -> Iterator[Damage]:
    # No call fails for them: the coin is set aside, and the next one is taken.
    yield _string(COIN)
    yield _gone(COIN, due(None, "inventory.store_key(B2)", "inventory.store_keys"))
    yield _extra(COIN)
    for name in ("coin_category", "public_key", "signature", "fetched_at"):
        yield _field(COIN, name, None, kept=True)
    for tier in (b"", b"\xff", b"TIN", b"GOLD"):
        yield _field(COIN, "coin_category", tier, kept=True)
    for number in NO_INTEGERS:
        yield _field(COIN, "fetched_at", number, kept=True)
        yield _field(COIN, "expires_at", number, kept=True)
    for value in UNREADABLE:
        yield _field(COIN, "by", value)


def _of_contacts() -> Iterator[Damage]:
    yield _string(
        META,
        _READ_META
        | _SUMMARISE
        | due(
            CorruptEntryError,
            *_WRITE_META,
            *("inventory.release_coin", "inventory.register_contact"),
        ),
    )
    yield _gone(
        META,
        due(
            ContactNotRegisteredError,
            *(*_WRITE_META, "inventory.get_inventory", "inventory.forget_contact"),
        ),
    )
    yield _extra(META)
    yield _field(
        META, "priority", None, _READ_META | _SUMMARISE | due(CorruptEntryError, *_WRITE_META)
    )
    for priority in (b"", b"\xff", b"ENEMY"):
        # Whoever doesn't ask for the cap goes on, and a new priority mends it.
        yield _field(
            META,
            "priority",
            priority,
            _READ_META | _SUMMARISE | due(CorruptEntryError, *_STORE_COIN, "inventory.store_keys"),
        )
    for number in (None, *NO_INTEGERS):
        yield _field(
            META,
            "last_msg_at",
            number,
            _READ_META | due(CorruptEntryError, "gc.collect_single_contact"),
        )
    for value in UNREADABLE:
        yield _field(META, "display_name", value, _READ_META)
        yield _field(META, "by", value)


def _of_indexes() -> Iterator[Damage]:
    changing = due(
        CorruptEntryError,
        *("inventory.set_contact_priority", "inventory.consume_key", "gc.collect_single_contact"),
    )
    storing = due(
        CorruptEntryError,
        *("inventory.store_key", "inventory.store_keys", "inventory.store_key(budget)"),
    )
    bronze = due(
        CorruptEntryError,
        *("inventory.select_coin(BRONZE)", "inventory.select_coins", "inventory.release_coin"),
    )
    gold = due(CorruptEntryError, "inventory.select_coin(GOLD)")
    yield _string(QUEUE, _COUNT | changing | storing | bronze)
    yield _string(QUEUES[0], _COUNT | changing | storing | gold)
    yield _gone(QUEUE)
    remembering = due(CorruptEntryError, "inventory.store_key(B1)", "inventory.forget_contact")
    yield _string(USED, changing | storing | bronze | gold | remembering)
    # Of coins that outlive no 30 days, selecting one doesn't touch it.
    untouched = {"inventory.consume_key"}
    yield _string(
        USED_UNTIL,
        {call: error for call, error in changing.items() if call not in untouched}
        | storing
        | remembering,
    )
    budget = due(CorruptEntryError, "inventory.store_key(budget)")
    for key in (LEASES, UNTIL, COMING):
        yield _string(key, budget)
    adding = storing | due(CorruptEntryError, "inventory.release_coin")
    yield _string(TOTALS, adding)
    for number in NO_INTEGERS:
        # What HINCRBY takes for a number, no coin that is stored alone looks at.
        counted = budget if number in {"-1", "9" * 16} else adding
        yield _field(TOTALS, "BRONZE", number, counted)
        yield _field(TOTALS, "coming_BRONZE", number, budget)
        yield _field(TOTALS, "gone_BRONZE", number, budget if number != "-1" else {})
        yield _field(COMING, f"BRONZE:{BOB}", number, budget)
    yield _gone(USED, due(None, "inventory.store_key(B1)"))
    for key in (EXPIRY, QUEUE, USED, USED_UNTIL):
        for member in (b"\xff", b"", b"ghost", b"x" * 300):
            yield _scored(key, member, 1)
    for score in ("-inf", "inf", 1.5, 1e300):
        yield _scored(EXPIRY, b"k1", score)
        yield _scored(QUEUE, b"B2", score)
        yield _scored(USED, b"B2", score)
    yield Damage("a key without its index", EXPIRY, lambda c: c.zrem(EXPIRY, "k1"))
    yield Damage("a coin without its index", QUEUE, lambda c: c.zrem(QUEUE, "B2"))
    yield Damage("a coin in two indexes", QUEUES[0], lambda c: c.zadd(QUEUES[0], {"B2": 1}))


def _names() -> Iterator[Damage]:
    for name in (
        *(b"vault:v1:key:", b"vault:v1:key:\xff", b"vault:v1:key:%zz"),
        *(b"inv:v1:key:", b"inv:v1:key:\xff", f"inv:v1:key:{BOB}:".encode() + b"\xff"),
        *(b"inv:v1:meta:", b"inv:v1:meta:\xff", b"inv:v1:meta:a:b"),
    ):
        yield Damage(f"foreign name {name!r}", name.decode("latin-1"), partial(_set, name))


async def _set(name: bytes, client: Redis) -> None:
    await client.set(name, "x")


def _string(key: str, outcomes: Outcomes | None = None) -> Damage:
    async def replace(client: Redis) -> None:
        await client.delete(key)
        await client.set(key, "x")

    return Damage(f"{key} is a string", key, replace, outcomes or {}, kept=True)


def _gone(key: str, outcomes: Outcomes | None = None) -> Damage:
    return Damage(f"{key} is gone", key, lambda client: client.delete(key), outcomes or {})


def _extra(key: str) -> Damage:
    fields: dict[Any, Any] = {b"\xff": b"\xff"}
    return Damage(f"{key} has a field too many", key, lambda c: c.hset(key, mapping=fields))


def _field(
    key: str,
    name: str,
    value: str | bytes | None,
    outcomes: Outcomes | None = None,
    *,
    kept: bool = False,
) -> Damage:
    wrong = f"no {name}" if value is None else f"{len(value)} bytes of {name}: {value[:9]!r}"

    async def inflict(client: Redis) -> None:
        await client.hdel(key, name)
        if value is not None:
            await client.hset(key, name, value)

    return Damage(f"{key} has {wrong}", key, inflict, outcomes or {}, kept=kept)


def _scored(key: str, member: bytes, score: str | float) -> Damage:
    scores: dict[Any, Any] = {member: score}
    return Damage(f"{key} has {member[:9]!r} at {score}", key, lambda c: c.zadd(key, scores))
