"""What ``aqm-db bench`` measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from .histogram import LIMIT_MS, count_steps, draw_histogram, percentile_of
from .tables import make_table

_PERCENTS: Final = {"p50": 50, "p95": 95, "p99": 99, "max": 100}


@dataclass(slots=True)
class Timings:
    """Milliseconds of each call, in the order of the calls."""

    select_coin: list[float] = field(default_factory=list)
    ping: list[float] = field(default_factory=list)


def dump_timings(timings: Timings) -> dict[str, Any]:
    """For machines."""
    select_coin, ping = _percentiles_of(timings.select_coin), _percentiles_of(timings.ping)
    return {
        "calls": len(timings.select_coin),
        "select_coin_ms": select_coin,
        "ping_ms": ping,
        "ratio": round(select_coin["p50"] / ping["p50"], 2),
        "over_2_ms": _count_slow(timings.select_coin),
        "histogram": [
            {
                "from_ms": round(begin, 3),
                "to_ms": None if end is None else round(end, 3),
                "calls": count,
            }
            for begin, end, count in count_steps(timings.select_coin)
        ],
    }


def render_timings(timings: Timings) -> RenderableType:
    """For people."""
    times = make_table("ms", *(f">{name}" for name in _PERCENTS))
    for name, values in (("select_coin", timings.select_coin), ("PING", timings.ping)):
        times.add_row(name, *(f"{value:.3f}" for value in _percentiles_of(values).values()))
    ratio = _percentiles_of(timings.select_coin)["p50"] / _percentiles_of(timings.ping)["p50"]
    calls, over = len(timings.select_coin), _count_slow(timings.select_coin)
    verdict = Text(
        f"{calls:,} GOLD coins selected, one after another: {ratio:.2f} x PING (p50).\n"
        f"{over:,} calls took 2 ms or more ({100 * over / calls:.2f} %)."
    )
    return Group(times, "", draw_histogram(timings.select_coin), "", verdict)


def _percentiles_of(values: Sequence[float]) -> dict[str, float]:
    ascending = sorted(values)
    return {
        name: round(percentile_of(ascending, percent), 3) for name, percent in _PERCENTS.items()
    }


def _count_slow(values: Sequence[float]) -> int:
    return sum(value >= LIMIT_MS for value in values)
