"""A coin server in memory, where each coin can be claimed once, and sources that misbehave."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import Literal, TypeAlias, get_args

from aqm_db.types import CoinCategory, NewCoin
from tests.support.samples import halves

Mood: TypeAlias = Literal["good", "failing", "empty", "lavish", "repeating", "slow", "confused"]
MOODS: tuple[Mood, ...] = get_args(Mood)


class CoinServer:
    """A claim-once server with as many coins as are asked for.

    Attributes:
        claimed: every coin that was ever claimed, by id.
        given: the ids of the coins that the source returned, one for each copy.
        calls: what the source was asked for, in order.
        mood: how the next call is served.
        gate: what slow calls wait for, after they have claimed.
        running: calls that are being served, and the most that ever were.
    """

    def __init__(self, mood: Callable[[], Mood] = lambda: "good") -> None:
        self.claimed: dict[str, NewCoin] = {}
        self.given: list[str] = []
        self.calls: list[tuple[str, CoinCategory, int]] = []
        self.mood = mood
        self.gate = asyncio.Event()
        self.running = 0
        self.most_running = 0
        self._numbers = count()

    async def fetch(self, contact_id: str, tier: CoinCategory, wanted: int) -> Sequence[NewCoin]:
        """The source."""
        self.calls.append((contact_id, tier, wanted))
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            coins = await self._served(self.mood(), contact_id, tier, wanted)
        finally:
            self.running -= 1
        self.given += (coin.key_id for coin in coins)
        return coins

    async def _served(
        self, mood: Mood, contact_id: str, tier: CoinCategory, wanted: int
    ) -> Sequence[NewCoin]:
        await asyncio.sleep(0)
        match mood:
            case "failing":
                raise ConnectionError("no route to the coin server")
            case "empty":
                return []
            case "lavish":
                return self.claim(contact_id, tier, wanted + 2)
            case "repeating":
                coins = self.claim(contact_id, tier, wanted)
                return [*coins, coins[0]]
            case "confused":
                other: CoinCategory = "BRONZE" if tier != "BRONZE" else "SILVER"
                return [*self.claim(contact_id, other, 1), *self.claim(contact_id, tier, wanted)]
            case "slow":
                coins = self.claim(contact_id, tier, wanted)
                await self.gate.wait()
                return coins
            case "good":
                return self.claim(contact_id, tier, wanted)

    def claim(self, contact_id: str, tier: CoinCategory, wanted: int) -> list[NewCoin]:
        """Coins that nobody else gets."""
        coins = [
            NewCoin(contact_id, f"coin-{next(self._numbers)}", tier, *halves(tier))
            for _ in range(wanted)
        ]
        self.claimed.update((coin.key_id, coin) for coin in coins)
        return coins
