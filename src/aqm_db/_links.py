"""A connection as a channel sees it: bytes out, replies in, in order.

redis-py makes connections, with TLS, passwords and all; a link takes one over. ``WireLink`` speaks
through its transport and parses replies in the event loop's own callback, which halves what a call
costs. ``ReaderLink`` uses nothing but the connection's methods, for one that has no transport.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError as LinkError, InvalidResponse, RedisError

from ._failures import is_reply

Pending = deque[asyncio.Future[Any]]
"""Calls that wait for their replies, oldest first."""

_NOT_YET = object()


class Link(Protocol):
    """What a channel asks of a connection."""

    heard_at: float
    """The event loop's time of the last sign of life."""

    def write(self, data: bytes) -> None:
        """Sends commands; never waits."""
        ...

    def is_full(self) -> bool:
        """Whether writing has to wait until the channel is told to go on."""
        ...

    def is_closed(self) -> bool:
        """Whether the connection has ended, or is about to."""
        ...

    async def run(self) -> None:
        """Delivers replies until the connection ends.

        Raises:
            RedisError: why it ended.
        """
        ...


def link_to(connection: AbstractConnection, pending: Pending, go_on: Callable[[], None]) -> Link:
    """The fastest link that a connected connection allows.

    Args:
        connection: a connection that is nobody else's meanwhile.
        pending: the calls to answer.
        go_on: called when writing needs to wait no longer.
    """
    # fakeredis has no transport; redis-py has no public way to its own.
    writer = getattr(connection, "_writer", None)
    transport = getattr(writer, "transport", None)
    if transport is None:
        return ReaderLink(connection, pending)
    return WireLink(cast("asyncio.Transport", transport), pending, go_on)


class WireLink(asyncio.Protocol):
    """A link on a connection's transport, whose protocol it replaces."""

    def __init__(
        self, transport: asyncio.Transport, pending: Pending, go_on: Callable[[], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        self.heard_at = loop.time()
        self._time = loop.time
        self._transport = transport
        self._pending = pending
        self._go_on = go_on
        self._full = False
        self._ended: asyncio.Future[str] = loop.create_future()
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_NOT_YET,
        )
        # Whoever closes the connection waits for the streams that redis-py opened it with.
        self._streams = cast("asyncio.Protocol", transport.get_protocol())
        transport.set_protocol(self)

    def write(self, data: bytes) -> None:
        """See :class:`Link`."""
        self._transport.write(data)

    def is_full(self) -> bool:
        """See :class:`Link`."""
        return self._full

    def is_closed(self) -> bool:
        """See :class:`Link`."""
        return self._transport.is_closing()

    async def run(self) -> None:
        """See :class:`Link`."""
        raise LinkError(await self._ended)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        self.heard_at = self._time()
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets()) is not _NOT_YET:
                if not isinstance(reply, hiredis.PushNotification):
                    deliver(self._pending, reply)
        except RedisError as error:
            self._end(str(error))
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._end("the connection was closed" if exc is None else str(exc))
        self._streams.connection_lost(exc)

    def pause_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._full = True
        self._streams.pause_writing()

    def resume_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._full = False
        self._streams.resume_writing()
        self._go_on()

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)


class ReaderLink:
    """A link through a connection's own methods."""

    def __init__(self, connection: AbstractConnection, pending: Pending) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        self._connection = connection
        self._pending = pending
        self._reading: asyncio.Task[None] | None = None
        self._writing: set[asyncio.Task[None]] = set()
        self._unwritable: RedisError | None = None

    def write(self, data: bytes) -> None:
        """See :class:`Link`."""
        task = asyncio.get_running_loop().create_task(self._write(data))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def is_full(self) -> bool:
        """See :class:`Link`."""
        return False

    def is_closed(self) -> bool:
        """See :class:`Link`."""
        return not self._connection.is_connected

    async def run(self) -> None:
        """See :class:`Link`."""
        self._reading = asyncio.current_task()
        try:
            while True:
                deliver(self._pending, await self._reply())
                self.heard_at = asyncio.get_running_loop().time()
        except asyncio.CancelledError:
            if self._unwritable is not None:
                raise self._unwritable from None
            raise

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response(disconnect_on_error=False)
        except RedisError as error:
            if not is_reply(error):
                raise
            return error

    async def _write(self, data: bytes) -> None:
        try:
            await self._connection.send_packed_command(data, check_health=False)
        except RedisError as error:
            # Whoever reads doesn't find out by itself: fakeredis waits on.
            self._unwritable = error
            cast("asyncio.Task[None]", self._reading).cancel()


def deliver(pending: Pending, reply: Any) -> None:
    """Gives a reply to the oldest call, unless it was cancelled.

    Raises:
        LinkError: no call waits, so replies and calls are out of step.
    """
    if not pending:
        raise LinkError("the server sent a reply that nothing asked for")
    answer = pending.popleft()
    if not answer.done():
        answer.set_result(reply)
