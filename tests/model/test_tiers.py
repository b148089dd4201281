"""A tier is one row, and so is a priority: what else there is of them follows from it."""

from dataclasses import fields
from typing import get_args

import pytest

from aqm_db import config
from aqm_db._model.tiers import (
    PRIORITIES,
    TIERS,
    name_active_counter,
    name_count_field,
    order_tiers,
)
from aqm_db.types import CoinCategory, InventorySummary, Priority, VaultStats


def test_the_rows_make_the_constants_of_the_specification() -> None:
    """Names and values of ``config`` are what they always were."""
    assert config.BUDGET_CAPS == {
        "BESTIE": {"GOLD": 5, "SILVER": 4, "BRONZE": 1},
        "MATE": {"GOLD": 0, "SILVER": 6, "BRONZE": 4},
        "STRANGER": {"GOLD": 0, "SILVER": 0, "BRONZE": 0},
    }
    fallback = {
        "GOLD": ["SILVER", "BRONZE"],
        "SILVER": ["BRONZE"],
        "BRONZE": [],
    }
    assert fallback == config.TIER_FALLBACK
    assert config.VAULT_TARGETS == {"GOLD": 10, "SILVER": 20, "BRONZE": 10}
    assert config.COIN_SIZE_BYTES == {"GOLD": 3_604, "SILVER": 1_248, "BRONZE": 96}
    assert {"GOLD", "SILVER", "BRONZE"} == config.VALID_COIN_CATEGORIES
    assert {"BESTIE", "MATE", "STRANGER"} == config.VALID_PRIORITIES


def test_types_know_the_rows() -> None:
    """What a type checker has to know is written by hand, in the order of the rows."""
    assert get_args(CoinCategory) == TIERS
    assert get_args(Priority) == PRIORITIES
    assert [field.name for field in fields(VaultStats)] == [
        *map(name_active_counter, TIERS),
        *("total_burned", "total_expired"),
    ]
    assert [field.name for field in fields(InventorySummary)] == [
        *("contact_id", *map(name_count_field, TIERS), "priority")
    ]


def test_more_tiers_than_an_expiry_score_tells_apart() -> None:
    """A fifth tier would be taken for the first one of the next millisecond."""
    assert order_tiers("ABCD") == ("A", "B", "C", "D")
    with pytest.raises(ValueError, match="there may be 4 tiers"):
        order_tiers("ABCDE")
