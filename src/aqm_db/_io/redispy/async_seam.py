"""The seam over ``redis.asyncio``: retries and cancellation."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from redis.asyncio.retry import Retry

from aqm_db._io import answers
from aqm_db._io.confirming import Confirmation
from aqm_db._io.failures import Denial, LinkFailure, conclude_attempts, find_failure
from aqm_db._io.seam import Argument, Call, Command, Reply, Undo
from aqm_db._io.shielding import shield_task
from aqm_db.errors import AQMDatabaseError, UnavailableError

from .async_channel import CancelledAfterSending
from .async_loops import AnyChannel
from .retries import ASYNC_ONCE, AttemptError, Attempts


class AsyncSeam:
    """A :class:`~aqm_db._io.seam.Seam` over a client of the caller's.

    Args:
        channel: where requests go.
        get_retry: the client's retry policy, as it is when a request fails.
        unavailable: what is raised when the server can't be reached.
        confirmation: what every change waits for.
    """

    def __init__(
        self,
        channel: AnyChannel,
        get_retry: Callable[[], Retry | None],
        unavailable: type[UnavailableError],
        confirmation: Confirmation | None = None,
    ) -> None:
        self._channel = channel
        self._get_retry = get_retry
        self._unavailable = unavailable
        self._confirmation = confirmation
        self._change: answers.Ask = self._confirm(self._ask)

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """See :class:`~aqm_db._io.seam.Seam`."""
        try:
            return await answers.run(self._change, call)
        except CancelledAfterSending as cancelled:
            await self._settle((call,), None if undo is None else (undo,), cancelled)
            raise asyncio.CancelledError(*cancelled.args) from None

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        answered = False

        async def ask(commands: Sequence[Command]) -> list[Any]:
            nonlocal answered
            replies = await self._change(commands)
            answered = True
            return replies

        try:
            return await answers.run_all(ask, calls)
        except asyncio.CancelledError as cancelled:
            # A batch takes several requests where the server forgot its script.
            if answered or isinstance(cancelled, CancelledAfterSending):
                await self._settle(calls, undos, cancelled)
            raise asyncio.CancelledError(*cancelled.args) from None

    async def read(self, *commands: Command) -> list[Any]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return await answers.read(self._look, commands)

    async def delete(self, *keys: Argument) -> int:
        """See :class:`~aqm_db._io.seam.ClientSeam`."""
        return await answers.delete(partial(_ask_plainly, self._change), keys)

    async def probe(self, *commands: Command) -> list[Denial | None]:
        """See :class:`~aqm_db._io.seam.ClientSeam`."""
        return await answers.probe(self._look, commands)

    def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return answers.scan(self._look, pattern)

    def distrust(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        self._channel.hang_up("the link is out of step")

    async def aclose(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        await self._channel.aclose()

    async def _look(self, commands: Sequence[Command]) -> list[Any]:
        """Sends commands that change nothing."""
        return await _ask_plainly(self._ask, commands)

    def _confirm(self, ask: answers.Ask) -> answers.Ask:
        if self._confirmation is None:
            return ask
        return self._confirmation.wrap_ask(ask, self._unavailable)

    async def _ask(self, commands: Sequence[Command], end: float | None = None) -> list[Any]:
        """Sends commands until they are answered, or the client's retry policy gives up.

        Args:
            commands: what to send.
            end: until when they may be sent again, if they were sent before.
        """
        replies = await self._channel.request(commands)
        failure = find_failure(replies)
        if failure is None:
            return replies
        return await self._ask_again(commands, failure, end)

    async def _ask_again(
        self, commands: Sequence[Command], first: LinkFailure, end: float | None
    ) -> list[Any]:
        time = asyncio.get_running_loop().time
        last = time() + answers.REPEATABLE_SECONDS if end is None else end
        attempts = Attempts(first, last, time)

        async def attempt() -> list[Any]:
            attempts.begin()
            return attempts.check(await self._channel.request(commands))

        policy = self._get_retry() or ASYNC_ONCE
        try:
            with self._channel.delay_closing():
                return await policy.call_with_retry(attempt, _clean_nothing, attempts.is_due)
        except AttemptError:
            return conclude_attempts(attempts.failures, self._unavailable)
        except asyncio.CancelledError as cancelled:
            if attempts.may_be_executed():
                after_sending = CancelledAfterSending(*cancelled.args)
                after_sending.end = last
                raise after_sending from None
            raise

    async def _settle(
        self,
        calls: Sequence[Call],
        undos: Sequence[Undo] | None,
        cancelled: asyncio.CancelledError,
    ) -> None:
        """Takes back what cancelled calls did, whatever else is cancelled meanwhile."""
        if self._channel.is_of_parent():
            # A copy of the parent's call, cancelled where a child ends: the parent waits for it.
            return
        end = cancelled.end if isinstance(cancelled, CancelledAfterSending) else None

        async def ask(commands: Sequence[Command]) -> list[Any]:
            if end is not None and asyncio.get_running_loop().time() >= end:
                # The server doesn't remember the request any more: it would take a second coin.
                raise self._unavailable("it's too late to ask again", outcome_unknown=True)
            return await self._ask(commands, end)

        repeat = self._confirm(ask)
        with self._channel.delay_closing(), shield_task():
            while True:
                settling = answers.settle(repeat, self._change, calls, undos)
                task = asyncio.create_task(settling)
                while not task.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait((task,))
                # An event loop that ends cancels this task, too. What it asks may be asked again.
                if not task.cancelled():
                    return


async def _ask_plainly(ask: answers.Ask, commands: Sequence[Command]) -> list[Any]:
    """Sends commands of which a cancelled caller leaves nothing to settle."""
    try:
        return await ask(commands)
    except CancelledAfterSending as cancelled:
        # asyncio.timeout takes no other class for a cancellation, not even one of that kind.
        raise asyncio.CancelledError(*cancelled.args) from None


async def _clean_nothing(_: Exception) -> None:
    """The channel gives a failed connection back by itself."""
