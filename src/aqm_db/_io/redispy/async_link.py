"""A connection as a channel sees it: bytes out, replies in, in order.

redis-py makes connections, with TLS, passwords and all; a link takes one over. ``WireLink`` speaks
through its transport and parses replies in the event loop's own callback, which halves what a call
costs. ``ReaderLink`` uses nothing but the connection's public methods, for one whose transport
isn't to be had.
"""

import asyncio
import os
from collections import deque
from typing import Any, Protocol, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError, InvalidResponse, RedisError

from aqm_db._io.failures import parse_error

from . import private_parts
from .replies import read_error

Pending = deque[asyncio.Future[Any]]
"""Calls that wait for their replies, oldest first."""

_NOT_YET = object()
_FED_AT_ONCE = 16 * 1024
"""Bytes that the parser is given at a time: with every reply it moves all that it has left."""


class Listener(Protocol):
    """Who is told what becomes of a link; each call comes from the event loop, and is short."""

    def go_on(self) -> None:
        """Writing needs to wait no longer."""
        ...

    def rest(self) -> None:
        """The last reply that was owed has come."""
        ...

    def end(self, error: BaseException | None) -> None:
        """The connection has ended, and gives no reply any more: here is why, if anything says."""
        ...


class Link(Protocol):
    """What a channel asks of a connection."""

    heard_at: float
    """The event loop's time of the last sign of life."""

    def write(self, data: bytes) -> None:
        """Sends commands; never waits."""
        ...

    def is_full(self) -> bool:
        """Whether writing has to wait until the listener is told to go on."""
        ...

    def is_closed(self) -> bool:
        """Whether the connection has ended, or is about to."""
        ...

    def detach(self) -> bool:
        """Tells its listener nothing more.

        Returns:
            Whether others can use the connection as it is: nothing of a reply is left in it.
        """
        ...

    def leave_to_parent(self) -> None:
        """Makes sure, in a process that was forked, that it sends nothing to the parent's peer."""
        ...


def make_link(connection: AbstractConnection, pending: Pending, listener: Listener) -> Link:
    """The fastest link that a connected connection allows.

    Args:
        connection: a connection that is nobody else's meanwhile.
        pending: the calls to answer.
        listener: who is told what becomes of it.
    """
    transport = private_parts.find_transport(connection)
    if transport is not None:
        link = WireLink(transport, pending, listener)
        if link.take_over():
            return link
    return ReaderLink(connection, pending, listener)


class WireLink(asyncio.Protocol):
    """A link on a connection's transport, whose protocol it replaces.

    Args:
        transport: of a connection that is connected.
        pending: as of :func:`make_link`.
        listener: as of :func:`make_link`.
    """

    def __init__(self, transport: asyncio.Transport, pending: Pending, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        self.heard_at = loop.time()
        self._time = loop.time
        self._transport = transport
        self._pending = pending
        self._listener: Listener | None = listener
        self._full = False
        # hiredis' annotation wants an exception; it takes whatever stands for an error.
        reader: Any = hiredis.Reader
        self._parser: hiredis.Reader = reader(
            protocolError=InvalidResponse, replyError=parse_error, notEnoughData=_NOT_YET
        )
        # Whoever closes the connection waits for the streams that redis-py opened it with.
        self._streams = cast("asyncio.Protocol", transport.get_protocol())

    def take_over(self) -> bool:
        """Replaces the transport's protocol; False if it keeps the one that it has."""
        self._transport.set_protocol(self)
        if self._transport.get_protocol() is self:
            return True
        self._transport.set_protocol(self._streams)
        return False

    def write(self, data: bytes) -> None:
        """See :class:`Link`."""
        self._transport.write(data)

    def is_full(self) -> bool:
        """See :class:`Link`."""
        return self._full

    def is_closed(self) -> bool:
        """See :class:`Link`."""
        return self._transport.is_closing()

    def detach(self) -> bool:
        """See :class:`Link`."""
        self._listener = None
        if self._full or self.is_closed() or self._parser.has_data():
            return False
        self._transport.set_protocol(self._streams)
        return True

    def leave_to_parent(self) -> None:
        """See :class:`Link`."""
        self._listener = None
        # Closing it would end the parent's TLS, and take the socket from the parent's poll: both
        # processes share that. What is written from here on, by whomever, goes nowhere.
        descriptor = self._transport.get_extra_info("socket").fileno()
        if descriptor >= 0:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, descriptor, inheritable=False)
            os.close(nowhere)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        listener = self._listener
        if listener is None:
            # The calls that wait now wait for another link.
            return
        self.heard_at = self._time()
        try:
            for start in range(0, len(data), _FED_AT_ONCE):
                self._parser.feed(data, start, min(_FED_AT_ONCE, len(data) - start))
                while (reply := self._parser.gets()) is not _NOT_YET:
                    if not isinstance(reply, hiredis.PushNotification):
                        deliver(self._pending, reply)
        except RedisError as error:
            self._end(error)
            self._transport.abort()
        else:
            if not self._pending:
                listener.rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        is_told = self._listener is not None
        self._end(exc)
        # Of the streams nobody asks why, and asyncio would complain of that.
        self._streams.connection_lost(None if is_told else exc)

    def pause_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._full = True
        self._streams.pause_writing()

    def resume_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._full = False
        self._streams.resume_writing()
        if self._listener is not None:
            self._listener.go_on()

    def _end(self, error: Exception | None) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.end(error)


