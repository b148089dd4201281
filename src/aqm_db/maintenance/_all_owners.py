"""Rounds of care for all owners of a database, by one program or by several that share the work."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import TypeAlias

from aqm_db._background import Raised, call_client, delay_cancellation, give_out, share_out
from aqm_db._io.pacing import Pace, PacedSeam
from aqm_db._model.checks import check_callable
from aqm_db._model.defaults import DAY_MS, Sleep
from aqm_db._model.keys import INDEXES_PATTERN
from aqm_db._operations import Scope
from aqm_db._operations.rounds import (
    build_advance,
    build_begin,
    read_advance,
    read_begin,
    read_progress,
)
from aqm_db._operations.turn import (
    Visit,
    build_drop,
    build_keep,
    build_look,
    build_visit,
    read_look,
    read_visit,
)
from aqm_db.errors import AQMDatabaseError, UnavailableError
from aqm_db.types import MaintenanceProgress

from ._care import Care
from ._site import Layer, Place, Site

Report: TypeAlias = Callable[[MaintenanceProgress], Awaitable[object] | object]
"""Told how far a round is; a plain function or a coroutine function."""

_log = logging.getLogger("aqm_db.maintenance")
_WORKERS = 4
"""Owners who are cared for at once: one with much to do keeps one worker busy, and no other."""
_REST = 4.0
"""How many times as long as a worker has waited for a server it leaves that to others."""
_WORKING_SECONDS = 60.0
"""How long an owner is left to whoever cares for them, and may have died. Where it takes longer,
another program may do the same at the same time, which does no harm."""
_MET_AT_MOST = 100_000
"""Owners that a program remembers having met, some megabytes of them: they come twice, by their
contacts and by their private halves. Whoever is forgotten again is passed over by the server."""
_NOTE_EVERY = 100
"""Owners after which it's noted how far the round is."""
_EARLY = 0.9
"""The part of the interval after which a round is due: who waits comes early or late."""


class AllOwnersRounds:
    """Care for all owners of a database, and for its data without one if it has none itself.

    A round walks the database once. Who was cared for in a round is passed over when they come
    again in it, as with programs that share the work, and with one that has died and was started
    again.

    Args:
        site: all owners.
        care: what is done for each.
        report: told how far a round is, now and then; None for nobody.
        seconds: a clock that runs forward only.

    Raises:
        InvalidArgumentError: ``report`` can't be called.
    """

    def __init__(
        self,
        site: Site,
        care: Care,
        *,
        report: Report | None = None,
        seconds: Callable[[], float] = perf_counter,
    ) -> None:
        self._site = site
        self._care = care
        self._report = None if report is None else check_callable("report", report)
        self._seconds = seconds

    async def run_if_due(self, every: float, sleep: Sleep) -> bool:
        """See :class:`~aqm_db.maintenance.Rounds`; a round that is under way is gone on with.

        Returns:
            Whether a round was due.
        """
        scope = self._site.open_own()
        # A round walks, and is for somebody who can.
        await scope.try_walk(INDEXES_PATTERN)
        call = build_begin(scope, int(every * 1000 * _EARLY))
        begun = read_begin(await scope.seam.run(call))
        if begun.is_due:
            record = _Record(scope, begun.began, self._report)
            round_ = _Round(self._site, self._care, record, every, sleep, self._seconds)
            await round_.run()
        return begun.is_due


class _Record:
    """How far this program is with a round, and where that is noted.

    Args:
        scope: the provider's own database.
        began: the round's number.
        report: told how far the round is.

    Attributes:
        cared: how many owners were cared for.
        failed: how many couldn't be.
        deleted: how many coins were deleted.
        purged: how many private halves were.
    """

    def __init__(
        self,
        scope: Scope,
        began: int,
        report: Report | None,
    ) -> None:
        self.cared = self.failed = self.deleted = self.purged = 0
        self.began: int = began
        # Whoever goes on after a failure counts anew, and so is somebody else.
        self._holder = scope.request_ids()
        self._scope = scope
        self._report = report
        self._noted = 0

    async def note_sometimes(self) -> bool:
        """Notes it, after some owners; see :meth:`note`."""
        if self.cared + self.failed < self._noted + _NOTE_EVERY:
            return True
        return await self.note()

    async def note(self, *, is_over: bool = False) -> bool:
        """Notes it.

        Returns:
            False if another round has begun since: somebody took this one for given up.
        """
        self._noted = self.cared + self.failed
        counts = (self.cared, self.failed)
        call = build_advance(self._scope, self.began, self._holder, *counts, is_over=is_over)
        is_newest = read_advance(await self._scope.seam.run(call))
        await self._tell()
        return is_newest

    async def _tell(self) -> None:
        if self._report is None or (progress := await read_progress(self._scope)) is None:
            return
        answer = await call_client(self._report, progress)
        if isinstance(answer, Raised):
            _log.warning("report_failed", extra={"error": type(answer.error).__name__})


