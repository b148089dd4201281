"""No process is left, and no directory, whatever fails."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aqm_db.chat_demo import children, story
from aqm_db.chat_demo.person import make_people
from aqm_db.demo import DemoError
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import EmbeddedServerError
from tests.support.chat_people import forbid_leftovers

pytestmark = [pytest.mark.asyncio, pytest.mark.chat]


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Temporary directories and their servers must be gone in the end."""
    with forbid_leftovers(monkeypatch):
        yield


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """All processes of the demo; in the end, none of them must run."""
    processes: list[Process] = []
    start = asyncio.create_subprocess_exec

    async def start_noting(*arguments: Any, **options: Any) -> Process:
        processes.append(await start(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_noting)
    return processes


def make_people_badly(root: Path) -> None:
    """Makes two people, and Bob's vault has no key."""
    make_people(root)
    (root / "bob" / "secrets").write_bytes(bytes(64))


async def test_a_server_that_does_not_start(
    started: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It's told which, and how it ended."""
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(DemoError, match="the coin server ended with code 1 before .*'ready'"):
        await story.tell(1)
    assert [process.returncode for process in started] == [1]


async def test_a_party_that_fails(
    started: list[Process],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The others are stopped, and its own words are on stderr."""
    monkeypatch.setattr(story, "make_people", make_people_badly)
    with pytest.raises(DemoError, match="Bob ended with code 1 before it told 'done'"):
        await story.tell(1)
    assert "InvalidArgumentError: key: must be 32 bytes, not 0" in capfd.readouterr().err
    assert [process.returncode for process in started] == [0, 0, 1]


async def test_a_database_that_can_not_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """That hides nothing: it's told what made the chat fail."""

    def refuse(_: object) -> None:
        raise EmbeddedServerError("no")

    monkeypatch.setattr(story, "make_people", make_people_badly)
    monkeypatch.setattr(EmbeddedServer, "open", refuse)
    with pytest.raises(DemoError, match="Bob ended with code 1 before it told 'done'"):
        await story.tell(1)


async def test_cancelled(started: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_a_process_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is killed."""
    monkeypatch.setattr(children, "_STOP_SECONDS", 0)
    arguments = (sys.executable, "-c", "while True: pass")
    process = await asyncio.create_subprocess_exec(*arguments, stdin=PIPE, stdout=PIPE)
    child = children.Child("Mallory", process)
    await child.stop()
    assert process.returncode == -9
    await child.kill()
