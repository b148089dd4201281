"""A seam that leaves a server time for others."""

from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from aqm_db._model.defaults import Sleep
from aqm_db.errors import AQMDatabaseError

from .seam import Argument, Call, Reply, Seam, Undo

_LONGEST_PAUSE = 1.0
"""Seconds: a call that took long because the server was away needs no rest for that."""


class Pace:
    """Pauses in proportion to the time worked, so that a busy server is asked less.

    Args:
        sleep: waits for some seconds.
        seconds: a clock that runs forward only.
        rest: how many times as long as it was worked before it's paused.
    """

    def __init__(self, sleep: Sleep, seconds: Callable[[], float], rest: float) -> None:
        self._sleep = sleep
        self._seconds = seconds
        self._rest = rest
        self._due = 0.0

    async def pause(self) -> None:
        """Takes the pause that is due."""
        due, self._due = min(self._due, _LONGEST_PAUSE), 0.0
        if due:
            await self._sleep(due)

    @contextmanager
    def work(self) -> Generator[None]:
        """Has a pause become due by the time that a block takes."""
        began = self._seconds()
        try:
            yield
        finally:
            self._due += (self._seconds() - began) * self._rest


class PacedSeam:
    """A seam that pauses before each request, for as long as the ones before it give cause.

    Args:
        seam: what is behind it.
        pace: how long.
    """

    def __init__(self, seam: Seam, pace: Pace) -> None:
        self._seam = seam
        self._pace = pace

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """See :class:`~aqm_db._io.seam.Seam`."""
        await self._pace.pause()
        with self._pace.work():
            return await self._seam.run(call, undo)

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        await self._pace.pause()
        with self._pace.work():
            return await self._seam.run_all(calls, undos)

    async def read(self, *commands: Sequence[Argument]) -> list[Any]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        await self._pace.pause()
        with self._pace.work():
            return await self._seam.read(*commands)

    async def scan(self, pattern: str, within: str | None = None) -> AsyncIterator[list[bytes]]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        pages = aiter(self._seam.scan(pattern, within))
        while True:
            await self._pace.pause()
            with self._pace.work():
                page = await anext(pages, None)
            if page is None:
                return
            yield page

    def distrust(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        self._seam.distrust()

    async def aclose(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        await self._seam.aclose()
