"""What happens on which day: nights, holidays, deaths, restores, and a clock that's set wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

HOUR_SECONDS = 3600.0
DAY_SECONDS = 24 * HOUR_SECONDS


@dataclass(frozen=True, slots=True)
class Day:
    """A day, from the night before it to its evening.

    Attributes:
        number: how many days have begun, holidays included.
        night: seconds that pass before it, while nobody does anything.
        turns: seconds that pass before each part of it.
        messages: how many each one writes in each part.
        killed: whose program dies (SIGKILL), in the first part.
        server_killed: whose embedded server dies (SIGKILL), in the second part.
        server_ended: whose embedded server is told to end (SIGTERM), in the second part.
        is_back: whether the clock is an hour behind during the second part.
        away: whose program doesn't run.
        backs_up: whether all of them make a backup in the end.
        restored: who reads an old backup in the end, though nothing was lost.
        disk_lost: whose database is gone before it, and is restored.
    """

    number: int
    night: float = 14 * HOUR_SECONDS
    turns: tuple[float, ...] = (2 * HOUR_SECONDS, HOUR_SECONDS / 3, 23 * HOUR_SECONDS / 3)
    messages: int = 1
    killed: str = ""
    server_killed: str = ""
    server_ended: str = ""
    is_back: bool = False
    away: str = ""
    backs_up: bool = False
    restored: str = ""
    disk_lost: str = ""


TWO_DAYS = (
    Day(1, killed="alice", server_killed="bob", messages=2, backs_up=True),
    Day(2, server_killed="alice", server_ended="carol", is_back=True, restored="bob"),
)
"""A little of everything."""


def plan_days(count: int, random: Random) -> Iterator[Day]:
    """Days, of which each kind comes again and again.

    Args:
        count: how many, holidays included.
        random: decides who meets with an accident.
    """
    number = 0
    while number < count:
        holiday = 21 if number % 91 == 39 else 0
        number += 1 + holiday
        first, second = random.sample(("alice", "bob"), 2)
        yield Day(
            number,
            night=14 * HOUR_SECONDS + holiday * DAY_SECONDS,
            turns=_pick_turns(random),
            messages=random.choice((0, 1, 1, 2, 3)),
            killed=first if number % 4 == 1 else "",
            server_killed=second if number % 5 == 2 else "",
            server_ended="carol" if number % 13 == 5 else "",
            is_back=number % 23 == 8,
            away="bob" if 90 <= number % 182 < 111 else "",
            backs_up=number % 7 == 0,
            restored=random.choice(("alice", "carol")) if number % 17 == 16 else "",
            disk_lost={70: "alice", 130: "bob"}.get(number % 182, ""),
        )


def _pick_turns(random: Random) -> tuple[float, ...]:
    """Ten hours: in a few parts, or in small ones at first, as of who looks every few minutes."""
    match random.randrange(3):
        case 0:
            return (5 * HOUR_SECONDS, 5 * HOUR_SECONDS)
        case 1:
            return (HOUR_SECONDS / 6 - 20,) * 8 + (10 * HOUR_SECONDS - 8 * (HOUR_SECONDS / 6 - 20),)
        case _:
            return (2 * HOUR_SECONDS, HOUR_SECONDS / 3, 23 * HOUR_SECONDS / 3)
