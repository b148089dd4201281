"""Checks of arguments: each returns the value, or raises an error that names the parameter."""

from collections.abc import Callable, Collection, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TypeVar, cast

from aqm_db import config
from aqm_db.errors import (
    InvalidArgumentError,
    InvalidCoinCategoryError,
    InvalidIdentifierError,
    InvalidPriorityError,
)
from aqm_db.types import CoinCategory, InventoryEntry, NewCoin, Priority

from .tiers import PRIORITIES, TIERS

F = TypeVar("F")
_MAX_DAYS = 36_500
_MAX_SECONDS = _MAX_DAYS * 86_400
_MIN_SECONDS = 0.001
_MAX_COUNT = 2**53


def check_id(argument: str, value: object) -> str:
    """A contact id, key id or owner: 1 to 256 bytes of strict UTF-8."""
    if not isinstance(value, str):
        raise InvalidIdentifierError(argument, f"must be a str, not {type(value).__name__}")
    # The length comes first: encoding a huge string to refuse it is work for nothing.
    if not 0 < len(value) <= config.MAX_ID_BYTES or not (
        value.isascii() or 0 < _measure_utf8(value) <= config.MAX_ID_BYTES
    ):
        raise InvalidIdentifierError(
            argument, f"must be 1 to {config.MAX_ID_BYTES} bytes of valid UTF-8"
        )
    return value


def check_category(argument: str, value: object) -> CoinCategory:
    """A tier."""
    if not isinstance(value, str) or value not in config.VALID_COIN_CATEGORIES:
        raise InvalidCoinCategoryError(
            argument, f"must be {_enumerate(TIERS)}, not {_shorten(value)}"
        )
    return cast("CoinCategory", value)


def check_priority(argument: str, value: object) -> Priority:
    """A contact's priority."""
    if not isinstance(value, str) or value not in config.VALID_PRIORITIES:
        raise InvalidPriorityError(
            argument, f"must be {_enumerate(PRIORITIES)}, not {_shorten(value)}"
        )
    return cast("Priority", value)


def check_blob(argument: str, value: object) -> bytes:
    """Key material: never shown, not even its beginning."""
    if not isinstance(value, bytes):
        raise InvalidArgumentError(argument, f"must be bytes, not {type(value).__name__}")
    if not 0 < len(value) <= config.MAX_BLOB_BYTES:
        raise InvalidArgumentError(
            argument, f"must be 1 to {config.MAX_BLOB_BYTES} bytes, not {len(value)}"
        )
    return value


def check_text(argument: str, value: object) -> str:
    """A text that is stored as it is, and may be empty."""
    if not isinstance(value, str):
        raise InvalidArgumentError(argument, f"must be a str, not {type(value).__name__}")
    if len(value) > config.MAX_BLOB_BYTES or not -1 < _measure_utf8(value) <= config.MAX_BLOB_BYTES:
        raise InvalidArgumentError(
            argument, f"must be at most {config.MAX_BLOB_BYTES} bytes of valid UTF-8"
        )
    return value


def check_path(argument: str, value: object) -> Path:
    """The path of a file, as it is: a ~ is no directory."""
    if not isinstance(value, str | PathLike):
        raise InvalidArgumentError(argument, f"must be a str or a path, not {type(value).__name__}")
    path: object = fspath(value)
    if not isinstance(path, str) or "\0" in path:
        raise InvalidArgumentError(argument, "must be a str or a path that a file can have")
    return Path(path)


def check_flag(argument: str, value: object) -> bool:
    """True or False, and nothing that only counts as one."""
    if not isinstance(value, bool):
        raise InvalidArgumentError(argument, f"must be a bool, not {type(value).__name__}")
    return value


def check_days(argument: str, value: object) -> int:
    """A number of days, 0 to 100 years."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgumentError(argument, f"must be an int, not {type(value).__name__}")
    if not 0 <= value <= _MAX_DAYS:
        raise InvalidArgumentError(
            argument, f"must be 0 to {_MAX_DAYS} days, not {_shorten(value)}"
        )
    return value


def check_seconds(argument: str, value: object) -> float:
    """A time span in seconds, from a millisecond to 100 years."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidArgumentError(argument, f"must be a number, not {type(value).__name__}")
    if not _MIN_SECONDS <= value <= _MAX_SECONDS:
        raise InvalidArgumentError(
            argument, f"must be {_MIN_SECONDS} to {_MAX_SECONDS} seconds, not {_shorten(value)}"
        )
    return value


