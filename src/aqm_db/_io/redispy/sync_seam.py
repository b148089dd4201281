"""The seam over ``redis``: its coroutines do their I/O before they return, and never suspend."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aqm_db import config
from aqm_db._io import answers
from aqm_db._io.confirming import Confirmation
from aqm_db._io.failures import Denial
from aqm_db._io.request import Request, ServerClock
from aqm_db._io.seam import Argument, Call, Command, Reply, Undo
from aqm_db.errors import AQMDatabaseError, UnavailableError

from .sync_exchange import Exchange


class SyncSeam:
    """A :class:`~aqm_db._io.seam.Seam` over a client of the caller's, for any number of threads.

    Args:
        begin_exchange: begins the requests of one call; it takes ``patience`` as :class:`Exchange`
            does.
        unavailable: what is raised when the server can't be reached.
        confirmation: what every change waits for.
        settle_timeout: how long an interrupted call finds out what it did, in ms.
        server_clock: what the server's clock shows.
    """

    def __init__(
        self,
        begin_exchange: Callable[..., Exchange],
        unavailable: type[UnavailableError],
        confirmation: Confirmation | None = None,
        settle_timeout: int = config.SETTLE_TIMEOUT,
        server_clock: ServerClock | None = None,
    ) -> None:
        self._begin_exchange = begin_exchange
        self._settle_seconds = settle_timeout / 1000
        self._server_clock = server_clock or ServerClock()
        self._unavailable = unavailable
        self._confirmation = confirmation

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """See :class:`~aqm_db._io.seam.Seam`; here it's a KeyboardInterrupt that cancels."""
        exchange, request = self._begin_exchange(), self._begin_request()
        try:
            change = self._change_by(exchange, (call,), request)
            reply = await answers.run(change, call, request)
        except AQMDatabaseError:
            raise
        except BaseException:
            await self._settle(exchange, (call,), None if undo is None else (undo,), request)
            raise
        answers.note_answer(call, reply, request)
        return reply

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """See :class:`~aqm_db._io.seam.Seam`; here it's a KeyboardInterrupt that cancels."""
        exchange, request = self._begin_exchange(), self._begin_request()
        try:
            change = self._change_by(exchange, calls, request)
            replies = await answers.run_all(change, calls, request)
        except AQMDatabaseError:
            raise
        except BaseException:
            await self._settle(exchange, calls, undos, request)
            raise
        answers.note_answers(calls, replies, request)
        return replies

    async def read(self, *commands: Command) -> list[Any]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return await answers.read(self._ask, commands, self._begin_request())

    async def delete(self, *keys: Argument) -> int:
        """See :class:`~aqm_db._io.seam.ClientSeam`."""
        ask = self._confirm(self._begin_exchange())
        return await answers.delete(ask, keys, self._begin_request())

    async def probe(self, *commands: Command) -> list[Denial | None]:
        """See :class:`~aqm_db._io.seam.ClientSeam`."""
        return await answers.probe(self._ask, commands, self._begin_request())

    def scan(self, pattern: str, within: str | None = None) -> AsyncIterator[list[bytes]]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return answers.scan(self._ask, self._begin_request, pattern, within)

    def distrust(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        self._begin_exchange().hang_up()

    async def aclose(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`; each call has given its connection back already."""

    async def _settle(
        self,
        interrupted: Exchange,
        calls: Sequence[Call],
        undos: Sequence[Undo] | None,
        request: Request,
    ) -> None:
        if undos is None or not (interrupted.sent and answers.need_settling(calls, request)):
            return
        request.begin_settling()
        # Once: whoever interrupted it may have done so because nothing answers.
        exchange = self._begin_exchange(patience=self._settle_seconds)

        async def undo_all(backs: Sequence[Call]) -> list[Reply | AQMDatabaseError]:
            confirm = None if self._confirmation is None else self._confirm(exchange)
            return await answers.undo_all(exchange.ask, confirm, backs, self._begin_request())

        try:
            # Unconfirmed: replicas may be silent for longer than an answer is waited for.
            error = await answers.settle(exchange.ask, calls, undos, request, undo_all)
        except AQMDatabaseError as failure:
            error = failure
        if error is not None:
            answers.warn_of_unknown(calls, error)

    def _change_by(
        self, exchange: Exchange, calls: Sequence[Call], request: Request
    ) -> answers.Ask:
        """What sends calls that change something."""
        if self._confirmation is None:
            return exchange.ask
        return answers.confirm_dated(exchange.ask, self._confirm(exchange), calls, request)

    def _confirm(self, exchange: Exchange) -> answers.Ask:
        if self._confirmation is None:
            return exchange.ask
        return self._confirmation.wrap_ask(exchange.ask, self._unavailable)

    def _begin_request(self) -> Request:
        return Request(self._server_clock, self._unavailable)

    async def _ask(self, commands: Sequence[Command], request: Request) -> list[Any]:
        return await self._begin_exchange().ask(commands, request)
