"""How long to leave someone alone who had nothing to give."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

_MOST_DOUBLINGS = 30
"""Keeps the numbers small; by then every sensible maximum is reached."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double with every failure, with jitter, so that clients don't come back at once.

    Attributes:
        first_ms: the pause after the first failure.
        most_ms: the longest pause.
        clock: milliseconds since the epoch.
        random: a number from 0 up to 1.
    """

    first_ms: int
    most_ms: int
    clock: Callable[[], int]
    random: Callable[[], float]
    _failures: dict[Hashable, tuple[int, int]] = field(default_factory=dict)

    def is_over(self, key: Hashable) -> bool:
        """Whether it's time to ask again."""
        _, until = self._failures.get(key, (0, 0))
        return self.clock() >= until

    def failed(self, key: Hashable) -> None:
        """Makes the next pause: half of it for certain, and up to all of it."""
        count, _ = self._failures.get(key, (0, 0))
        pause = min(self.first_ms * 2 ** min(count, _MOST_DOUBLINGS), self.most_ms)
        until = self.clock() + int(pause * (1 + self.random()) / 2)
        self._failures[key] = (count + 1, until)

    def worked(self, key: Hashable) -> None:
        """Forgets all failures."""
        self._failures.pop(key, None)
