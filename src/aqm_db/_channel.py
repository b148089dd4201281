"""One connection that all calls in flight share: pipelined as they come, answered in order."""

import asyncio
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ._failures import LinkFailure, demotion_in, unconnected
from ._links import Link, Pending, link_to

_BURST = 4
"""Pending calls that are written without waiting for the end of the loop's turn, so that the
server works on the first ones while the next are still being packed."""


class CancelledAfterSending(asyncio.CancelledError):
    """The caller was cancelled, and its request may be executed all the same.

    Attributes:
        end: until when the request may be repeated, by the event loop's clock; None if it's on a
            connection that stands, where a repetition follows it at once.
    """

    end: float | None = None


class Pool(Protocol):
    """What is asked of a pool of connections."""

    def get_available_connection(self) -> Any: ...
    async def ensure_connection(self, connection: Any) -> None: ...
    async def release(self, connection: Any) -> None: ...


class Holds:
    """What closing waits for, though it isn't in flight."""

    def __init__(self) -> None:
        self._holds: set[asyncio.Future[None]] = set()

    @contextmanager
    def held(self) -> Generator[None]:
        """Keeps ``aclose`` waiting for a call that isn't in flight, but is under way."""
        hold = asyncio.get_running_loop().create_future()
        self._holds.add(hold)
        try:
            yield
        finally:
            self._holds.discard(hold)
            hold.set_result(None)

    def _hold(self, task: asyncio.Task[None]) -> None:
        """The same for a task, until it's done."""
        self._holds.add(task)
        task.add_done_callback(self._holds.discard)


class Channel(Holds):
    """A shared connection.

    It is taken from its pool when it is first needed, and goes back when it fails or is
    closed. A call that finds nothing in flight is written at once.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self._pool = pool
        self._link: Link | None = None
        self._opening: asyncio.Task[RedisError | None] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._pending: Pending = deque()
        self._unwritten: list[bytes] = []
        self._unsent = 0
        self._flush_due = False
        self._timeout: float | None = None
        self._watchdog: asyncio.TimerHandle | None = None

    async def request(self, packed: Sequence[bytes]) -> list[Any]:
        """Sends packed commands in one write.

        Returns:
            The replies in order. An error that the server sent, or a LinkFailure where no reply
            came, stands in its place; neither is raised.

        Raises:
            CancelledAfterSending: cancelled, and the commands can't be kept back any more.
        """
        if self._link is None or self._link.is_closed():
            refusal = await self._opened()
            if refusal is None and self._link is None:
                # Gone before its first call; written now, this would wait for the next one's.
                refusal = LinkFailure("the connection was closed", sent=False)
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
        """Waits for all calls, and what is taken back of cancelled ones; then hangs up."""
        # A caller that was cancelled just now says in its next turn what there is to take back.
        await asyncio.sleep(0)
        while waited_for := self._waited_for():
            await asyncio.wait(waited_for)
            await asyncio.sleep(0)
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait((self._opening,))
        await self._hang_up()

    def _waited_for(self) -> list[asyncio.Future[Any]]:
        # The reply to a call that was cancelled is nobody's.
        return [*self._holds, *(answer for answer in self._pending if not answer.done())]

    async def _opened(self) -> RedisError | None:
        """Connects, once for all that wait for it; returns why it couldn't."""
        # An eager task may be over before it's known here, so it can't be what forgets itself.
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
        opening = self._opening
        with self.held():
            await asyncio.wait((opening,))
        if opening.cancelled():
            return LinkFailure("the client was closed", sent=False)
        refusal = opening.result()
        if isinstance(refusal, LinkFailure):
            # Each caller's own: what becomes of the whole request is noted in it.
            return LinkFailure(str(refusal), sent=False)
        return refusal

    async def _open(self) -> RedisError | None:
        try:
            await self._hang_up()
            connection: AbstractConnection = self._pool.get_available_connection()
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
            link = link_to(connection, self._pending, self._flush)
            self._link = link
            self._serving = asyncio.create_task(self._serve(connection, link, retry))
        except RedisError as error:
            return unconnected(error)
        except (AttributeError, TypeError):
            # What redis-py makes of a client that is closed while it connects, and what asyncio
            # makes, from Python 3.12 on, of its writing to a transport that is closed.
            return LinkFailure("the client was closed", sent=False)
        else:
            return None

    async def _serve(self, connection: AbstractConnection, link: Link, retry: Retry) -> None:
        """Keeps the connection until it ends or is hung up, then gives it back."""
        reason = "the connection was closed"
        try:
            await link.run()
        except RedisError as error:
            reason = str(error)
        finally:
            self._link = self._serving = None
            self._fail_pending(reason)
            self._stop_watching()
            connection.retry, connection.socket_timeout = retry, self._timeout
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    async def _hang_up(self) -> None:
        serving = self._serving
        if serving is not None:
            # Nothing more may be written to a connection that is about to be closed.
            self._link = None
            serving.cancel()
            await asyncio.wait((serving,))

    def _abandon(self) -> None:
        """Hangs up, and waits for it no sooner than the next connection is needed."""
        self._link = None
        self._hold(asyncio.create_task(self._hang_up()))

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
        """Writes what waits, unless the connection takes no more for now."""
        link = self._link
        if self._unwritten and link is not None and not link.is_full() and not link.is_closed():
            packed = b"".join(self._unwritten)
            self._unwritten.clear()
            self._unsent = 0
            link.write(packed)

    def _fail_pending(self, reason: str) -> None:
        written = len(self._pending) - self._unsent
        for position, answer in enumerate(self._pending):
            if not answer.done():
                answer.set_result(LinkFailure(reason, sent=position < written))
        self._pending.clear()
        self._unwritten.clear()
        self._unsent = 0

    def _watch(self) -> None:
        """Begins to count the silence of a connection that owes a reply."""
        if self._timeout is not None and self._link is not None:
            loop = asyncio.get_running_loop()
            self._link.heard_at = loop.time()
            if self._watchdog is None:
                self._watchdog = loop.call_later(self._timeout, self._check_silence)

    def _stop_watching(self) -> None:
        """Lets the next connection begin anew: it may be on another event loop."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _check_silence(self) -> None:
        self._watchdog = None
        if self._pending and self._link is not None and self._serving is not None:
            loop = asyncio.get_running_loop()
            left = self._link.heard_at + cast("float", self._timeout) - loop.time()
            if left > 0:
                self._watchdog = loop.call_later(left, self._check_silence)
            else:
                self._serving.cancel()


class SentinelChannel(Channel):
    """The connection to whichever server is the primary: one that isn't any more says READONLY."""

    async def request(self, packed: Sequence[bytes]) -> list[Any]:
        """See :class:`Channel`."""
        replies = await super().request(packed)
        demotion = demotion_in(replies)
        if demotion is None:
            return replies
        # The next connection is to the server that the sentinels name then.
        self._abandon()
        return [demotion] * len(packed)


_channels: WeakKeyDictionary[Redis, Channel] = WeakKeyDictionary()


def channel_of(client: Redis) -> Channel:
    """The client's channel: one, whatever number of vaults and inventories it serves."""
    channel = _channels.get(client)
    if channel is None:
        channel = _channels[client] = _made(cast("Pool", client.connection_pool))
    return channel


def _made(pool: Pool) -> Channel:
    kind = SentinelChannel if isinstance(pool, SentinelConnectionPool) else Channel
    return kind(pool)
