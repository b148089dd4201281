"""``python -m aqm_db.chat_demo``, in this process."""

import asyncio
import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chat_people import run_coin_server

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def end_stdin(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Works in the demo's directory, and has stdin end."""
    monkeypatch.chdir(root)
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield


async def run_process(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Runs one to its end, in a thread with an event loop of its own."""
    monkeypatch.setattr(sys, "argv", ["aqm_db.chat_demo", *arguments])
    await asyncio.to_thread(runpy.run_module, "aqm_db.chat_demo", run_name="__main__")


async def test_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Tells that it's ready, and ends when stdin does."""
    await run_process(monkeypatch)
    assert capsys.readouterr().out == "ready\n"


async def test_party(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Ends when stdin does."""
    async with run_coin_server(root):
        await run_process(monkeypatch, "alice", "3")
    assert (root / "alice" / "outbox").exists()
