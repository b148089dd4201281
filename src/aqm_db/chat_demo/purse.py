"""A friend's coins: taken from the cache, which is filled from the server when it's empty."""

import asyncio
from typing import Final

from aqm_db import AsyncSmartInventory
from aqm_db.replenisher import AsyncReplenisher
from aqm_db.types import CoinCategory, InventoryEntry, NewCoin

from .link import Link
from .person import Person
from .published_coin import verify_coin

_TIERS: Final[tuple[CoinCategory, ...]] = ("GOLD", "SILVER", "BRONZE")


class Purse:
    """Coins to write to a friend with.

    Args:
        person: who writes.
        inventory: their cache.
        link: to the server.
    """

    def __init__(self, person: Person, inventory: AsyncSmartInventory, link: Link) -> None:
        self._friend = person.friend
        self._friends_identity = person.friends_identity
        self._inventory = inventory
        self._link = link
        self._replenisher = AsyncReplenisher(inventory, link.claim, verifier=self._verify)
        self._published = asyncio.Event()

    async def take(self) -> InventoryEntry:
        """Selects a coin, GOLD or what is left below; waits until there is one."""
        while (coin := await self._inventory.select_coin(self._friend, "GOLD")) is None:
            # Before the server is asked: what is published from now on may be missing there.
            self._published.clear()
            report = await self._replenisher.replenish(self._friend)
            if not report.stored and not await self._fetch_coin():
                await self._published.wait()
        return coin

    async def give_back(self, coin: InventoryEntry) -> None:
        """Releases a coin that was not used."""
        await self._inventory.release_coin(coin)

    def note_coins(self) -> None:
        """There may be coins at the server now."""
        self._published.set()

    async def _fetch_coin(self) -> bool:
        """Caches a coin for this message alone.

        Slots that a process had reserved when it was killed are nobody's for two minutes: its
        replenisher fetches nothing for them, and the message mustn't wait for that.
        """
        for tier in _TIERS:
            for coin in await self._link.claim(self._friend, tier, 1):
                verify_coin(coin, self._friends_identity)
                [outcome] = await self._inventory.store_keys([coin])
                return outcome is True
        return False

    def _verify(self, _: str, coin: NewCoin) -> None:
        verify_coin(coin, self._friends_identity)
