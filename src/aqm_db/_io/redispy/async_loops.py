"""The channels of a client: each event loop, and each process, has one of its own.

A connection belongs to the loop and the process that it was opened in. Written to from elsewhere,
it would hand a coin to whoever reads the reply, or to nobody.
"""

import asyncio
import os
import warnings
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, suppress
from threading import Lock
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet, finalize

from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool

from aqm_db._io.failures import LinkFailure
from aqm_db._io.request import Request, ServerClock
from aqm_db._io.seam import Command

from .async_bursts import ConfirmingChannels
from .async_channel import Channel, Holds, SentinelChannel
from .async_closing import close_there
from .async_sources import OwnSource, PooledSource, Source

_ELSEWHERE = "the client is in use on another event loop: connect once more, on this one"
_FORKED = "the client is that of the process which forked this one: connect once more, here"


class AnyChannel(Protocol):
    """What a seam asks of a channel, or of several behind one.

    Attributes:
        server_clock: what the clock of its server shows.
    """

    server_clock: ServerClock

    def request(
        self, commands: Sequence[Command], request: Request
    ) -> Coroutine[Any, Any, list[Any]]: ...
    def delay_closing(self) -> AbstractContextManager[None]: ...
    def add_settling(self, task: asyncio.Task[None]) -> None: ...
    def hang_up(self, reason: str) -> None: ...
    def is_of_parent(self) -> bool: ...
    async def aclose(self) -> None: ...


class Inheritance(Protocol):
    """What a process that is forked must not touch."""

    def leave_to_parent(self) -> None:
        """Forgets, in the process that was forked, what belongs to the other."""
        ...


class Home:
    """The event loop and the process that something belongs to: those that use it first.

    Args:
        move_in: called when it comes to belong to an event loop, the first one, or the next when
            that is closed; and in a process that is forked, where it belongs to none.

    Attributes:
        loop: the event loop; None if it belongs to none yet.
        is_inherited: whether it belongs to the process which forked this one.
    """

    def __init__(self, move_in: Callable[[], None]) -> None:
        self._move_in = move_in
        self.loop: asyncio.AbstractEventLoop | None = None
        self.is_inherited = False
        _inheritances.add(self)

    def find_refusal(self) -> LinkFailure | None:
        """Why it can't be used from here; None if it can."""
        if self.is_inherited:
            return LinkFailure(_FORKED, sent=False, is_final=True)
        loop = asyncio.get_running_loop()
        if self.loop is None or self.loop.is_closed():
            self.loop = loop
            self._move_in()
        if self.loop is loop:
            return None
        return LinkFailure(_ELSEWHERE, sent=False, is_final=True)

    def leave_to_parent(self) -> None:
        """See :class:`Inheritance`."""
        self.is_inherited = True
        self._move_in()


