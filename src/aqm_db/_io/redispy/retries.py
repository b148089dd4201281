"""How a client's retry policy is applied: once, around a whole call, and for failures only."""

from collections.abc import Callable
from copy import copy
from typing import Any, TypeVar

from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import AbstractBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from aqm_db._io.failures import LinkFailure, find_failure
from aqm_db._io.request import Request

from . import private_parts
from .replies import may_pass

T = TypeVar("T")
P = TypeVar("P", Retry, AsyncRetry)

ONCE = Retry(NoBackoff(), 0)
"""Of what is asked by a call: the client's retries are counted around the call."""
ASYNC_ONCE = AsyncRetry(NoBackoff(), 0)


class FirmRetry(Retry):
    """A retry policy that takes no for an answer.

    A synchronous pool connects by the policy of its client, and redis-py would try a wrong
    password as often as a dead link.
    """

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,  # noqa: FBT001, FBT002 - redis-py's signature
    ) -> T:
        """See :class:`redis.retry.Retry`."""
        return super().call_with_retry(
            do, fail, is_retryable or may_pass, with_failure_count=with_failure_count
        )


class AttemptError(RedisConnectionError):
    """A failure as a retry policy sees it: of the class that every policy goes on after.

    Attributes:
        failure: what failed.
    """

    def __init__(self, failure: LinkFailure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Attempts:
    """The attempts at one request, the first of which has failed.

    That one was made without the policy, so that a request that succeeds doesn't pay for it.

    Args:
        first: how the first one failed.
        request: what is asked; it is told of each failure, and says until when it may be sent.

    Attributes:
        failures: of all attempts, in order.
    """

    def __init__(self, first: LinkFailure, request: Request) -> None:
        self.failures: list[LinkFailure] = []
        self._request = request
        self._is_begun = False
        self._add_failure(first)

    def begin(self) -> None:
        """Begins what the policy takes for an attempt.

        Raises:
            AttemptError: it's the first one, which was made already; or it's too late by now.
        """
        if not self._is_begun or self._request.is_over():
            self._is_begun = True
            raise AttemptError(self.failures[-1])

    def check(self, replies: list[Any]) -> list[Any]:
        """The replies to an attempt.

        Raises:
            AttemptError: one of them calls for another attempt.
        """
        failure = find_failure(replies)
        if failure is not None:
            self._add_failure(failure)
            raise AttemptError(failure)
        return replies

    def is_due(self, _: Exception) -> bool:
        """Whether another attempt may be made after the last one."""
        return not self._request.is_over() and not self.failures[-1].is_final

    def _add_failure(self, failure: LinkFailure) -> None:
        self.failures.append(failure)
        self._request.note_failure(failure)


def limit_pauses(policy: P, request: Request) -> P:
    """A retry policy whose pauses last no longer than a request may be repeated."""
    backoff = private_parts.BACKOFF.find(policy)
    if backoff is None:
        return policy
    limited = copy(policy)
    setattr(limited, private_parts.BACKOFF.name, _LimitedBackoff(backoff, request))
    return limited


class _LimitedBackoff(AbstractBackoff):
    """A policy's pauses, but for what would be too long."""

    def __init__(self, backoff: Any, request: Request) -> None:
        # redis-py gives it hardly any annotations.
        self._pauses = backoff
        self._request = request

    def reset(self) -> None:
        """See :class:`redis.backoff.AbstractBackoff`."""
        self._pauses.reset()

    def compute(self, failures: int) -> float:
        """See :class:`redis.backoff.AbstractBackoff`."""
        pause: float = self._pauses.compute(failures)
        return min(pause, self._request.count_left())


def clean_nothing(_: Exception) -> None:
    """A failed attempt leaves nothing behind."""
