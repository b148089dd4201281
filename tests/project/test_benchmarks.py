"""The benchmarks' own arithmetic; what they measure isn't tested."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, cast

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
from benchmarks.measuring.owner_steps import STEPS
from benchmarks.measuring.places import Figures
from benchmarks.measuring.revisions import RevisionError, find_revision, unpacked
from benchmarks.measuring.sides import MissingError, Rounds, Side, side
from benchmarks.measuring.sites import spread
from benchmarks.report.__main__ import text_of
from benchmarks.report.goals import GOALS, WALKING
from benchmarks.report.results import Results, Spread
from tests.support.backends import VALKEY_9, RunningServer


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


def times(group: str, name: str, *seconds: float) -> dict[str, Any]:
    """A result of some rounds."""
    return {"group": group, "name": name, "stats": {"data": seconds}, "extra_info": {}}


def test_the_range_leaves_a_fifth_of_many_rounds_out() -> None:
    """Of few rounds it's all of them."""
    assert Spread.of([3, 1, 2]) == Spread(2, 1, 3)
    assert Spread.of(range(1, 21)) == Spread(10.5, 3, 18)
    assert Spread(2, 1, 3).times(10) == Spread(20, 10, 30)


def test_ratios_are_of_the_same_round() -> None:
    """A machine that gets slower from round to round makes no difference to them."""
    run = run_of(times("group", "a", 2, 4, 20), times("group", "b", 1, 2, 10))
    assert run.paired_ratio("group", "a", "b") == Spread(2, 2, 2)
    with pytest.raises(KeyError):
        run.paired_ratio("group", "a", "c")


def test_report_shows_an_owner_beside_others_and_the_other_commit() -> None:
    """The goal is about the operation that suffers most, and about this commit."""
    alone, beside = names.ALONE, names.BESIDE_OTHERS
    results: list[dict[str, Any]] = []
    for step in STEPS:
        group = names.cost(names.beside("valkey-9.1"), step)
        factor = 1.5 if step == "forget_contact" else 1
        results += [
            times(group, alone, 0.001, 0.002),
            times(group, beside, 0.001 * factor, 0.002 * factor),
            times(group, names.against(alone), 0.001),
            times(group, names.against(beside), 0.1),
        ]
    lines = text_of(run_of(*results), "").splitlines()
    [goal] = [line for line in lines if line.startswith("| an owner's slowest operation")]
    assert "| 1.5x (1.5 to 1.5) | **not met**: forget_contact |" in goal
    [row] = [line for line in lines if line.startswith("| forget_contact |")]
    assert (
        row == "| forget_contact | 1.5 | 2.25 | 1.5x (1.5 to 1.5) | 1 | 100 | 100x (100 to 100) |"
    )


def test_report_names_what_stalls_longest() -> None:
    """Of all tasks and sizes; a limit holds whatever the size."""
    results = [
        times(names.cost(task, figure), names.sized(size), seconds)
        for task, size, seconds in ((names.STALE, 5, 0.001), (names.EXPORT, 4_000, 0.021))
        for figure in (names.TIME, names.LONGEST, names.STALL)
    ]
    results += [
        times(names.cost(names.IDLING, figure), "500", 0.0005)
        for figure in (names.LONGEST, names.STALL)
    ]
    lines = text_of(run_of(*results), "").splitlines()
    [goal] = [line for line in lines if line.startswith("| the longest stall")]
    assert "| 21 ms (21 to 21) | **not met**: export, 4,000 | 0.5 ms (0.5 to 0.5) |" in goal
    [row] = [line for line in lines if line.startswith("| export, 4,000 |")]
    assert row == "| export, 4,000 | 21 ms (21 to 21) | 21 ms (21 to 21) | 21 ms (21 to 21) |"


@pytest.mark.parametrize(
    ("commit", "rows"),
    [
        (f"{WALKING}abc", ["at most 0.05x | 0.025x (0.025 to 0.025) | met"]),
        ("0123456", []),
        (None, []),
    ],
)
def test_some_goals_are_about_one_other_commit(commit: str | None, rows: list[str]) -> None:
    """They are left out where it's another one, or none."""
    run = run_of(
        *(
            times(names.cost(names.RESERVE, figure), name, seconds)
            for figure in (names.TIME, names.LONGEST, names.STALL)
            for size, ours, other in ((800, 0.05, 1.0), (1_600, 0.1, 4.0))
            for name, seconds in (
                (names.sized(size), ours),
                (names.against(names.sized(size)), other),
            )
        )
    )
    if commit is not None:
        run.content["against"] = {"commit": commit, "title": "its title"}
    lines = text_of(run, "").splitlines()
    found = [line for line in lines if line.startswith("| reserving for 1,600 contacts")]
    assert [" | ".join(line.split(" | ")[1:4]) for line in found] == rows
    assert ("The other commit is its title." in lines) == (commit is not None)


