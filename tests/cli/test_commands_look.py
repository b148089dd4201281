"""``aqm-db status``, ``contacts`` and ``contact``: what they show, and that they change nothing."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aqm_db import sync
from benchmarks.report import terminal
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.run_commands import NOW, content, filled, plain, run
from tests.support.samples import DAY_MS, halves

STATUS = """\
vault    2 GOLD active; 1 burned, 0 expired
storage  ██████░░░░░░░░░░░░░░ 20,900 of 65,536 B (31.9 %)

contact  priority  GOLD       SILVER     BRONZE     to fetch  stale
───────────────────────────────────────────────────────────────────
bob      BESTIE    █████ 5/5  ██░░░ 2/4  ░░░░░ 0/1         3
carol    MATE      -          ░░░░░ 0/6  █████ 4/4         6
mallory  STRANGER  -          -          -

To fetch: 8 SILVER, 1 BRONZE. Stale within 7 days: nothing.
""".splitlines()
BOB_STOCK = {"GOLD": 5, "SILVER": 2, "BRONZE": 0}
BOB_CAPS = {"GOLD": 5, "SILVER": 4, "BRONZE": 1}
NONE = {"GOLD": 0, "SILVER": 0, "BRONZE": 0}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text is plain, and 80 columns wide."""
    plain(monkeypatch)


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server of the user's."""
    with RunningServer(VALKEY_9) as running:
        yield running


@pytest.fixture
def url(server: RunningServer) -> str:
    """Its url; it's filled."""
    url = f"unix://{server.socket_path}"
    filled(url, now=sync_now())
    return url


def sync_now() -> int:
    """The time that the commands go by."""
    with sync.connect("memory://") as db:
        return db.inventory.clock()


# status ------------------------------------------------------------------------------------


def test_status(server: RunningServer, url: str) -> None:
    """Counters, stock against the caps, storage, and what's missing; nothing is changed."""
    before = content(server)
    ran = run("status", "--url", url)
    assert (ran.code, ran.err, ran.lines()) == (0, "", STATUS)
    assert content(server) == before


def test_status_for_machines(url: str) -> None:
    """The same with the keys that the help names."""
    ran = run("status", "--url", url, "--json")
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
    }


def test_coins_that_are_about_to_be_stale(server: RunningServer) -> None:
    """They are counted from seven days before their end."""
    url = f"unix://{server.socket_path}"
    filled(url, now=sync_now() - 24 * DAY_MS)
    ran = run("status", "--url", url)
    assert ran.lines()[5] == ("bob      BESTIE    █████ 5/5  ██░░░ 2/4  ░░░░░ 0/1         3      7")
    assert ran.lines()[-1].endswith("Stale within 7 days: 5 GOLD, 2 SILVER, 4 BRONZE.")
    shown = json.loads(run("status", "--url", url, "--json").out)
    assert shown["contacts"][0]["stale"] == BOB_STOCK


