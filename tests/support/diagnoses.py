"""What ``doctor`` says of a database, and a user whose permissions a test chooses."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from aqm_db import connect, sync
from aqm_db.doctor import Diagnosis, Finding
from tests.support.backends import REDIS_6, VALKEY_9, RunningServer
from tests.support.samples import Clock

FACES = pytest.mark.parametrize("face", ["aio", "sync"])
OWN = pytest.mark.parametrize("kind", [VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
"""For servers of the test's own."""


async def diagnose(face: str, url: str | None, **options: Any) -> Diagnosis:
    """What the doctor of a database says, unsafe or not, on a day when servers are supported."""
    options = {"allow_unsafe": True, "clock": at(2026, 11, 28), **options}
    if face == "aio":
        async with connect(url, **options) as database:
            return await database.doctor()

    def diagnose_synchronously() -> Diagnosis:
        with sync.connect(url, **options) as database:
            return database.doctor()

    # In a thread, since a synchronous client blocks the loop that a relay runs on.
    return await asyncio.to_thread(diagnose_synchronously)


def at(year: int, month: int, day: int) -> Clock:
    """A clock that stands at the beginning of a day."""
    return Clock(int(datetime(year, month, day, tzinfo=UTC).timestamp() * 1000))


def pick_finding(diagnosis: Diagnosis, name: str) -> Finding:
    """The one finding of a name, which is worded as all of them are."""
    [finding] = [finding for finding in diagnosis.findings if finding.name == name]
    assert finding.message[0].isupper()
    assert finding.message.endswith(".")
    assert bool(finding.remedy) is (finding.severity != "ok")
    return finding


def socket_url(server: RunningServer, credentials: str = "", query: str = "") -> str:
    """The url of a server's socket."""
    return f"unix://{credentials}{server.socket_path}{query}"


def allow(server: RunningServer, *rules: str) -> None:
    """Makes the user anew: who may do these things, and nothing else."""
    with server.sync_client(0) as admin:
        admin.execute_command("ACL", "SETUSER", "u", "reset", "on", ">p", *rules)
