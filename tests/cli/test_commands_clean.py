"""``aqm-db set-priority``, ``gc``, ``purge`` and ``forget``: they ask first, and tell what went."""

import json
from collections.abc import Iterator

import pytest

from aqm_db import sync
from aqm_db.types import InventorySummary
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.run_commands import NOW, answering, content, filled, plain, run
from tests.support.samples import DAY_MS

NOBODY_TO_ASK = " To go on without a terminal to ask, add --yes\n"


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
    """Its url; it's filled, with contacts whose last message is long ago."""
    url = f"unix://{server.socket_path}"
    filled(url, now=NOW - 365 * 10 * DAY_MS)
    return url


def summary(url: str, contact_id: str) -> InventorySummary:
    """A contact's stock."""
    with sync.connect(url) as db:
        return db.inventory.get_inventory(contact_id)


# Questions ---------------------------------------------------------------------------------

DELETIONS = pytest.mark.parametrize(
    ("command", "deletion"),
    [
        (["set-priority", "bob", "MATE"], "As a MATE, 'bob' loses 5 coins."),
        (
            ["gc"],
            "This deletes 11 coins (20,900 B); contacts that become STRANGERs: 2.",
        ),
        (["purge"], "This deletes all private halves that are older than 30 days."),
        (["forget", "bob"], "This deletes contact 'bob' and 7 coins."),
    ],
    ids=["set-priority", "gc", "purge", "forget"],
)


@DELETIONS
def test_without_anybody_to_ask(
    server: RunningServer, url: str, command: list[str], deletion: str
) -> None:
    """What isn't a terminal can't say yes: nothing is deleted, and --yes is named."""
    before = content(server)
    ran = run(*command, "--url", url)
    assert (ran.code, ran.out, ran.err) == (2, "", f"aqm-db: {deletion}{NOBODY_TO_ASK}")
    assert content(server) == before


@DELETIONS
@pytest.mark.parametrize("answer", ["n\n", "\n", ""], ids=["no", "nothing", "end"])
def test_no(
    server: RunningServer,
    url: str,
    command: list[str],
    deletion: str,
    answer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever doesn't say yes keeps everything; the question isn't among what machines read."""
    answering(monkeypatch)
    before = content(server)
    ran = run(*command, "--url", url, "--json", answer=answer)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"{deletion} Go on? [y/N] Nothing was changed.\n"
    assert content(server) == before


def test_yes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on."""
    answering(monkeypatch)
    ran = run("forget", "bob", "--url", url, answer="y\n")
    assert (ran.code, ran.out) == (0, "bob is forgotten; 7 coins dropped.\n")


# set-priority ------------------------------------------------------------------------------


def test_a_downgrade(url: str) -> None:
    """It drops what is above the new caps."""
    ran = run("set-priority", "bob", "mate", "--yes", "--url", url)
    assert (ran.code, ran.out) == (0, "bob is a MATE now; 5 coins dropped.\n")
    assert summary(url, "bob") == InventorySummary("bob", 0, 2, 0, "MATE")


def test_an_upgrade(url: str) -> None:
    """It drops nothing, and so asks nothing."""
    ran = run("set-priority", "carol", "BESTIE", "--json", "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {"contact_id": "carol", "priority": "BESTIE", "coins_dropped": 0}
    # Above the cap of a BESTIE.
    assert summary(url, "carol") == InventorySummary("carol", 0, 0, 4, "BESTIE")


def test_a_wrong_priority(url: str) -> None:
    """One line names those that there are."""
    ran = run("set-priority", "bob", "enemy", "--url", url)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == ("aqm-db: priority: must be 'BESTIE', 'MATE' or 'STRANGER', not 'ENEMY'\n")


# gc ----------------------------------------------------------------------------------------


def test_a_dry_run(server: RunningServer, url: str) -> None:
    """It says what would go, and asks and changes nothing."""
    before = content(server)
    ran = run("gc", "--dry-run", "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == ("To be deleted: 11 coins (20,900 B); contacts that become STRANGERs: 2.\n")
    assert content(server) == before


def test_garbage(url: str) -> None:
    """It's collected, once."""
    ran = run("gc", "--yes", "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "Deleted: 11 coins (20,900 B); contacts that become STRANGERs: 2.\n"
    assert summary(url, "bob") == InventorySummary("bob", 0, 0, 0, "STRANGER")
    again = run("gc", "--json", "--url", url)
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
    with sync.connect("memory://") as db:
        filled(url, now=db.inventory.clock() - 20 * DAY_MS)
    for days, count in (("30", 0), ("10", 11)):
        ran = run("gc", "--dry-run", "--days", days, "--json", "--url", url)
        assert json.loads(ran.out)["coins_deleted"] == count
    ran = run("gc", "--days", "-1", "--url", url)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "aqm-db: inactive_days: must be 0 to 36500 days, not -1\n"


def test_a_bar_on_a_terminal(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits sees that there is work, on stderr."""
    monkeypatch.setenv("TERM", "xterm-256color")
    ran = run("gc", "--dry-run", "--json", "--url", url, FORCE_COLOR="1")
    assert "Looking for garbage" in ran.err
    assert json.loads(ran.out)["coins_deleted"] == 11


# purge -------------------------------------------------------------------------------------


def test_old_private_halves(server: RunningServer, url: str) -> None:
    """They leave the vault, and the counters."""
    ran = run("purge", "--yes", "--url", url)
    assert (ran.code, ran.out, ran.err) == (0, "Expired: 2 private halves.\n", "")
    with sync.connect(url) as db:
        assert db.vault.get_stats().total_expired == 2
    assert json.loads(run("purge", "--yes", "--json", "--url", url).out) == {"purged": 0}


# forget ------------------------------------------------------------------------------------


def test_forgetting(url: str) -> None:
    """The contact is gone, and an unknown one afterwards."""
    ran = run("forget", "bob", "--yes", "--json", "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {"contact_id": "bob", "coins_dropped": 7}
    again = run("forget", "bob", "--yes", "--url", url)
    assert (again.code, again.out) == (2, "")
    assert again.err == (
        "aqm-db: contact 'bob' is not registered; 'aqm-db contacts' lists who is\n"
    )


def test_forgetting_who_is_malformed(server: RunningServer, url: str) -> None:
    """A contact that can't be read can be forgotten."""
    with server.sync_client(1) as client:
        client.hset("inv:v1:meta:carol", "priority", "ENEMY")
    asked = run("forget", "carol", "--url", url)
    assert asked.err == f"aqm-db: This deletes contact 'carol' and all coins.{NOBODY_TO_ASK}"
    ran = run("forget", "carol", "--yes", "--url", url)
    assert (ran.code, ran.out) == (0, "carol is forgotten; 4 coins dropped.\n")
