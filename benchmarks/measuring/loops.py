"""How things are measured: closed and open loops, rounds interleaved, and percentiles.

No clock is read while anything is prepared, and results are checked after the clock has stopped.
"""

import asyncio
import gc
import math
import os
import random
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any, TypeAlias

from benchmarks.measuring.arrivals import arrivals

LIMIT = 0.002
"""Seconds that ``select_coin`` may take."""
_NANO = 1e-9

Call: TypeAlias = Callable[[], Awaitable[Any]]
"""One call, ready to be made: nothing but the operation itself is left to do."""
Arrivals: TypeAlias = Callable[[float, int], AbstractContextManager[tuple[int, float]]]
"""Takes a rate and a number: see :func:`benchmarks.measuring.arrivals.arrivals`."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to do what a group measures.

    Attributes:
        name: what it's called in tables.
        prepare: readies a number of operations, untimed, and returns the calls that do them.
            Usually a call is one operation; a pipeline does several.
        check: takes all results of a round, and raises if the work wasn't done.
        callers: how many make the calls at once, if that isn't the group's number: what batches
            by itself is called by one.
    """

    name: str
    prepare: Callable[[int], Awaitable[Sequence[Call]]]
    check: Callable[[Sequence[Any]], None]
    callers: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What one loop measured: seconds in all, seconds of each call, and the calls' results."""

    elapsed: float
    latencies: list[float]
    results: list[Any]


@dataclass(slots=True)
class Series:
    """What all rounds of a variant measured.

    Attributes:
        latencies: seconds of each call, round by round; none where a round is a single call.
        per_operation: seconds of each round, divided by its operations. The same position is the
            same round in every variant of a group, so these can be compared in pairs.
    """

    latencies: list[list[float]] = field(default_factory=list)
    per_operation: list[float] = field(default_factory=list)

    def add(self, run: Run, operations: int) -> None:
        """Adds a round."""
        self.per_operation.append(run.elapsed / operations)
        if len(run.latencies) > 1:
            self.latencies.append(run.latencies)

    def calls(self) -> list[float]:
        """Seconds of each call of all rounds."""
        return [latency for latencies in self.latencies for latency in latencies]

    def round_over_limit(self) -> float:
        """The share of calls over the limit, in the round in the middle.

        A machine that stands still for a moment spoils some rounds, and a variant all of them.
        """
        return median(over_limit(latencies) for latencies in self.latencies)


@contextmanager
def frozen_heap() -> Generator[None]:
    """Hides what is there already from the garbage collector, which itself stays on.

    It stops a program for as long as all that it holds takes to be looked at: as in a program that
    has called :func:`gc.freeze`, only what is made meanwhile counts.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def closed_loop(calls: Sequence[Call], callers: int) -> Run:
    """Makes calls, each caller the next one as soon as it has its answer."""
    latencies: list[float] = []
    results: list[Any] = []
    waiting = iter(calls)

    async def caller() -> None:
        for call in waiting:
            begin = perf_counter_ns()
            result = await call()
            latencies.append((perf_counter_ns() - begin) * _NANO)
            results.append(result)

    begin = perf_counter()
    if callers == 1:
        await caller()
    else:
        await asyncio.gather(*(caller() for _ in range(callers)))
    return Run(perf_counter() - begin, latencies, results)


async def open_loop(calls: Sequence[Call], rate: float, arrivals: Arrivals = arrivals) -> Run:
    """Starts calls at a fixed rate, whatever became of earlier ones.

    A call's time begins when it's due, so one that had to wait for a stalled loop shows that.
    """
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    started: list[asyncio.Task[Any]] = []
    all_started = loop.create_future()

    async def arrival(call: Call, due: float) -> Any:
        result = await call()
        latencies.append(perf_counter() - due)
        return result

    with arrivals(rate, len(calls)) as (descriptor, begin):

        def start() -> None:
            for _ in os.read(descriptor, len(calls)):
                number = len(started)
                started.append(loop.create_task(arrival(calls[number], begin + number / rate)))
            if len(started) == len(calls):
                loop.remove_reader(descriptor)
                all_started.set_result(None)

        loop.add_reader(descriptor, start)
        await all_started
        results = await asyncio.gather(*started)
        elapsed = perf_counter() - begin
    return Run(elapsed, latencies, results)


async def interleaved(
    variants: Sequence[Variant],
    run: Callable[[Variant, Sequence[Call]], Awaitable[Run]],
    *,
    rounds: int,
    operations: int,
    settle: Callable[[], Awaitable[None]],
) -> dict[str, Series]:
    """Runs every variant once per round, in an order that changes from round to round.

    All are prepared before the first one runs: what the server still writes to disk then slows
    down any of them, and none more than the others.

    Args:
        variants: what to compare.
        run: the loop that makes a variant's calls.
        rounds: how often; one more comes first and isn't counted.
        operations: how many a variant does per round.
        settle: waits until the server has nothing left to do from preparing.
    """
    order = list(variants)
    shuffle = random.Random(rounds).shuffle  # noqa: S311 - any order will do, the same each time
    measured = {variant.name: Series() for variant in variants}
    with frozen_heap():
        for number in range(-1, rounds):
            shuffle(order)
            ready = {variant.name: await variant.prepare(operations) for variant in order}
            await settle()
            shuffle(order)
            for variant in order:
                gc.collect()
                outcome = await run(variant, ready[variant.name])
                variant.check(outcome.results)
                if number >= 0:
                    measured[variant.name].add(outcome, operations)
    return measured


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that this share of all values doesn't exceed (nearest rank)."""
    return ascending[max(math.ceil(share * len(ascending)) - 1, 0)]


def over_limit(latencies: Sequence[float]) -> float:
    """The share of calls that took longer than ``select_coin`` may."""
    return sum(latency > LIMIT for latency in latencies) / len(latencies)


def summary(series: Series) -> dict[str, float]:
    """Operations per second, percentiles in milliseconds, and the share of calls over the limit."""
    described = {"operations_per_second": 1 / median(series.per_operation)}
    if series.latencies:
        ascending = sorted(series.calls())
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        for name, share in shares.items():
            described[f"{name}_ms"] = percentile(ascending, share) * 1e3
        described["share_over_2ms"] = over_limit(ascending)
        described["round_share_over_2ms"] = series.round_over_limit()
        described["round_p99_ms"] = 1e3 * median(
            percentile(sorted(latencies), 0.99) for latencies in series.latencies
        )
    return described