def test_status_of_an_empty_database() -> None:
    """There's nothing to draw."""
    assert run("status", "--url", "memory://").lines() == [
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
    ran = run("status", "--url", url, FORCE_COLOR="1")
    assert "\x1b[31m" + "█" * 20 in ran.out
    assert "72,080 of 65,536 B (110.0 %)" in ran.out


def test_what_others_wrote_is_no_command_to_the_terminal() -> None:
    """Ids and names are somebody else's: control characters are escaped, long ones are cut."""
    with RunningServer(VALKEY_9) as server:
        url = f"unix://{server.socket_path}"
        with sync.connect(url) as db:
            db.inventory.register_contact("\x1b[2J[red]\n", "MATE", "\x07bell\u202e")
            db.inventory.register_contact("x" * 256, "MATE", "y" * 300)
        for command in (["status"], ["contacts"], ["contact", "\x1b[2J[red]\n"]):
            ran = run(*command, "--url", url)
            assert "\\x1b[2J[red]\\n" in ran.out
            assert not set(ran.out) & {"\x1b", "\x07", "\u202e"}
            assert "x" * 21 not in ran.out
        assert "\\x07bell\\u202e" in run("contacts", "--url", url).out
        assert run("contacts", "--url", url, "--json").out.isascii()


def test_a_malformed_contact_is_told(server: RunningServer, url: str) -> None:
    """It is left out, with one line on stderr that says where to look."""
    with server.sync_client(1) as client:
        client.hset("inv:v1:meta:carol", "priority", "ENEMY")
        client.set("inv:v1:idx:mallory:GOLD", "x")
    ran = run("status", "--url", url)
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
    kept = terminal.PICTURE.read_text("utf-8")
    for words in ("5/5", "erin", "To&#160;fetch:", "Stale&#160;within"):
        assert words in terminal.draw_picture()
        assert words in kept


# status --watch ----------------------------------------------------------------------------


def sleeping(monkeypatch: pytest.MonkeyPatch, *between: Any) -> list[float]:
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
    pauses = sleeping(monkeypatch, use)
    ran = run("status", "--url", url, "--watch", "--every", "0.5", FORCE_COLOR="1")
    assert (ran.code, ran.err, pauses) == (0, "", [0.5, 0.5])
    # When it ends, the last view is drawn once more, to stay.
    assert (ran.out.count("5/5"), ran.out.count("4/5")) == (1, 2)


def test_watching_for_machines(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time one line, terminal or not."""
    pauses = sleeping(monkeypatch, lambda: None)
    ran = run("status", "--url", url, "--watch", "--json")
    assert (ran.code, ran.err, pauses) == (0, "", [2.0, 2.0])
    first, second = map(json.loads, ran.out.splitlines())
    assert first == second == json.loads(run("status", "--url", url, "--json").out)


def test_watching_needs_a_terminal() -> None:
    """What would be drawn over itself can't go to a file."""
    ran = run("status", "--url", "memory://", "--watch")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "aqm-db: Invalid value: --watch draws on a terminal; --json writes lines anywhere; "
        "see 'aqm-db status --help'\n"
    )


_IN_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "aqm_db", *sys.argv[1:]])
"""


class Terminal:
    """A command in a pseudo terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.seen = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _IN_A_TERMINAL, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1"},
        )
        os.close(slave)

    def until(self, text: str) -> None:
        """Reads until the text was written."""
        while text not in self.seen:
            self.seen += os.read(self._master, 65_536).decode()

    def type(self, text: str) -> None:
        """Types a text, Ctrl-C included."""
        os.write(self._master, text.encode())

    def end(self) -> int:
        """The exit code, once the command has ended."""
        try:
            while data := os.read(self._master, 65_536):
                self.seen += data.decode()
        except OSError:
            # Nobody has the terminal open any more.
            pass
        code = self._process.wait(timeout=60)
        os.close(self._master)
        return code


def test_watching_in_a_terminal(url: str) -> None:
    """It draws again what changed meanwhile; Ctrl-C ends it with the cursor back, and silently."""
    # Ctrl-C comes while it waits for the next time: that's where it is nearly all the time.
    terminal = Terminal("status", "--url", url, "--watch", "--every", "1")
    terminal.until("5/5")
    with sync.connect(url) as db:
        db.inventory.select_coin("bob", "GOLD")
    terminal.until("4/5")
    terminal.type("\x03")
    assert terminal.end() == 0
    assert "\x1b[?25h" in terminal.seen
    assert "Traceback" not in terminal.seen


# contacts and contact ----------------------------------------------------------------------


def test_contacts(server: RunningServer) -> None:
    """Everybody, in the order of their ids."""
    url = f"unix://{server.socket_path}"
    filled(url)
    ran = run("contacts", "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines() == [
        "contact  name  priority  GOLD  SILVER  BRONZE  last message",
        "───────────────────────────────────────────────────────────",
        "bob      Bob   BESTIE       5       2       0  2027-01-15",
        "carol          MATE         0       0       4  2027-01-15",
        "mallory        STRANGER     0       0       0  2027-01-15",
    ]
    shown = json.loads(run("contacts", "--url", url, "--json").out)
    assert [contact["contact_id"] for contact in shown["contacts"]] == ["bob", "carol", "mallory"]
    assert shown["contacts"][0] == {
        "contact_id": "bob",
        "display_name": "Bob",
        "priority": "BESTIE",
        "last_msg_at": NOW,
        "stock": BOB_STOCK,
        "caps": BOB_CAPS,
    }


