"""The benchmarks' own arithmetic; what they measure isn't tested."""

import asyncio
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

import pytest
from redis.crc import key_slot

from aqm_db._model.keys import Keys
from benchmarks.measuring import names
from benchmarks.measuring.loops import (
    Call,
    Run,
    Series,
    Variant,
    closed_loop,
    interleaved,
    open_loop,
    percentile,
    summary,
)
from benchmarks.measuring.sites import spread
from benchmarks.report.__main__ import text_of
from benchmarks.report.goals import GOALS
from benchmarks.report.results import Results


def test_percentiles_are_values_that_occurred() -> None:
    """Nearest rank: never a value between two samples."""
    ascending = [float(value) for value in range(1, 1001)]
    assert [percentile(ascending, share) for share in (0.5, 0.99, 0.999, 1.0)] == [
        *(500, 990, 999, 1000),
    ]
    assert percentile([7.0], 0.5) == 7.0


def test_one_spoiled_round_is_not_the_round_in_the_middle() -> None:
    """The share over all calls shows it, that of the round in the middle doesn't."""
    series = Series()
    for latencies in ([0.001] * 4, [0.005] * 4, [0.001] * 4):
        series.add(Run(1.0, latencies, []), operations=4)
    described = summary(series)
    assert described["share_over_2ms"] == pytest.approx(1 / 3)
    assert described["round_share_over_2ms"] == 0
    assert described["operations_per_second"] == 4


def test_a_round_that_is_one_call_has_no_latencies() -> None:
    """A raw socket's exchange is no latency of an operation."""
    series = Series()
    series.add(Run(2.0, [2.0], []), operations=4)
    assert summary(series) == {"operations_per_second": 2}


@pytest.mark.asyncio
async def test_open_loop_counts_from_the_due_time() -> None:
    """Calls that were due while the loop stood still show how long they had to wait."""

    @contextmanager
    def late(rate: float, count: int) -> Generator[tuple[int, float]]:
        reading, writing = os.pipe()
        os.write(writing, bytes(count))
        os.close(writing)
        yield reading, perf_counter() - 10 - count / rate
        os.close(reading)

    async def call() -> str:
        return "done"

    run = await open_loop([call] * 20, 1000, late)
    assert run.results == ["done"] * 20
    assert len(run.latencies) == 20
    assert min(run.latencies) >= 10
    assert run.latencies[0] - run.latencies[-1] >= 0.018


@pytest.mark.asyncio
async def test_arrivals_come_when_they_are_due() -> None:
    """None before, and all of them: from a process of its own."""

    async def call() -> None:
        pass

    run = await open_loop([call] * 20, 2000)
    assert len(run.latencies) == 20
    assert min(run.latencies) > 0
    assert run.elapsed >= 19 / 2000


@pytest.mark.asyncio
async def test_closed_loop_keeps_all_callers_busy() -> None:
    """As many calls are in flight as there are callers, and each is made once."""
    waiting: list[asyncio.Future[None]] = []
    most = 0

    async def call(number: int) -> int:
        nonlocal most
        waiting.append(asyncio.get_running_loop().create_future())
        most = max(most, len(waiting))
        if len(waiting) == 4:
            for answer in waiting:
                answer.set_result(None)
            waiting.clear()
        else:
            await waiting[-1]
        return number

    run = await closed_loop([partial(call, number) for number in range(12)], callers=4)
    assert most == 4
    assert sorted(run.results) == list(range(12))
    assert len(run.latencies) == 12


@pytest.mark.asyncio
async def test_variants_take_turns() -> None:
    """Each runs once per round, after one that isn't counted; each round is checked."""
    events: list[str] = []

    def variant(name: str) -> Variant:
        async def prepare(count: int) -> list[Call]:
            events.append(f"prepare {name}")

            async def call() -> str:
                return name

            return [call] * count

        def check(results: Sequence[Any]) -> None:
            assert results == [name] * 3
            events.append(f"check {name}")

        return Variant(name, prepare, check)

    async def run(_: Variant, calls: Sequence[Call]) -> Run:
        return await closed_loop(calls, 1)

    async def settle() -> None:
        events.append("settle")

    measured = await interleaved(
        [variant("a"), variant("b")], run, rounds=2, operations=3, settle=settle
    )
    assert [len(measured[name].per_operation) for name in "ab"] == [2, 2]
    for first in range(0, len(events), 5):
        *prepared, settled = events[first : first + 3]
        assert sorted(prepared) == ["prepare a", "prepare b"]
        assert settled == "settle"
        assert sorted(events[first + 3 : first + 5]) == ["check a", "check b"]
    assert len(events) == 15


def entry(group: str, name: str, **extra: float) -> dict[str, Any]:
    """A result as pytest-benchmark's JSON has it."""
    return {"group": group, "name": name, "stats": {"data": [0.1, 0.2]}, "extra_info": extra}


def run_of(*benchmarks: dict[str, Any]) -> Results:
    """The results of a run that measured only this."""
    machine = {
        "cpu": {},
        "system": "",
        "release": "",
        "python_version": "",
        "server": "",
        "versions": {"redis": "8.1.0"},
    }
    return Results({"benchmarks": benchmarks, "machine_info": machine, "quick": True})


def test_report_tells_what_was_met_and_leaves_out_what_was_not_measured() -> None:
    """One goal was met, one was not, and nothing else was measured."""
    run = run_of(
        entry(names.MEMORY, "GOLD", payload_bytes=100, bytes_per_coin=105, share_of_payload=1.05),
        entry(names.MEMORY, "BRONZE", payload_bytes=96, bytes_per_coin=401, share_of_payload=4.2),
    )
    lines = text_of(run, "2026-01-02").splitlines()
    assert "Made on 2026-01-02" in lines[2]
    goals = [line for line in lines if "| met |" in line or "| **not met** |" in line]
    assert [line.split(" | ")[1:4] for line in goals] == [
        ["at most 1.1x", "1.05x", "met"],
        ["at most 400 B", "401 B", "**not met**"],
    ]
    assert "- redis: 8.1.0" in lines


