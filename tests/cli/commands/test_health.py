"""``aqm-db doctor`` and ``aqm-db check``: what they find, and the exit code that says how bad."""

import json
from collections.abc import Iterator

import pytest

from aqm_db import sync
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.run_commands import fill_database, read_content, run_command


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server of the user's, as durable as can be, with data."""
    with RunningServer(VALKEY_9, "--appendonly", "yes", "--appendfsync", "always") as running:
        fill_database(f"unix://{running.socket_path}")
        yield running


@pytest.fixture
def url(server: RunningServer) -> str:
    """Its url."""
    return f"unix://{server.socket_path}"


def configure_server(server: RunningServer, **settings: str) -> None:
    """Changes the server's settings."""
    with server.sync_client(0) as client:
        for name, value in settings.items():
            client.config_set(name.replace("_", "-"), value)


def test_a_healthy_server(server: RunningServer, url: str) -> None:
    """All is well, and nothing is changed."""
    before = read_content(server)
    ran = run_command("doctor", "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines()[0] == "ok  persistence  The server keeps an append-only file."
    assert {line.split()[0] for line in ran.lines()} == {"ok"}
    assert read_content(server) == before


def test_warnings(server: RunningServer, url: str) -> None:
    """What depends is a warning, with its remedy on the next line; exit code 1."""
    configure_server(server, appendfsync="everysec")
    ran = run_command("doctor", "--url", url)
    assert (ran.code, ran.err) == (1, "")
    [at] = [number for number, line in enumerate(ran.lines()) if line.startswith("warning")]
    assert ran.lines()[at].startswith(
        "warning  loss_window  A crash of the machine, or of the server"
    )
    assert "Set appendfsync to always" in ran.out


def test_errors(server: RunningServer, url: str) -> None:
    """What loses keys is an error, exit code 2; other commands that write refuse such a server."""
    configure_server(server, maxmemory="100mb", maxmemory_policy="allkeys-lru")
    ran = run_command("doctor", "--json", "--url", url)
    assert (ran.code, ran.err) == (2, "")
    shown = json.loads(ran.out)
    assert shown["severity"] == "error"
    by_name = {finding.pop("name"): finding for finding in shown["findings"]}
    assert by_name["eviction"]["severity"] == "error"
    assert by_name["persistence"] == {
        "severity": "ok",
        "message": "The server keeps an append-only file.",
        "remedy": "",
    }
    for command in (["status"], ["contacts"], ["contact", "bob"], ["bench", "--seconds", "0"]):
        assert run_command(*command, "--url", url).code == 0
    for command in (["gc"], ["purge"], ["forget", "bob"], ["set-priority", "bob", "MATE"]):
        refused = run_command(*command, "--yes", "--url", url)
        assert (refused.code, refused.out) == (2, "")
        assert refused.err.endswith("; 'aqm-db doctor' says more\n")
        assert refused.err.count("\n") == 1


def test_colours(server: RunningServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Green, yellow and red."""
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm-256color")
    configure_server(
        server, appendfsync="everysec", maxmemory="100mb", maxmemory_policy="allkeys-lru"
    )
    ran = run_command("doctor", "--url", url, FORCE_COLOR="1")
    assert ran.code == 2
    for colour, severity in (("32", "ok"), ("33", "warning"), ("31", "error")):
        assert f"\x1b[{colour}m{severity}" in ran.out


def test_no_server_to_examine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing could be found out: exit code 2."""
    monkeypatch.setattr("aqm_db.config.REDIS_RETRY_DELAY", 0)
    for command in ("doctor", "check"):
        ran = run_command(command, "--url", "unix:///nowhere")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.count("\n") == 1


def spoil_database(server: RunningServer) -> None:
    """One thing that can be mended, and one that can't."""
    with server.sync_client(0) as vault, server.sync_client(1) as inventory:
        vault.hset("vault:v1:stats", "active_gold", 7)
        inventory.hset("inv:v1:meta:carol", "priority", "ENEMY")


def test_a_clean_database(server: RunningServer, url: str) -> None:
    """It's said how much was looked at; nothing is changed."""
    before = read_content(server)
    ran = run_command("check", "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines() == [
        "Looked at 3 private halves, 11 public halves and 3 contacts: nothing is wrong."
    ]
    assert read_content(server) == before


def test_problems(server: RunningServer, url: str) -> None:
    """Each is shown with its key; without --repair nothing is changed, and the exit code is 1."""
    spoil_database(server)
    before = read_content(server)
    ran = run_command("check", "--url", url)
    assert (ran.code, ran.err) == (1, "")
    lines = ran.lines()
    assert lines[0] == "problem  wrong_counter    vault vault:v1:stats"
    assert "problem  corrupt_contact  inventory inv:v1:meta:carol" in lines
    assert " ".join(lines).endswith("and 3 contacts: problems left 2, repaired 0.")
    assert read_content(server) == before


def test_a_repair(server: RunningServer, url: str) -> None:
    """What can be mended is mended; what's left decides on the exit code."""
    spoil_database(server)
    ran = run_command("check", "--repair", "--json", "--url", url)
    assert (ran.code, ran.err) == (1, "")
    shown = json.loads(ran.out)
    problems = shown.pop("problems")
    assert shown == {"clean": False, "private_halves": 3, "public_halves": 11, "contacts": 3}
    assert all(problem.pop("detail") for problem in problems)
    assert problems == [
        {
            "kind": "wrong_counter",
            "database": "vault",
            "key": "vault:v1:stats",
            "repaired": True,
        },
        {
            "kind": "corrupt_contact",
            "database": "inventory",
            "key": "inv:v1:meta:carol",
            "repaired": False,
        },
    ]
    assert run_command("status", "--json", "--url", url).code == 0


def test_all_repaired(server: RunningServer, url: str) -> None:
    """Nothing is wrong any more: exit code 0."""
    with server.sync_client(0) as vault:
        vault.hset("vault:v1:stats", "active_gold", 7)
    ran = run_command("check", "--repair", "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines()[0] == "repaired  wrong_counter  vault vault:v1:stats"
    assert " ".join(ran.lines()).endswith("3 contacts: problems left 0, repaired 1.")
    assert "nothing is wrong." in " ".join(run_command("check", "--url", url).lines())


def test_a_forgotten_contact_leaves_nothing_wrong(server: RunningServer, url: str) -> None:
    """The memory of used coins outlives it, as it should."""
    with sync.connect(url) as db:
        assert db.inventory.select_coin("bob", "GOLD") is not None
    assert run_command("forget", "bob", "--yes", "--url", url).code == 0
    assert run_command("check", "--url", url).code == 0