def test_nobody() -> None:
    """An empty list is said to be one."""
    assert run("contacts", "--url", "memory://").out == "No contacts.\n"
    assert json.loads(run("contacts", "--url", "memory://", "--json").out) == {"contacts": []}


def test_contacts_that_are_malformed_or_gone(
    server: RunningServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are left out; who was forgotten meanwhile silently."""
    with server.sync_client(1) as client:
        client.hset("inv:v1:meta:carol", "last_msg_at", "yesterday")
    read = sync.SmartInventory.get_contact_meta

    def get_contact_meta(inventory: sync.SmartInventory, contact_id: str) -> Any:
        return None if contact_id == "mallory" else read(inventory, contact_id)

    monkeypatch.setattr(sync.SmartInventory, "get_contact_meta", get_contact_meta)
    ran = run("contacts", "--url", url, "--json")
    assert [contact["contact_id"] for contact in json.loads(ran.out)["contacts"]] == ["bob"]
    assert ran.err == (
        "aqm-db: contact 'carol': field last_msg_at is missing or malformed; "
        "'aqm-db check' says more\n"
    )


def test_contact(server: RunningServer) -> None:
    """One contact, in full."""
    url = f"unix://{server.socket_path}"
    filled(url)
    assert run("contact", "bob", "--url", url).lines() == [
        "contact       bob",
        "name          Bob",
        "priority      BESTIE",
        "last message  2027-01-15 08:00 UTC",
        "GOLD          █████ 5/5",
        "SILVER        ██░░░ 2/4",
        "BRONZE        ░░░░░ 0/1",
    ]
    assert json.loads(run("contact", "bob", "--url", url, "--json").out) == {
        "contact_id": "bob",
        "display_name": "Bob",
        "priority": "BESTIE",
        "last_msg_at": NOW,
        "stock": BOB_STOCK,
        "caps": BOB_CAPS,
    }


def test_a_time_that_no_calendar_has(server: RunningServer, url: str) -> None:
    """It is shown as the number that it is."""
    with server.sync_client(1) as client:
        client.hset("inv:v1:meta:bob", "last_msg_at", str(10**15 - 1))
    assert f"{10**15 - 1} ms" in run("contact", "bob", "--url", url).out


def test_an_unknown_contact() -> None:
    """One line says who, and how to find out who there is."""
    ran = run("contact", "bobby", "--url", "memory://")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "aqm-db: contact 'bobby' is not registered; 'aqm-db contacts' lists who is\n"
    )


def test_no_command_shows_key_material(server: RunningServer) -> None:
    """Neither text nor JSON."""
    canary = b"canary"
    url = f"unix://{server.socket_path}"
    with sync.connect(url) as db:
        db.vault.store_key("k", "GOLD", canary, canary, canary)
        db.inventory.register_contact("bob", "BESTIE")
        db.inventory.store_key("bob", "c", "GOLD", canary, canary)
    for command in (["status"], ["contacts"], ["contact", "bob"], ["gc", "--dry-run"]):
        for form in ([], ["--json"]):
            ran = run(*command, *form, "--url", url)
            assert ran.code == 0
            assert "canary" not in ran.out + ran.err


# Where the database is ---------------------------------------------------------------------


def test_an_embedded_database_that_a_program_has_open(tmp_path: Path) -> None:
    """The command joins its server, sees what it sees, and leaves it running."""
    url = f"embedded://{tmp_path}/db"
    with sync.connect(url) as db:
        db.inventory.register_contact("bob", "BESTIE")
        process = subprocess.run(
            [sys.executable, "-m", "aqm_db", "contacts", "--url", url, "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(process.stdout)["contacts"][0]["contact_id"] == "bob"
        assert db.inventory.has_keys_for("bob") is False


def test_the_environment_names_the_database(url: str) -> None:
    """Without --url, AQM_DB_URL is asked."""
    assert run("status", AQM_DB_URL=url).lines() == STATUS


def test_owners(server: RunningServer) -> None:
    """Each sees their own data only."""
    url = f"unix://{server.socket_path}"
    filled(url, "alice", now=sync_now())
    assert run("status", "--url", url, "--owner", "alice").lines() == STATUS
    assert "No contacts." in run("status", "--url", url).out
    assert "No contacts." in run("status", "--url", url, "--owner", "bob").out
