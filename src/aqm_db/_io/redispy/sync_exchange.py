"""Requests over a synchronous client: each on one connection, sent until it is answered."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from redis import Redis
from redis.exceptions import RedisError, TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from aqm_db._io.failures import LinkFailure, conclude_attempts, find_demotion, find_failure
from aqm_db._io.request import Request, ServerClock, make_late_failure
from aqm_db._io.seam import Command
from aqm_db.errors import UnavailableError

from .marks import find_mark
from .replies import explain_unconnected, pack_command, read_error
from .retries import ONCE, AttemptError, Attempts, clean_nothing, limit_pauses
from .sync_sources import Connection, borrow_connection


class Exchange(ABC):
    """The requests of one call, and what became of them.

    Args:
        unavailable: what is raised when the server can't be reached.
        patience: for how many seconds an answer is waited for to a request that isn't sent again;
            None if it is, as the client's retry policy says, and its socket's timeout decides.

    Attributes:
        sent: whether the server may have executed any.
    """

    def __init__(
        self, unavailable: type[UnavailableError], *, patience: float | None = None
    ) -> None:
        self.sent = False
        self._unavailable = unavailable
        self._patience = patience

    async def ask(self, commands: Sequence[Command], request: Request) -> list[Any]:
        """See :data:`~aqm_db._io.answers.Ask`; it never suspends."""
        before, self.sent = self.sent, False
        try:
            return self._answer(commands, request)
        finally:
            self.sent = self.sent or before

    @abstractmethod
    def hang_up(self) -> None:
        """Closes the connection that the last request was sent on."""

    @abstractmethod
    def _answer(self, commands: Sequence[Command], request: Request) -> list[Any]:
        """What :meth:`ask` returns, or raises."""

    def _repeat(
        self,
        get_policy: Callable[[], Retry | None],
        send: Callable[[], list[Any]],
        request: Request,
    ) -> list[Any]:
        """Sends a request until it's answered, or the client's retry policy gives up.

        Args:
            get_policy: the client's.
            send: sends it, and returns the replies; a failure stands in the place of its own.
            request: the request.
        """
        replies = send()
        failure = find_failure(replies)
        if failure is None:
            return replies
        attempts = Attempts(failure, request)
        self.sent = request.is_doubtful

        def attempt() -> list[Any]:
            attempts.begin()
            replies = send()
            try:
                return attempts.check(replies)
            except AttemptError:
                self.sent = request.is_doubtful
                raise

        try:
            # What is asked no more than once waits for nothing.
            policy = ONCE if self._patience is not None else get_policy() or ONCE
            return limit_pauses(policy, request).call_with_retry(
                attempt, clean_nothing, attempts.is_due
            )
        except AttemptError:
            return conclude_attempts(attempts.failures, self._unavailable)

    def _ask_pool(self, pool: Any, commands: Sequence[Command], request: Request) -> list[Any]:
        """One attempt, on a connection of a pool's."""
        try:
            loan = borrow_connection(pool, request)
        except LinkFailure as failure:
            return [failure] * len(commands)
        except RedisError as error:
            return stand_in(error, commands)
        try:
            return self._exchange(loan.connection, commands, request)
        except BaseException:
            # Whoever gets the connection next must not read what is still on its way.
            loan.connection.disconnect()
            raise
        finally:
            loan.end()

    def _exchange(
        self, connection: Connection, commands: Sequence[Command], request: Request
    ) -> list[Any]:
        """The replies on a connection; each failure stands in its place."""
        try:
            connection.check_health()
        except RedisError as error:
            return stand_in(error, commands)
        if request.is_over():
            return [make_late_failure(sent=False)] * len(commands)
        packed = b"".join([pack_command(command) for command in commands])
        self.sent = True
        replies: list[Any] = []
        try:
            connection.send_packed_command([packed], check_health=False)
            patience = self._find_patience(connection, request)
            while len(replies) < len(commands):
                replies.append(read_reply(connection, patience))
        except RedisError as error:
            connection.disconnect()
            missing = len(commands) - len(replies)
            replies += [LinkFailure(str(error), sent=True)] * missing
        if request.wants_mark:
            request.mark = find_mark(connection)
        return replies

    def _find_patience(self, connection: Connection, request: Request) -> float | None:
        """For how many seconds a reply is waited for; None if the socket's timeout decides."""
        if self._patience is not None:
            return self._patience
        timeout, left = connection.socket_timeout, request.count_left()
        return None if timeout is not None and timeout <= left else left


class ServerExchange(Exchange):
    """Requests to one server.

    Args:
        client: a ``redis.Redis`` that returns bytes.
        unavailable: as of :class:`Exchange`.
        patience: as of :class:`Exchange`.
    """

    def __init__(
        self, client: Redis, unavailable: type[UnavailableError], *, patience: float | None = None
    ) -> None:
        super().__init__(unavailable, patience=patience)
        self._client = client
        # redis-py's pools and connections have no annotations.
        self._pool: Any = client.connection_pool

    def hang_up(self) -> None:
        """See :class:`Exchange`; it was given back, and what other threads use is theirs."""
        self._pool.disconnect(inuse_connections=False)

    def _answer(self, commands: Sequence[Command], request: Request) -> list[Any]:
        send = partial(self._ask_pool, self._pool, commands, request)
        return self._repeat(self._client.get_retry, send, request)


class SentinelExchange(ServerExchange):
    """Requests to whichever server is the primary: one that isn't any more answers READONLY."""

    def _exchange(
        self, connection: Connection, commands: Sequence[Command], request: Request
    ) -> list[Any]:
        replies = super()._exchange(connection, commands, request)
        demotion = find_demotion(replies)
        if demotion is None:
            return replies
        # The next connection is to the server that the sentinels name then.
        connection.disconnect()
        return [demotion] * len(commands)


def choose_exchange(client: Redis) -> type[ServerExchange]:
    """The class of exchanges for a client."""
    is_watched = isinstance(client.connection_pool, SentinelConnectionPool)
    return SentinelExchange if is_watched else ServerExchange


def find_server_clock(client: Redis) -> ServerClock:
    """What the clock of a client's server shows, for all who use the client."""
    return _server_clocks.setdefault(client, ServerClock())


_server_clocks: WeakKeyDictionary[Redis, ServerClock] = WeakKeyDictionary()


def stand_in(error: RedisError, commands: Sequence[Command]) -> list[Any]:
    """What stands in the place of replies if no connection was made."""
    return [explain_unconnected(error)] * len(commands)


def read_reply(connection: Connection, patience: float | None) -> Any:
    """The next reply; an error that the server sent is one.

    Args:
        connection: where it comes from.
        patience: for how many seconds it's waited for; None if the socket's timeout decides.
    """
    if patience is not None and not connection.can_read(timeout=patience):
        raise RedisTimeoutError("nobody answered in time")
    try:
        return connection.read_response(disconnect_on_error=False)
    except RedisError as error:
        reply = read_error(error)
        if reply is None:
            raise
        return reply
