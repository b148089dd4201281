"""Results as values: compared and hashed by their fields, and shown without key material."""

import dataclasses
from typing import Any
from unittest.mock import ANY

import pytest

from aqm_db.types import (
    GCResult,
    InventoryEntry,
    NewCoin,
    NewKey,
    StorageReport,
    VaultEntry,
    VaultStats,
)

ENTRY = InventoryEntry("bob", "k", "BRONZE", b"public", b"signed", 5, used_at=7)


def test_equal_fields_make_equal_results() -> None:
    """Whatever object they are in."""
    again = dataclasses.replace(ENTRY)
    assert again is not ENTRY
    assert again == ENTRY
    assert len({again, ENTRY}) == 1


@pytest.mark.parametrize("change", [{"public_key": b"other"}, {"fetched_at": 6}, {"used_at": None}])
def test_one_other_field_makes_another_result(change: dict[str, Any]) -> None:
    """Those that aren't shown count as well."""
    other = dataclasses.replace(ENTRY, **change)
    assert other != ENTRY
    assert len({other, ENTRY}) == 2


def test_results_of_two_kinds_differ() -> None:
    """Even with the same values; what compares itself with anything is asked."""
    assert GCResult(0, 0, 0) != (0, 0, 0)
    assert GCResult(1, 2, 3) != VaultStats(1, 2, 3, 0, 0)
    assert GCResult(1, 2, 3) == ANY


def test_a_report_of_dictionaries_has_no_hash() -> None:
    """As it is with every value that can change."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(StorageReport(0, {}, 1, 0.0))


def test_results_are_frozen_and_slotted() -> None:
    """No field changes, and none is added."""
    for name in ("key_id", "other"):
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
            setattr(ENTRY, name, "x")
    assert not hasattr(ENTRY, "__dict__")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (
            ENTRY,
            (
                "InventoryEntry(contact_id='bob', key_id='k', coin_category='BRONZE', fetched_at=5,"
                " expires_at=None, used_at=7)"
            ),
        ),
        (
            VaultEntry("k", "GOLD", b"blob", b"iv", b"tag", "ACTIVE", 5, "v1"),
            (
                "VaultEntry(key_id='k', coin_category='GOLD', status='ACTIVE', created_at=5,"
                " coin_version='v1')"
            ),
        ),
        (
            NewKey("k", "GOLD", b"blob", b"iv", b"tag"),
            "NewKey(key_id='k', coin_category='GOLD', coin_version='kyber768_v1')",
        ),
        (
            NewCoin("bob", "k", "GOLD", b"public", b"signed"),
            "NewCoin(contact_id='bob', key_id='k', coin_category='GOLD', expires_at=None)",
        ),
        (GCResult(1, 2, 3), "GCResult(contacts_cleaned=1, keys_deleted=2, bytes_freed=3)"),
    ],
)
def test_a_repr_shows_no_key_material(value: object, shown: str) -> None:
    """Like that of any dataclass, without the blobs."""
    assert repr(value) == shown
