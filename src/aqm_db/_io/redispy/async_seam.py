"""The seam over ``redis.asyncio``: retries and cancellation."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from redis.asyncio.retry import Retry

from aqm_db import config
from aqm_db._io import answers
from aqm_db._io.confirming import Confirmation
from aqm_db._io.failures import Denial, LinkFailure, conclude_attempts, find_failure
from aqm_db._io.request import Request
from aqm_db._io.seam import Argument, Call, Command, Reply, Undo
from aqm_db._io.shielding import await_end
from aqm_db.errors import AQMDatabaseError, UnavailableError

from .async_channel import CancelledAfterSending
from .async_loops import AnyChannel
from .async_settling import settle_in_time
from .retries import ASYNC_ONCE, AttemptError, Attempts, limit_pauses


class AsyncSeam:
    """A :class:`~aqm_db._io.seam.Seam` over a client of the caller's.

    Args:
        channel: where requests go.
        get_retry: the client's retry policy, as it is when a request fails.
        unavailable: what is raised when the server can't be reached.
        confirmation: what every change waits for.
        settle_timeout: how long a cancelled call finds out what it did, in ms.
    """

    def __init__(
        self,
        channel: AnyChannel,
        get_retry: Callable[[], Retry | None],
        unavailable: type[UnavailableError],
        confirmation: Confirmation | None = None,
        settle_timeout: int = config.SETTLE_TIMEOUT,
    ) -> None:
        self._channel = channel
        self._get_retry = get_retry
        self._unavailable = unavailable
        self._confirmation = confirmation
        self._settle_seconds = settle_timeout / 1000
        self._change: answers.Ask = self._ask
        if confirmation is not None:
            self._change = confirmation.wrap_ask(self._ask, unavailable)

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """See :class:`~aqm_db._io.seam.Seam`."""
        request = self._begin_request()
        try:
            reply = await answers.run(self._change_by((call,), request), call, request)
        except CancelledAfterSending as cancelled:
            await self._settle((call,), None if undo is None else (undo,), request)
            raise asyncio.CancelledError(*cancelled.args) from None
        answers.note_answer(call, reply, request)
        return reply

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        answered = False
        request = self._begin_request()
        change = self._change_by(calls, request)

        async def ask(commands: Sequence[Command], request: Request) -> list[Any]:
            nonlocal answered
            replies = await change(commands, request)
            answered = True
            return replies

        try:
            outcomes = await answers.run_all(ask, calls, request)
        except asyncio.CancelledError as cancelled:
            # A batch takes several requests where the server forgot its script.
            if answered or isinstance(cancelled, CancelledAfterSending):
                await self._settle(calls, undos, request)
            raise asyncio.CancelledError(*cancelled.args) from None
        answers.note_answers(calls, outcomes, request)
        return outcomes

    async def read(self, *commands: Command) -> list[Any]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return await answers.read(self._look, commands, self._begin_request())

    async def delete(self, *keys: Argument) -> int:
        """See :class:`~aqm_db._io.seam.ClientSeam`."""
        ask = partial(_ask_plainly, self._change)
        return await answers.delete(ask, keys, self._begin_request())

    async def probe(self, *commands: Command) -> list[Denial | None]:
        """See :class:`~aqm_db._io.seam.ClientSeam`."""
        return await answers.probe(self._look, commands, self._begin_request())

    def scan(self, pattern: str, within: str | None = None) -> AsyncIterator[list[bytes]]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return answers.scan(self._look, self._begin_request, pattern, within)

    def delay_closing(self) -> AbstractContextManager[None]:
        """Keeps :meth:`aclose` waiting until a block ends."""
        return self._channel.delay_closing()

    def distrust(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        self._channel.hang_up("the link is out of step")

    async def aclose(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        await self._channel.aclose()

    def _begin_request(self) -> Request:
        return Request(self._channel.server_clock, self._unavailable)

    async def _look(self, commands: Sequence[Command], request: Request) -> list[Any]:
        """Sends commands that change nothing."""
        return await _ask_plainly(self._ask, commands, request)

    def _change_by(self, calls: Sequence[Call], request: Request) -> answers.Ask:
        """What sends calls that change something."""
        if self._confirmation is None:
            return self._ask
        return answers.confirm_dated(self._ask, self._change, calls, request)

    async def _ask(self, commands: Sequence[Command], request: Request) -> list[Any]:
        """Sends commands until they are answered, or the client's retry policy gives up."""
        replies = await self._channel.request(commands, request)
        failure = find_failure(replies)
        if failure is None:
            return replies
        return await self._ask_again(commands, failure, request)

    async def _ask_again(
        self, commands: Sequence[Command], first: LinkFailure, request: Request
    ) -> list[Any]:
        attempts = Attempts(first, request)

        async def attempt() -> list[Any]:
            attempts.begin()
            return attempts.check(await self._channel.request(commands, request))

        policy = limit_pauses(self._get_retry() or ASYNC_ONCE, request)
        try:
            with self._channel.delay_closing():
                return await policy.call_with_retry(attempt, _clean_nothing, attempts.is_due)
        except AttemptError:
            return conclude_attempts(attempts.failures, self._unavailable)
        except asyncio.CancelledError as cancelled:
            if request.is_doubtful:
                raise CancelledAfterSending(*cancelled.args) from None
            raise

    async def _settle(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None, request: Request
    ) -> None:
        """Takes back what cancelled calls did, whatever else is cancelled meanwhile."""
        if self._channel.is_of_parent() or not answers.need_settling(calls, request):
            # A copy of the parent's call is cancelled where a child ends: the parent waits for it.
            return
        request.begin_settling()
        backs = [_undo_nothing] * len(calls) if undos is None else undos

        async def settle() -> AQMDatabaseError | None:
            # Unconfirmed: the server knows a request for a while only, and what waits may take it.
            return await answers.settle(self._look, calls, backs, request, self._undo_all)

        give_up = partial(answers.warn_of_unknown, calls)
        while True:
            working = settle_in_time(settle, request, self._settle_seconds, give_up)
            settling = asyncio.create_task(working)
            self._channel.add_settling(settling)
            if not await await_end(settling, self._settle_seconds):
                answers.warn_of_delay(calls)
                return
            # An event loop that ends may cancel it before its first step.
            if not settling.cancelled():
                settling.result()
                return

    async def _undo_all(self, calls: Sequence[Call]) -> list[Reply | AQMDatabaseError]:
        confirm = None if self._confirmation is None else partial(_ask_plainly, self._change)
        return await answers.undo_all(self._look, confirm, calls, self._begin_request())


async def _ask_plainly(
    ask: answers.Ask, commands: Sequence[Command], request: Request
) -> list[Any]:
    """Sends commands of which a cancelled caller leaves nothing to settle."""
    try:
        return await ask(commands, request)
    except CancelledAfterSending as cancelled:
        # asyncio.timeout takes no other class for a cancellation, not even one of that kind.
        raise asyncio.CancelledError(*cancelled.args) from None


def _undo_nothing(_: Reply) -> None:
    """Of a call whose effect stays."""


async def _clean_nothing(_: Exception) -> None:
    """The channel gives a failed connection back by itself."""
