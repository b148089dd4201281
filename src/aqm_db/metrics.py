"""Metrics of a database, for OpenTelemetry or anything of its shape; no id is ever recorded.

::

    from opentelemetry import metrics

    async with aqm_db.connect() as db:
        stock = instrument(db, metrics.get_meter("my-client"))
        ...
        stock.record(await db.reporter.get_full_dashboard())

A database that isn't instrumented pays nothing for this module, not even its import.
"""

import logging
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from time import perf_counter
from typing import Any, Protocol, TypeAlias

from ._io.seam import Argument, Call, Reply, Seam, Undo
from ._lua.loader import Code
from ._model.tiers import TIERS, active_of, name_count_field
from ._operations.claims import names_claim
from ._operations.stock import SELECT, read_given_tier
from ._sync_support import unwrap
from .database import AsyncClientDatabase
from .errors import AQMDatabaseError, InventoryUnavailableError
from .sync import ClientDatabase
from .types import Dashboard, MaintenanceProgress, PrefetchCounts

_log = logging.getLogger("aqm_db.metrics")

Attributes: TypeAlias = Mapping[str, str | bool]


class Counter(Protocol):
    """What counts (OpenTelemetry API, ``Counter``)."""

    def add(self, amount: int, attributes: Attributes) -> None:
        """Adds to the count."""
        ...


class Histogram(Protocol):
    """What keeps a distribution (OpenTelemetry API, ``Histogram``)."""

    def record(self, amount: float, attributes: Attributes) -> None:
        """Adds a value."""
        ...


class Gauge(Protocol):
    """What has a value of its own time (OpenTelemetry API, ``Gauge``)."""

    def set(self, amount: int, attributes: Attributes) -> None:
        """Sets the value."""
        ...


class Meter(Protocol):
    """What makes instruments (OpenTelemetry API, ``Meter``)."""

    def create_counter(self, name: str, unit: str, description: str) -> Counter:
        """Makes a counter."""
        ...

    def create_histogram(self, name: str, unit: str, description: str) -> Histogram:
        """Makes a histogram."""
        ...

    def create_gauge(self, name: str, unit: str, description: str) -> Gauge:
        """Makes a gauge."""
        ...


def instrument(
    db: AsyncClientDatabase | ClientDatabase,
    meter: Meter,
    *,
    seconds: Callable[[], float] = perf_counter,
) -> "StockGauges":
    """Records every operation of a database from now on, on either face.

    The databases that its ``for_owner`` gives from now on are recorded with it.

    - ``aqm_db.operations`` counts them, by ``operation`` (``inv_select``, ...), ``outcome``
      (``ok``, ``empty``, a code such as ``burned``, or the class of the error), ``tier``, and
      ``fallback``: whether a coin of a lower tier was handed out;
    - ``db.client.operation.duration`` is the distribution of their times in seconds, by
      ``db.system.name`` and ``db.operation.name`` (OpenTelemetry semantic conventions for
      databases). A batch is one operation there, and so is what only reads.

    Args:
        db: the database.
        meter: an OpenTelemetry ``Meter``.
        seconds: a clock that runs forward only.

    Returns:
        Gauges of what is in stock.

    Raises:
        TypeError: it's no database of either face.
    """
    parts = db if isinstance(db, AsyncClientDatabase) else unwrap("db", db, ClientDatabase)
    recorder = _Recorder(meter, seconds)
    parts.gates.add_layer(lambda seam: _MeteredSeam(seam, recorder))
    return StockGauges(meter)


class StockGauges:
    """What is in stock, by tier: ``aqm_db.vault.keys`` and ``aqm_db.inventory.coins``.

    Args:
        meter: an OpenTelemetry ``Meter``.
    """

    def __init__(self, meter: Meter) -> None:
        self._keys = meter.create_gauge("aqm_db.vault.keys", "{key}", "Active private halves")
        self._coins = meter.create_gauge("aqm_db.inventory.coins", "{coin}", "Cached public halves")

    def record(self, dashboard: Dashboard) -> None:
        """Sets the gauges to what a reporter has read."""
        active = active_of(dashboard["vault"])
        for tier in TIERS:
            counts = map(attrgetter(name_count_field(tier)), dashboard["contacts"])
            self._keys.set(active[tier], {"tier": tier})
            self._coins.set(sum(counts), {"tier": tier})


class MaintenanceGauges:
    """How far a round of maintenance over all owners is: ``aqm_db.maintenance.owners``.

    The owners are told apart by ``state``: ``cared_for``, ``failed`` and ``left``, the last as far
    as is known.

    ::

        gauges = MaintenanceGauges(meter)
        await db.maintain_owners(report=gauges.record)

    Args:
        meter: an OpenTelemetry ``Meter``.
    """

    def __init__(self, meter: Meter) -> None:
        self._owners = meter.create_gauge(
            "aqm_db.maintenance.owners", "{owner}", "Owners of the last round of maintenance"
        )

    def record(self, progress: MaintenanceProgress) -> None:
        """Sets the gauges to how far a round is."""
        counts = {
            "cared_for": progress.owners_cared_for,
            "failed": progress.owners_failed,
            "left": progress.owners_left,
        }
        for state, count in counts.items():
            self._owners.set(count, {"state": state})


