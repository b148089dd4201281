"""Stored fields as typed values; what doesn't fit is a CorruptEntryError."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from aqm_db import config
from aqm_db.errors import AQMDatabaseError, CorruptEntryError
from aqm_db.types import CoinCategory, KeyStatus, Priority

_MAX_DIGITS = 15
"""More than these, and a script's numbers (IEEE 754 doubles) don't hold them exactly."""


class Row:
    """The fields of one row.

    Args:
        name: what the row is, for the error.
        fields: their values by name.
    """

    def __init__(self, name: str, fields: Mapping[bytes, bytes]) -> None:
        self._name = name
        self._fields = fields

    def has(self, field: str) -> bool:
        """Whether the field is there."""
        return field.encode() in self._fields

    def blob(self, field: str) -> bytes:
        """Bytes as they are."""
        value = self._fields.get(field.encode())
        if value is None:
            raise self._corrupt(field)
        return value

    def text(self, field: str) -> str:
        """UTF-8 text."""
        try:
            return self.blob(field).decode()
        except UnicodeDecodeError:
            raise self._corrupt(field) from None

    def integer(self, field: str) -> int:
        """A whole number that isn't negative."""
        value = parse_number(self.blob(field))
        if value is None:
            raise self._corrupt(field)
        return value

    def category(self) -> CoinCategory:
        """The tier."""
        return cast("CoinCategory", self._one_of("coin_category", config.VALID_COIN_CATEGORIES))

    def priority(self) -> Priority:
        """The contact's priority."""
        return cast("Priority", self._one_of("priority", config.VALID_PRIORITIES))

    def status(self) -> KeyStatus:
        """Whether the key is active or burned."""
        return cast("KeyStatus", self._one_of("status", config.VALID_STATUSES))

    def _one_of(self, field: str, accepted: frozenset[str]) -> str:
        value = self.text(field)
        if value not in accepted:
            raise self._corrupt(field)
        return value

    def _corrupt(self, field: str) -> CorruptEntryError:
        return CorruptEntryError(f"{self._name}: field {field} is missing or malformed")


def parse_number(value: bytes) -> int | None:
    """A stored number, as scripts read it (``parse_integer.lua``); None for what is none."""
    return int(value) if len(value) <= _MAX_DIGITS and value.isdigit() else None


def read_map(reply: Mapping[bytes, Any] | Sequence[Any]) -> Mapping[bytes, Any]:
    """Fields and their values in a reply, which is a map (RESP3) or a flat list (RESP2)."""
    if isinstance(reply, Mapping):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


def row_of(
    name: str, reply: Mapping[bytes, bytes] | Sequence[bytes] | AQMDatabaseError
) -> Row | None:
    """The row in an HGETALL reply, which may be an error.

    Returns:
        The row; None if the key doesn't exist.

    Raises:
        CorruptEntryError: the key has another type.
    """
    if isinstance(reply, AQMDatabaseError):
        raise CorruptEntryError(f"{name}: not a hash") from None
    return Row(name, read_map(reply)) if reply else None
