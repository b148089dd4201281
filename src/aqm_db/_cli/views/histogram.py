"""How long calls took: percentiles, and a histogram with the line that they should stay below."""

from bisect import bisect_right
from collections.abc import Sequence
from math import ceil
from typing import Final

from rich.table import Table
from rich.text import Text

LIMIT_MS: Final = 2.0
"""What ``select_coin`` is to stay below."""
_STEPS: Final = 4
"""Steps from one power of two to the next."""
_EDGES: Final = tuple(LIMIT_MS * 2 ** (step / _STEPS) for step in range(-6 * _STEPS, 4 * _STEPS))
"""Where steps end, in ms: from 0.03 to 27, the limit among them."""
_WIDTH: Final = 48


def percentile_of(ascending: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile of values in ascending order."""
    return ascending[ceil(len(ascending) * percent / 100) - 1]


def count_steps(values: Sequence[float]) -> list[tuple[float, float | None, int]]:
    """Counts values by steps: where each begins and ends in ms, and how many there are in it.

    From the first step that has a value to the last, and at least the one before the limit and the
    one after it. The last step of all has no end.
    """
    filled = [0] * (len(_EDGES) + 1)
    for value in values:
        filled[bisect_right(_EDGES, value)] += 1
    first = next(step for step, count in enumerate(filled) if count)
    last = max(step for step, count in enumerate(filled) if count)
    limit = _EDGES.index(LIMIT_MS)
    begins, ends = (0.0, *_EDGES), (*_EDGES, None)
    chosen = range(min(first, limit), max(last, limit + 1) + 1)
    return [(begins[step], ends[step], filled[step]) for step in chosen]


def draw_histogram(values: Sequence[float]) -> Table:
    """The histogram as text: a line for each step, and one for the limit."""
    steps = count_steps(values)
    most = max(count for _, _, count in steps)
    lines = Table.grid(padding=(0, 1, 0, 0))
    lines.add_column(justify="right")
    lines.add_column(no_wrap=True)
    lines.add_column(justify="right")
    for begin, _, count in steps:
        if begin == LIMIT_MS:
            lines.add_row("2 ms", Text("─" * _WIDTH, style="bold"), "")
        style = "green" if begin < LIMIT_MS else "red"
        lines.add_row(
            f"{begin:.2f}",
            Text("█" * ceil(_WIDTH * count / most), style=style),
            f"{count:,}" if count else "",
        )
    return lines
