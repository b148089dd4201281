"""Percentiles, and the steps of a histogram."""

from aqm_db._cli.views import histogram


def test_percentiles() -> None:
    """They are values that were measured (nearest rank)."""
    ascending = [float(value) for value in range(1, 101)]
    assert [histogram.percentile_of(ascending, at) for at in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert histogram.percentile_of([7.0], 50) == 7.0


def test_steps() -> None:
    """From the first value, at least to the limit; the slowest step has no end."""
    steps = histogram.count_steps([0.5, 0.55, 1.99])
    assert [round(end or 0, 3) for _, end, _ in (steps[0], steps[-1])] == [0.595, 2.378]
    assert (steps[0][0], steps[0][2]) == (0.5, 2)
    assert steps[-2][1:] == (2.0, 1)
    assert (steps[-1][0], steps[-1][2]) == (2.0, 0)
    assert histogram.count_steps([0.001])[0] == (0.0, 0.03125, 1)
    assert histogram.count_steps([2.0, 1000.0])[-1][1:] == (None, 1)
    assert sum(count for *_, count in histogram.count_steps([2.0, 1000.0])) == 2
