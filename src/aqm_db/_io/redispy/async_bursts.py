"""Requests that are confirmed together: what waits for replicas and disks is sent once for all.

WAIT is about everything that its connection wrote before, and as long as it waits, the server reads
nothing more of that connection. So requests that come in one turn of the event loop are a burst,
with one WAIT behind them, on a connection that nothing else is sent on; what comes while bursts are
being confirmed is the next one.

There are two such connections: while the server works on the burst of one, the answers to the other
are read, and the next requests written.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from aqm_db._io.failures import LinkFailure
from aqm_db._io.request import Request
from aqm_db._io.seam import Command, SharedCommand

from .async_channel import CancelledAfterSending, Channel, Legacy
from .async_sources import Source

_EARLY = 32
"""Requests of a burst that are written before it's whole, so that the server begins with them."""


class ConfirmingChannels:
    """The connections for requests that end with shared commands.

    Args:
        make_source: makes what lends the connection of one.
    """

    def __init__(self, make_source: Callable[[], Source]) -> None:
        self._channels = [_ConfirmingChannel(make_source(), self._go_on) for _ in range(2)]
        self._turns = asyncio.Event()
        self._collecting: _ConfirmingChannel | None = None
        self._crowd = 0

    async def request(self, commands: Sequence[Command], request: Request) -> list[Any]:
        """See :class:`~aqm_db._io.redispy.async_channel.Channel`.

        The replies to shared commands are those that all others of the burst get.
        """
        lone = self._find_lone()
        if lone is not None:
            return await lone.request(commands, request)
        channel = self._collecting
        while channel is None or not channel.is_collecting() or request.is_over():
            channel = self._choose_channel()
            refusal = None if channel is None else await channel.find_refusal(request)
            if channel is not None and refusal is None and channel.is_ready():
                break
            if refusal is not None and (request.is_over() or not self._count()):
                return [refusal] * len(commands)
            # Both are in use; or the server allows for one connection, and no more.
            await self._await_turn(request)
        answered = channel.join(commands, request)
        count = channel.count()
        if count == 1:
            self._collecting = channel
            asyncio.get_running_loop().call_soon(self._seal, channel, channel.burst)
        elif not count % _EARLY and _EARLY <= self._crowd // 2 <= count and self._has_idle():
            self._seal(channel, channel.burst)
        try:
            replies = await answered
        except asyncio.CancelledError as cancelled:
            raise CancelledAfterSending(*cancelled.args) from None
        return [replies] * len(commands) if isinstance(replies, LinkFailure) else replies

    def list_awaited(self) -> list[asyncio.Future[Any]]:
        """See :class:`~aqm_db._io.redispy.async_channel.Channel`; the others too."""
        return [each for channel in self._channels for each in channel.list_awaited()]

    def hang_up(self, reason: str) -> None:
        """Ends the connections."""
        for channel in self._channels:
            channel.hang_up(reason)

    def is_open(self) -> bool:
        """Whether there is a connection."""
        return any(channel.is_open() for channel in self._channels)

    def list_legacy(self) -> list[Legacy]:
        """What they leave to their successors."""
        return [each for channel in self._channels for each in channel.list_legacy()]

    def leave_to_parent(self) -> None:
        """Parts with connections that are the parent's, in a process that was forked."""
        for channel in self._channels:
            channel.leave_to_parent()

    async def aclose(self) -> None:
        """Waits for all calls, and hangs up."""
        for channel in self._channels:
            await channel.aclose()

    def _find_lone(self) -> "_ConfirmingChannel | None":
        """The connection of who was alone the last time, and waits for nobody; None otherwise."""
        if self._crowd != 1:
            return None
        lone = None
        for channel in self._channels:
            if channel.count():
                return None
            if channel.is_open():
                lone = channel
        return lone

    def _choose_channel(self) -> "_ConfirmingChannel | None":
        """Where a request goes now; None if it has to wait."""
        ready = [channel for channel in self._channels if channel.is_ready()]
        # Where a burst is being collected; else where a connection is.
        return max(ready, key=lambda each: (each.count(), each.is_open()), default=None)

    async def _await_turn(self, request: Request) -> None:
        """Waits until something can be sent, or a request is over."""
        self._crowd = max(self._crowd, 2)
        with self._channels[0].delay_closing(), suppress(TimeoutError):
            async with asyncio.timeout(request.count_left()):
                await self._turns.wait()

    def _go_on(self) -> None:
        """Whoever waits now sends the next burst."""
        self._turns.set()
        self._turns.clear()

    def _has_idle(self) -> bool:
        return any(channel.is_ready() and not channel.count() for channel in self._channels)

    def _count(self) -> int:
        """How many requests are on their way."""
        return sum(channel.count() for channel in self._channels)

    def _seal(self, channel: "_ConfirmingChannel", burst: "_Burst | None") -> None:
        if channel is self._collecting:
            self._collecting = None
        if channel.seal(burst):
            self._crowd = self._count()