class ReaderLink:
    """A link through a connection's own methods.

    Args:
        connection: as of :func:`make_link`.
        pending: as of :func:`make_link`.
        listener: as of :func:`make_link`.
    """

    def __init__(
        self, connection: AbstractConnection, pending: Pending, listener: Listener
    ) -> None:
        loop = asyncio.get_running_loop()
        self.heard_at = loop.time()
        self._connection = connection
        self._pending = pending
        self._listener: Listener | None = listener
        self._unwritable: BaseException | None = None
        self._writing: set[asyncio.Task[None]] = set()
        self._reading = loop.create_task(self._read())
        self._reading.add_done_callback(self._end)

    def write(self, data: bytes) -> None:
        """See :class:`Link`."""
        task = asyncio.get_running_loop().create_task(self._write(data))
        self._writing.add(task)
        task.add_done_callback(self._note_written)

    def is_full(self) -> bool:
        """See :class:`Link`."""
        return False

    def is_closed(self) -> bool:
        """See :class:`Link`."""
        # An event loop that ends has cancelled it, and not let it go on yet.
        reading = self._reading
        return not self._connection.is_connected or reading.done() or reading.cancelling() > 0

    def detach(self) -> bool:
        """See :class:`Link`; it's taken away in the middle of reading."""
        self._listener = None
        self._reading.cancel()
        return False

    def leave_to_parent(self) -> None:
        """See :class:`Link`; who could write to it is the event loop of the parent."""
        self._listener = None

    async def _read(self) -> None:
        while True:
            deliver(self._pending, await self._read_reply())
            self.heard_at = asyncio.get_running_loop().time()
            if not self._pending and self._listener is not None:
                self._listener.rest()

    async def _read_reply(self) -> Any:
        try:
            return await self._connection.read_response(disconnect_on_error=False)
        except RedisError as error:
            reply = read_error(error)
            if reply is None:
                raise
            return reply

    async def _write(self, data: bytes) -> None:
        await self._connection.send_packed_command(data, check_health=False)

    def _note_written(self, writing: asyncio.Task[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled() and (error := writing.exception()) is not None:
            # Whoever reads doesn't find out by itself: fakeredis waits on.
            self._unwritable = error
            self._reading.cancel()

    def _end(self, reading: asyncio.Task[None]) -> None:
        error = None if reading.cancelled() else reading.exception()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.end(self._unwritable or error)


def deliver(pending: Pending, reply: Any) -> None:
    """Gives a reply to the oldest call, unless it was cancelled.

    Raises:
        RedisConnectionError: no call waits, so replies and calls are out of step.
    """
    if not pending:
        raise RedisConnectionError("the server sent a reply that nothing asked for")
    answer = pending.popleft()
    if not answer.done():
        answer.set_result(reply)
