"""What grows from week to week is found, and what comes and goes isn't."""

from tests.soak.growth import find_growth


def test_growth() -> None:
    """Weeks that come later may be a little worse than the worst before, and no more."""
    steady = [40.0, 500.0] * 12
    growing = [1_000_000 * week for week in range(24)]
    measured = {"keys": steady, "log bytes": [float(size) for size in growing]}
    assert list(find_growth(measured)) == [
        "log bytes grows: 23,000,000, of at most 22,928,811",
    ]


def test_few_weeks_say_nothing() -> None:
    """Until what is remembered for 30 days has been forgotten once."""
    assert not list(find_growth({"keys": [0.0, 1e9] * 4}))
