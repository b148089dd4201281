"""Rounds of care for one owner; of all programs on one database, one has them."""

import logging
from contextlib import suppress

from aqm_db._background import delay_cancellation
from aqm_db._io.seam import Call
from aqm_db._model.defaults import Sleep
from aqm_db._operations import Scope
from aqm_db._operations.layout import try_adoption
from aqm_db._operations.turn import build_drop, build_take, read_take
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import AQMDatabaseError
from aqm_db.gc import AsyncGarbageCollector
from aqm_db.vault import AsyncSecureVault

from ._care import Care, care_for_server

_log = logging.getLogger("aqm_db.maintenance")


class OwnRounds:
    """Care for a database's own owner.

    Args:
        vault: what is purged.
        gc: what collects garbage.
        scope: whose database it is.
        holder: this program's own id.
        care: what is garbage, and what is old.
        server: the embedded server; None if it's another one.
    """

    def __init__(
        self,
        vault: AsyncSecureVault,
        gc: AsyncGarbageCollector,
        scope: Scope,
        *,
        holder: str,
        care: Care,
        server: EmbeddedServer | None,
    ) -> None:
        self._vault = vault
        self._gc = gc
        self._scope = scope
        self._holder = holder
        self._care = care
        self._server = server

    async def run_if_due(self, every: float, _: Sleep) -> None:
        """See :class:`~aqm_db.maintenance.Rounds`."""
        if await self._is_due(every):
            await self._run_round()

    async def _is_due(self, every: float) -> bool:
        """Takes the turn, which lasts for the interval, so that nobody has another round in it."""
        # The turn is for somebody who can do what it is for.
        await try_adoption(self._vault.scope, self._scope)
        take = build_take(self._scope, self._holder, int(every * 1000))
        return read_take(await self._scope.seam.run(take, lambda _: self._build_drop()))

    async def _run_round(self) -> None:
        done = False
        try:
            removed = await self._care.care_for(self._vault, self._gc, self._scope)
            rewritten = await care_for_server(self._server, self._scope.seam)
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
                "keys_deleted": removed.keys_deleted,
                "keys_purged": removed.keys_purged,
                "rewritten": rewritten,
            },
        )

    def _build_drop(self) -> Call:
        return build_drop(self._scope, self._holder)
