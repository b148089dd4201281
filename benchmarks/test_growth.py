"""More contacts, more keys: what select_coin and background work cost then, and a coin's memory."""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pytest

from aqm_db import AsyncGarbageCollector, AsyncSmartInventory, close_all, config
from aqm_db._model.keys import Keys
from aqm_db._model.tiers import TIERS
from aqm_db.embedded import EmbeddedServer
from aqm_db.types import CoinCategory
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import checks, names
from benchmarks.measuring.links import Link, default_client
from benchmarks.measuring.loops import Call, Variant, closed_loop
from benchmarks.measuring.plan import Plan
from benchmarks.measuring.stock import (
    all_of,
    keeping,
    new_coin,
    new_coins,
    new_contacts,
    new_secret,
    storing,
)

pytestmark = pytest.mark.asyncio

FIRST_DATABASE = 2
"""Those below are the link's."""
TOUCHED = 10
"""Contacts of a round: as many at every size, so that only the size differs."""
REMOVED_SHARE = 0.01
"""Of what background work walks over, how much it has to remove."""

_dice = random.Random(2_000)  # noqa: S311 - any numbers will do, the same each time


async def populated(inventory: AsyncSmartInventory, size: int) -> list[str]:
    """Contacts, each with a BRONZE coin."""
    contact_ids = await new_contacts(inventory, size)
    await give(inventory, "BRONZE", contact_ids)
    return contact_ids


async def give(
    inventory: AsyncSmartInventory, tier: CoinCategory, contact_ids: Sequence[str]
) -> None:
    """Stores a coin of each of these contacts."""
    await all_of([storing(inventory, new_coin(each, tier)) for each in contact_ids])


@asynccontextmanager
async def select_among(server: EmbeddedServer, database: int, size: int) -> AsyncGenerator[Variant]:
    """select_coin in a database with a number of contacts."""
    async with default_client(server.socket_path, database) as client:
        inventory = AsyncSmartInventory(client)
        contact_ids = await populated(inventory, size)

        async def prepare(count: int) -> list[Call]:
            chosen = _dice.sample(contact_ids, TOUCHED)
            # As many used coins at every size, too.
            await client.delete(*(inventory.keys.of(each).used for each in chosen))
            turns = chosen * (count // TOUCHED)
            await give(inventory, "GOLD", turns)
            return [partial(inventory.select_coin, each, "GOLD") for each in turns]

        yield Variant(names.among(size), prepare, checks.entries)
        await close_all(client, client)


async def test_select_coin(
    async_benchmark: AsyncBenchmark, server: EmbeddedServer, link: Link, plan: Plan
) -> None:
    """The hot path, in databases of different sizes."""
    async with AsyncExitStack() as databases:
        variants = [
            await databases.enter_async_context(select_among(server, FIRST_DATABASE + number, size))
            for number, size in enumerate(plan.growth)
        ]
        await async_benchmark.closed(
            link,
            variants,
            group=names.GROWTH,
            rounds=plan.lone_rounds,
            operations=TOUCHED * config.BUDGET_CAPS["BESTIE"]["GOLD"],
        )


@dataclass(frozen=True, slots=True)
class Walks:
    """Measures background work, which walks over everything that there is.

    Attributes:
        benchmark: what measures.
        link: the clients of the server.
        rounds: how often.
        size: how many contacts or keys there are.
    """

    benchmark: AsyncBenchmark
    link: Link
    rounds: int
    size: int

    async def garbage_collect(self, contact_ids: Sequence[str]) -> None:
        """A few contacts have been silent for too long."""
        inventory, client = self.link.inventory, self.link.inventory_client
        gone = contact_ids[: int(self.size * REMOVED_SHARE)]

        async def prepare() -> None:
            for contact_id in gone:
                await inventory.set_contact_priority(contact_id, "BESTIE")
                await client.hset(inventory.keys.of(contact_id).meta, "last_msg_at", "0")
            await give(inventory, "GOLD", gone)

        collect = AsyncGarbageCollector(inventory, client).garbage_collect
        await self._measure(
            "garbage_collect", collect, prepare, lambda result: result.contacts_cleaned == len(gone)
        )

    async def get_inventory(self) -> None:
        """All contacts are counted."""

        async def prepare() -> None:
            """Reading needs nothing more than what is there."""

        await self._measure(
            "get_inventory",
            self.link.inventory.get_inventory,
            prepare,
            lambda summaries: len(summaries) == self.size,
        )

    async def purge_expired(self) -> None:
        """A few private halves are too old."""
        vault, client, keys = self.link.vault, self.link.vault_client, Keys()
        count = int(self.size * REMOVED_SHARE)
        await all_of([keeping(vault, new_secret("BRONZE")) for _ in range(self.size - count)])

        async def prepare() -> None:
            # Others each time: what has expired isn't stored again.
            old = [new_secret("BRONZE") for _ in range(count)]
            await all_of([keeping(vault, secret) for secret in old])
            for secret in old:
                await client.hset(keys.vault(secret.key_id), "created_at", "0")

        await self._measure(
            "purge_expired", vault.purge_expired, prepare, lambda purged: purged == count
        )

    async def _measure(
        self,
        operation: str,
        call: Call,
        ready: Callable[[], Awaitable[None]],
        done: Callable[[Any], bool],
    ) -> None:
        async def prepare(_: int) -> list[Call]:
            await ready()
            return [call]

        def check(results: Sequence[Any]) -> None:
            assert all(map(done, results)), "the work wasn't done"

        await self.benchmark.closed(
            self.link,
            [Variant(names.among(self.size), prepare, check)],
            group=names.walk(operation),
            rounds=self.rounds,
            operations=self.size // 1_000,
            whole_rounds=True,
        )


async def test_walks(async_benchmark: AsyncBenchmark, link: Link, plan: Plan) -> None:
    """Background work, in databases of different sizes."""
    for size in plan.walks:
        await link.inventory_client.flushall()
        walks = Walks(async_benchmark, link, plan.walk_rounds, size)
        contact_ids = await populated(link.inventory, size)
        await walks.get_inventory()
        await walks.garbage_collect(contact_ids)
        await walks.purge_expired()


async def test_memory(async_benchmark: AsyncBenchmark, link: Link, plan: Plan) -> None:
    """What the server's memory grows by for each coin, its index entry included."""
    for tier in TIERS:
        coins = await new_coins(link.inventory, plan.memory_coins, tier)
        before = await _data_bytes(link)
        run = await closed_loop([storing(link.inventory, coin) for coin in coins], callers=1)
        checks.all_true(run.results)
        per_coin = (await _data_bytes(link) - before) / len(coins)
        payload = config.COIN_SIZE_BYTES[tier]
        row = link.inventory.keys.of(coins[0].contact_id).row(coins[0].key_id)
        async_benchmark.record(
            names.MEMORY,
            tier,
            run.latencies,
            bytes_per_coin=per_coin,
            payload_bytes=payload,
            share_of_payload=per_coin / payload,
            row_bytes=await link.inventory_client.memory_usage(row),
            name_bytes=len(row),
        )


async def _data_bytes(link: Link) -> int:
    """Memory without what connections and the append-only file have under way."""
    await link.settle()
    memory = await link.inventory_client.info("memory")
    return cast(
        "int", memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"]
    )
