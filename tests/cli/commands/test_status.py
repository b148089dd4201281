"""``aqm-db status``: what it shows, once or again and again, and that it changes nothing."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from aqm_db import sync
from benchmarks.report import terminal as picture
from tests.support.backends import RunningServer
from tests.support.pseudo_terminals import Terminal, take_control
from tests.support.run_commands import (
    BOB_CAPS,
    BOB_STOCK,
    STATUS,
    fill_database,
    read_clock,
    read_content,
    run_command,
)
from tests.support.samples import DAY_MS, halves

NONE = {"GOLD": 0, "SILVER": 0, "BRONZE": 0}


def test_status(server: RunningServer, url: str) -> None:
    """Counters, stock against the caps, storage, and what's missing; nothing is changed."""
    before = read_content(server)
    ran = run_command("status", "--url", url)
    assert (ran.code, ran.err, ran.lines()) == (0, "", STATUS)
    assert read_content(server) == before


def test_status_for_machines(url: str) -> None:
    """The same with the keys that the help names."""
    ran = run_command("status", "--url", url, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {
        "vault": {"active": {"GOLD": 2, "SILVER": 0, "BRONZE": 0}, "burned": 1, "expired": 0},
        "storage": {"bytes": 20_900, "budget_bytes": 65_536, "percent": 31.9},
        "stale_within_days": 7,
        "contacts": [
            {
                "contact_id": "bob",
                "priority": "BESTIE",
                "stock": BOB_STOCK,
                "caps": BOB_CAPS,
                "to_fetch": {"GOLD": 0, "SILVER": 2, "BRONZE": 1},
                "stale": NONE,
            },
            {
                "contact_id": "carol",
                "priority": "MATE",
                "stock": {"GOLD": 0, "SILVER": 0, "BRONZE": 4},
                "caps": {"GOLD": 0, "SILVER": 6, "BRONZE": 4},
                "to_fetch": {"GOLD": 0, "SILVER": 6, "BRONZE": 0},
                "stale": NONE,
            },
            {
                "contact_id": "mallory",
                "priority": "STRANGER",
                "stock": NONE,
                "caps": NONE,
                "to_fetch": NONE,
                "stale": NONE,
            },
        ],
        "maintenance": None,
    }


def test_coins_that_are_about_to_be_stale(server: RunningServer) -> None:
    """They are counted from seven days before their end."""
    url = f"unix://{server.socket_path}"
    fill_database(url, now=read_clock() - 24 * DAY_MS)
    ran = run_command("status", "--url", url)
    assert ran.lines()[5] == ("bob      BESTIE    █████ 5/5  ██░░░ 2/4  ░░░░░ 0/1         3      7")
    assert ran.lines()[-1].endswith("Stale within 7 days: 5 GOLD, 2 SILVER, 4 BRONZE.")
    shown = json.loads(run_command("status", "--url", url, "--json").out)
    assert shown["contacts"][0]["stale"] == BOB_STOCK


def test_status_of_an_empty_database() -> None:
    """There's nothing to draw."""
    assert run_command("status", "--url", "memory://").lines() == [
        "vault    nothing active; 0 burned, 0 expired",
        "storage  ░░░░░░░░░░░░░░░░░░░░ 0 of 65,536 B (0.0 %)",
        "",
        "No contacts.",
    ]


def test_status_beyond_the_budget(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is full, and red."""
    url = f"unix://{server.socket_path}"
    with sync.connect(url) as db:
        for contact_id in ("a", "b", "c", "d"):
            db.inventory.register_contact(contact_id, "BESTIE")
            for number in range(5):
                db.inventory.store_key(contact_id, f"g{number}", "GOLD", *halves("GOLD"))
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm-256color")
    ran = run_command("status", "--url", url, FORCE_COLOR="1")
    assert "\x1b[31m" + "█" * 20 in ran.out
    assert "72,080 of 65,536 B (110.0 %)" in ran.out


def test_a_malformed_contact_is_told(server: RunningServer, url: str) -> None:
    """It is left out, with one line on stderr that says where to look."""
    with server.sync_client(1) as client:
        client.hset("inv:v1:meta:carol", "priority", "ENEMY")
        client.set("inv:v1:idx:mallory:GOLD", "x")
    ran = run_command("status", "--url", url)
    assert (ran.code, len(ran.lines())) == (0, 8)
    warnings = (
        "reason \"contact 'carol': field priority is missing or malformed\"",
        "reason \"contact 'mallory': an index has the wrong type\"",
        "contact_id 'mallory'",
    )
    assert sorted(ran.err.splitlines()) == sorted(
        f"aqm-db: warning: corrupt_entry {warning}; 'aqm-db check' says more"
        for warning in warnings
    )


def test_the_picture() -> None:
    """It is drawn of a sample database, and the one that is kept shows the same."""
    kept = picture.PICTURE.read_text("utf-8")
    for words in ("5/5", "erin", "To&#160;fetch:", "Stale&#160;within"):
        assert words in picture.draw_picture()
        assert words in kept


def let_time_pass(monkeypatch: pytest.MonkeyPatch, *between: Any) -> list[float]:
    """Lets time pass at once: each pause runs what is next, and the last is Ctrl-C."""
    pauses: list[float] = []
    steps = [*between]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    monkeypatch.setattr("aqm_db._cli.commands.status.sleep", sleep)
    return pauses


def test_watching(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The view is drawn again after each pause, and Ctrl-C is its orderly end."""

    def use() -> None:
        with sync.connect(url) as db:
            assert db.inventory.select_coin("bob", "GOLD") is not None

    monkeypatch.setenv("TERM", "xterm-256color")
    pauses = let_time_pass(monkeypatch, use)
    ran = run_command("status", "--url", url, "--watch", "--every", "0.5", FORCE_COLOR="1")
    assert (ran.code, ran.err, pauses) == (0, "", [0.5, 0.5])
    # When it ends, the last view is drawn once more, to stay.
    assert (ran.out.count("5/5"), ran.out.count("4/5")) == (1, 2)


def test_watching_for_machines(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time one line, terminal or not."""
    pauses = let_time_pass(monkeypatch, lambda: None)
    ran = run_command("status", "--url", url, "--watch", "--json")
    assert (ran.code, ran.err, pauses) == (0, "", [2.0, 2.0])
    first, second = map(json.loads, ran.out.splitlines())
    assert first == second == json.loads(run_command("status", "--url", url, "--json").out)


def test_watching_needs_a_terminal() -> None:
    """What would be drawn over itself can't go to a file."""
    ran = run_command("status", "--url", "memory://", "--watch")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "aqm-db: Invalid value: --watch draws on a terminal; --json writes lines anywhere; "
        "see 'aqm-db status --help'\n"
    )


def test_watching_in_a_terminal(url: str, tmp_path: Path) -> None:
    """It draws again what changed meanwhile; Ctrl-C ends it with the cursor back, and silently."""
    # Ctrl-C comes while it waits for the next time: that's where it is nearly all the time.
    command = take_control("-m", "aqm_db", "status", "--url", url, "--watch", "--every", "1")
    environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1"}
    with Terminal(command, environment, tmp_path) as terminal:
        terminal.read_until("5/5")
        with sync.connect(url) as db:
            db.inventory.select_coin("bob", "GOLD")
        terminal.read_until("4/5")
        terminal.type_text("\x03")
        assert terminal.read_to_end() == 0
    assert "\x1b[?25h" in terminal.written
    assert "Traceback" not in terminal.written
