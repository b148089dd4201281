"""Races between callers, on every backend and face: exactly one wins, and nothing is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import uvloop

from aqm_db import AsyncSecureVault, AsyncSmartInventory
from aqm_db.errors import BudgetExceededError, KeyAlreadyBurnedError, KeyAlreadyExistsError
from tests.conftest import INVENTORY_DB
from tests.support.backends import REDIS_6, VALKEY_9, Backend, Servers
from tests.support.samples import BOB, SampleKey, sample_key, stock

TASKS = 50


async def outcomes(calls: list[Awaitable[Any]]) -> list[Any]:
    """What each of the calls returned, or raised."""
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.asyncio
async def test_concurrent_store_respects_budget(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """Of many that store GOLD coins at once, exactly five succeed."""
    results = await outcomes(
        [stock(inventory, registered_bestie, "GOLD", f"g{number}") for number in range(TASKS)]
    )
    assert results.count(None) == 5
    assert sum(isinstance(result, BudgetExceededError) for result in results) == TASKS - 5
    assert (await inventory.get_inventory(registered_bestie)).gold_count == 5


@pytest.mark.asyncio
async def test_concurrent_select_no_duplicates(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """Of many that select at once, each coin goes to exactly one."""
    await stock(inventory, registered_bestie, "SILVER", *"1234")
    await stock(inventory, registered_bestie, "BRONZE", "5")
    results = await outcomes(
        [inventory.select_coin(registered_bestie, "SILVER") for _ in range(TASKS)]
    )
    assert sorted(entry.key_id for entry in results if entry is not None) == list("12345")
    assert not await inventory.has_keys_for(registered_bestie)


@pytest.mark.asyncio
async def test_concurrent_burn_idempotent(
    vault: AsyncSecureVault, sample_gold_key: SampleKey
) -> None:
    """Of many that burn one key at once, exactly one burns it."""
    await vault.store_key(**sample_gold_key)
    results = await outcomes([vault.burn_key("gold-1") for _ in range(TASKS)])
    assert results.count(True) == 1
    assert sum(isinstance(result, KeyAlreadyBurnedError) for result in results) == TASKS - 1
    assert (await vault.get_stats()).total_burned == 1


@pytest.mark.asyncio
async def test_concurrent_store_of_one_key(vault: AsyncSecureVault) -> None:
    """Of many that store under one id at once, exactly one does."""
    results = await outcomes([vault.store_key(**sample_key("k", "GOLD")) for _ in range(TASKS)])
    assert results.count(True) == 1
    assert sum(isinstance(result, KeyAlreadyExistsError) for result in results) == TASKS - 1
    assert await vault.count_active("GOLD") == 1


@pytest.mark.asyncio
async def test_concurrent_store_and_select(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """Every coin that is stored while others select is delivered once, or still there."""
    rounds, workers = 20, 25
    stored: list[str] = []
    delivered: list[str] = []

    async def store(worker: int) -> None:
        for number in range(rounds):
            key_id = f"{worker}-{number}"
            try:
                await stock(inventory, registered_bestie, "SILVER", key_id)
            except BudgetExceededError:
                continue
            stored.append(key_id)

    async def select() -> None:
        for _ in range(rounds):
            entry = await inventory.select_coin(registered_bestie, "GOLD")
            if entry is not None:
                delivered.append(entry.key_id)

    await asyncio.gather(
        *(store(worker) for worker in range(workers)), *(select() for _ in range(workers))
    )
    remaining = (await inventory.get_inventory(registered_bestie)).silver_count
    while (entry := await inventory.select_coin(registered_bestie, "SILVER")) is not None:
        delivered.append(entry.key_id)
        remaining -= 1
    assert remaining == 0
    assert len(set(delivered)) == len(delivered)
    assert sorted(delivered) == sorted(stored)


async def crowd(servers: Servers, backend: Backend, callers: int) -> None:
    """Very many select at once with the client as redis-py makes it: each coin goes to one."""
    client = servers[backend].client(INVENTORY_DB)
    await client.flushdb()
    inventory = AsyncSmartInventory(client)
    contacts = [f"contact {number}" for number in range(callers // 5)]
    for contact_id in contacts:
        await inventory.register_contact(contact_id, "BESTIE")
        await stock(inventory, contact_id, "SILVER", *(f"{contact_id}-{n}" for n in range(4)))
    results = await asyncio.gather(
        *(inventory.select_coin(contacts[number // 5], "GOLD") for number in range(callers))
    )
    found = [entry.key_id for entry in results if entry is not None]
    assert len(found) == len(set(found)) == callers // 5 * 4
    await client.flushdb()
    await client.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize("crowd_backend", [VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
async def test_ten_thousand_callers(servers: Servers, crowd_backend: Backend) -> None:
    """10,000 calls at once need no pool of 10,000 connections."""
    await crowd(servers, crowd_backend, 10_000)


def test_anyio_task_group(servers: Servers) -> None:
    """It works from anyio's task groups, and a cancelled scope loses no coin."""

    async def main() -> None:
        client = servers[VALKEY_9].client(INVENTORY_DB)
        await client.flushdb()
        inventory = AsyncSmartInventory(client)
        await inventory.register_contact(BOB, "MATE")
        await stock(inventory, BOB, "SILVER", *"123456")
        delivered: list[str] = []

        async def select(scope: anyio.CancelScope | None) -> None:
            with scope or anyio.CancelScope():
                entry = await inventory.select_coin(BOB, "SILVER")
                if entry is not None:
                    delivered.append(entry.key_id)

        async with anyio.create_task_group() as group:
            for number in range(TASKS):
                scope = anyio.CancelScope() if number % 2 else None
                group.start_soon(select, scope)
                if scope is not None:
                    group.start_soon(_cancel, scope)
        while (entry := await inventory.select_coin(BOB, "SILVER")) is not None:
            delivered.append(entry.key_id)
        assert sorted(delivered) == list("123456")
        await client.flushdb()
        await client.aclose()

    anyio.run(main)


async def _cancel(scope: anyio.CancelScope) -> None:
    scope.cancel()


def test_uvloop(servers: Servers) -> None:
    """It works on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(crowd(servers, VALKEY_9, 1000))


def test_one_client_in_one_event_loop_after_another(servers: Servers) -> None:
    """A client that outlives its event loop works in the next one."""
    client = servers[VALKEY_9].client(INVENTORY_DB)
    inventory = AsyncSmartInventory(client)

    async def register(name: str) -> bool:
        return await inventory.register_contact(name, "MATE")

    async def close() -> None:
        await client.flushdb()
        await client.aclose()

    runs: list[Callable[[], Any]] = [
        lambda: register("first"),
        lambda: register("second"),
        lambda: register("first"),
    ]
    assert [asyncio.run(run()) for run in runs] == [True, True, False]
    asyncio.run(close())
