"""Where a channel gets its connection from, and to whom it goes back."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from aqm_db._io.failures import LinkFailure

from . import private_parts
from .replies import explain_unconnected
from .retries import ASYNC_ONCE
from .returns import give_back_async


class Source(Protocol):
    """Lends connections."""

    async def acquire(self) -> AbstractConnection:
        """A connection that is connected, and nobody else's until it's released.

        Raises:
            LinkFailure: there is none to be had.
            RedisError: the same, as redis-py says it.
        """
        ...

    async def release(self, connection: AbstractConnection) -> None:
        """Takes it back, connected or not."""
        ...

    def is_exhausted(self) -> bool:
        """Whether others get no connection as long as this one is kept."""
        ...

    async def drop_idle(self) -> None:
        """Closes connections that nobody uses: their event loop ends."""
        ...

    def make_own(self) -> "Source":
        """Another source of connections like these, none of which is anybody else's."""
        ...


class PooledSource:
    """A pool, which lends connections to the user of its client as well.

    Args:
        pool: a ``redis.asyncio.ConnectionPool``.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._own: AbstractConnection | None = None

    async def acquire(self) -> AbstractConnection:
        """See :class:`Source`."""
        take, connect = private_parts.TAKE.find(self._pool), private_parts.CONNECT.find(self._pool)
        # A pool that waits until a connection is free does so nowhere else.
        waits = isinstance(self._pool, BlockingConnectionPool) and self.is_exhausted()
        if take is None or connect is None or waits:
            return await self._get()
        connection: AbstractConnection = take()
        loop = private_parts.find_loop(connection)
        if loop is not None and loop is not asyncio.get_running_loop():
            if not loop.is_closed():
                # Somebody's there, or a parent process.
                await self._pool.release(connection)
                return await self._acquire_own()
            with suppress(RuntimeError):
                await connection.disconnect(nowait=True)
        try:
            with connect_once(connection):
                await connect(connection)
        except BaseException:
            await give_back_async(self._pool, connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """See :class:`Source`."""
        if connection is self._own:
            self._own = None
            await connection.disconnect(nowait=True)
        else:
            await give_back_async(self._pool, connection)

    def is_exhausted(self) -> bool:
        """See :class:`Source`."""
        has_room = private_parts.ROOM.find(self._pool)
        return has_room is not None and not has_room()

    async def drop_idle(self) -> None:
        """See :class:`Source`."""
        # A peer that doesn't take leave in time: it's closed all the same.
        with suppress(RedisError):
            await self._pool.disconnect(inuse_connections=False)

    def make_own(self) -> "OwnSource":
        """See :class:`Source`."""
        return OwnSource(self._pool.make_connection)

    async def _acquire_own(self) -> AbstractConnection:
        """One like the pool's, where the pool's are of another event loop."""
        own = self._own = await self.make_own().acquire()
        return own

    async def _get(self) -> AbstractConnection:
        try:
            with _explain_closing():
                connection: AbstractConnection = await self._pool.get_connection()
        except RuntimeError as error:
            # asyncio's word, where somebody else waits for the same pool on another loop.
            if "different event loop" not in str(error):
                raise
            raise LinkFailure(str(error), sent=False, is_final=True) from error
        except RedisError as error:
            failure = explain_unconnected(error)
            if not isinstance(failure, LinkFailure):
                raise
            # The pool has tried as often as the client's policy says.
            failure.is_final = True
            raise failure from None
        return connection


class OwnSource:
    """Connections like those of a pool that don't belong to it.

    Args:
        make: makes one that isn't connected.
    """

    def __init__(self, make: Any) -> None:
        self._make = make

    async def acquire(self) -> AbstractConnection:
        """See :class:`Source`."""
        connection: AbstractConnection = self._make()
        try:
            with connect_once(connection):
                # redis-py gives it no annotation.
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """See :class:`Source`; nobody else has a use for it."""
        await connection.disconnect(nowait=True)

    def is_exhausted(self) -> bool:
        """See :class:`Source`."""
        return False

    async def drop_idle(self) -> None:
        """See :class:`Source`; there are none."""

    def make_own(self) -> "OwnSource":
        """See :class:`Source`."""
        return OwnSource(self._make)


@contextmanager
def connect_once(connection: AbstractConnection) -> Generator[None]:
    """Connects without the retries of the client, which are counted around the whole call."""
    retry, connection.retry = connection.retry, ASYNC_ONCE
    try:
        with _explain_closing():
            yield
    finally:
        connection.retry = retry


@contextmanager
def _explain_closing() -> Generator[None]:
    """Says what redis-py and asyncio make of a client that is closed while it connects.

    redis-py writes to the streams that it has taken apart, and asyncio, from Python 3.12 on, to
    the transport. Whatever else is wrong there comes out as it is.

    Raises:
        LinkFailure: the client was closed.
    """
    try:
        yield
    except (AttributeError, TypeError) as error:
        if not str(error).startswith("'NoneType' object "):
            raise
        reason = f"the client was closed while it connected ({error})"
        raise LinkFailure(reason, sent=False) from error
