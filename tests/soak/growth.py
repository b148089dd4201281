"""Whether anything grows without bound: later weeks against earlier ones.

Everything is remembered for 30 days at most, so by the seventh week all of it has been forgotten
once. What is there in the last third of the weeks that follow may be at most a third more than the
most that there was before, and a little on top.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

SETTLED_WEEKS: Final = 6
MOST_TIMES: Final = 4 / 3
SLACK: Final = {"bytes": 262_144, "RSS": 8_388_608, "": 25}
"""By how a measure's name ends."""


def bound_of(name: str, earlier: Sequence[float]) -> float:
    """What a measure may be at most, after what it was in earlier weeks."""
    slack = next(slack for ending, slack in SLACK.items() if name.endswith(ending))
    return max(earlier) * MOST_TIMES + slack


def split_weeks(weeks: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """Earlier and later ones, of those in which all is as it stays."""
    settled = weeks[SETTLED_WEEKS:]
    later = len(settled) // 3
    return settled[: len(settled) - later], settled[len(settled) - later :]


def find_growth(measured: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """What grows, one sentence each.

    Args:
        measured: by name, what was measured in each week.
    """
    for name, weeks in measured.items():
        earlier, later = split_weeks(weeks)
        if later and max(later) > (bound := bound_of(name, earlier)):
            yield f"{name} grows: {max(later):,.0f}, of at most {bound:,.0f}"
