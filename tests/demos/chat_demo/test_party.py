"""All of it together, in one process here."""

import asyncio
from pathlib import Path

import pytest

from aqm_db.chat_demo.journal import Journal
from aqm_db.chat_demo.party import take_part, text_of
from aqm_db.chat_demo.person import load_person
from tests.support.chat_people import run_coin_server

pytestmark = pytest.mark.asyncio


async def test_two_chat(root: Path) -> None:
    """Until both are done; what Mallory did is refused."""
    told: dict[str, list[str]] = {"alice": [], "bob": []}
    stopped = asyncio.Event()
    async with run_coin_server(root) as path, asyncio.TaskGroup() as group:

        def hear(name: str, line: str) -> None:
            told[name].append(line)
            if all("done" in lines for lines in told.values()):
                stopped.set()

        for name in told:
            group.create_task(
                take_part(
                    load_person(root, name),
                    path,
                    12,
                    lambda line, name=name: hear(name, line),  # type: ignore[misc]
                    stopped,
                )
            )
    for name, friend in (("alice", "bob"), ("bob", "alice")):
        lines = told[name]
        for word in ("sent", "received"):
            assert [line for line in lines if line.startswith(word)] == [
                f"{word} {number}" for number in range(1, 13)
            ]
        with Journal(root / name / "log") as log:
            records = list(log)
        assert [record["text"] for record in records if "text" in record] == [
            text_of(friend, number) for number in range(1, 13)
        ]
    refused = [
        record["refused"]
        for name in told
        for record in Journal(root / name / "log")
        if "refused" in record
    ]
    assert set(refused) == {"ForgedMessageError", "KeyAlreadyBurnedError"}
