"""``aqm-db bench``: what it shows, and that it leaves nothing behind, however it ends."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from aqm_db import AsyncClientDatabase
from aqm_db._cli.commands import bench_rounds
from aqm_db._cli.views import histogram
from aqm_db._cli.views.bench_view import Timings, dump_timings
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.run_commands import content, filled, plain, run


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text is plain, and 80 columns wide."""
    plain(monkeypatch)


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server of the user's, with data of theirs."""
    with RunningServer(VALKEY_9) as running:
        filled(f"unix://{running.socket_path}")
        filled(f"unix://{running.socket_path}", "alice")
        yield running


@pytest.fixture
def url(server: RunningServer) -> str:
    """Its url."""
    return f"unix://{server.socket_path}"


def test_text(server: RunningServer, url: str) -> None:
    """Percentiles, a histogram with its line, and the ratio; nobody's data is touched."""
    before = content(server)
    ran = run("bench", "--seconds", "0", "--url", url)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.lines()
    assert lines[0].split() == ["ms", "p50", "p95", "p99", "max"]
    assert [re.split(r" {2,}", line)[0] for line in lines[2:4]] == ["select_coin", "PING"]
    # Where a call took ten times as long, what stands here is wider.
    [limit] = [line for line in lines if line.lstrip().startswith("2 ms ──")]
    assert lines[lines.index(limit) - 1].lstrip().startswith("1.68")
    assert lines[-2].startswith("50 GOLD coins selected, one after another: ")
    assert lines[-2].endswith(" x PING (p50).")
    assert " calls took 2 ms or more (" in lines[-1]
    assert content(server) == before


def test_json(server: RunningServer, url: str) -> None:
    """The same for machines, whoever's data there is."""
    before = content(server)
    ran = run("bench", "--seconds", "0.01", "--json", "--url", url, "--owner", "alice")
    assert (ran.code, ran.err) == (0, "")
    shown = json.loads(ran.out)
    assert set(shown) == {
        *("calls", "select_coin_ms", "ping_ms", "ratio", "over_2_ms", "histogram")
    }
    assert set(shown["select_coin_ms"]) == set(shown["ping_ms"]) == {"p50", "p95", "p99", "max"}
    assert shown["calls"] == sum(step["calls"] for step in shown["histogram"])
    assert shown["calls"] % bench_rounds.ROUND == 0
    assert content(server) == before


