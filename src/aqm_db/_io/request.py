"""A request: until when it may be sent again, and when it was first sent by the server's clock.

Three clocks meet here. The server forgets a request some time after it has executed it, by its own
clock; so each request says when it was first sent, in the server's time, and a server that finds
no trace of a request that is too old answers UNKNOWN, and does nothing. The client doesn't send it
again much earlier, by a clock that counts suspension: the event loop's stands still while a laptop
sleeps.
"""

from collections.abc import Callable

from aqm_db import config
from aqm_db._model.defaults import read_elapsed
from aqm_db.errors import UnavailableError

from .failures import LinkFailure

REPEATABLE_SECONDS: float = config.INV_CLAIM_TTL_SECONDS - 2 * config.REDIS_SOCKET_TIMEOUT
"""How long a request may be sent again, counted from when it was first sent."""
_KEPT_SECONDS = 600
"""How long it is relied on what a server's clock has shown."""
_SLOWEST = 1000 * (1 - 1 / 2000)
"""Milliseconds that a server's clock shows in a second, at least: NTP moves it by 500 ppm."""
_MOST_STARTS = 4
"""How often a request is begun anew, since the server's clock has stepped."""


def make_late_failure(*, sent: bool) -> LinkFailure:
    """What stands in the place of a reply for which no time is left.

    Args:
        sent: whether the command may have been executed all the same.
    """
    return LinkFailure(f"nobody answered within {REPEATABLE_SECONDS:g} seconds", sent=sent)


class ServerClock:
    """What a server's clock shows, by what it has said last.

    Args:
        elapsed: seconds on a clock that counts suspension.
    """

    __slots__ = ("_said", "_said_at", "elapsed")

    def __init__(self, elapsed: Callable[[], float] = read_elapsed) -> None:
        self.elapsed = elapsed
        self._said: int | None = None
        self._said_at = 0.0

    def note(self, shown: int) -> None:
        """Takes note of what it showed when it last answered, in ms."""
        self._said, self._said_at = shown, self.elapsed()

    def estimate(self, elapsed: float) -> int | None:
        """What it shows, in ms, at most; None if that isn't known.

        The answer took a while to come, and the clocks may part: a request that is taken for older
        than it is isn't executed, one that is taken for younger might be executed twice.

        Args:
            elapsed: now, on the clock that counts suspension.
        """
        since = elapsed - self._said_at
        if self._said is None or since > _KEPT_SECONDS:
            return None
        return self._said + int(since * _SLOWEST)


class Request:
    """What a caller asks for, however often it is sent.

    Args:
        clock: the server's.
        unavailable: what is raised when the server can't be reached.

    Attributes:
        sent: when it was first sent, in the server's time (ms); None if that isn't known.
        end: until when it may be sent again, on the clock that counts suspension.
        is_doubtful: whether it may have been executed, though no reply came.
        may_come_again: whether another sending of it may be under way still, and executed whenever
            it comes; once that is so, nobody can tell when it's over.
        is_settling: whether its caller is gone, and it's repeated to find out what it did.
        mark: what stands for the connection that the last replies came on, and for no other; None
            if the seam doesn't tell.
        wants_mark: whether anybody asks for that.
    """

    __slots__ = (
        *("_clock", "_starts", "_unavailable"),
        *("end", "is_doubtful", "is_settling", "mark", "may_come_again", "sent", "wants_mark"),
    )

    def __init__(self, clock: ServerClock, unavailable: type[UnavailableError]) -> None:
        now = clock.elapsed()
        self.sent = clock.estimate(now)
        self.end = now + REPEATABLE_SECONDS
        self.is_doubtful = self.is_settling = self.may_come_again = False
        self.mark: object | None = None
        self.wants_mark = False
        self._clock = clock
        self._unavailable = unavailable
        self._starts = 1

    def is_over(self) -> bool:
        """Whether it may not be sent again."""
        return self._clock.elapsed() >= self.end

    def count_left(self) -> float:
        """For how many seconds it may still be sent again."""
        return max(self.end - self._clock.elapsed(), 0)

    def note_failure(self, failure: LinkFailure) -> None:
        """Takes note of an attempt that failed."""
        if failure.may_be_executed():
            self.is_doubtful = self.may_come_again = True

    def begin_anew(self, shown: int) -> bool:
        """Begins anew, since the server answered UNKNOWN: it had executed nothing.

        Args:
            shown: what the server's clock showed then, in ms.

        Returns:
            Whether it may: not if an earlier attempt may have been executed, and is forgotten.
        """
        self._clock.note(shown)
        self.is_doubtful = self.is_doubtful and not self.is_refuted(shown)
        if self.is_doubtful or self._starts == _MOST_STARTS:
            return False
        self._starts += 1
        self.sent = shown
        return True

    def begin_settling(self) -> None:
        """Lets it be sent for as long as the server may know it: to settle it, and no more."""
        self.is_doubtful = self.is_settling = True
        self.end += config.INV_CLAIM_TTL_SECONDS - REPEATABLE_SECONDS

    def is_refuted(self, shown: int) -> bool:
        """Whether it was never executed, and won't be, since the server has no trace of it.

        Args:
            shown: what the server's clock showed then, in ms.
        """
        return self.sent is None or shown < self.sent + config.INV_CLAIM_TTL_SECONDS * 1000

    def make_unavailable(self, reason: str) -> UnavailableError:
        """What is raised when nothing comes of it, though it changes nothing."""
        return self._unavailable(reason)

    def make_error(self) -> UnavailableError:
        """What is raised when the server says that it is too old, and it can't begin anew."""
        return self._unavailable(
            "the server doesn't know any more whether it executed the request"
            if self.is_doubtful
            else "the server's clock steps: nothing was executed",
            outcome_unknown=self.is_doubtful,
        )
