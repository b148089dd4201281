"""The embedded server dies under the databases that have it open, which start it again."""

import asyncio
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from aqm_db import AsyncSmartInventory
from aqm_db.embedded import SETTINGS, EmbeddedServer, _server
from aqm_db.errors import AQMDatabaseError
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import Ledger, queued
from tests.support.embedded_programs import PATIENCE, open_database, pid_of, server_of

pytestmark = pytest.mark.asyncio

CALLERS = 6


def kill(server: EmbeddedServer) -> None:
    """As the kernel does that is out of memory."""
    os.kill(pid_of(server), signal.SIGKILL)


def terminate(server: EmbeddedServer) -> None:
    """As a supervisor does."""
    os.kill(pid_of(server), signal.SIGTERM)


def stop(server: EmbeddedServer) -> None:
    """As somebody's client does."""
    _server.send_command(server.socket_path, b"SHUTDOWN", PATIENCE)


class Work:
    """Callers who hand coins over, each its own contact's, while the server dies.

    Attributes:
        ledger: what they were told.
        is_over: whether they end.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.is_over = False
        self._done = 0

    async def hand_over(self, inventory: AsyncSmartInventory, caller: int) -> None:
        """Stores coins and takes them until it's over."""
        contact_id = f"contact{caller}"
        await inventory.register_contact(contact_id, "BESTIE")
        for number in itertools.count():
            if self.is_over:
                return
            await self._store(inventory, contact_id, f"{caller}x{number}")
            await self._take(inventory, contact_id)
            self._done += 1

    async def get_on(self) -> None:
        """Waits until more has been done."""
        goal = self._done + 2 * CALLERS
        while self._done < goal:
            await asyncio.sleep(0)

    async def _store(self, inventory: AsyncSmartInventory, contact_id: str, key_id: str) -> None:
        try:
            await inventory.store_key(contact_id, key_id, "GOLD", b"p", b"s")
        except AQMDatabaseError as error:
            if self.ledger.refused(error):
                self.ledger.doubtful.add(key_id)
        else:
            self.ledger.stored.add(key_id)

    async def _take(self, inventory: AsyncSmartInventory, contact_id: str) -> None:
        try:
            coin = await inventory.select_coin(contact_id, "GOLD")
        except AQMDatabaseError as error:
            self.ledger.unknown += self.ledger.refused(error)
        else:
            self.ledger.delivered += [] if coin is None else [coin.key_id]


@pytest.mark.parametrize("end", [kill, terminate, stop], ids=lambda end: end.__name__)
@pytest.mark.parametrize("face", ["aio", "sync"])
async def test_the_embedded_server_dies(
    end: Callable[[EmbeddedServer], None],
    face: str,
    tmp_path: Path,
    tally: Tally,
    monkeypatch: pytest.MonkeyPatch,
    *,
    thorough: bool,
) -> None:
    """Two databases go on; no coin is lost or handed out twice, and no caller sees an error."""
    # With everysec it may answer before it writes, which is another fault.
    monkeypatch.setattr(_server, "SETTINGS", {**SETTINGS, "appendfsync": "always"})
    times = 20 if thorough else 3
    work, path = Work(), tmp_path / "db"
    async with open_database(face, path) as db, open_database(face, path) as another:
        server = server_of(db)
        async with asyncio.TaskGroup() as group:
            for caller in range(CALLERS):
                inventory = (db, another)[caller % 2].inventory
                group.create_task(work.hand_over(inventory, caller))
            for _ in range(times):
                await work.get_on()
                await asyncio.to_thread(end, server)
            await work.get_on()
            work.is_over = True
    async with open_database("aio", path) as db:
        lost, duplicated = work.ledger.balance(await queued(db.resources.clients[1]))
    tally.add(
        "the embedded server dies, or is told to end",
        runs=times,
        lost=lost,
        duplicated=duplicated,
        wrong=len(work.ledger.errors),
        case=(end.__name__, face, work.ledger.errors[:1]),
    )
