"""Errors as values: they go from one process to another, as a pool of processes sends them."""

import pickle

import pytest

from aqm_db.errors import (
    AQMDatabaseError,
    BudgetExceededError,
    InvalidArgumentError,
    InvalidIdentifierError,
    InventoryUnavailableError,
    NoSlotError,
)


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgumentError("path", "is no backup"),
        InvalidIdentifierError("owner", "must be a str"),
        BudgetExceededError("bob", "GOLD", 5, 5),
        BudgetExceededError("bob", "GOLD", 65_000, 65_536, unit="bytes"),
        InventoryUnavailableError("no answer", outcome_unknown=True),
        NoSlotError("full"),
    ],
    ids=repr,
)
def test_an_error_is_the_same_in_another_process(error: AQMDatabaseError) -> None:
    """With all that it tells."""
    other = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgumentError("mint", "must return a FreshCoin"),
        BudgetExceededError("bob", "GOLD", 5, 5),
        NoSlotError("full"),
    ],
    ids=repr,
)
def test_what_was_carried_out_is_known_in_another_process(error: AQMDatabaseError) -> None:
    """Nothing was, unless somebody says so."""
    assert (error.outcome_unknown, error.carried_out) == (False, 0)
    error.outcome_unknown, error.carried_out = True, 7
    other = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(other), other.outcome_unknown, other.carried_out) == (str(error), True, 7)