class Channels:
    """The channels of one client.

    The pool is lent to one event loop of the process that it was made in: redis-py's pools can't
    serve two. Others get connections like the pool's.

    Args:
        source: the client's pool.
        make_own: makes a source of connections that don't belong to the pool; None if there can't
            be any, so that all other loops, and processes that are forked, are refused.
        channel_class: which channels.

    Attributes:
        loop: the event loop that the pool is lent to; None if it's lent to none yet.
        is_inherited: whether the pool belongs to the process which forked this one.
        server_clock: what the clock of its server shows.
    """

    def __init__(
        self,
        source: Source,
        make_own: Callable[[], Source] | None = None,
        channel_class: type[Channel] = Channel,
    ) -> None:
        self._source = source
        self._make_own = make_own
        self._channel_class = channel_class
        self.loop: asyncio.AbstractEventLoop | None = None
        self.is_inherited = False
        self.server_clock = ServerClock()
        self._adding = Lock()
        self._parents: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        self._channels: dict[asyncio.AbstractEventLoop, Channel] = {}
        _inheritances.add(self)

    def request(
        self, commands: Sequence[Command], request: Request
    ) -> Coroutine[Any, Any, list[Any]]:
        """See :meth:`~aqm_db._io.redispy.async_channel.Channel.request`."""
        return self.get_channel().request(commands, request)

    def delay_closing(self) -> AbstractContextManager[None]:
        """See :meth:`~aqm_db._io.redispy.async_channel.Channel.delay_closing`."""
        return self.get_channel().delay_closing()

    def add_settling(self, task: asyncio.Task[None]) -> None:
        """See :meth:`~aqm_db._io.redispy.async_channel.Channel.add_settling`."""
        self.get_channel().add_settling(task)

    def hang_up(self, reason: str) -> None:
        """See :meth:`~aqm_db._io.redispy.async_channel.Channel.hang_up`."""
        self.get_channel().hang_up(reason)

    def is_of_parent(self) -> bool:
        """Whether the running event loop is that of the process which forked this one."""
        return asyncio.get_running_loop() in self._parents

    def get_channel(self) -> "Channel | _Refusal":
        """The channel of the running event loop."""
        loop = asyncio.get_running_loop()
        return self._channels.get(loop) or self._add(loop)

    async def aclose(self) -> None:
        """Closes the channel of this loop when its calls have ended, and has others do so."""
        # A call that was begun just now makes its channel in its first turn.
        await asyncio.sleep(0)
        if any(loop.is_closed() for loop in self._channels):
            # What they had is given back by whoever comes after them.
            self.get_channel()
        here = asyncio.get_running_loop()
        for loop, channel in tuple(self._channels.items()):
            if loop is here:
                await channel.aclose()
            else:
                close_there(loop, channel)

    def hang_up_unclosed(self) -> None:
        """Ends what was left open when the client was dropped (from any thread)."""
        for loop, channel in tuple(self._channels.items()):
            if channel.is_open() and not loop.is_closed():
                close_there(loop, channel)
                # Last, since it may be an error.
                warnings.warn(
                    "a client was dropped, and its connection not closed: await close_all(), or "
                    "the client's own aclose()",
                    ResourceWarning,
                    stacklevel=1,
                )

    def leave_to_parent(self) -> None:
        """See :class:`Inheritance`."""
        self.is_inherited = True
        self._adding = Lock()
        channels, self._channels = self._channels, {}
        self._parents.update(channels)
        for channel in channels.values():
            channel.leave_to_parent()

    def _add(self, loop: asyncio.AbstractEventLoop) -> "Channel | _Refusal":
        if self.is_of_parent():
            # Its tasks are copies of the parent's, whose calls aren't this process's to settle.
            return _Refusal(_FORKED)
        with self._adding:
            ended = [each for each in self._channels if each.is_closed()]
            predecessors = [self._channels.pop(each) for each in ended]
            if not (self._channels or self.is_inherited):
                source, self.loop = self._source, loop
            elif self._make_own is not None:
                source = self._make_own()
            else:
                return _Refusal(_FORKED if self.is_inherited else _ELSEWHERE)
            confirming = ConfirmingChannels(source.make_own)
            channel = self._channels[loop] = self._channel_class(source, confirming)
        channel.succeed(predecessors)
        return channel


class _Refusal(Holds):
    """Stands for a channel where there can be none."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self._reason = reason

    async def request(self, commands: Sequence[Command], _: Request) -> list[Any]:
        return [LinkFailure(self._reason, sent=False, is_final=True)] * len(commands)


def get_channels(client: Redis) -> Channels:
    """The client's channels, whatever number of vaults and inventories they serve."""
    channels = _of_clients.get(client)
    if channels is None:
        # Another thread's may be the first.
        channels = _of_clients.setdefault(client, _make_channels(client.connection_pool))
        # They must not keep the client: it's what says that nobody will close them any more.
        finalize(client, channels.hang_up_unclosed).atexit = False
    return channels


def _make_channels(pool: Any) -> Channels:
    if isinstance(pool, SentinelConnectionPool):
        # The clients of its sentinels serve one event loop, too.
        return Channels(PooledSource(pool), None, SentinelChannel)
    return Channels(PooledSource(pool), lambda: OwnSource(pool.make_connection))


def _leave_to_parent() -> None:
    for inheritance in tuple(_inheritances):
        inheritance.leave_to_parent()


_of_clients: WeakKeyDictionary[Redis, Channels] = WeakKeyDictionary()
_inheritances: WeakSet[Inheritance] = WeakSet()

# Where it isn't there, nothing forks.
with suppress(AttributeError):
    os.register_at_fork(after_in_child=_leave_to_parent)
