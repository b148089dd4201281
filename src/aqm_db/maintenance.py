"""Background care for a database: garbage collection, purge, and a rewrite of its file."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from ._background import delay_cancellation, run_beside
from ._io.facts import is_refusal, read_facts
from ._io.seam import Call
from ._model.checks import check_days, check_seconds
from ._model.defaults import Sleep
from ._operations import Scope
from ._operations.clock import read_clock_record
from ._operations.turn import build_drop, build_take, read_take
from .embedded import EmbeddedServer
from .errors import AQMDatabaseError
from .gc import AsyncGarbageCollector
from .vault import AsyncSecureVault

_log = logging.getLogger("aqm_db.maintenance")
_RETRY_SECONDS = 60.0
_REWRITE_ATTEMPTS = 3
_JITTER = 0.1
"""The part of the interval by which a round comes early or late, so that programs don't meet."""


class Maintenance:
    """Rounds of care; of all programs on one database, one has them.

    Args:
        vault: what is purged.
        gc: what collects garbage.
        scope: whose database it is.
        holder: this program's own id.
        every: seconds from one round to the next.
        inactive_days: days without a message after which a contact's coins are collected.
        max_age_days: days after which private halves are purged.
        server: the embedded server, whose append-only file is rewritten, so that what was burned
            leaves the disk, and whose log is cut; None if it's another one.
        uniform: a random number between two.

    Raises:
        InvalidArgumentError: a number is out of range.
    """

    def __init__(
        self,
        vault: AsyncSecureVault,
        gc: AsyncGarbageCollector,
        scope: Scope,
        *,
        holder: str,
        every: float,
        inactive_days: int,
        max_age_days: int,
        server: EmbeddedServer | None,
        uniform: Callable[[float, float], float],
    ) -> None:
        self._vault = vault
        self._gc = gc
        self._scope = scope
        self._holder = holder
        self._every = check_seconds("every", every)
        self._inactive_days = check_days("inactive_days", inactive_days)
        self._max_age_days = check_days("max_age_days", max_age_days)
        self._server = server
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
            delay = self._every if await self._run_if_due() else min(self._every, _RETRY_SECONDS)
            await sleep(delay * self._uniform(1 - _JITTER, 1 + _JITTER))

    async def _run_if_due(self) -> bool:
        try:
            if await self._is_due():
                await self._run_round()
        except AQMDatabaseError as error:
            _log.warning(
                "maintenance_failed",
                extra={"error": type(error).__name__, "carried_out": error.carried_out},
            )
            return False
        return True

    async def _is_due(self) -> bool:
        """Takes the turn, which lasts for the interval, so that nobody has another round in it."""
        # A round walks, and the turn is for somebody who can.
        await self._scope.try_walk(self._scope.keys.meta_pattern())
        take = build_take(self._scope, self._holder, int(self._every * 1000))
        return read_take(await self._scope.seam.run(take, lambda _: self._build_drop()))

    async def _run_round(self) -> None:
        done = False
        try:
            collected = await self._gc.garbage_collect(self._inactive_days)
            await self._look_at_clock()
            purged = await self._vault.purge_expired(self._max_age_days)
            rewritten = self._server is not None and await self._care_for(self._server)
            done = True
        finally:
            if not done:
                # Another program needn't wait until the turn ends, and may have more luck. It's
                # the round that failed, whatever becomes of this.
                with delay_cancellation(), suppress(AQMDatabaseError):
                    await self._scope.seam.run(self._build_drop())
        _log.info(
            "maintenance_completed",
            extra={
                "keys_deleted": collected.keys_deleted,
                "keys_purged": purged,
                "rewritten": rewritten,
            },
        )

    async def _look_at_clock(self) -> None:
        """Logs that the server's clock has jumped, since nothing is erased by it for a while."""
        record = await read_clock_record(self._scope.seam, self._scope.keys.inv_watch)
        if record is not None and record.jump:
            _log.warning("clock_jumped", extra={"seconds": record.jump // 1000})

    def _build_drop(self) -> Call:
        return build_drop(self._scope, self._holder)

    async def _care_for(self, server: EmbeddedServer) -> bool:
        server.trim_log()
        return await self._rewrite()

    async def _rewrite(self) -> bool:
        """Starts a rewrite of the append-only file (BGREWRITEAOF), unless one is going on."""
        attempts = _REWRITE_ATTEMPTS
        while not (await read_facts(self._scope.seam, "persistence")).is_rewriting:
            attempts -= 1
            try:
                await self._scope.seam.read(("BGREWRITEAOF",))
            except AQMDatabaseError as error:
                # The server's own may have begun since, or one that was in the way have ended.
                if not (attempts and is_refusal(error)):
                    raise
            else:
                return True
        return False