class _Round:
    """One program's part of a round.

    Args:
        site: all owners.
        care: what is done for each.
        record: how far it is.
        every: the interval, in seconds.
        sleep: waits for some seconds.
        seconds: a clock that runs forward only.
    """

    def __init__(
        self,
        site: Site,
        care: Care,
        record: _Record,
        every: float,
        sleep: Sleep,
        seconds: Callable[[], float],
    ) -> None:
        self._site = site
        self._care = care
        self._record = record
        self._lasting_ms = int(every * 1000)
        self._sleep = sleep
        self._seconds = seconds
        self._met: set[str | None] = set()
        self._busy: list[Place] = []
        self._error: AQMDatabaseError | None = None

    async def run(self) -> None:
        """Goes through all owners.

        Raises:
            AQMDatabaseError: what stopped it; whoever wasn't cared for is so when it's run again.
        """
        await share_out(self._find_owners(), self._make_workers())
        # Whoever had them in hand is done with most by now.
        await self._visit_again()
        if self._busy and self._error is None:
            await self._sleep(_WORKING_SECONDS)
            await self._visit_again()
        record = self._record
        if self._error is not None:
            with suppress(AQMDatabaseError):
                await record.note()
            raise self._error
        rewritten = await self._site.care_for_server()
        await record.note(is_over=True)
        _log.info(
            "maintenance_completed",
            extra={
                "owners": record.cared,
                "owners_failed": record.failed,
                "keys_deleted": record.deleted,
                "keys_purged": record.purged,
                "rewritten": rewritten,
            },
        )

    async def _visit_again(self) -> None:
        """Goes to those whom another program had in hand."""
        busy, self._busy = self._busy, []
        self._met.difference_update(place.owner for place in busy)
        if busy and self._error is None:
            await share_out(give_out(busy), self._make_workers())

    async def _find_owners(self) -> AsyncGenerator[Place]:
        """Whom to visit; what goes wrong is kept, so that workers finish what they have begun."""
        try:
            async for place in self._site.find_owners(self._make_layer()):
                yield place
                if not await self._record.note_sometimes():
                    return
        except AQMDatabaseError as error:
            self._error = self._error or error

    def _make_workers(self) -> Sequence[Callable[[Place], Awaitable[None]]]:
        return [self._make_worker() for _ in range(_WORKERS)]

    def _make_worker(self) -> Callable[[Place], Awaitable[None]]:
        layer = self._make_layer()

        async def work(place: Place) -> None:
            if place.share.error is None and place.owner not in self._met:
                if len(self._met) == _MET_AT_MOST:
                    self._met.clear()
                self._met.add(place.owner)
                await self._try_visit(place, layer)

        return work

    def _make_layer(self) -> Layer:
        """What leaves the servers to others in between, for one worker."""
        pace = Pace(self._sleep, self._seconds, _REST)
        return lambda seam: PacedSeam(seam, pace)

    async def _try_visit(self, place: Place, layer: Layer) -> None:
        try:
            await self._visit(place, layer)
        except UnavailableError as error:
            # Whoever is on the same server would fare no better.
            place.share.error = error
            self._error = self._error or error
        except AQMDatabaseError as error:
            self._record.failed += 1
            # The next time that they come, there may be more luck.
            self._met.discard(place.owner)
            _log.warning(
                "owner_failed",
                extra={
                    "owner": place.owner,
                    "error": type(error).__name__,
                    "carried_out": error.carried_out,
                },
            )

    async def _visit(self, place: Place, layer: Layer) -> None:
        vault, inventory = self._site.open_owner(place.owner, layer)
        visit = Visit(self._record.began, inventory.request_ids())
        done = False
        try:
            done = await self._care_if_needed(place, layer, visit, vault, inventory)
        finally:
            if not done:
                # Whoever comes next may have more luck.
                with delay_cancellation(), suppress(AQMDatabaseError):
                    await inventory.seam.run(build_drop(inventory, visit.working_turn))

    async def _care_if_needed(
        self, place: Place, layer: Layer, visit: Visit, vault: Scope, inventory: Scope
    ) -> bool:
        working_ms, inactive_ms = int(_WORKING_SECONDS * 1000), self._care.inactive_days * DAY_MS
        call = build_visit(inventory, visit, working_ms=working_ms, inactive_ms=inactive_ms)
        state = read_visit(await inventory.seam.run(call))
        if state == "busy":
            self._busy.append(place)
        if state in {"busy", "passed"}:
            return True
        # Data without an owner may have no index yet, by which a look finds anything.
        if state == "work" or place.owner is None or await self._has_old(vault):
            removed = await self._site.care_for(place.owner, self._care, layer)
            self._record.deleted += removed.keys_deleted
            self._record.purged += removed.keys_purged
        # Not before: whoever dies now leaves nobody out.
        turns = (visit.working_turn, visit.turn)
        await inventory.seam.run(build_keep(inventory, *turns, self._lasting_ms))
        self._record.cared += 1
        return True

    async def _has_old(self, vault: Scope) -> bool:
        look = build_look(vault, self._care.max_age_days * DAY_MS)
        return read_look(await vault.seam.run(look))
