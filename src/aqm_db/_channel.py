"""One connection that all calls in flight share: pipelined as they come, answered in order."""

import asyncio
import types
from collections import deque
from collections.abc import Coroutine, Generator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LinkError, RedisError

from ._failures import LinkFailure, is_reply, refusal_in

_BURST = 4
"""Pending calls that are written without waiting for the end of the loop's turn, so that the
server works on the first ones while the next are still being packed."""


class CancelledAfterSending(asyncio.CancelledError):
    """The caller was cancelled, and its request may be executed all the same."""


class Channel:
    """A client's shared connection.

    It is taken from the client's pool when it is first needed, and goes back when it fails or is
    closed. A call that finds nothing in flight is written at once.
    """

    def __init__(self, client: Redis) -> None:
        self.settling: set[asyncio.Task[None]] = set()
        """Cancelled calls whose effect is being taken back."""
        self._pool = client.connection_pool
        self._connection: AbstractConnection | None = None
        self._opening: asyncio.Task[RedisError | None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._pending: deque[asyncio.Future[Any]] = deque()
        self._unwritten: list[bytes] = []
        self._unsent = 0
        self._flush_due = False
        self._timeout: float | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._heard_at = 0.0

    async def request(self, packed: Sequence[bytes]) -> list[Any]:
        """Sends packed commands in one write.

        Returns:
            The replies in order. An error that the server sent, or a LinkFailure where no reply
            came, stands in its place; neither is raised.

        Raises:
            CancelledAfterSending: cancelled, and the commands can't be kept back any more.
        """
        if self._connection is None or not self._connection.is_connected:
            refusal = await self._opened()
            if refusal is not None:
                return [refusal] * len(packed)
        loop = asyncio.get_running_loop()
        answers = [loop.create_future() for _ in packed]
        self._enqueue(packed, answers)
        try:
            return [await answer for answer in answers]
        except asyncio.CancelledError as cancelled:
            raise CancelledAfterSending(*cancelled.args) from None

    async def aclose(self) -> None:
        """Waits for what is in flight or being settled, then gives the connection back."""
        while self.settling:
            await asyncio.wait(self.settling)
        while self._pending:
            await asyncio.wait((self._pending[-1],))
        await self._hang_up()

    async def _opened(self) -> RedisError | None:
        """Connects, once for all that wait for it; returns why it couldn't."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> RedisError | None:
        try:
            await self._hang_up()
            connection = cast("AbstractConnection", self._pool.get_available_connection())  # type: ignore[no-untyped-call]
            retry, timeout = connection.retry, connection.socket_timeout
            # The client's retries are counted once, around the whole call.
            connection.retry = Retry(NoBackoff(), 0)
            try:
                await self._pool.ensure_connection(connection)
            except BaseException:
                connection.retry = retry
                await self._pool.release(connection)
                raise
            # One timer watches the whole connection, where redis-py starts one for each read.
            connection.socket_timeout, self._timeout = None, timeout
            self._connection = connection
            self._reader = asyncio.create_task(self._read(connection, retry))
        except RedisError as error:
            return refusal_in(error) or LinkFailure(str(error), sent=False)
        else:
            return None
        finally:
            self._opening = None

    def _enqueue(self, packed: Sequence[bytes], answers: Sequence[asyncio.Future[Any]]) -> None:
        alone = not self._pending
        self._pending.extend(answers)
        self._unwritten.extend(packed)
        self._unsent += len(answers)
        if alone:
            self._watch()
        if alone or len(self._unwritten) >= _BURST:
            self._flush()
        elif not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush_rest)

    def _flush_rest(self) -> None:
        self._flush_due = False
        self._flush()

    def _flush(self) -> None:
        """Writes what is waiting, unless the transport's buffer is full."""
        connection = self._connection
        if (
            not self._unwritten
            or self._writer is not None
            or connection is None
            or not connection.is_connected
        ):
            return
        packed = b"".join(self._unwritten)
        self._unwritten.clear()
        self._unsent = 0
        sending = connection.send_packed_command(packed, check_health=False)
        # Writing takes a single step unless the buffer is full, and then no caller may wait for
        # it in person: redis-py drops the connection under all others when that one is cancelled.
        try:
            awaited = sending.send(None)
        except StopIteration:
            pass
        except RedisError:
            # The connection is gone: its reader finds out too, and answers everyone.
            pass
        else:
            self._writer = asyncio.get_running_loop().create_task(self._drain(sending, awaited))

    async def _drain(self, sending: Coroutine[Any, Any, None], awaited: Any) -> None:
        try:
            await _resumed(sending, awaited)
        except RedisError:
            pass
        finally:
            self._writer = None
        self._flush()

    async def _read(self, connection: AbstractConnection, retry: Retry) -> None:
        reason = "the connection was closed"
        try:
            while True:
                try:
                    reply = await connection.read_response(disconnect_on_error=False)
                except RedisError as error:
                    if not is_reply(error):
                        raise
                    reply = error
                if not self._pending:
                    raise LinkError("the server sent a reply that nothing asked for")
                self._heard_at = asyncio.get_running_loop().time()
                answer = self._pending.popleft()
                if not answer.done():
                    answer.set_result(reply)
        except RedisError as error:
            reason = str(error)
        finally:
            self._connection = self._reader = None
            self._fail_pending(reason)
            connection.retry, connection.socket_timeout = retry, self._timeout
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    def _fail_pending(self, reason: str) -> None:
        written = len(self._pending) - self._unsent
        for position, answer in enumerate(self._pending):
            if not answer.done():
                answer.set_result(LinkFailure(reason, sent=position < written))
        self._pending.clear()
        self._unwritten.clear()
        self._unsent = 0

    async def _hang_up(self) -> None:
        reader = self._reader
        if reader is not None:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        if self._watchdog is None and self._timeout is not None:
            self._watchdog = loop.call_later(self._timeout, self._check_silence)

    def _check_silence(self) -> None:
        self._watchdog = None
        if self._pending and self._timeout is not None and self._reader is not None:
            loop = asyncio.get_running_loop()
            left = self._heard_at + self._timeout - loop.time()
            if left > 0:
                self._watchdog = loop.call_later(left, self._check_silence)
            else:
                self._reader.cancel()


_channels: WeakKeyDictionary[Redis, Channel] = WeakKeyDictionary()


def channel_of(client: Redis) -> Channel:
    """The client's channel: one, whatever number of vaults and inventories it serves."""
    channel = _channels.get(client)
    if channel is None:
        channel = _channels[client] = Channel(client)
    return channel


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """Awaits the rest of a coroutine that was started by hand."""
    while True:
        try:
            sent = yield awaited
        except BaseException as thrown:  # noqa: BLE001 - whatever it is, it's the coroutine's
            step = partial(coroutine.throw, thrown)
        else:
            step = partial(coroutine.send, sent)
        try:
            awaited = step()
        except StopIteration:
            return
