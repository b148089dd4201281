"""What stands in a backup of keys, contacts, and keys that are gone, and how it's read back."""

import base64
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from aqm_db._model.checks import check_count, check_id
from aqm_db._operations.memory import FATES, SpentHalf, UsedCoin
from aqm_db._operations.stock import COIN_TTL_MS
from aqm_db.errors import InvalidArgumentError, InvalidIdentifierError
from aqm_db.types import CoinCategory, ContactMeta, InventoryEntry, NewCoin, VaultEntry

from ._file import Record, parse_lines, read_records
from ._pile import Pile

T = TypeVar("T")
_HOLDS = "holds"
"""What a header says of how much its file should hold."""
_COUNTED_SINCE = 3
"""The first version whose header says so."""
_NOUNS = {
    "private": "private halves",
    "contact": "contacts",
    "public": "public halves",
    "spent": "private halves that are gone",
    "used": "coins that were used",
}
"""What the records of each kind are."""
KINDS = ("spent", "used", "private", "contact", "public")
"""Those of each kind stand together in a file, in this order."""


def make_private_record(entry: VaultEntry) -> Record:
    """A private half's record."""
    return {
        "kind": "private",
        "key_id": entry.key_id,
        "coin_category": entry.coin_category,
        "encrypted_blob": _encode(entry.encrypted_blob),
        "encryption_iv": _encode(entry.encryption_iv),
        "auth_tag": _encode(entry.auth_tag),
        "created_at": entry.created_at,
        "coin_version": entry.coin_version,
    }


def make_contact_record(contact: ContactMeta) -> Record:
    """A contact's record."""
    return {
        "kind": "contact",
        "contact_id": contact.contact_id,
        "priority": contact.priority,
        "display_name": contact.display_name,
    }


def make_public_record(coin: InventoryEntry) -> Record:
    """A coin's record."""
    return {
        "kind": "public",
        "contact_id": coin.contact_id,
        "key_id": coin.key_id,
        "coin_category": coin.coin_category,
        "public_key": _encode(coin.public_key),
        "signature": _encode(coin.signature),
        # A restored coin is as old as it was: what it would be stale at, it's stale at still.
        "expires_at": coin.expires_at or coin.fetched_at + COIN_TTL_MS,
    }


def make_spent_record(half: SpentHalf) -> Record:
    """The record of a private half that is gone."""
    return {"kind": "spent", "key_id": half.key_id, "fate": half.fate, "ends": half.ends}


def make_used_record(coin: UsedCoin) -> Record:
    """The record of a coin that was used; what isn't known of it is left out."""
    times = {"used_at": coin.used_at, "ends": coin.ends}
    known = {name: time for name, time in times.items() if time is not None}
    return {"kind": "used", "contact_id": coin.contact_id, "key_id": coin.key_id, **known}


def describe_counts(counts: Mapping[str, int]) -> Record:
    """What a header says of how many records of each kind its file should hold."""
    return {_HOLDS: {kind: counts[kind] for kind in _NOUNS}}


class Kept(Generic[T]):
    """Records of one kind, as they stand in the file: parsed a portion at a time.

    Args:
        read: what a record says, by its fields.
    """

    def __init__(self, read: "Callable[[_Fields], T]") -> None:
        self._read = read
        self._pile = Pile()

    def __len__(self) -> int:
        """How many there were in the file."""
        return len(self._pile)

    def add(self, fields: "_Fields", line: bytes) -> None:
        """Adds a record, once it's understood."""
        self._read(fields)
        self._pile.add(line)

    def take(self) -> Iterator[list[T]]:
        """What they say, in portions; each is kept no longer than until it's taken."""
        for some in self._pile.take():
            # They were understood before.
            yield [self._read(_Fields(record, _make_error)) for record in parse_lines(some)]


class Content:
    """What a backup holds.

    Attributes:
        private: keys of the vault.
        contacts: of each contact of the inventory the id, the priority and the name.
        public: coins of the inventory.
        spent: private halves that are gone.
        used: coins that were used.
    """

    def __init__(self) -> None:
        self.private = Kept(_read_private)
        self.contacts = Kept(_read_contact)
        self.public = Kept(_read_public)
        self.spent = Kept(_read_spent)
        self.used = Kept(_read_used)
        self._by_kind: Mapping[str, Kept[Any]] = {
            "private": self.private,
            "contact": self.contacts,
            "public": self.public,
            "spent": self.spent,
            "used": self.used,
        }

    def add(self, line_number: int, record: object, line: bytes) -> None:
        """Adds a record.

        Raises:
            InvalidArgumentError: it isn't understood.
        """
        fields = _Fields(record, partial(_make_fault, line_number))
        kept = self._by_kind.get(fields.text("kind"))
        if kept is None:
            raise fields.fault("kind is none that is known")
        kept.add(fields, line)

    def count(self, kind: str) -> int:
        """How many records of a kind there were."""
        return len(self._by_kind[kind])


