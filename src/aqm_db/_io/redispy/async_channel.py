"""One connection that all calls in flight share: pipelined as they come, answered in order."""

import asyncio
from collections import deque
from collections.abc import Coroutine, Generator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import Any, Protocol, TypeAlias, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from aqm_db._io.failures import ErrorReply, LinkFailure, find_demotion
from aqm_db._io.request import REPEATABLE_SECONDS, Request, make_late_failure
from aqm_db._io.seam import Command, SharedCommand

from .async_closing import close_with_loop
from .async_link import Link, Pending, make_link
from .async_sources import Source
from .marks import find_mark
from .replies import explain_unconnected, pack_command
from .retries import ASYNC_ONCE

_BURST = 4
"""Pending calls that are written without waiting for the end of the loop's turn, so that the
server works on the first ones while the next are still being packed."""
_CLOSED = "the connection was closed"


class CancelledAfterSending(asyncio.CancelledError):
    """The caller was cancelled, and its request may be executed all the same."""


class Holds:
    """What closing waits for, though it isn't in flight."""

    def __init__(self) -> None:
        self._holds: set[asyncio.Future[None]] = set()
        self._settling: set[asyncio.Task[None]] = set()

    def add_settling(self, task: asyncio.Task[None]) -> None:
        """Takes what settles cancelled calls; it is hurried by a cancellation when this closes."""
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        self._delay_closing_for(task)

    @contextmanager
    def delay_closing(self) -> Generator[None]:
        """Keeps ``aclose`` waiting for a call that isn't in flight, but is under way."""
        hold = asyncio.get_running_loop().create_future()
        self._holds.add(hold)
        try:
            yield
        finally:
            self._holds.discard(hold)
            hold.set_result(None)

    async def wait_for(
        self, work: asyncio.Task[ErrorReply | LinkFailure | None], request: Request
    ) -> ErrorReply | LinkFailure | None:
        """Waits for what many wait for, each until its own request is over.

        Returns:
            Why it couldn't be done, or not in time; None once it's done.
        """
        with self.delay_closing():
            await asyncio.wait((work,), timeout=request.count_left())
        if not work.done():
            return make_late_failure(sent=False)
        if work.cancelled():
            return LinkFailure("the client was closed", sent=False)
        refusal = work.result()
        return refusal.copy() if isinstance(refusal, LinkFailure) else refusal

    def hang_up(self, reason: str) -> None:
        """Ends what is open: nothing, here."""

    def _hurry_settling(self) -> None:
        for task in tuple(self._settling):
            task.cancel()

    def _delay_closing_for(self, task: asyncio.Task[None]) -> None:
        """The same for a task, until it's done."""
        self._holds.add(task)
        task.add_done_callback(self._holds.discard)


class Branch(Protocol):
    """Other connections of a channel, for requests of a kind; it has a channel's methods."""

    def request(
        self, commands: Sequence[Command], request: Request
    ) -> Coroutine[Any, Any, list[Any]]: ...
    def list_awaited(self) -> list[asyncio.Future[Any]]: ...
    def hang_up(self, reason: str) -> None: ...
    def is_open(self) -> bool: ...
    def list_legacy(self) -> "list[Legacy]": ...
    def leave_to_parent(self) -> None: ...
    async def aclose(self) -> None: ...


