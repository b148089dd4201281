"""Requests over a synchronous client: each on one connection, sent until it is answered."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import MaxConnectionsError, RedisError
from redis.retry import Retry

from ._failures import LinkFailure, failure_in, is_reply, refusal_in
from .errors import UnavailableError

T = TypeVar("T")

_NEVER_AGAIN = Retry(NoBackoff(), 0)


class Exchange:
    """The requests of one call, and what became of them.

    Args:
        client: a ``redis.Redis`` that returns bytes.
        unavailable: what is raised when the server can't be reached.
        again: whether a request that failed is sent again, as the client's retry policy says.

    Attributes:
        sent: whether the server may have executed any.
    """

    def __init__(
        self, client: Redis, unavailable: type[UnavailableError], *, again: bool = True
    ) -> None:
        self.sent = False
        self._client = client
        # redis-py's pools and connections have no annotations.
        self._pool: Any = client.connection_pool
        self._unavailable = unavailable
        self._again = again

    async def ask(self, commands: Sequence[bytes]) -> list[Any]:
        """See :data:`~aqm_db._answers.Ask`; it never suspends."""
        before, self.sent = self.sent, False
        try:
            return self._answers(commands)
        except LinkFailure as failure:
            raise self._unavailable(str(failure), outcome_unknown=self.sent) from None
        finally:
            self.sent = self.sent or before

    def _answers(self, commands: Sequence[bytes]) -> list[Any]:
        try:
            connection = self._connection()
        except RedisError as error:
            return _without_failure(_refused(error, commands))
        # The client's retries are counted once, around the whole exchange.
        policy, connection.retry = connection.retry, _NEVER_AGAIN
        try:
            try:
                return self._attempt(connection, commands)
            except LinkFailure as failure:
                attempt = partial(self._attempt, connection, commands)
                return _again(self._policy(policy), failure, attempt)
        except BaseException:
            # Whoever gets the connection next must not read what is still on its way.
            connection.disconnect()
            raise
        finally:
            connection.retry = policy
            self._pool.release(connection)

    def _connection(self) -> "_Connection":
        """A connected connection; the pool applies the client's retry policy to connecting."""
        connection: _Connection
        try:
            connection = self._pool.get_connection()
        except MaxConnectionsError as exhausted:
            policy = self._policy(self._client.get_retry())
            connection = _again(policy, exhausted, self._pool.get_connection, _is_exhausted)
        return connection

    def _policy(self, policy: Retry | None) -> Retry:
        return policy if policy is not None and self._again else _NEVER_AGAIN

    def _attempt(self, connection: "_Connection", commands: Sequence[bytes]) -> list[Any]:
        before = self.sent
        replies = self._replies(connection, commands)
        try:
            return _without_failure(replies)
        except LinkFailure as failure:
            self.sent = before or failure.sent
            raise

    def _replies(self, connection: "_Connection", commands: Sequence[bytes]) -> list[Any]:
        try:
            if not connection.is_connected:
                connection.connect()
            connection.check_health()
        except RedisError as error:
            return _refused(error, commands)
        self.sent = True
        try:
            connection.send_packed_command([b"".join(commands)], check_health=False)
            return [_reply(connection) for _ in commands]
        except RedisError as error:
            connection.disconnect()
            return [LinkFailure(str(error), sent=True)]


class _Connection(Protocol):
    """What is asked of a connection."""

    retry: Retry
    is_connected: bool

    def connect(self) -> None: ...
    def check_health(self) -> None: ...
    def send_packed_command(self, command: list[bytes], *, check_health: bool) -> None: ...
    def read_response(self, *, disconnect_on_error: bool) -> Any: ...
    def disconnect(self) -> None: ...


def _again(
    policy: Retry,
    failure: RedisError,
    attempt: Callable[[], T],
    is_retryable: Callable[[Exception], bool] | None = None,
) -> T:
    """Goes on after a first attempt that failed; one that succeeds doesn't pay for the policy."""
    failures = [failure]

    def attempt_again() -> T:
        if failures:
            raise failures.pop()
        return attempt()

    return policy.call_with_retry(attempt_again, _nothing_to_clean, is_retryable)


def _reply(connection: _Connection) -> Any:
    """The next reply; an error that the server sent is one."""
    try:
        return connection.read_response(disconnect_on_error=False)
    except RedisError as error:
        if not is_reply(error):
            raise
        return error


def _refused(error: RedisError, commands: Sequence[bytes]) -> list[Any]:
    """What stands for the replies if no connection was made."""
    return [refusal_in(error) or LinkFailure(str(error), sent=False)] * len(commands)


def _without_failure(replies: list[Any]) -> list[Any]:
    failure = failure_in(replies)
    if failure is not None:
        raise failure
    return replies


def _is_exhausted(error: Exception) -> bool:
    return isinstance(error, MaxConnectionsError)


def _nothing_to_clean(_: Exception) -> None:
    """A failed attempt leaves nothing behind."""
