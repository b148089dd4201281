"""The seam over ``redis``: its coroutines do their I/O before they return, and never suspend."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aqm_db._io import answers
from aqm_db._io.confirming import Confirmation
from aqm_db._io.failures import Denial
from aqm_db._io.seam import Argument, Call, Command, Reply, Undo
from aqm_db.errors import AQMDatabaseError, UnavailableError

from .sync_exchange import Exchange


class SyncSeam:
    """A :class:`~aqm_db._io.seam.Seam` over a client of the caller's, for any number of threads.

    Args:
        begin_exchange: begins the requests of one call; it takes ``repeats`` as :class:`Exchange`
            does.
        unavailable: what is raised when the server can't be reached.
        confirmation: what every change waits for.
    """

    def __init__(
        self,
        begin_exchange: Callable[..., Exchange],
        unavailable: type[UnavailableError],
        confirmation: Confirmation | None = None,
    ) -> None:
        self._begin_exchange = begin_exchange
        self._unavailable = unavailable
        self._confirmation = confirmation

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """See :class:`~aqm_db._io.seam.Seam`; here it's a KeyboardInterrupt that cancels."""
        exchange = self._begin_exchange()
        try:
            return await answers.run(self._confirm(exchange), call)
        except AQMDatabaseError:
            raise
        except BaseException:
            await self._settle(exchange, (call,), None if undo is None else (undo,))
            raise

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """See :class:`~aqm_db._io.seam.Seam`; here it's a KeyboardInterrupt that cancels."""
        exchange = self._begin_exchange()
        try:
            return await answers.run_all(self._confirm(exchange), calls)
        except AQMDatabaseError:
            raise
        except BaseException:
            await self._settle(exchange, calls, undos)
            raise

    async def read(self, *commands: Command) -> list[Any]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return await answers.read(self._ask, commands)

    async def delete(self, *keys: Argument) -> int:
        """See :class:`~aqm_db._io.seam.ClientSeam`."""
        return await answers.delete(self._confirm(self._begin_exchange()), keys)

    async def probe(self, *commands: Command) -> list[Denial | None]:
        """See :class:`~aqm_db._io.seam.ClientSeam`."""
        return await answers.probe(self._ask, commands)

    def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return answers.scan(self._ask, pattern)

    def distrust(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        self._begin_exchange().hang_up()

    async def aclose(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`; each call has given its connection back already."""

    async def _settle(
        self, interrupted: Exchange, calls: Sequence[Call], undos: Sequence[Undo] | None
    ) -> None:
        if undos is not None and interrupted.sent:
            # Once: whoever interrupted it may have done so because nothing answers.
            once = self._begin_exchange(repeats=False)
            ask = self._confirm(once)
            await answers.settle(ask, ask, calls, undos)

    def _confirm(self, exchange: Exchange) -> answers.Ask:
        if self._confirmation is None:
            return exchange.ask
        return self._confirmation.wrap_ask(exchange.ask, self._unavailable)

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        return await self._begin_exchange().ask(commands)
