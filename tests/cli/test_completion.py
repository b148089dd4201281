"""What the shell completes: commands, priorities, and ids that it can't act on."""

import os
import string
import subprocess
import sys
from pathlib import Path

import pytest

from aqm_db import sync
from aqm_db._cli import completion
from tests.support.backends import RunningServer
from tests.support.run_commands import fill_database, run_command
from tests.support.shells import SHELLS, expand_words, list_offers

HARMLESS = {
    *("bob", "BOB", "0", "42", "2f1c8a9e-7d3b-4c55-9f0a-6b1e2d3c4f5a", "x" * 256),
    *("@bob:example.org", "bob@example.org", "+4930123456"),
    *(id_ for mark in "@+_:" for id_ in (f"x{mark}y", f"{mark}xy", f"xy{mark}")),
    *("x-y", "xy-", "x.y", "xy."),
}
"""One of each class, and some as they are in use."""
OTHERS = {
    *("-xy", "--xy", ".xy", ".", ".."),
    *(
        id_
        for mark in set(string.punctuation) - set("@+_.:-")
        for id_ in (f"x{mark}y", f"{mark}xy", f"xy{mark}")
    ),
    # Spaces, control characters, those that turn the direction of writing, quotes of PowerShell,
    # and letters and digits that aren't ASCII.
    *(f"x{mark}y" for mark in " \t\n\r\0\x07\x1b\x7f\x85\x9b\xa0\u2028\u202e\u2066\u2018\u201c"),
    *("x\u00e9y", "x\u4e2dy", "x\u0663y", "x\U0001f511y"),
}
"""Evaluated, none of them does anything: there are no commands of these names."""


@pytest.fixture
def url(server: RunningServer) -> str:
    """Its url; its inventory has contacts of all kinds."""
    url = f"unix://{server.socket_path}"
    with sync.connect(url) as db:
        for contact_id in HARMLESS | OTHERS:
            db.inventory.register_contact(contact_id, "STRANGER")
    return url


def complete_line(words: str, *, shell: str = "bash", **environment: str) -> list[str]:
    """What a shell is told when Tab is pressed after these words."""
    ran = run_command(
        _AQM_DB_COMPLETE=f"complete_{shell}",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split(" ")) - 1),
        _TYPER_COMPLETE_ARGS=words,
        **environment,
    )
    assert (ran.code, ran.err) == (0, "")
    return ran.out.rstrip("\n").split("\n") if ran.out.strip() else []


def test_completion(server: RunningServer) -> None:
    """Commands, priorities and contacts are completed, whoever they belong to."""
    url = f"unix://{server.socket_path}"
    fill_database(url)
    fill_database(url, "alice")
    assert complete_line("aqm-db sta") == ["status"]
    assert complete_line("aqm-db set-priority bob B") == ["BESTIE"]
    assert complete_line("aqm-db set-priority bob b") == ["bestie"]
    assert complete_line("aqm-db set-priority bob ") == ["BESTIE", "MATE", "STRANGER"]
    assert complete_line("aqm-db contact b", AQM_DB_URL=url) == ["bob"]
    assert complete_line(f"aqm-db forget --url {url} --owner alice m") == ["mallory"]
    assert complete_line(f"aqm-db forget --url {url} --owner nobody m") == []


def test_completion_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is offered, and nothing is said in the middle of a line."""
    monkeypatch.setattr("aqm_db.config.REDIS_RETRY_DELAY", 0)
    assert complete_line("aqm-db contact b", AQM_DB_URL="unix:///nowhere") == []


def test_completion_can_be_installed() -> None:
    """Typer's own option writes what the shell has to source."""
    process = subprocess.run(
        [sys.executable, "-m", "aqm_db", "--show-completion", "bash"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert process.returncode == 0
    assert "complete" in process.stdout


# Ids that others chose ---------------------------------------------------------------------


def test_harmless_ids_alone_are_offered(url: str) -> None:
    """Every character that a shell may act on keeps an id from being offered."""
    assert set(complete_line("aqm-db contact ", AQM_DB_URL=url)) == HARMLESS
    assert complete_line("aqm-db forget x+", AQM_DB_URL=url) == ["x+y"]
    assert complete_line("aqm-db forget 'x;", AQM_DB_URL=url) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_offers_them(shell: str, url: str, tmp_path: Path) -> None:
    """The same by the shell's own machinery, each of them unchanged."""
    assert list_offers(shell, tmp_path, url) == HARMLESS


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_takes_them_for_themselves(shell: str, tmp_path: Path) -> None:
    """On a line each stands for itself, unquoted, in all places."""
    words = sorted(HARMLESS)
    assert expand_words(shell, tmp_path, words) == words


@pytest.mark.parametrize("other", ["powershell", "pwsh"])
def test_a_shell_that_acts_on_them(other: str, url: str) -> None:
    """It's offered none: what is harmless elsewhere is a variable to it."""
    assert complete_line("aqm-db contact ", shell=other, AQM_DB_URL=url) == []
    assert "BESTIE::: " in complete_line("aqm-db set-priority bob ", shell=other)


def test_a_database_that_is_too_large(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a walk over all of it."""
    monkeypatch.setattr(completion, "_MOST_KEYS", len(HARMLESS | OTHERS) + 2)
    assert set(complete_line("aqm-db contact ", AQM_DB_URL=url)) == HARMLESS
    with sync.connect(url) as db:
        db.inventory.register_contact("one more", "STRANGER")
    assert complete_line("aqm-db contact ", AQM_DB_URL=url) == []
