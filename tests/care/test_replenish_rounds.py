"""Two replenishers on one database, round after round, with a source that does everything wrong."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory, config
from aqm_db.replenisher import AsyncReplenisher, RefusedCoin, Replenished
from tests.conftest import INVENTORY_DB
from tests.support.backends import FAKEREDIS, REDIS_6, VALKEY_9, Backend, RunningServer, Servers
from tests.support.coin_server import MOODS, CoinServer
from tests.support.samples import Clock, age_leases

pytestmark = pytest.mark.asyncio

CONTACTS = {"b1": "BESTIE", "b2": "BESTIE", "m1": "MATE", "m2": "MATE", "s1": "STRANGER"}
BUDGET_BYTES = 30_000
"""Less than half of what all caps together would take."""
TIERS = ("GOLD", "SILVER", "BRONZE")
# One look at everything: several commands would see different moments.
COUNT = "local counts = {} for i, key in ipairs(KEYS) do counts[i] = redis.call('ZCARD', key) end"
NAMES = [f"inv:v1:idx:{contact_id}:{tier}" for contact_id in CONTACTS for tier in TIERS]


@dataclass
class World:
    """Two replenishers, the coins that left the inventory, and those that were handed back."""

    client: Redis
    clock: Clock
    server: CoinServer
    inventories: tuple[AsyncSmartInventory, AsyncSmartInventory]
    replenishers: tuple[AsyncReplenisher, AsyncReplenisher]
    delivered: list[str] = field(default_factory=list)
    handed_back: list[RefusedCoin] = field(default_factory=list)
    looks: int = 0

    async def look(self) -> None:
        """Nothing is above a cap or the budget at this moment."""
        counts: Any = await self.client.eval(f"{COUNT} return counts", len(NAMES), *NAMES)
        total = 0
        for name, count in zip(NAMES, counts, strict=True):
            _, _, _, contact_id, tier = name.split(":")
            assert count <= config.BUDGET_CAPS[CONTACTS[contact_id]][tier], name
            total += count * config.COIN_SIZE_BYTES[tier]
        assert total <= BUDGET_BYTES
        self.looks += 1

    async def stored(self) -> list[str]:
        """The ids of all coins that are stored now."""
        ids: list[str] = []
        for name in NAMES:
            members: Any = await self.client.zrange(name, 0, -1)
            ids += (member.decode() for member in members)
        return ids

    def keep(self, results: tuple[Replenished, ...]) -> None:
        """Takes what a report hands back."""
        for result in results:
            assert result.got == result.stored + len(result.refused)
            self.handed_back += result.refused

    async def play(self, dice: random.Random) -> None:
        """One round."""
        self.server.gate.clear()
        tasks = [asyncio.create_task(each.replenish()) for each in self.replenishers]
        victim = tasks[dice.randrange(2)] if dice.random() < 0.4 else None
        cancel_at, open_at = dice.randrange(60), dice.randrange(60)
        expire_at = dice.randrange(60) if dice.random() < 0.2 else -1
        for turn in range(60):
            if turn == cancel_at and victim is not None:
                victim.cancel()
            if turn == open_at:
                self.server.gate.set()
            if turn == expire_at:
                await age_leases(self.client, config.INV_LEASE_TTL_SECONDS * 1000)
            if turn % 20 == 0:
                await self.look()
            await asyncio.sleep(0)
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, asyncio.CancelledError)
            else:
                self.keep(outcome.results)
        for each in self.replenishers:
            self.keep(each.take_unreported())
        await self.look()
        await self.use(dice)
        await self.store_again()
        self.clock.advance(ms=600_000)

    async def use(self, dice: random.Random) -> None:
        """Sends some messages."""
        for _ in range(dice.randrange(12)):
            contact_id, inventory = dice.choice(list(CONTACTS)), dice.choice(self.inventories)
            entry = await inventory.select_coin(contact_id, "GOLD")
            if entry is not None:
                self.delivered.append(entry.key_id)

    async def store_again(self) -> None:
        """Offers the database what was handed back, as a client would."""
        coins = [refused.coin for refused in self.handed_back[:10]]
        outcomes = await self.inventories[0].store_keys(coins, enforce_budget=True)
        kept = [
            refused
            for refused, outcome in zip(self.handed_back[:10], outcomes, strict=True)
            if outcome is not True
        ]
        self.handed_back = self.handed_back[10:] + kept
        await self.look()


@pytest.mark.parametrize("kind", [FAKEREDIS, VALKEY_9, REDIS_6], ids=lambda kind: kind.name)
async def test_no_coin_is_lost_and_no_budget_passed(
    servers: Servers, kind: Backend, clock: Clock, *, thorough: bool
) -> None:
    """Every coin that was claimed is stored, was delivered, or is in the caller's hands: once."""
    running: RunningServer = servers[kind]
    dice = random.Random(7)  # noqa: S311 - rounds that can be played again
    server = CoinServer(lambda: dice.choice(MOODS))
    clients = [running.client(INVENTORY_DB) for _ in range(2)]
    await clients[0].flushdb()
    first, second = (
        AsyncSmartInventory(client, budget_bytes=BUDGET_BYTES, clock=clock) for client in clients
    )
    for contact_id, priority in CONTACTS.items():
        await first.register_contact(contact_id, priority)
    replenishers = (
        AsyncReplenisher(first, server.fetch, backoff_seconds=1, concurrency=2),
        AsyncReplenisher(second, server.fetch, backoff_seconds=1, concurrency=5),
    )
    world = World(clients[0], clock, server, (first, second), replenishers)
    # In fakeredis a script takes ten times as long.
    rounds = 20 if kind is FAKEREDIS else 100
    if thorough:
        rounds *= 10
    for _ in range(rounds):
        await world.play(dice)

    handed_back = [refused.coin.key_id for refused in world.handed_back]
    assert sorted([*await world.stored(), *world.delivered, *handed_back]) == sorted(server.given)
    assert set(server.given) == set(server.claimed)
    assert len(set(world.delivered)) == len(world.delivered)
    assert len(world.delivered) > rounds
    assert world.looks >= 5 * rounds
    assert await clients[0].hlen("inv:v1:leases") == 0
    for client in clients:
        await client.flushdb()
        await client.aclose()