def read_content(path: Path) -> Content:
    """What a file holds, once it's known that it's whole, and that all of it is understood.

    Raises:
        InvalidArgumentError: it can't be read, isn't as it was written, isn't understood, or holds
            less than it should.
    """
    content = Content()
    header = read_records(path, content.add)
    _check_counts(header, content)
    return content


def _check_counts(header: Record, content: Content) -> None:
    """Refuses a file that holds less than its header says, from the version on that says so."""
    if header["version"] < _COUNTED_SINCE:
        return
    said = _Fields(header.get(_HOLDS), _make_header_fault)
    for kind, noun in _NOUNS.items():
        found, wanted = content.count(kind), said.number(kind)
        if found < wanted:
            raise _make_error(f"isn't whole: it holds {found:,} of {wanted:,} {noun}")


def _make_error(reason: str) -> InvalidArgumentError:
    return InvalidArgumentError("path", reason)


def _make_fault(line: int, what: str) -> InvalidArgumentError:
    return _make_error(f"holds a record that isn't understood, in line {line}: {what}")


def _make_header_fault(what: str) -> InvalidArgumentError:
    return _make_error(f"was altered: in its header, {what}")


def _read_private(fields: "_Fields") -> VaultEntry:
    return VaultEntry(
        key_id=_read_id(fields, "key_id"),
        # Whatever stores it looks at it.
        coin_category=cast("CoinCategory", fields.text("coin_category")),
        encrypted_blob=fields.blob("encrypted_blob"),
        encryption_iv=fields.blob("encryption_iv"),
        auth_tag=fields.blob("auth_tag"),
        status="ACTIVE",
        created_at=fields.number("created_at"),
        coin_version=fields.text("coin_version"),
    )


def _read_contact(fields: "_Fields") -> tuple[str, str, str]:
    return fields.text("contact_id"), fields.text("priority"), fields.text("display_name")


def _read_public(fields: "_Fields") -> NewCoin:
    return NewCoin(
        contact_id=fields.text("contact_id"),
        key_id=fields.text("key_id"),
        coin_category=fields.text("coin_category"),
        public_key=fields.blob("public_key"),
        signature=fields.blob("signature"),
        expires_at=fields.number("expires_at"),
    )


def _read_spent(fields: "_Fields") -> SpentHalf:
    fate = fields.text("fate")
    if fate not in FATES:
        raise fields.fault("fate is none that is known")
    return SpentHalf(_read_id(fields, "key_id"), fate, _read_time(fields, "ends"))


def _read_used(fields: "_Fields") -> UsedCoin:
    return UsedCoin(
        _read_id(fields, "contact_id"),
        _read_id(fields, "key_id"),
        _read_time(fields, "used_at") if fields.has("used_at") else None,
        _read_time(fields, "ends") if fields.has("ends") else None,
    )


def _read_id(fields: "_Fields", name: str) -> str:
    value = fields.text(name)
    try:
        return check_id(name, value)
    except InvalidIdentifierError as error:
        raise fields.fault(str(error)) from error


def _read_time(fields: "_Fields", name: str) -> int:
    time = fields.number(name)
    try:
        return check_count(name, time, 0)
    except InvalidArgumentError as error:
        raise fields.fault(str(error)) from error


def _encode(blob: bytes) -> str:
    return base64.b64encode(blob).decode()


class _Fields:
    """The fields of an object.

    Args:
        value: it, or whatever stands in its place.
        fault: makes the error that is raised; told what is wrong, and nothing of what is there.

    Attributes:
        fault: the same, for whoever finds something else wrong with it.

    Every method raises that error.
    """

    def __init__(self, value: object, fault: Callable[[str], Exception]) -> None:
        if not isinstance(value, dict):
            raise fault("it's no object")
        self._fields = cast("dict[str, object]", value)
        self.fault = fault

    def has(self, name: str) -> bool:
        """Whether there is one of this name."""
        return name in self._fields

    def text(self, name: str) -> str:
        """A text."""
        return self._of_type(name, str, "text")

    def number(self, name: str) -> int:
        """A whole number."""
        return self._of_type(name, int, "whole number")

    def blob(self, name: str) -> bytes:
        """Bytes, from their Base64 (RFC 4648)."""
        text = self.text(name)
        try:
            return base64.b64decode(text, validate=True)
        except ValueError as error:
            raise self.fault(f"{name} is no Base64") from error

    def _of_type(self, name: str, wanted: type[T], noun: str) -> T:
        if name not in self._fields:
            raise self.fault(f"{name} is missing")
        value = self._fields[name]
        # True is no whole number.
        if type(value) is not wanted:
            raise self.fault(f"{name} is no {noun}")
        return value