def check_time(argument: str, value: object) -> int:
    """A time in milliseconds since the epoch, from 1970 to the year 9999."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgumentError(argument, f"must be an int, not {type(value).__name__}")
    if not 0 <= value < _YEAR_10000:
        raise InvalidArgumentError(
            argument, f"must be milliseconds since the epoch, not {_shorten(value)}"
        )
    return value


class CheckedClock:
    """A clock of the caller's, each of whose values is checked before anything is made of it.

    Args:
        clock: gives milliseconds since the epoch.

    Raises:
        InvalidArgumentError: it isn't callable; or, when it's read, it gives something else.
    """

    __slots__ = ("_clock",)

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = check_callable("clock", clock)

    def __call__(self) -> int:
        """The time that it is."""
        # Clients write other kinds of int in ways of their own.
        return int(check_time("clock", self._clock()))


def check_clock(clock: Callable[[], int] | None) -> CheckedClock | None:
    """A clock that may be passed on, and is checked once; None if there is none."""
    return clock if clock is None or isinstance(clock, CheckedClock) else CheckedClock(clock)


def check_entry(argument: str, value: object) -> InventoryEntry:
    """A coin that ``select_coin`` handed out, field by field."""
    if not isinstance(value, InventoryEntry):
        raise InvalidArgumentError(
            argument, f"must be an InventoryEntry, not {type(value).__name__}"
        )
    check_id(f"{argument}.contact_id", value.contact_id)
    check_id(f"{argument}.key_id", value.key_id)
    check_category(f"{argument}.coin_category", value.coin_category)
    check_blob(f"{argument}.public_key", value.public_key)
    check_blob(f"{argument}.signature", value.signature)
    check_time(f"{argument}.fetched_at", value.fetched_at)
    if value.expires_at is not None:
        check_time(f"{argument}.expires_at", value.expires_at)
    check_time(f"{argument}.used_at", value.used_at)
    if value.origin is not None:
        check_blob(f"{argument}.origin", value.origin)
    return value


def check_coin(coin: NewCoin) -> NewCoin:
    """A coin to be stored, field by field."""
    check_id("contact_id", coin.contact_id)
    check_id("key_id", coin.key_id)
    check_category("coin_category", coin.coin_category)
    check_blob("public_key", coin.public_key)
    check_blob("signature", coin.signature)
    if coin.expires_at is not None and check_time("expires_at", coin.expires_at) < _YEAR_1973:
        # As it is, the coin would be stale at once, and nobody would know why.
        raise InvalidArgumentError(
            "expires_at", f"must be milliseconds since the epoch, not seconds: {coin.expires_at}"
        )
    return coin


def check_kind(argument: str, value: object, kind: type) -> None:
    """An object of the library that another one is made of.

    Raises:
        TypeError: it is of another class: of the other face, for example.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{argument}: must be of class {kind.__name__}, not {type(value).__name__}")


def check_items(argument: str, value: object, kind: type) -> None:
    """A sequence whose items are all of one class."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise InvalidArgumentError(argument, f"must be a sequence, not {type(value).__name__}")
    for position, item in enumerate(value):
        if not isinstance(item, kind):
            raise InvalidArgumentError(
                f"{argument}[{position}]",
                f"must be of class {kind.__name__}, not {type(item).__name__}",
            )


def check_ids(argument: str, value: object) -> set[str]:
    """Ids, in whatever collection."""
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        name = type(value).__name__
        raise InvalidArgumentError(argument, f"must be a collection of ids, not {name}")
    return {check_id(argument, each) for each in value}


def check_caps(argument: str, value: object) -> Mapping[str, Mapping[str, int]]:
    """Budget caps: one whole number of coins for every priority and tier."""
    for priority in sorted(config.VALID_PRIORITIES):
        for tier in sorted(config.VALID_COIN_CATEGORIES):
            cap = _entry_of(_entry_of(value, priority), tier)
            if type(cap) is not int or not 0 <= cap <= _MAX_COUNT:
                raise InvalidArgumentError(
                    argument,
                    f"must map every priority to an int from 0 to {_MAX_COUNT} for every tier; "
                    f"that of {priority} and {tier} is "
                    f"{'missing' if cap is None else _shorten(cap)}",
                )
    return cast("Mapping[str, Mapping[str, int]]", value)


def check_count(argument: str, value: object, least: int) -> int:
    """A whole number of at least some size, that a script's numbers hold exactly."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgumentError(argument, f"must be an int, not {type(value).__name__}")
    if not least <= value <= _MAX_COUNT:
        raise InvalidArgumentError(
            argument, f"must be {least} to {_MAX_COUNT}, not {_shorten(value)}"
        )
    return value


def check_timeout(argument: str, value: object) -> int:
    """Milliseconds that the server may be silent for: less than a socket's timeout."""
    most = config.REDIS_SOCKET_TIMEOUT * 1000 - 1000
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgumentError(argument, f"must be an int, not {type(value).__name__}")
    if not 1 <= value <= most:
        raise InvalidArgumentError(argument, f"must be 1 to {most} ms, not {_shorten(value)}")
    return value


def check_tiers(argument: str, value: object) -> Mapping[CoinCategory, int]:
    """A whole number from 0 up for some tiers."""
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(argument, f"must be a mapping, not {type(value).__name__}")
    for tier, count in value.items():
        check_category(f"{argument} key", tier)
        check_count(f"{argument}[{tier!r}]", count, 0)
    return value


def check_callable(argument: str, value: F) -> F:
    """A function of the caller's."""
    if not callable(value):
        raise InvalidArgumentError(argument, f"must be callable, not {type(value).__name__}")
    return value


_YEAR_1973 = 100_000_000_000
"""As seconds, this is the year 5138: what is less was meant so."""
_YEAR_10000 = 253_402_300_800_000


def _measure_utf8(value: str) -> int:
    """The size in UTF-8, or -1 for what has none (a lone surrogate)."""
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        return -1


def _entry_of(value: object, key: str) -> object:
    """What a mapping holds; None if it's none, or holds nothing of this name."""
    return cast("Mapping[str, object]", value).get(key) if isinstance(value, Mapping) else None


def _enumerate(names: Sequence[str]) -> str:
    *some, last = map(repr, names)
    return f"{', '.join(some)} or {last}"


def _shorten(value: object) -> str:
    """A short form: what was passed by mistake may be long, or secret."""
    # Python writes no int of more than some 4300 digits.
    if isinstance(value, int) and value.bit_length() > config.MAX_ID_BYTES:
        return type(value).__name__
    if isinstance(value, str | int | float) and len(text := repr(value)) <= config.MAX_ID_BYTES:
        return text
    return type(value).__name__
