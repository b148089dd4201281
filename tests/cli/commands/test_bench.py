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
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.run_commands import fill_database, read_content, run_command

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


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server of the user's, with data of theirs."""
    with RunningServer(VALKEY_9) as running:
        fill_database(f"unix://{running.socket_path}")
        fill_database(f"unix://{running.socket_path}", "alice")
        yield running


@pytest.fixture
def url(server: RunningServer) -> str:
    """Its url."""
    return f"unix://{server.socket_path}"


def test_text(server: RunningServer, url: str) -> None:
    """Percentiles, a histogram with its line, and the ratio; nobody's data is touched."""
    before = read_content(server)
    ran = run_command("bench", "--seconds", "0", "--url", url)
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
    assert read_content(server) == before


def test_json(server: RunningServer, url: str) -> None:
    """The same for machines, whoever's data there is."""
    before = read_content(server)
    ran = run_command("bench", "--seconds", "0.01", "--json", "--url", url, "--owner", "alice")
    assert (ran.code, ran.err) == (0, "")
    shown = json.loads(ran.out)
    assert set(shown) == {
        *("calls", "select_coin_ms", "ping_ms", "ratio", "over_2_ms", "histogram")
    }
    assert set(shown["select_coin_ms"]) == set(shown["ping_ms"]) == {"p50", "p95", "p99", "max"}
    assert shown["calls"] == sum(step["calls"] for step in shown["histogram"])
    assert shown["calls"] % bench_rounds.ROUND == 0
    assert read_content(server) == before


def test_its_own_coins_are_there_while_it_runs(
    server: RunningServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are of an owner of their own, and few at a time, however long it takes."""
    sizes: list[int] = []
    remove = bench_rounds.Bench._remove

    async def count_and_remove(bench: bench_rounds.Bench, db: AsyncClientDatabase) -> None:
        with server.sync_client(1) as client:
            sizes.append(len(client.keys("aqm:{aqm-bench-*}:*")))
        await remove(bench, db)

    monkeypatch.setattr(bench_rounds.Bench, "_remove", count_and_remove)
    before = read_content(server)
    assert run_command("bench", "--seconds", "0", "--url", url).code == 0
    # A contact, its used coins, the owner's two, and the claims that aren't over; at last nothing.
    first, second, last = sizes
    assert 4 < first < 4 + 16
    assert 4 < second < 4 + 16
    assert last == 0
    assert read_content(server) == before


def test_a_bar_while_it_runs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, on stderr."""
    monkeypatch.setenv("TERM", "xterm-256color")
    ran = run_command("bench", "--seconds", "0", "--json", "--url", url, FORCE_COLOR="1")
    assert "Measuring" in ran.err
    assert json.loads(ran.out)["calls"] == bench_rounds.ROUND


def limit_user(server: RunningServer, *commands: str) -> str:
    """The url of a user who may not run some commands."""
    rules = ("limited", "on", ">pw", "~*", "+@all", *(f"-{command}" for command in commands))
    with server.sync_client(0) as client:
        client.execute_command("ACL", "SETUSER", *rules)
    return f"unix://limited:pw@{server.socket_path}"


def test_an_error_in_the_middle(server: RunningServer) -> None:
    """What was stored by then is removed."""
    before = read_content(server)
    ran = run_command("bench", "--url", limit_user(server, "renamenx"))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("aqm-db: the server denies access to inv_select; ")
    assert read_content(server) == before


def test_coins_that_can_not_be_stored(server: RunningServer) -> None:
    """The first that is refused is told, and nothing is left."""
    before = read_content(server)
    ran = run_command("bench", "--url", limit_user(server, "zrevrange"))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("aqm-db: the server denies access to inv_store; ")
    assert read_content(server) == before


def test_what_can_not_be_removed_is_named(server: RunningServer) -> None:
    """Whoever has to do it is told the names."""
    ran = run_command("bench", "--url", limit_user(server, "unlink"))
    assert (ran.code, ran.out) == (2, "")
    [pattern] = LEFT.findall(ran.err)
    with server.sync_client(1) as client:
        assert client.keys(pattern)


def test_what_can_not_be_removed_after_an_error(server: RunningServer) -> None:
    """It is named as well, and hides nothing: the error comes last, with its remedy."""
    ran = run_command("bench", "--url", limit_user(server, "renamenx", "unlink"))
    assert (ran.code, ran.out) == (2, "")
    named, told = ran.err.splitlines(keepends=True)
    [pattern] = LEFT.findall(named)
    assert told.startswith("aqm-db: the server denies access to inv_select; put user and ")
    with server.sync_client(1) as client:
        assert client.keys(pattern)


def test_what_can_not_be_removed_after_ctrl_c(server: RunningServer) -> None:
    """It is named, and the exit code is that of Ctrl-C all the same."""
    process = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "bench", "--url", limit_user(server, "unlink")],
        capture_output=True,
        check=False,
        text=True,
    )
    assert (process.returncode, process.stdout) == (130, "")
    assert LEFT.search(process.stderr)
    assert process.stderr.count("\n") == 1


def test_ctrl_c(server: RunningServer, url: str) -> None:
    """It ends at once, with the exit code that shells know, and nothing is left."""
    before = read_content(server)
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
    assert read_content(server) == before