class PrefetchMetrics:
    """What coins at hand are good for: hits, misses, and how many there are, by tier.

    - ``aqm_db.prefetch.selections`` counts the calls, by ``outcome`` (``hit``, ``miss``) and
      ``tier``, the one that was wanted;
    - ``aqm_db.prefetch.coins`` is how many coins are at hand, by ``tier``.

    ::

        selections = PrefetchMetrics(meter)
        async with db.inventory.prefetch() as at_hand:
            ...
            selections.record(at_hand.read_counts())

    Args:
        meter: an OpenTelemetry ``Meter``; each prefetcher has an object of its own.
    """

    def __init__(self, meter: Meter) -> None:
        self._selections = meter.create_counter(
            "aqm_db.prefetch.selections", "{selection}", "Selections of coins, by outcome"
        )
        self._coins = meter.create_gauge("aqm_db.prefetch.coins", "{coin}", "Coins at hand")
        self._told: dict[tuple[str, str], int] = {}

    def record(self, counts: PrefetchCounts) -> None:
        """Adds what was done since the last time, and sets the gauge."""
        for outcome, numbers in (("hit", counts.hits), ("miss", counts.misses)):
            for tier, number in numbers.items():
                more = number - self._told.get((outcome, tier), 0)
                self._selections.add(more, {"outcome": outcome, "tier": tier})
                self._told[outcome, tier] = number
        for tier, number in counts.at_hand.items():
            self._coins.set(number, {"tier": tier})


class _Recorder:
    """Turns calls and their replies into records."""

    def __init__(self, meter: Meter, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._operations = meter.create_counter(
            "aqm_db.operations", "{operation}", "Operations, by outcome"
        )
        self._durations = meter.create_histogram(
            "db.client.operation.duration", "s", "Duration of database client operations"
        )

    @contextmanager
    def time_operation(self, operation: str) -> Generator[None]:
        started = self._seconds()
        try:
            yield
        finally:
            attributes = {"db.system.name": "redis", "db.operation.name": operation}
            _hand_over(self._durations.record, self._seconds() - started, attributes)

    def count_call(self, call: Call, outcome: Reply | BaseException) -> None:
        attributes: dict[str, str | bool] = {"operation": call.script.name}
        tier = call.tier
        is_selection = call.script is SELECT
        if isinstance(outcome, BaseException):
            attributes["outcome"] = type(outcome).__name__
        elif is_selection and not names_claim(call, outcome):
            # As its caller is told.
            attributes["outcome"] = InventoryUnavailableError.__name__
        else:
            code = Code(outcome[0])
            attributes["outcome"] = code.name.lower()
            if is_selection and code is Code.OK:
                given = read_given_tier(outcome)
                if given is None:
                    attributes["outcome"] = "empty"
                else:
                    attributes["fallback"] = given != tier
                    tier = given
        if tier is not None:
            attributes["tier"] = tier
        _hand_over(self._operations.add, 1, attributes)


def _hand_over(
    take: Callable[[Any, Attributes], None], amount: float, attributes: Attributes
) -> None:
    """Logs what a meter raises: the operation was carried out, and its caller needs to know."""
    try:
        take(amount, attributes)
    except Exception as error:  # noqa: BLE001 - meters fail as they like
        _log.warning("metrics_failed", extra={"error": type(error).__name__})


class _MeteredSeam:
    """A seam that records what goes through it."""

    def __init__(self, seam: Seam, recorder: _Recorder) -> None:
        self._seam = seam
        self._recorder = recorder

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        with self._recorder.time_operation(call.script.name):
            try:
                reply = await self._seam.run(call, undo)
            except BaseException as error:
                self._recorder.count_call(call, error)
                raise
        self._recorder.count_call(call, reply)
        return reply

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        with self._recorder.time_operation("batch"):
            try:
                replies = await self._seam.run_all(calls, undos)
            except BaseException as error:
                for call in calls:
                    self._recorder.count_call(call, error)
                raise
        for call, reply in zip(calls, replies, strict=True):
            self._recorder.count_call(call, reply)
        return replies

    async def read(self, *commands: Sequence[Argument]) -> list[Any]:
        with self._recorder.time_operation("read"):
            return await self._seam.read(*commands)

    def scan(self, pattern: str, within: str | None = None) -> AsyncIterator[list[bytes]]:
        return self._seam.scan(pattern, within)

    def distrust(self) -> None:
        self._seam.distrust()

    async def aclose(self) -> None:
        await self._seam.aclose()