def test_report_says_why_a_goal_was_not_met() -> None:
    """With what the same run measured: of a lone call, and of a coin's memory."""
    times = {names.LIBRARY: 0.15, names.PING: 0.1, names.RAW: 0.09, names.OWN_PING: 0.05}
    other = dict.fromkeys((names.SQLITE, names.AIOSQLITE), 1.0)
    tails = dict.fromkeys(("p95_ms", "p99_ms", "p99.9_ms", "max_ms", "share_over_2ms"), 0.0)
    run = run_of(
        *(
            entry(names.SELECT, name, p50_ms=time, **tails)
            for name, time in {**times, **other}.items()
        ),
        entry(names.SERVER, names.SCRIPT, us=48.2),
        entry(
            names.MEMORY,
            "BRONZE",
            payload_bytes=96,
            bytes_per_coin=405,
            share_of_payload=4.2,
            row_bytes=320,
            name_bytes=84,
        ),
    )
    lone, bronze = (line for line in text_of(run, "").splitlines() if "**not met**" in line)
    assert "the script takes 48 us in the server" in lone
    assert "a raw socket, which has no event loop, 90 us" in lone
    assert "50 us over the library's connection and 100 us over the default client | 0.9x |" in lone
    assert "**not met**: the row takes 320 B: its key of 84 B" in bronze


def test_highest_rate_that_is_held() -> None:
    """The machine may spoil a rate below it."""
    run = run_of(
        *(
            entry(names.rate(rate), names.LIBRARY, rate=rate, round_share_over_2ms=share)
            for rate, share in ((100, 0.0), (200, 0.5), (500, 0.01), (1000, 0.011))
        )
    )
    assert run.rates() == [100, 200, 500, 1000]
    assert run.rate_held(names.LIBRARY, 0.01) == 500
    assert run.rate_held(names.EVALSHA, 0.01) == 0


def test_goals_have_a_good_side() -> None:
    """A bound itself is good enough, unless the figure has to stay under it."""
    for goal in GOALS:
        good = -0.01 if goal.side == "under" else 0
        bad = -0.01 if goal.side == "at least" else 0.01
        assert goal.is_met(goal.bound + good)
        assert not goal.is_met(goal.bound + bad)


def test_spread_owners_are_on_all_primaries_evenly() -> None:
    """Of one, two, three or six; and in turns."""
    owners = spread(10)
    assert len(owners) == 12
    for primaries in (1, 2, 3, 6):
        places = [key_slot(Keys(owner).prefix.encode()) * primaries // 16384 for owner in owners]
        assert sorted(places) == sorted(list(range(primaries)) * (12 // primaries))
        assert places[:6] == places[6:]


def test_report_computes_what_many_owners_need() -> None:
    """An owner of 480 KB: 100,000 of them on a primary, and a thousand primaries for all."""
    owner = {"memory_bytes": 480_000, "payload_bytes": 400_000, "keys": 160}
    run = run_of(
        entry(names.OWNER, names.FULL_OWNER, **owner),
        entry(names.CONNECTIONS, "before", each=1, more=1),
        entry(names.CONNECTIONS, "after", each=1, more=1),
        entry(names.MANY_OWNERS, names.among(10), us=100),
        entry(names.MANY_OWNERS, names.among(20), us=121),
    )
    lines = text_of(run, "").splitlines()
    assert f"| {names.FULL_OWNER} | 400 KB | 480 KB | 1.20x | 160 |" in lines
    assert f"| {names.FULL_OWNER} | 100,000 | 48.0 TB | 1,000 | 1,000 | 1,001 |" in lines
    assert "| 20 | 121 |" in lines
    goals = [line.split(" | ")[2:4] for line in lines if line.startswith(("| a call of", "| conn"))]
    assert goals == [["1.21x", "**not met**"], ["0 connections", "met"]]


def test_report_says_what_servers_take_that_share_the_cores() -> None:
    """Where a cluster with replicas is slower than a server that has none."""
    cores = {names.CLUSTER_OF_SIX: 150, names.SERVER_AND_REPLICA: 120, names.SERVER_ALONE: 80}
    times = {names.CLUSTER_OF_SIX: 0.22, names.SERVER_AND_REPLICA: 0.2, names.SERVER_ALONE: 0.16}
    run = run_of(
        *(entry(names.REPLICATED, name, p50_ms=ms, p99_ms=1.0) for name, ms in times.items()),
        *(
            entry(names.cpu(names.REPLICATED), name, servers_us=us, client_us=90)
            for name, us in cores.items()
        ),
        *(
            entry(names.PRIMARIES, names.primaries(count), operations_per_second=count * 1000)
            for count in (1, 3)
        ),
    )
    run.content["machine_info"]["cpu"]["count"] = 2
    text = text_of(run, "")
    met, missed = (line for line in text.splitlines() if line.startswith("| on 3 primaries"))
    assert "| 1.1x | met |" in met
    assert "| 1.375x | **not met**: all servers share 2 cores, where a call takes 150 us" in missed
    assert f"| {names.CLUSTER_OF_SIX} | 0.220 | 1.000 | 1.10x | 1.38x | 90 | 150 |" in text
    assert "| 3 primaries | 3,000 | 1.00x |  |  |" in text