def test_sides_take_turns_and_one_may_be_unable() -> None:
    """Each measures each thing once a round; what the other commit has not is left out."""
    ours, other = (Side(cast("Any", None), is_other=each) for each in (False, True))
    asked: list[tuple[str, bool]] = []

    def asking(thing: str, unable: Side | None = None) -> Callable[[Side], Figures]:
        def ask(side: Side) -> Figures:
            asked.append((thing, side.is_other))
            if side is unable:
                raise MissingError(thing)
            return {"time": len(asked)}

        return ask

    rounds = Rounds([ours, other])
    wanted = {thing: asking(thing, other if thing == "b" else None) for thing in "abcde"}
    measured = rounds.measure(4, wanted)
    pairs = [sorted(asked[first : first + 2]) for first in range(0, 40, 2)]
    orders = [[thing for [(thing, _), _] in pairs[first : first + 5]] for first in (0, 5, 10, 15)]
    assert all(sorted(order) == list("abcde") for order in orders)
    assert len({"".join(order) for order in orders}) > 1
    assert all(is_other == [False, True] for is_other in ([each for _, each in p] for p in pairs))
    names_of = [own for thing in "abcde" for own in (thing, names.against(thing))]
    assert list(measured["time"]) == [each for each in names_of if each != names.against("b")]
    assert {len(samples) for samples in measured["time"].values()} == {4}
    with pytest.raises(MissingError):
        rounds.measure(1, {"c": asking("c", ours)})


def test_a_side_measures_in_a_process_of_its_own() -> None:
    """It says what a task took, and that it failed."""
    with RunningServer(VALKEY_9) as server, side() as ours:
        url = f"unix://{server.socket_path}"
        figures = ours.measure(names.IDLING, url, "alice", 20)
        assert figures[names.TIME] >= 0.02
        assert figures.keys() == {names.TIME, names.LONGEST, names.STALL}
        assert ours.measure(names.FILL_INDEX, url, "alice", 10)[names.BYTES] > 36
        with pytest.raises(RuntimeError, match="this commit failed at nobody's task"):
            ours.measure("nobody's task", url, "alice", 1)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose first commit has no library, and whose second one has."""
    if shutil.which("git") is None:
        pytest.skip("there is no git on this machine")
    commit = ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m")
    module = tmp_path / "src" / "aqm_db" / "__init__.py"
    module.parent.mkdir(parents=True)
    git(tmp_path, "init", "-q")
    git(tmp_path, *commit, "nothing", "--allow-empty")
    module.write_text("NUMBER = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, *commit, "a library")
    module.write_text("NUMBER = 2\n")
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    """Does something to a repository."""
    subprocess.run(["git", "-C", str(folder), *arguments], check=True)  # noqa: S607 - any git


def test_another_commit_is_unpacked_as_it_was(repository: Path) -> None:
    """What is being worked on doesn't count."""
    revision = find_revision("HEAD", repository)
    assert revision.title == f"{revision.commit[: revision.title.index(' ')]} a library"
    with unpacked(revision, repository) as code:
        assert (code / "aqm_db" / "__init__.py").read_text() == "NUMBER = 1\n"
    assert not code.exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nobody", "git knows no commit 'nobody'"),
        ("--all", "git knows no commit '--all'"),
        ("HEAD^{tree}", "git knows no commit"),
        ("", "git knows no commit ''"),
        ("HEAD~1", "commit 'HEAD~1' has no src/aqm_db"),
    ],
)
def test_what_is_no_commit_of_the_library_is_refused(
    repository: Path, name: str, reason: str
) -> None:
    """Before anything is measured."""
    with pytest.raises(RevisionError, match=re.escape(reason)):
        find_revision(name, repository)


def test_without_git_there_is_no_other_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says so."""
    monkeypatch.setenv("PATH", str(repository))
    with pytest.raises(RevisionError, match="there is no git"):
        find_revision("HEAD", repository)
