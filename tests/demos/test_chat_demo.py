"""The chat demo as a whole: processes that are killed, and stopped whatever happens."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aqm_db.chat_demo import children, story
from aqm_db.chat_demo.findings import Evidence, Read, Sent, find_problems
from aqm_db.chat_demo.party import text_of
from aqm_db.chat_demo.person import make_people
from aqm_db.demo import DemoError
from aqm_db.integrity import Problem
from aqm_db.types import Dashboard, StorageReport, VaultStats
from tests.support.run_commands import plain, run

MESSAGES = 200
PATIENCE = 300
"""Seconds after which a chat doesn't go on any more."""


def running() -> str:
    """The arguments of all processes; those of an embedded server name its directory."""
    command = ["ps", "-A", "-o", "args="]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary directories are made; in the end, all of them must be gone."""
    with tempfile.TemporaryDirectory(prefix="aqm-") as name:
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)
        assert not any(Path(name).iterdir())
        assert name not in running()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """All processes of the demo; in the end, none of them must run."""
    processes: list[Process] = []
    start = asyncio.create_subprocess_exec

    async def noted(*arguments: Any, **options: Any) -> Process:
        processes.append(await start(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    return processes


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


class TestCommand:
    """What the command makes of the outcome."""

    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing that whoever runs the tests has set decides on width and colours."""
        plain(monkeypatch)

    @pytest.mark.usefixtures("directory")
    def test_a_short_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No kills: no mention of them. What was read is counted meanwhile, each message once.

        All processes are those whose stderr is escaped: it's this one's, too.
        """
        read: dict[str, list[int]] = {"alice": [], "bob": []}
        commands: list[Any] = []
        start = asyncio.create_subprocess_exec

        async def noted(*arguments: Any, **options: Any) -> Process:
            commands.append(arguments[:3])
            return await start(*arguments, **options)

        monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
        tell = story.tell

        async def counted(
            messages: int, *, kill: bool, on_read: story.OnRead, module: str
        ) -> story.Outcome:
            def note(name: str, count: int) -> None:
                read[name].append(count)
                on_read(name, count)

            return await tell(messages, kill=kill, on_read=note, module=module)

        monkeypatch.setattr(story, "tell", counted)
        ran = run("chat-demo", "--messages", "3")
        assert (ran.code, ran.err) == (0, "")
        assert "killed" not in ran.out
        assert read == {"alice": [1, 2, 3], "bob": [1, 2, 3]}
        assert commands == [(sys.executable, "-m", "aqm_db._cli.chat_process")] * 3

    @pytest.mark.chat
    @pytest.mark.usefixtures("directory")
    def test_both_are_killed_in_a_chat_of_one_message(self) -> None:
        """There's always a middle; and for machines, one object with keys that stay."""
        ran = run("chat-demo", "--messages", "1", "--kill", "--json")
        told = json.loads(ran.out)
        assert (ran.code, ran.err) == (0, "")
        assert (told["messages"], told["problems"]) == (1, [])
        assert told["kills"] == {"alice": "sent 1", "bob": "received 1"}
        assert told["seconds"] > 0
        for name in ("alice", "bob"):
            assert (told[name]["sent"], told[name]["read"]) == (1, 1)
            assert sum(told[name]["coins"].values()) == 1
            assert told[name].keys() == {"sent", "sent_again", "coins", "read", "refused"}

    def test_something_is_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Exit code 1, and a line on stderr for each problem."""

        async def tell(messages: int, **_: object) -> story.Outcome:
            problems = ["bob's vault is empty", "a coin was used again"]
            kills = {"alice": "sent 1"}
            return story.Outcome(messages, kills, 1, evidence("alice"), evidence("bob"), problems)

        monkeypatch.setattr(story, "tell", tell)
        ran = run("chat-demo", "--messages", "2")
        assert ran.code == 1
        assert ran.err == "aqm-db: bob's vault is empty\naqm-db: a coin was used again\n"
        assert "Every message" not in ran.out
        assert "Wrong: a coin was used again." in ran.out
        assert "Alice was killed after 'sent 1', and started again." in ran.out

    def test_missing_extras(self, measured: dict[str, str]) -> None:
        """One line says what to install."""
        script = (
            "import sys; sys.modules['cryptography'] = None; from aqm_db.cli import main; main()"
        )
        command = [sys.executable, "-c", script, "chat-demo"]
        ran = subprocess.run(command, env=measured, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr == "aqm-db: the chat demo needs its extras: pip install 'aqm-db[all]'\n"

    def test_no_message(self) -> None:
        """It takes one at least."""
        assert run("chat-demo", "--messages", "0").code == 2


@pytest.mark.asyncio
@pytest.mark.chat
@pytest.mark.usefixtures("directory")
class TestFailures:
    """No process is left, and no directory."""

    async def test_a_server_that_does_not_start(
        self, started: list[Process], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It's told which, and how it ended."""
        monkeypatch.setattr(sys, "executable", "false")
        with pytest.raises(DemoError, match="the coin server ended with code 1 before .*'ready'"):
            await story.tell(1)
        assert [process.returncode for process in started] == [1]

    async def test_a_party_that_fails(
        self,
        started: list[Process],
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """The others are stopped, and its own words are on stderr."""

        def badly(root: Path) -> None:
            make_people(root)
            (root / "bob" / "secrets").write_bytes(bytes(64))

        monkeypatch.setattr(story, "make_people", badly)
        with pytest.raises(DemoError, match="Bob ended with code 1 before it told 'done'"):
            await story.tell(1)
        assert "InvalidArgumentError: key: must be 32 bytes, not 0" in capfd.readouterr().err
        assert [process.returncode for process in started] == [0, 0, 1]

    async def test_cancelled(self, started: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
        """As by Ctrl-C, in the middle of a chat; also while a killed party's database runs on."""
        killed = asyncio.Event()

        async def kill(self: children.Child) -> None:
            await end(self)
            killed.set()
            await asyncio.Event().wait()

        end = children.Child.kill
        monkeypatch.setattr(children.Child, "kill", kill)
        chat = asyncio.create_task(story.tell(3, kill=True))
        await killed.wait()
        chat.cancel()
        with pytest.raises(asyncio.CancelledError):
            await chat
        assert None not in [process.returncode for process in started]

    async def test_a_process_that_does_not_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Is killed."""
        monkeypatch.setattr(children, "_STOP_SECONDS", 0)
        arguments = (sys.executable, "-c", "while True: pass")
        process = await asyncio.create_subprocess_exec(*arguments, stdin=PIPE, stdout=PIPE)
        child = children.Child("Mallory", process)
        await child.stop()
        assert process.returncode == -9
        await child.kill()


class TestFindings:
    """Whatever went wrong is found."""

    def test_all_is_well(self) -> None:
        """Nothing to say."""
        assert find_problems(*chatted(), 2) == []

    def test_a_lost_message(self) -> None:
        """Which, and how many."""
        alice, bob = chatted()
        problems = find_problems(alice, replace(bob, read=bob.read[1:]), 2)
        assert (
            problems[0] == 'alice to bob: 1 messages were lost, the first is "Alice\'s message 1"'
        )

    def test_a_message_that_was_read_again(self) -> None:
        """How many."""
        alice, bob = chatted()
        problems = find_problems(replace(alice, read=[*alice.read, alice.read[0]]), bob, 2)
        assert problems[0] == "bob to alice: 1 messages were read again"

    def test_another_order(self) -> None:
        """All of them, and none twice."""
        alice, bob = chatted()
        problems = find_problems(alice, replace(bob, read=bob.read[::-1]), 2)
        assert problems[0] == "alice to bob: messages were read in another order"

    def test_a_coin_that_was_used_again(self) -> None:
        """In the sender's outbox."""
        alice, bob = chatted()
        first, second = alice.sent
        sent = [first, replace(second, key_id=first.key_id)]
        assert find_problems(replace(alice, sent=sent), bob, 2) == [
            "alice to bob: 1 coins were used again",
            "alice to bob: the keys that were burned aren't those of the messages",
        ]

    def test_a_key_that_was_not_burned(self) -> None:
        """As the vault counts."""
        alice, bob = chatted()
        assert find_problems(alice, replace(bob, dashboard=dashboard(burned=1)), 2) == [
            "bob's vault: 1 keys were burned for 2 messages"
        ]

    def test_a_database_that_does_not_fit(self) -> None:
        """As its check says."""
        alice, bob = chatted()
        problem = Problem("wrong_counter", "vault", "vault:v1:stats", "off by one", repaired=False)
        assert find_problems(replace(alice, problems=[problem]), bob, 2) == [
            "alice's vault: wrong_counter at vault:v1:stats"
        ]


def chatted() -> tuple[Evidence, Evidence]:
    """What Alice and Bob leave when all went well."""
    return evidence("alice"), evidence("bob")


def evidence(name: str) -> Evidence:
    """What somebody leaves who has sent and read two messages."""
    friend = "bob" if name == "alice" else "alice"
    return Evidence(
        name,
        [Sent(f"{name}-{number}", f"{friend}-key-{number}", "GOLD") for number in (1, 2)],
        0,
        [
            Read(f"{friend}-{number}", f"{name}-key-{number}", text_of(friend, number))
            for number in (1, 2)
        ],
        Counter({"KeyNotFoundError": 1, "ForgedMessageError": 1}),
        dashboard(burned=2),
        [],
    )


def dashboard(burned: int) -> Dashboard:
    """A database where so many keys were burned."""
    return Dashboard(
        vault=VaultStats(0, 0, 0, burned, 0),
        inventory_storage=StorageReport(0, {}, 65_536, 0.0),
        replenish_needs={},
        contacts=[],
    )