class Channel(Holds):
    """A shared connection, for the calls of one event loop.

    It is taken from its source when it is first needed, and goes back when it fails or is closed,
    when the loop ends, and when nothing is in flight and the source has no other. A call that finds
    nothing in flight is written at once.

    Args:
        source: where the connection comes from.
        confirming: where requests go that wait for replicas or disks, so that no other waits behind
            them; None if they are as any other.
    """

    def __init__(self, source: Source, confirming: "Branch | None" = None) -> None:
        super().__init__()
        self._source = source
        self._confirming = confirming
        self._loan: _Loan | None = None
        self._link: Link | None = None
        self._mark: object | None = None
        self._lent: Link | None = None
        self._opening: asyncio.Task[ErrorReply | LinkFailure | None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._is_lent = self._has_lent = False
        self._reason, self._cause = _CLOSED, cast("BaseException | None", None)
        self._pending: Pending = deque()
        self._unwritten: list[bytes] = []
        self._unsent = 0
        self._flush_due = False
        self._timeout = REPEATABLE_SECONDS
        self._watchdog: asyncio.TimerHandle | None = None
        self._waiting: deque[tuple[Request, Sequence[asyncio.Future[Any]]]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_end = inf

    def request(
        self, commands: Sequence[Command], request: Request
    ) -> Coroutine[Any, Any, list[Any]]:
        """Sends commands in one write.

        Args:
            commands: what to send.
            request: what they are for; nothing is sent, or waited for, once it's over.

        Returns:
            The replies in order. An ErrorReply, or a LinkFailure where no reply came, stands in its
            place; neither is raised.

        Raises:
            CancelledAfterSending: cancelled, and the commands can't be kept back any more.
        """
        if self._confirming is not None and isinstance(commands[-1], SharedCommand):
            return self._confirming.request(commands, request)
        return self._exchange(commands, request)

    async def find_refusal(self, request: Request) -> ErrorReply | LinkFailure | None:
        """Why nothing can be sent for a request, once the connection is open; None if it can."""
        while self._link is None or self._link.is_closed():
            refusal = await self._await_opening(request)
            if refusal is None and self._link is None and not self._is_lent:
                # Gone before its first call; written now, this would wait for the next one's.
                refusal = self._make_failure(sent=False)
            if refusal is not None:
                return refusal
        return make_late_failure(sent=False) if request.is_over() else None

    async def aclose(self) -> None:
        """Waits for all calls, and what is taken back of cancelled ones; then hangs up."""
        # A caller that was cancelled just now says in its next turn what there is to take back.
        await asyncio.sleep(0)
        self._hurry_settling()
        while awaited := self.list_awaited() or await self._list_awaited_soon():
            await asyncio.wait(awaited)
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait((self._opening,))
        await self._hang_up()
        if self._confirming is not None:
            await self._confirming.aclose()
        if self._has_lent:
            await self._source.drop_idle()
        # A transport closes its socket a turn later, and this may be the last one.
        await asyncio.sleep(0)

    def hang_up(self, reason: str) -> None:
        """Ends the connection; who waits for a reply is told the reason, and may ask again."""
        self._part(reason, None)
        if self._confirming is not None:
            self._confirming.hang_up(reason)

    def is_open(self) -> bool:
        """Whether it has a connection."""
        if self._confirming is not None and self._confirming.is_open():
            return True
        return self._link is not None and not self._link.is_closed()

    def list_awaited(self) -> list[asyncio.Future[Any]]:
        """What closing waits for."""
        # The reply to a call that was cancelled is nobody's.
        awaited = [*self._holds, *(answer for answer in self._pending if not answer.done())]
        return awaited if self._confirming is None else [*awaited, *self._confirming.list_awaited()]

    def succeed(self, others: Sequence["Channel"]) -> None:
        """Gives back, before it connects, what channels of event loops had that are closed."""
        if others:
            loans = [loan for other in others for loan in other.list_legacy()]
            self._returning = asyncio.get_running_loop().create_task(_bury(loans, self._source))

    def list_legacy(self) -> "list[Legacy]":
        """What it leaves to its successor, and where that came from, once its loop was closed."""
        others = [] if self._confirming is None else self._confirming.list_legacy()
        return [(self._loan, self._source), *others]

    def leave_to_parent(self) -> None:
        """Parts with a connection that is the parent's, in a process that was forked."""
        for link in filter(None, (self._link, self._lent)):
            link.leave_to_parent()
        self._link = self._lent = None
        if self._confirming is not None:
            self._confirming.leave_to_parent()

    def go_on(self) -> None:
        """See :class:`~aqm_db._io.redispy.async_link.Listener`."""
        self._flush()

    def rest(self) -> None:
        """See :class:`~aqm_db._io.redispy.async_link.Listener`."""
        self._waiting.clear()
        if self._source.is_exhausted():
            self._is_lent = self._has_lent = True
            self._part(_CLOSED, None, is_wanted=True)

    def end(self, error: BaseException | None) -> None:
        """See :class:`~aqm_db._io.redispy.async_link.Listener`."""
        is_usual = isinstance(error, RedisError | OSError)
        reason = str(error) if is_usual else f"{_CLOSED}: {error!r}"
        self._part(_CLOSED if error is None else reason, None if is_usual else error)

    async def _exchange(self, commands: Sequence[Command], request: Request) -> list[Any]:
        if self._link is None or self._link.is_closed() or request.is_over():
            refusal = await self.find_refusal(request)
            if refusal is not None:
                return [refusal] * len(commands)
        request.mark = self._mark
        alone = not self._pending
        answers = self._add(commands)
        self._plan_flush(alone=alone)
        self._limit(request, answers)
        try:
            # They come in order: to wait for each would wake the caller more than once.
            await answers[-1]
            if self._is_lent and self._returning is not None:
                # The caller's next command may need the connection that was the last one.
                with self.delay_closing():
                    await asyncio.wait((self._returning,), timeout=request.count_left())
        except asyncio.CancelledError as cancelled:
            for answer in answers:
                answer.cancel()
            raise CancelledAfterSending(*cancelled.args) from None
        return [answer.result() for answer in answers]

    async def _list_awaited_soon(self) -> list[asyncio.Future[Any]]:
        """The same a turn later: who was answered just now may have to ask once more."""
        await asyncio.sleep(0)
        return self.list_awaited()

    async def _await_opening(self, request: Request) -> ErrorReply | LinkFailure | None:
        """Connects, once for all that wait for it; returns why it couldn't, or not in time."""
        # An eager task may be over before it's known here, so it can't be what forgets itself.
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
        return await self.wait_for(self._opening, request)

    async def _open(self) -> ErrorReply | LinkFailure | None:
        await self._hang_up()
        try:
            # Longer than that nobody waits for it.
            async with asyncio.timeout(REPEATABLE_SECONDS):
                connection = await self._source.acquire()
        except TimeoutError:
            return make_late_failure(sent=False)
        except LinkFailure as failure:
            return failure
        except RedisError as error:
            return explain_unconnected(error)
        loan = _Loan(connection)
        try:
            mark = find_mark(connection)
            link = make_link(connection, self._pending, self)
        except BaseException:
            await loan.end(self._source, is_usable=False)
            raise
        self._link, self._loan = link, loan
        # A connection that is silent for as long as a request may take is no use to anybody.
        limits = (loan.timeout, REPEATABLE_SECONDS)
        self._timeout = min(limit for limit in limits if limit is not None)
        self._mark = mark
        self._lent, self._is_lent = None, False
        await close_with_loop(self)
        return None

    def _part(self, reason: str, cause: BaseException | None, *, is_wanted: bool = False) -> None:
        """Parts with the connection, and has it given back.

        Args:
            reason: what those are told who wait for a reply.
            cause: what it came of, if that isn't a part of the reason.
            is_wanted: whether others have a use for it as it is.
        """
        link, loan = self._link, self._loan
        if link is not None and loan is not None:
            is_usable = link.detach() and is_wanted
            self._lent = link if is_usable else None
            self._link = self._loan = None
            self._reason, self._cause = reason, cause
            self._fail_pending()
            self._stop_watching()
            returning = loan.end(self._source, is_usable=is_usable)
            self._returning = asyncio.get_running_loop().create_task(returning)

    async def _hang_up(self) -> None:
        self._part(_CLOSED, None)
        if self._returning is not None:
            await asyncio.wait((self._returning,))

    def _add(self, commands: Sequence[Command]) -> list[asyncio.Future[Any]]:
        """Has commands written with the next flush; returns what their replies come in."""
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Any]] = [loop.create_future() for _ in commands]
        if not self._pending:
            self._watch()
        self._pending.extend(answers)
        self._unwritten.extend([pack_command(command) for command in commands])
        self._unsent += len(answers)
        return answers

    def _plan_flush(self, *, alone: bool) -> None:
        """Writes what waits: at once, or at the end of the loop's turn."""
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

    def _fail_pending(self) -> None:
        written = len(self._pending) - self._unsent
        for position, answer in enumerate(self._pending):
            if not answer.done():
                answer.set_result(self._make_failure(sent=position < written))
        self._pending.clear()
        self._unwritten.clear()
        self._unsent = 0
        self._waiting.clear()

    def _make_failure(self, *, sent: bool) -> LinkFailure:
        """What became of a command, once the connection has ended."""
        failure = LinkFailure(self._reason, sent=sent)
        failure.__cause__ = self._cause
        return failure

    def _watch(self) -> None:
        """Begins to count the silence of a connection that owes a reply."""
        loop = asyncio.get_running_loop()
        # Nothing is sent without one.
        cast("Link", self._link).heard_at = loop.time()
        if self._watchdog is None:
            self._watchdog = loop.call_later(self._timeout, self._check_silence, self._timeout)

    def _stop_watching(self) -> None:
        """Lets the next connection begin anew."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm, self._alarm_end = None, inf

    def _limit(self, request: Request, answers: Sequence[asyncio.Future[Any]]) -> None:
        """Has answers be waited for no longer than until a request is over."""
        waiting = self._waiting
        while waiting and waiting[0][1][-1].done():
            waiting.popleft()
        waiting.append((request, answers))
        # One timer watches all of them: they come in order, but for those that have waited before.
        if request.end < self._alarm_end:
            self._set_alarm(request)

    def _set_alarm(self, request: Request) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_later(request.count_left(), self._end_waiting)
        self._alarm_end = request.end

    def _end_waiting(self) -> None:
        """Tells those whose request is over; their replies are nobody's when they come."""
        self._alarm, self._alarm_end = None, inf
        waiting, self._waiting = self._waiting, deque()
        for request, answers in waiting:
            if not request.is_over():
                self._limit(request, answers)
                continue
            for answer in answers:
                if not answer.done():
                    answer.set_result(make_late_failure(sent=True))

    def _check_silence(self, timeout: float) -> None:
        self._watchdog = None
        if self._pending and self._link is not None:
            loop = asyncio.get_running_loop()
            left = self._link.heard_at + timeout - loop.time()
            if left > 0:
                self._watchdog = loop.call_later(left, self._check_silence, timeout)
            else:
                # A process that was stopped meanwhile hasn't read yet what has come: after one
                # more turn of the loop it has.
                self._watchdog = loop.call_later(
                    0, self._end_silence, timeout, self._link, self._link.heard_at
                )

    def _end_silence(self, timeout: float, link: Link, heard_at: float) -> None:
        self._watchdog = None
        if link is self._link and link.heard_at == heard_at:
            self._part(f"no reply came for {timeout:g} seconds", None)
        elif self._pending:
            self._check_silence(timeout)


