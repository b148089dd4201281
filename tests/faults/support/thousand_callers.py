"""A thousand callers of one database, and what each of them was told."""

import asyncio

from redis.asyncio import Redis

from aqm_db._model.defaults import new_request_id
from aqm_db.errors import AQMDatabaseError
from tests.faults.support.invariants import Ledger
from tests.faults.support.tried_calls import BLOB, HALVES, pair_over

CALLERS = 1000
_CONTACTS = 100


class Crowd:
    """Callers who share a client, ten for each of a hundred contacts.

    Args:
        client: that client.

    Attributes:
        coins: what they were told of contacts' coins.
        halves: what they were told of private halves.
    """

    def __init__(self, client: Redis) -> None:
        self.coins = Ledger()
        self.halves = Ledger()
        self._vault, self._inventory = pair_over(client, new_request_id)

    async def gather(self) -> None:
        """Stores two coins of each contact, and a private half."""
        await asyncio.gather(*map(self._furnish, range(_CONTACTS)))

    async def act(self, caller: int) -> None:
        """What one of the callers does."""
        number, part = divmod(caller, 10)
        try:
            await self._act(number, part)
        except AQMDatabaseError as error:
            self.coins.refused(error)

    async def _furnish(self, number: int) -> None:
        await self._inventory.register_contact(f"contact-{number}", "BESTIE")
        await self._store(number, "old")
        await self._store(number, "other")
        await self._keep(f"half-{number}")

    async def _act(self, number: int, part: int) -> None:
        match part:
            case 0 | 1:
                await self._select(number)
            case 2 | 3:
                await self._borrow(number)
            case 4:
                await self._consume(number, "other")
            case 5:
                await self._store(number, "new")
            case 6:
                await self._keep(f"new-{number}")
            case 7:
                await self._burn(f"half-{number}")
            case 8:
                await self._inventory.register_contact(f"newcomer-{number}", "MATE")
            case _:
                await self._vault.fetch_key(f"half-{number}")
                await self._inventory.set_contact_priority(f"contact-{number}", "BESTIE")

    async def _store(self, number: int, name: str) -> None:
        key_id = f"{number}-{name}"
        self.coins.doubtful.add(key_id)
        await self._inventory.store_key(f"contact-{number}", key_id, "BRONZE", *HALVES)
        self.coins.stored.add(key_id)

    async def _keep(self, key_id: str) -> None:
        self.halves.doubtful.add(key_id)
        await self._vault.store_key(key_id, "BRONZE", BLOB, b"nonce", b"tag")
        self.halves.stored.add(key_id)

    async def _select(self, number: int) -> None:
        entry = await self._inventory.select_coin(f"contact-{number}", "GOLD")
        if entry is not None:
            self.coins.delivered.append(entry.key_id)

    async def _borrow(self, number: int) -> None:
        entry = await self._inventory.select_coin(f"contact-{number}", "GOLD")
        if entry is not None:
            self.coins.delivered.append(entry.key_id)
            try:
                if await self._inventory.release_coin(entry):
                    self.coins.delivered.remove(entry.key_id)
            except asyncio.CancelledError:
                self.coins.returning[entry.key_id] += 1
                raise

    async def _consume(self, number: int, name: str) -> None:
        key_id = f"{number}-{name}"
        try:
            if not await self._inventory.consume_key(f"contact-{number}", key_id):
                return
        except asyncio.CancelledError:
            self.coins.dropped.add(key_id)
            raise
        self.coins.dropped.add(key_id)

    async def _burn(self, key_id: str) -> None:
        self.halves.dropped.add(key_id)
        await self._vault.burn_key(key_id)
        self.halves.delivered.append(key_id)
