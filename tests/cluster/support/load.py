"""Callers that store and take coins of several owners while something happens to their servers."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aqm_db import AsyncSmartInventory
from aqm_db.errors import AQMDatabaseError
from tests.faults.support.invariants import Ledger
from tests.support.faces import Face
from tests.support.samples import BOB
from tests.support.waiting import eventually

CAPS = {
    priority: {"GOLD": 1000, "SILVER": 1000, "BRONZE": 1000}
    for priority in ("BESTIE", "MATE", "STRANGER")
}
HALVES = (b"public-half", b"signature")
_CALLERS = 3


class Load:
    """Callers of several owners, and what they were told.

    Args:
        face: which face they use.
        client: their one client.
        owners: who they are.
        options: of the inventories.
    """

    def __init__(self, face: Face, client: Any, owners: list[str], **options: Any) -> None:
        self.ledger = Ledger()
        self.inventories: dict[str, AsyncSmartInventory] = {
            owner: face.inventory(
                client, owner=owner, budget_caps=CAPS, budget_bytes=10**9, **options
            )
            for owner in owners
        }
        self._is_over = False
        self._round = 0

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Callers call until the block ends."""
        for inventory in self.inventories.values():
            await inventory.register_contact(BOB, "BESTIE")
        async with asyncio.TaskGroup() as tasks:
            for owner, inventory in self.inventories.items():
                for number in range(_CALLERS):
                    tasks.create_task(self._store(inventory, f"{owner}-{self._round}-{number}"))
                    tasks.create_task(self._take(inventory))
            yield
            self._is_over = True

    def again(self) -> None:
        """Lets the callers call again."""
        self._round += 1
        self._is_over = False

    async def delivers(self, more: int) -> None:
        """Waits until some more coins were handed out."""
        wanted = len(self.ledger.delivered) + more
        await asyncio.to_thread(eventually, lambda: len(self.ledger.delivered) >= wanted)

    async def balance(self) -> dict[str, int]:
        """What is lost or twice there, and the errors that are none of the library's."""
        remaining = [
            coin.key_id
            for inventory in self.inventories.values()
            for coin in await inventory.list_coins(BOB)
        ]
        lost, duplicated = self.ledger.balance(remaining)
        return {"lost": lost, "duplicated": duplicated, "wrong": self.ledger.wrong()}

    async def _store(self, inventory: AsyncSmartInventory, caller: str) -> None:
        number = 0
        while not self._is_over:
            number += 1
            key_id = f"{caller}-{number}"
            # Before the call: a coin is handed out by whoever comes first.
            self.ledger.doubtful.add(key_id)
            try:
                await inventory.store_key(BOB, key_id, "BRONZE", *HALVES)
            except AQMDatabaseError as error:
                self.ledger.refused(error)
            else:
                self.ledger.stored.add(key_id)
            await _until(lambda: self._is_over or len(self.ledger.stored) < self._taken() + 200)

    async def _take(self, inventory: AsyncSmartInventory) -> None:
        while not self._is_over:
            try:
                coin = await inventory.select_coin(BOB, "BRONZE")
            except AQMDatabaseError as error:
                self.ledger.unknown += self.ledger.refused(error)
            else:
                if coin is not None:
                    self.ledger.delivered.append(coin.key_id)
            await asyncio.sleep(0)

    def _taken(self) -> int:
        return len(self.ledger.delivered) + self.ledger.unknown


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)
