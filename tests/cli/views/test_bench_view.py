"""What ``aqm-db bench`` makes of what it measured."""

from aqm_db._cli.views.bench_view import Timings, dump_timings


def test_calls_at_the_limit_are_over_it() -> None:
    """The goal is to stay below."""
    shown = dump_timings(Timings([1.0, 1.999, 2.0, 30.0], [0.5, 0.5, 0.5, 0.5]))
    assert (shown["calls"], shown["over_2_ms"], shown["ratio"]) == (4, 2, 4.0)
    assert shown["histogram"][-1] == {"from_ms": 26.909, "to_ms": None, "calls": 1}
