"""Requests over a synchronous client: each on one connection, sent until it is answered."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, Protocol, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import MaxConnectionsError, ReadOnlyError, RedisError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from aqm_db._io import answers
from aqm_db._io.failures import (
    LinkFailure,
    demotion_in,
    failure_in,
    is_reply,
    parts_of,
    unconnected,
)
from aqm_db.errors import UnavailableError

T = TypeVar("T")

_NEVER_AGAIN = Retry(NoBackoff(), 0)


class Exchange(ABC):
    """The requests of one call, and what became of them.

    Args:
        unavailable: what is raised when the server can't be reached.
        again: whether a request that failed is sent again, as the client's retry policy says.

    Attributes:
        sent: whether the server may have executed any.
    """

    def __init__(self, unavailable: type[UnavailableError], *, again: bool = True) -> None:
        self.sent = False
        self._failures: list[LinkFailure] = []
        self._unavailable = unavailable
        self._again = again

    async def ask(self, commands: Sequence[bytes]) -> list[Any]:
        """See :data:`~aqm_db._io.answers.Ask`; it never suspends."""
        before, self.sent = self.sent, False
        self._failures.clear()
        try:
            return self._answers(commands)
        except LinkFailure:
            return parts_of(self._failures, self._unavailable)
        finally:
            self.sent = self.sent or before

    @abstractmethod
    def hang_up(self) -> None:
        """Closes the connection that the last request was sent on."""

    @abstractmethod
    def _answers(self, commands: Sequence[bytes]) -> list[Any]:
        """The replies, without a failure in them.

        Raises:
            LinkFailure: no attempt got them.
        """

    def _policy(self, policy: Retry | None) -> Retry:
        return policy if policy is not None and self._again else _NEVER_AGAIN

    def _checked(self, before: bool, replies: list[Any]) -> list[Any]:  # noqa: FBT001 - `sent`
        """The replies of an attempt, once it's noted whether the server may have executed it."""
        failure = failure_in(replies)
        if failure is not None:
            self.sent = before or failure.may_be_executed()
            self._failures.append(failure)
            raise failure
        return replies

    def _replies(self, connection: "Connection", commands: Sequence[bytes]) -> list[Any]:
        try:
            if not connection.is_connected:
                connection.connect()
            connection.check_health()
        except RedisError as error:
            return refused(error, commands)
        self.sent = True
        try:
            connection.send_packed_command([b"".join(commands)], check_health=False)
            return [_reply(connection) for _ in commands]
        except RedisError as error:
            connection.disconnect()
            return [LinkFailure(str(error), sent=True)] * len(commands)


class ServerExchange(Exchange):
    """Requests to one server.

    Args:
        client: a ``redis.Redis`` that returns bytes.
        unavailable: as of :class:`Exchange`.
        again: as of :class:`Exchange`.
    """

    def __init__(
        self, client: Redis, unavailable: type[UnavailableError], *, again: bool = True
    ) -> None:
        super().__init__(unavailable, again=again)
        self._client = client
        # redis-py's pools and connections have no annotations.
        self._pool: Any = client.connection_pool

    def hang_up(self) -> None:
        """See :class:`Exchange`; it was given back, and what other threads use is theirs."""
        self._pool.disconnect(inuse_connections=False)

    def _answers(self, commands: Sequence[bytes]) -> list[Any]:
        try:
            connection = self._connection()
        except RedisError as error:
            return self._checked(self.sent, refused(error, commands))
        # The client's retries are counted once, around the whole exchange.
        policy, connection.retry = connection.retry, _NEVER_AGAIN
        try:
            try:
                return self._attempt(connection, commands)
            except LinkFailure as failure:
                attempt = partial(self._attempt, connection, commands)
                return again(self._policy(policy), failure, attempt)
        except BaseException:
            # Whoever gets the connection next must not read what is still on its way.
            connection.disconnect()
            raise
        finally:
            connection.retry = policy
            self._pool.release(connection)

    def _connection(self) -> "Connection":
        """A connected connection; the pool applies the client's retry policy to connecting."""
        connection: Connection
        try:
            connection = self._pool.get_connection()
        except MaxConnectionsError as exhausted:
            policy = self._policy(self._client.get_retry())
            connection = again(policy, exhausted, self._pool.get_connection, _is_exhausted)
        return connection

    def _attempt(self, connection: "Connection", commands: Sequence[bytes]) -> list[Any]:
        before = self.sent
        return self._checked(before, self._replies(connection, commands))


class SentinelExchange(ServerExchange):
    """Requests to whichever server is the primary: one that isn't any more answers READONLY."""

    def _replies(self, connection: "Connection", commands: Sequence[bytes]) -> list[Any]:
        replies = super()._replies(connection, commands)
        demotion = demotion_in(replies)
        if demotion is None:
            return replies
        # The next connection is to the server that the sentinels name then.
        connection.disconnect()
        return [demotion] * len(commands)


def exchange_with(client: Redis) -> type[ServerExchange]:
    """The class of exchanges for a client."""
    is_watched = isinstance(client.connection_pool, SentinelConnectionPool)
    return SentinelExchange if is_watched else ServerExchange


class Connection(Protocol):
    """What is asked of a connection."""

    retry: Retry
    is_connected: bool

    def connect(self) -> None: ...
    def check_health(self) -> None: ...
    def send_packed_command(self, command: list[bytes], *, check_health: bool) -> None: ...
    def read_response(self, *, disconnect_on_error: bool) -> Any: ...
    def disconnect(self) -> None: ...


def again(
    policy: Retry,
    failure: RedisError,
    attempt: Callable[[], T],
    is_retryable: Callable[[Exception], bool] = lambda _: True,
) -> T:
    """Goes on after a first attempt that failed; one that succeeds doesn't pay for the policy."""
    failures = [failure]
    end = monotonic() + answers.REPEATABLE_SECONDS

    def is_due(error: Exception) -> bool:
        return monotonic() < end and is_retryable(error)

    def attempt_again() -> T:
        if failures:
            raise failures.pop()
        return attempt()

    return policy.call_with_retry(attempt_again, _nothing_to_clean, is_due)


def _reply(connection: Connection) -> Any:
    """The next reply; an error that the server sent is one."""
    try:
        return connection.read_response(disconnect_on_error=False)
    except RedisError as error:
        # With sentinels, redis-py makes a broken link of what a demoted primary said.
        said = error.__context__ if isinstance(error.__context__, ReadOnlyError) else error
        if not is_reply(said):
            raise
        return said


def refused(error: RedisError, commands: Sequence[bytes]) -> list[Any]:
    """What stands for the replies if no connection was made."""
    return [unconnected(error)] * len(commands)


def _is_exhausted(error: Exception) -> bool:
    return isinstance(error, MaxConnectionsError)


def _nothing_to_clean(_: Exception) -> None:
    """A failed attempt leaves nothing behind."""
