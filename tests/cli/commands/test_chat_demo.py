"""``aqm-db chat-demo``: what it shows, and processes that are killed in the middle."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aqm_db.chat_demo import story
from tests.support.chat_evidence import make_evidence
from tests.support.chat_people import forbid_leftovers
from tests.support.run_commands import run_command

MESSAGES = 200


PATIENCE = 300
"""Seconds after which a chat doesn't go on any more."""


LINES = (
    r"Alice was killed after 'sent 66', and started again\.",
    r"Bob was killed after 'received 132', and started again\.",
    r"Alice +200( +\d+){4} +200( +[1-9]\d*){2}",
    r"Bob +200( +\d+){4} +200( +[1-9]\d*){2}",
    r"Alice's +\d+ +\d+ +\d+ +200 +0",
    r"Bob's +\d+ +\d+ +\d+ +200 +0",
    r"Every message was read once and in order, and every coin was used once\.",
    r"The check of each database is clean\.",
    r"It took \d+\.\d s\.",
)
"""The kills, what was sent, read, refused and burned, the verdict, and how long it took."""


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Temporary directories and their servers must be gone in the end."""
    with forbid_leftovers(monkeypatch):
        yield


@pytest.mark.chat
def test_200_messages_each_way_and_two_kills() -> None:
    """In processes of its own, where every warning is an error: nothing is lost, and all is told.

    One test, so that tests on several processors play it once.
    """
    with tempfile.TemporaryDirectory(prefix="aqm-") as directory:
        finished = subprocess.run(
            [
                *(sys.executable, "-m", "aqm_db"),
                *("chat-demo", "--messages", str(MESSAGES), "--kill"),
            ],
            env={**os.environ, "TMPDIR": directory, "PYTHONWARNINGS": "error", "COLUMNS": "80"},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert not any(Path(directory).iterdir())
    assert (finished.stderr, finished.returncode) == ("", 0)
    told = [line.strip() for line in finished.stdout.splitlines()]
    missing = [line for line in LINES if not any(re.fullmatch(line, each) for each in told)]
    assert missing == [], finished.stdout


@pytest.mark.usefixtures("directory")
def test_a_short_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kills: no mention of them. What was read is counted meanwhile, each message once.

    All processes are those whose stderr is escaped: it's this one's, too.
    """
    read: dict[str, list[int]] = {"alice": [], "bob": []}
    commands: list[Any] = []
    start = asyncio.create_subprocess_exec

    async def start_noting(*arguments: Any, **options: Any) -> Process:
        commands.append(arguments[:3])
        return await start(*arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_noting)
    tell = story.tell

    async def tell_counting(
        messages: int, *, kill: bool, on_read: story.OnRead, module: str
    ) -> story.Outcome:
        def note(name: str, count: int) -> None:
            read[name].append(count)
            on_read(name, count)

        return await tell(messages, kill=kill, on_read=note, module=module)

    monkeypatch.setattr(story, "tell", tell_counting)
    ran = run_command("chat-demo", "--messages", "3")
    assert (ran.code, ran.err) == (0, "")
    assert "killed" not in ran.out
    assert read == {"alice": [1, 2, 3], "bob": [1, 2, 3]}
    assert commands == [(sys.executable, "-m", "aqm_db._cli.chat_process")] * 3


@pytest.mark.chat
@pytest.mark.usefixtures("directory")
def test_both_are_killed_in_a_chat_of_one_message() -> None:
    """There's always a middle; and for machines, one object with keys that stay."""
    ran = run_command("chat-demo", "--messages", "1", "--kill", "--json")
    told = json.loads(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert (told["messages"], told["problems"]) == (1, [])
    assert told["kills"] == {"alice": "sent 1", "bob": "received 1"}
    assert told["seconds"] > 0
    for name in ("alice", "bob"):
        assert (told[name]["sent"], told[name]["read"]) == (1, 1)
        assert sum(told[name]["coins"].values()) == 1
        assert told[name].keys() == {"sent", "sent_again", "coins", "read", "refused"}


def test_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, and a line on stderr for each problem."""

    async def tell(messages: int, **_: object) -> story.Outcome:
        problems = ["bob's vault is empty", "a coin was used again"]
        kills = {"alice": "sent 1"}
        return story.Outcome(
            messages, kills, 1, make_evidence("alice"), make_evidence("bob"), problems
        )

    monkeypatch.setattr(story, "tell", tell)
    ran = run_command("chat-demo", "--messages", "2")
    assert ran.code == 1
    assert ran.err == "aqm-db: bob's vault is empty\naqm-db: a coin was used again\n"
    assert "Every message" not in ran.out
    assert "Wrong: a coin was used again." in ran.out
    assert "Alice was killed after 'sent 1', and started again." in ran.out


def test_missing_extras(measured: dict[str, str]) -> None:
    """One line says what to install."""
    script = "import sys; sys.modules['cryptography'] = None; from aqm_db.cli import main; main()"
    command = [sys.executable, "-c", script, "chat-demo"]
    ran = subprocess.run(command, env=measured, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "aqm-db: the chat demo needs its extras: pip install 'aqm-db[all]'\n"


def test_no_message() -> None:
    """It takes one at least."""
    assert run_command("chat-demo", "--messages", "0").code == 2
