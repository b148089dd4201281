"""What a run measured, read from pytest-benchmark's JSON."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measuring.names import rate


@dataclass(frozen=True, slots=True)
class Result:
    """One variant of a group.

    Attributes:
        name: the variant.
        samples: what it measured, in seconds.
        extra: percentiles and the like.
    """

    name: str
    samples: list[float]
    extra: dict[str, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure of several rounds.

    Attributes:
        middle: of the round in the middle.
        least: of the lowest round, or where there are ten and more, of the lowest of eight in ten.
        most: of the highest, in the same way.
    """

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> "Spread":
        """The spread of some rounds' figures."""
        ascending = sorted(samples)
        cut = len(ascending) // 10
        return cls(median(ascending), ascending[cut], ascending[-1 - cut])

    def times(self, factor: float) -> "Spread":
        """The same in another unit."""
        return Spread(factor * self.middle, factor * self.least, factor * self.most)


class Results:
    """All results of a run.

    Args:
        content: pytest-benchmark's JSON.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self._groups: dict[str, dict[str, Result]] = {}
        for entry in content["benchmarks"]:
            result = Result(entry["name"], entry["stats"]["data"], entry["extra_info"])
            self._groups.setdefault(entry["group"], {})[result.name] = result

    @classmethod
    def read(cls, path: Path) -> "Results":
        """The results in a file."""
        return cls(json.loads(path.read_text()))

    def group(self, name: str) -> dict[str, Result]:
        """A group's results by variant; empty if it wasn't measured."""
        return self._groups.get(name, {})

    def figure(self, group: str, variant: str, key: str) -> float:
        """One figure of a result.

        Raises:
            KeyError: it wasn't measured.
        """
        return self._groups[group][variant].extra[key]

    def p50_ratio(self, group: str, variant: str, other: str) -> float:
        """How many times as long a variant's calls take as another's."""
        return self.figure(group, variant, "p50_ms") / self.figure(group, other, "p50_ms")

    def spread(self, group: str, variant: str) -> Spread:
        """What the rounds of a variant measured.

        Raises:
            KeyError: it wasn't measured.
        """
        return Spread.of(self._groups[group][variant].samples)

    def paired_ratio(self, group: str, variant: str, other: str) -> Spread:
        """The same by rounds: how many times as long one takes as the other's in the same round.

        Raises:
            KeyError: it wasn't measured.
        """
        samples, others = (self._groups[group][name].samples for name in (variant, other))
        return Spread.of(one / two for one, two in zip(samples, others, strict=True))

    def is_against(self, commit: str) -> bool:
        """Whether this is the other commit that took part."""
        other = self.content.get("against")
        return other is not None and other["commit"].startswith(commit)

    def rates(self) -> list[float]:
        """The arrival rates that were measured, in rising order."""
        found = {
            result.extra["rate"]
            for group in self._groups.values()
            for result in group.values()
            if "rate" in result.extra
        }
        return sorted(found)

    def rate_held(self, variant: str, allowed: float) -> float:
        """The highest arrival rate with at most this share of calls over 2 ms; 0 for none."""
        held = [
            per_second
            for per_second in self.rates()
            if (result := self.group(rate(per_second)).get(variant)) is not None
            and result.extra["round_share_over_2ms"] <= allowed
        ]
        return max(held, default=0.0)
