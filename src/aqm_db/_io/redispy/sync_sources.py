"""Where an exchange borrows its connection; see ``async_sources.py``."""

from queue import Empty
from typing import Any, Protocol

from redis import BlockingConnectionPool
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
    MaxConnectionsError,
    RedisError,
)
from redis.retry import Retry

from aqm_db._io.failures import ErrorReply, LinkFailure
from aqm_db._io.request import Request, make_late_failure

from . import private_parts
from .replies import explain_unconnected, may_pass
from .retries import ONCE
from .returns import give_back
from .sync_waiting import begin_beside


class Connection(Protocol):
    """What is asked of a connection."""

    retry: Retry
    is_connected: bool
    socket_timeout: float | None

    def connect(self) -> None: ...
    def check_health(self) -> None: ...
    def send_packed_command(self, command: list[bytes], *, check_health: bool) -> None: ...
    def can_read(self, timeout: float) -> bool: ...
    def read_response(self, *, disconnect_on_error: bool) -> Any: ...
    def disconnect(self) -> None: ...
    def register_connect_callback(self, callback: Any) -> None: ...


class Loan:
    """A connection of a pool's, without the client's retries, which are counted around the call.

    Attributes:
        connection: the connection.
    """

    def __init__(self, pool: Any, connection: Connection) -> None:
        self.connection = connection
        self._pool = pool
        self._retry, connection.retry = connection.retry, ONCE

    def end(self) -> None:
        """Gives it back."""
        self.connection.retry = self._retry
        give_back(self._pool, self.connection)


def borrow_connection(pool: Any, request: Request) -> Loan:
    """A connection that is connected, and nobody else's until the loan ends.

    Args:
        pool: a ``redis.ConnectionPool``.
        request: what it's for; it isn't waited for once that's over.

    Raises:
        LinkFailure: there is none to be had, or not in time.
        RedisError: the same, as redis-py says it.
    """
    taken = _take_connection(pool, request)
    if taken is None:
        return Loan(pool, _get_connection(pool))
    loan = Loan(pool, taken)
    try:
        if loan.connection.is_connected and _is_spoiled(pool, loan.connection):
            loan.connection.disconnect()
        is_connected = loan.connection.is_connected
    except BaseException:
        loan.end()
        raise
    if not is_connected:
        _connect(loan, request)
    return loan


def _get_connection(pool: Any) -> Connection:
    try:
        connection: Connection = pool.get_connection()
    except MaxConnectionsError:
        raise
    except RedisError as error:
        if not may_pass(error):
            raise
        refusal = explain_unconnected(error)
        reason = refusal.message if isinstance(refusal, ErrorReply) else str(refusal)
        # The pool has tried as often as the client's policy says.
        raise LinkFailure(reason, sent=False, is_final=True) from None
    return connection


def _take_connection(pool: Any, request: Request) -> Connection | None:
    """What the pool would take before it connects; None if it can't be taken from it."""
    check_process = private_parts.CHECK_PROCESS.find(pool)
    if check_process is None:
        return None
    # In a process that was forked it makes the rest anew.
    check_process()
    connection: Connection
    if _blocks(pool):
        left = request.count_left()
        seconds = left if pool.timeout is None else min(pool.timeout, left)
        try:
            found = pool.pool.get(block=True, timeout=seconds)
        except Empty:
            raise RedisConnectionError("No connection available.") from None
        connection = pool.make_connection() if found is None else found
        return connection
    lock, idle = private_parts.POOL_LOCK.find(pool), private_parts.IDLE.find(pool)
    in_use = private_parts.IN_USE.find(pool)
    if lock is None or idle is None or in_use is None:
        return None
    with lock:
        connection = idle.pop() if idle else pool.make_connection()
        in_use.add(connection)
    return connection


def _blocks(pool: Any) -> bool:
    """Whether a pool waits until a connection is free."""
    return isinstance(pool, BlockingConnectionPool)


def _is_spoiled(pool: Any, connection: Connection) -> bool:
    """Whether a connection was closed by the server, or something is left of a reply."""
    try:
        has_data = connection.can_read(timeout=0)
    except (RedisError, OSError):
        return True
    # Of these the server sends messages at any time.
    return has_data and pool.cache is None and not pool.maint_notifications_enabled()


def _connect(loan: Loan, request: Request) -> None:
    """Connects; what takes too long goes on beside, and ends the loan then."""
    connecting = begin_beside(loan.connection.connect)
    try:
        connecting.result(request.count_left())
    except BaseException as error:
        connecting.add_done_callback(lambda _: loan.end())
        if isinstance(error, TimeoutError) and not connecting.done():
            raise make_late_failure(sent=False) from None
        raise
