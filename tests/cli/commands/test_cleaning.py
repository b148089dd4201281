"""``aqm-db gc``, ``purge``, ``maintain`` and ``forget``: they tell what went."""

import json

import pytest

from aqm_db import sync
from aqm_db._cli.views.rounds_view import describe_round
from aqm_db.types import InventorySummary
from tests.support.backends import RunningServer
from tests.support.run_commands import (
    NOBODY_TO_ASK,
    fill_database,
    read_clock,
    read_content,
    read_summary,
    run_command,
)
from tests.support.samples import DAY_MS


def test_a_dry_run(server: RunningServer, old_url: str) -> None:
    """It says what would go, and asks and changes nothing."""
    before = read_content(server)
    ran = run_command("gc", "--dry-run", "--url", old_url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == ("To be deleted: 11 coins (20,900 B); contacts that become STRANGERs: 2.\n")
    assert read_content(server) == before


def test_garbage(old_url: str) -> None:
    """It's collected, once."""
    ran = run_command("gc", "--yes", "--url", old_url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "Deleted: 11 coins (20,900 B); contacts that become STRANGERs: 2.\n"
    assert read_summary(old_url, "bob") == InventorySummary("bob", 0, 0, 0, "STRANGER")
    again = run_command("gc", "--json", "--url", old_url)
    assert (again.code, again.err) == (0, "")
    assert json.loads(again.out) == {
        "dry_run": False,
        "contacts_cleaned": 0,
        "coins_deleted": 0,
        "bytes_freed": 0,
    }


def test_days(server: RunningServer) -> None:
    """They decide on who is inactive; stale coins go in any case."""
    url = f"unix://{server.socket_path}"
    fill_database(url, now=read_clock() - 20 * DAY_MS)
    for days, count in (("30", 0), ("10", 11)):
        ran = run_command("gc", "--dry-run", "--days", days, "--json", "--url", url)
        assert json.loads(ran.out)["coins_deleted"] == count
    ran = run_command("gc", "--days", "-1", "--url", url)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "aqm-db: inactive_days: must be 0 to 36500 days, not -1\n"


def test_a_bar_on_a_terminal(old_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits sees that there is work, on stderr."""
    monkeypatch.setenv("TERM", "xterm-256color")
    ran = run_command("gc", "--dry-run", "--json", "--url", old_url, FORCE_COLOR="1")
    assert "Looking for garbage" in ran.err
    assert json.loads(ran.out)["coins_deleted"] == 11


def test_old_private_halves(server: RunningServer, old_url: str) -> None:
    """They leave the vault, and the counters."""
    ran = run_command("purge", "--yes", "--url", old_url)
    assert (ran.code, ran.out, ran.err) == (0, "Expired: 2 private halves.\n", "")
    with sync.connect(old_url) as db:
        assert db.vault.get_stats().total_expired == 2
    assert json.loads(run_command("purge", "--yes", "--json", "--url", old_url).out) == {
        "purged": 0
    }


def test_forgetting(old_url: str) -> None:
    """The contact is gone, and an unknown one afterwards."""
    ran = run_command("forget", "bob", "--yes", "--json", "--url", old_url)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {"contact_id": "bob", "coins_dropped": 7}
    again = run_command("forget", "bob", "--yes", "--url", old_url)
    assert (again.code, again.out) == (2, "")
    assert again.err == (
        "aqm-db: contact 'bob' is not registered; 'aqm-db contacts' lists who is\n"
    )


def test_forgetting_who_is_malformed(server: RunningServer, old_url: str) -> None:
    """A contact that can't be read can be forgotten."""
    with server.sync_client(1) as client:
        client.hset("inv:v1:meta:carol", "priority", "ENEMY")
    asked = run_command("forget", "carol", "--url", old_url)
    assert asked.err == f"aqm-db: This deletes contact 'carol' and all coins.{NOBODY_TO_ASK}"
    ran = run_command("forget", "carol", "--yes", "--url", old_url)
    assert (ran.code, ran.out) == (0, "carol is forgotten; 4 coins dropped.\n")


def test_maintenance_of_all_owners(server: RunningServer, old_url: str) -> None:
    """Everybody's garbage goes, once in the interval, and it says how far it came."""
    with sync.connect(old_url, owner="alice") as alice:
        alice.inventory.register_contact("bob", "BESTIE")
    asked = run_command("maintain", "--url", old_url)
    question = "This deletes the garbage and the old private halves of all owners."
    assert (asked.code, asked.err) == (2, f"aqm-db: {question}{NOBODY_TO_ASK}")
    ran = run_command("maintain", "--yes", "--url", old_url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Done: 2 owners cared for, 0 failed; ended 20")
    assert read_summary(old_url, "bob") == InventorySummary("bob", 0, 0, 0, "STRANGER")
    again = run_command("maintain", "--yes", "--json", "--url", old_url)
    found = json.loads(again.out)
    assert found["was_due"] is False
    assert found["maintenance"].keys() == {"began_at", "ended_at", "cared_for", "failed", "left"}
    assert found["maintenance"]["cared_for"] == 2
    told = run_command("maintain", "--yes", "--url", old_url)
    assert told.out.startswith("Nothing is due: 2 owners cared for")


def test_maintenance_that_is_stopped(server: RunningServer, url: str) -> None:
    """``status`` says how far it is."""
    with server.sync_client(1) as client:
        times = {"began": 1_800_000_000_000, "seen": 1_800_000_000_000}
        client.hset("inv:v1:round", mapping={**times, "expected": 5, "by:a": "1 1"})
        told = " ".join(run_command("status", "--url", url).out.split())
        assert (
            " maintenance 1 owners cared for, 1 failed, some 3 left; began 2027-01-15 08:00:00 UTC "
        ) in told
        found = json.loads(run_command("status", "--json", "--url", url).out)
        assert found["maintenance"] == {
            "began_at": 1_800_000_000_000,
            "ended_at": None,
            "cared_for": 1,
            "failed": 1,
            "left": 3,
        }
        client.hset("inv:v1:round", "expected", 0)
        assert "1 failed; began" in run_command("status", "--url", url).out


def test_nothing_that_was_cared_for() -> None:
    """A database that forgets at once has no round to tell of."""
    assert describe_round(None) == "no round has begun"
