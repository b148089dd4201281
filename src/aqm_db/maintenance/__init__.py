"""Background care for a database: garbage collection, purge, and a rewrite of its file."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from aqm_db._background import run_beside
from aqm_db._model.checks import check_seconds
from aqm_db._model.defaults import Sleep
from aqm_db.errors import AQMDatabaseError

from ._all_owners import AllOwnersRounds
from ._care import Care
from ._own import OwnRounds
from ._site import Site

__all__ = ["AllOwnersRounds", "Care", "Maintenance", "OwnRounds", "Rounds", "Site"]

_log = logging.getLogger("aqm_db.maintenance")
_RETRY_SECONDS = 60.0
_JITTER = 0.1
"""The part of the interval by which a round comes early or late, so that programs don't meet."""


class Rounds(Protocol):
    """What is done again and again."""

    async def run_if_due(self, every: float, sleep: Sleep, /) -> object:
        """Runs a round, unless somebody has run one in the interval.

        Args:
            every: the interval, in seconds.
            sleep: waits for some seconds.

        Raises:
            AQMDatabaseError: what stopped it.
        """
        ...


class Maintenance:
    """Rounds of care that go on beside a program.

    Args:
        rounds: what is done.
        every: seconds from one round to the next.
        uniform: a random number between two.

    Raises:
        InvalidArgumentError: a number is out of range.
    """

    def __init__(
        self, rounds: Rounds, *, every: float, uniform: Callable[[float, float], float]
    ) -> None:
        self._rounds = rounds
        self._every = check_seconds("every", every)
        self._uniform = uniform

    @asynccontextmanager
    async def running(self, sleep: Sleep | None) -> AsyncGenerator[None]:
        """Has its rounds until the block ends.

        Args:
            sleep: waits for some seconds; None is ``anyio.sleep``.

        Raises:
            InvalidArgumentError: anyio isn't installed.
        """
        async with run_beside(self._work, sleep):
            yield

    async def _work(self, sleep: Sleep) -> None:
        while True:
            is_done = await self._try_round(sleep)
            delay = self._every if is_done else min(self._every, _RETRY_SECONDS)
            await sleep(delay * self._uniform(1 - _JITTER, 1 + _JITTER))

    async def _try_round(self, sleep: Sleep) -> bool:
        try:
            await self._rounds.run_if_due(self._every, sleep)
        except AQMDatabaseError as error:
            _log.warning(
                "maintenance_failed",
                extra={"error": type(error).__name__, "carried_out": error.carried_out},
            )
            return False
        return True