class SentinelChannel(Channel):
    """The connection to whichever server is the primary: one that isn't any more says READONLY."""

    async def request(self, commands: Sequence[Command], request: Request) -> list[Any]:
        """See :class:`Channel`."""
        replies = await super().request(commands, request)
        demotion = find_demotion(replies)
        if demotion is None:
            return replies
        # The next connection is to the server that the sentinels name then.
        self.hang_up(_CLOSED)
        return [demotion] * len(commands)


class _Loan:
    """A connection that a channel has, and the settings that it goes back with.

    Attributes:
        timeout: for how many seconds the server may be silent.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._retry = connection.retry
        self.timeout: float | None = connection.socket_timeout
        # The client's retries are counted once, around the whole call; and one timer watches the
        # whole connection, where redis-py starts one for each read.
        connection.retry, connection.socket_timeout = ASYNC_ONCE, None

    async def end(self, source: Source, *, is_usable: bool) -> None:
        """Gives the connection back.

        Args:
            source: where it came from.
            is_usable: whether it stays open.
        """
        connection = self._connection
        connection.retry, connection.socket_timeout = self._retry, self.timeout
        if not is_usable:
            await connection.disconnect(nowait=True)
        await source.release(connection)

    async def bury(self, source: Source) -> None:
        """Gives back a connection whose event loop was closed, and can't close it any more."""
        with suppress(RuntimeError):
            await self._connection.disconnect(nowait=True)
        await self.end(source, is_usable=True)


Legacy: TypeAlias = tuple[_Loan | None, Source]
"""The connection that a channel had, and where it came from."""


async def _bury(loans: Sequence[Legacy], heir: Source) -> None:
    for loan, source in loans:
        if loan is not None:
            await loan.bury(source)
    # The same becomes of connections that were given back before.
    with suppress(RuntimeError):
        await heir.drop_idle()