def test_its_own_coins_are_there_while_it_runs(
    server: RunningServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are of an owner of their own, and few at a time, however long it takes."""
    sizes: list[int] = []
    remove = bench_rounds.Bench._remove

    async def counting(bench: bench_rounds.Bench, db: AsyncClientDatabase) -> None:
        with server.sync_client(1) as client:
            sizes.append(len(client.keys("aqm:{aqm-bench-*}:*")))
        await remove(bench, db)

    monkeypatch.setattr(bench_rounds.Bench, "_remove", counting)
    before = content(server)
    assert run("bench", "--seconds", "0", "--url", url).code == 0
    # A contact, its used coins, and a claim for each of them; at last nothing.
    assert sizes == [bench_rounds.ROUND + 2] * 2 + [0]
    assert content(server) == before


def test_a_bar_while_it_runs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, on stderr."""
    monkeypatch.setenv("TERM", "xterm-256color")
    ran = run("bench", "--seconds", "0", "--json", "--url", url, FORCE_COLOR="1")
    assert "Measuring" in ran.err
    assert json.loads(ran.out)["calls"] == bench_rounds.ROUND


LEFT = re.compile(
    r"; keys are left on the server: delete (aqm:\{aqm-bench-[0-9a-f]{8}\}:\*) in database 1\n"
)


INTERRUPTED = """
import os, signal
from aqm_db._cli.commands import bench_rounds
from aqm_db.cli import main

async def interrupt(call, times):
    os.kill(os.getpid(), signal.SIGINT)
    await call

bench_rounds._time_call = interrupt
main()
"""
"""The command, and Ctrl-C in its first call."""


def limited(server: RunningServer, *commands: str) -> str:
    """The url of a user who may not run some commands."""
    rules = ("limited", "on", ">pw", "~*", "+@all", *(f"-{command}" for command in commands))
    with server.sync_client(0) as client:
        client.execute_command("ACL", "SETUSER", *rules)
    return f"unix://limited:pw@{server.socket_path}"


def test_an_error_in_the_middle(server: RunningServer) -> None:
    """What was stored by then is removed."""
    before = content(server)
    ran = run("bench", "--url", limited(server, "renamenx"))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("aqm-db: the server denies access to inv_select; ")
    assert content(server) == before


def test_coins_that_can_not_be_stored(server: RunningServer) -> None:
    """The first that is refused is told, and nothing is left."""
    before = content(server)
    ran = run("bench", "--url", limited(server, "zrevrange"))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("aqm-db: the server denies access to inv_store; ")
    assert content(server) == before


def test_what_can_not_be_removed_is_named(server: RunningServer) -> None:
    """Whoever has to do it is told the names."""
    ran = run("bench", "--url", limited(server, "unlink"))
    assert (ran.code, ran.out) == (2, "")
    [pattern] = LEFT.findall(ran.err)
    with server.sync_client(1) as client:
        assert client.keys(pattern)


def test_what_can_not_be_removed_after_an_error(server: RunningServer) -> None:
    """It is named as well, and hides nothing: the error comes last, with its remedy."""
    ran = run("bench", "--url", limited(server, "renamenx", "unlink"))
    assert (ran.code, ran.out) == (2, "")
    named, told = ran.err.splitlines(keepends=True)
    [pattern] = LEFT.findall(named)
    assert told.startswith("aqm-db: the server denies access to inv_select; put user and ")
    with server.sync_client(1) as client:
        assert client.keys(pattern)


def test_what_can_not_be_removed_after_ctrl_c(server: RunningServer) -> None:
    """It is named, and the exit code is that of Ctrl-C all the same."""
    process = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "bench", "--url", limited(server, "unlink")],
        capture_output=True,
        check=False,
        text=True,
    )
    assert (process.returncode, process.stdout) == (130, "")
    assert LEFT.search(process.stderr)
    assert process.stderr.count("\n") == 1


def test_ctrl_c(server: RunningServer, url: str) -> None:
    """It ends at once, with the exit code that shells know, and nothing is left."""
    before = content(server)
    process = subprocess.Popen(
        [sys.executable, "-m", "aqm_db", "bench", "--seconds", "3600", "--url", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with server.sync_client(1) as client:
        while not client.keys("aqm:{aqm-bench-*}:inv:v1:claim:*"):
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert content(server) == before


# The histogram -----------------------------------------------------------------------------


def test_percentiles() -> None:
    """They are values that were measured (nearest rank)."""
    ascending = [float(value) for value in range(1, 101)]
    assert [histogram.percentile_of(ascending, at) for at in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert histogram.percentile_of([7.0], 50) == 7.0


def test_steps() -> None:
    """From the first value, at least to the limit; the slowest step has no end."""
    steps = histogram.count_steps([0.5, 0.55, 1.99])
    assert [round(end or 0, 3) for _, end, _ in (steps[0], steps[-1])] == [0.595, 2.378]
    assert (steps[0][0], steps[0][2]) == (0.5, 2)
    assert steps[-2][1:] == (2.0, 1)
    assert (steps[-1][0], steps[-1][2]) == (2.0, 0)
    assert histogram.count_steps([0.001])[0] == (0.0, 0.03125, 1)
    assert histogram.count_steps([2.0, 1000.0])[-1][1:] == (None, 1)
    assert sum(count for *_, count in histogram.count_steps([2.0, 1000.0])) == 2


def test_calls_at_the_limit_are_over_it() -> None:
    """The goal is to stay below."""
    shown = dump_timings(Timings([1.0, 1.999, 2.0, 30.0], [0.5, 0.5, 0.5, 0.5]))
    assert (shown["calls"], shown["over_2_ms"], shown["ratio"]) == (4, 2, 4.0)
    assert shown["histogram"][-1] == {"from_ms": 26.909, "to_ms": None, "calls": 1}