class _ConfirmingChannel(Channel):
    """One of the connections.

    Args:
        source: where it comes from.
        go_on: is called when the next burst can be sent.

    Attributes:
        burst: the burst that is collected or confirmed; None if there is none.
    """

    def __init__(self, source: Source, go_on: Callable[[], None]) -> None:
        super().__init__(source)
        self.burst: _Burst | None = None
        self._go_on = go_on

    def is_collecting(self) -> bool:
        """Whether there is a burst that requests can join."""
        return self.burst is not None and not self.burst.is_sealed

    def is_ready(self) -> bool:
        """Whether a request can be sent now."""
        return self.is_collecting() or not (self._pending or self.burst)

    def count(self) -> int:
        """How many requests are on their way."""
        return int(bool(self._pending)) if self.burst is None else self.burst.count()

    def join(self, commands: Sequence[Command], request: Request) -> "_Answered":
        """Sends a request with the burst; returns what its replies come in."""
        if self.burst is None:
            self.burst = _Burst()
        place = _find_shared(commands)
        answers = self._add(commands[:place])
        if len(self._unwritten) >= _EARLY:
            self._flush()
        answered = self.burst.add(answers, commands[place:])
        self._limit(request, (answered,))
        return answered

    def seal(self, burst: "_Burst | None") -> bool:
        """Sends what confirms a burst; returns whether that was still to do."""
        if burst is None or burst is not self.burst or burst.is_sealed:
            return False
        burst.tail = self._add(burst.seal())
        self._flush()
        return True

    def list_awaited(self) -> list[asyncio.Future[Any]]:
        """See :class:`Channel`."""
        waiting = [] if self.burst is None else self.burst.list_waiting()
        return [*super().list_awaited(), *waiting]

    def rest(self) -> None:
        """See :class:`~aqm_db._io.redispy.async_link.Listener`."""
        # Of a burst that is collected, the first may be answered already.
        if not self.is_collecting():
            self._end_burst()
            super().rest()

    def _fail_pending(self) -> None:
        super()._fail_pending()
        if self.burst is not None and not self.burst.is_sealed:
            # Another connection's WAIT would be about what that one wrote.
            failure = self._make_failure(sent=False)
            self.burst.tail = [_make_answer(failure) for _ in self.burst.seal()]
        self._end_burst()

    def _end_burst(self) -> None:
        burst, self.burst = self.burst, None
        if burst is not None:
            burst.end()
        self._go_on()


class _Burst:
    """Requests that are sent together.

    Attributes:
        is_sealed: whether it is whole, and what confirms it has been sent.
        tail: what the replies to that come in.
    """

    def __init__(self) -> None:
        self.is_sealed = False
        self.tail: list[asyncio.Future[Any]] = []
        self._marks: dict[Command, None] = {}
        self._waits: dict[tuple[Command, ...], None] = {}
        self._latest: Sequence[Command] = ()
        self._parts: list[_Part] = []

    def count(self) -> int:
        """How many there are."""
        return len(self._parts)

    def add(self, answers: list[asyncio.Future[Any]], tail: Sequence[Command]) -> "_Answered":
        """Takes a request in.

        Args:
            answers: what the replies to its own commands come in.
            tail: its shared commands; the first one writes, the others are about what was written.

        Returns:
            What all replies come in.
        """
        # Those of one owner, or of all, end alike.
        if tail != self._latest:
            self._latest = tail
            self._marks[tail[0]] = self._waits[tuple(tail[1:])] = None
        answered: _Answered = asyncio.get_running_loop().create_future()
        self._parts.append((answers, tail, answered))
        return answered

    def seal(self) -> list[Command]:
        """What is sent behind all of them: what writes, then what waits."""
        self.is_sealed = True
        return [*self._marks, *(command for waits in self._waits for command in waits)]

    def end(self) -> None:
        """Gives each request its replies."""
        left = (answer.result() for answer in self.tail)
        marks = {mark: next(left) for mark in self._marks}
        waits = {each: [next(left) for _ in each] for each in self._waits}
        latest: Sequence[Command] = ()
        shared: list[Any] = []
        for answers, tail, answered in self._parts:
            if tail != latest:
                latest, shared = tail, [marks[tail[0]], *waits[tuple(tail[1:])]]
            if not answered.done():
                answered.set_result([*[answer.result() for answer in answers], *shared])

    def list_waiting(self) -> "list[_Answered]":
        """What isn't answered yet, of requests whose caller is there."""
        return [answered for *_, answered in self._parts if not answered.done()]


_Answered: TypeAlias = asyncio.Future[list[Any] | LinkFailure]
"""What all replies to a request come in; or why they don't come in time."""
_Part: TypeAlias = tuple[list[asyncio.Future[Any]], Sequence[Command], _Answered]
"""What a request's own replies come in, its shared commands, and what all its replies come in."""


def _make_answer(reply: object) -> asyncio.Future[Any]:
    answer = asyncio.get_running_loop().create_future()
    answer.set_result(reply)
    return answer


def _find_shared(commands: Sequence[Command]) -> int:
    """The place of the first shared command."""
    # At least the last one is.
    place = len(commands) - 1
    while place and isinstance(commands[place - 1], SharedCommand):
        place -= 1
    return place
