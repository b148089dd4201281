"""What ``aqm-db bench`` measured, and how it's shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from .histogram import LIMIT_MS, drawn, percentile, steps_of
from .tables import table_of

_PERCENTS: Final = {"p50": 50, "p95": 95, "p99": 99, "max": 100}


@dataclass(slots=True)
class Measured:
    """Milliseconds of each call, in the order of the calls."""

    select_coin: list[float] = field(default_factory=list)
    ping: list[float] = field(default_factory=list)


def as_json(measured: Measured) -> dict[str, Any]:
    """For machines."""
    select_coin, ping = _percentiles(measured.select_coin), _percentiles(measured.ping)
    return {
        "calls": len(measured.select_coin),
        "select_coin_ms": select_coin,
        "ping_ms": ping,
        "ratio": round(select_coin["p50"] / ping["p50"], 2),
        "over_2_ms": _over(measured.select_coin),
        "histogram": [
            {
                "from_ms": round(begin, 3),
                "to_ms": None if end is None else round(end, 3),
                "calls": count,
            }
            for begin, end, count in steps_of(measured.select_coin)
        ],
    }


def as_text(measured: Measured) -> RenderableType:
    """For people."""
    times = table_of("ms", *(f">{name}" for name in _PERCENTS))
    for name, values in (("select_coin", measured.select_coin), ("PING", measured.ping)):
        times.add_row(name, *(f"{value:.3f}" for value in _percentiles(values).values()))
    ratio = _percentiles(measured.select_coin)["p50"] / _percentiles(measured.ping)["p50"]
    calls, over = len(measured.select_coin), _over(measured.select_coin)
    verdict = Text(
        f"{calls:,} GOLD coins selected, one after another: {ratio:.2f} x PING (p50).\n"
        f"{over:,} calls took 2 ms or more ({100 * over / calls:.2f} %)."
    )
    return Group(times, "", drawn(measured.select_coin), "", verdict)


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    ascending = sorted(values)
    return {name: round(percentile(ascending, percent), 3) for name, percent in _PERCENTS.items()}


def _over(values: Sequence[float]) -> int:
    return sum(value >= LIMIT_MS for value in values)
