"""A server that stands still: whoever gives up can go, and what was taken meanwhile comes back."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory, connection
from aqm_db.errors import InvalidArgumentError
from tests.conftest import INVENTORY_DB
from tests.faults.support.fault_table import Tally
from tests.faults.support.tried_calls import CAPS, HALVES
from tests.support.backends import REDIS_8, VALKEY_9, RunningServer
from tests.support.samples import BOB
from tests.support.waiting import await_until

pytestmark = pytest.mark.asyncio

SETTLE_MS = 50


@pytest.fixture(params=[VALKEY_9, REDIS_8], ids=lambda backend: backend.name)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """One that can be stopped."""
    with RunningServer(request.param) as running:
        yield running
        running.thaw()


@pytest_asyncio.fixture(params=[None, 5.0], ids=str)
async def client(server: RunningServer, request: pytest.FixtureRequest) -> AsyncGenerator[Redis]:
    """A client that waits for ever, or for some seconds."""
    client = server.client(INVENTORY_DB, socket_timeout=request.param)
    try:
        yield client
    finally:
        server.thaw()
    await connection.close_all(client, client)


@pytest_asyncio.fixture
async def inventory(client: Redis) -> AsyncSmartInventory:
    """Five coins; the server knows their scripts."""
    inventory = AsyncSmartInventory(client, budget_caps=CAPS, settle_timeout=SETTLE_MS)
    await inventory.register_contact(BOB, "BESTIE")
    for number in range(5):
        await inventory.store_key(BOB, f"b{number}", "BRONZE", *HALVES)
    taken = await inventory.select_coin(BOB, "BRONZE")
    assert taken is not None
    assert await inventory.release_coin(taken)
    return inventory


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_callers_can_go(
    server: RunningServer,
    inventory: AsyncSmartInventory,
    times: int,
    tally: Tally,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They wait no longer than they were told to, and their coins are back when it goes on."""
    server.freeze()
    calls = [asyncio.ensure_future(inventory.select_coin(BOB, "BRONZE")) for _ in range(3)]
    await asyncio.sleep(0)
    for _ in range(times):
        for call in calls:
            call.cancel()
        await asyncio.sleep(0)
    with caplog.at_level(logging.WARNING):
        # A silent server would keep them for ever; the limit is for a test that fails.
        done, _ = await asyncio.wait(calls, timeout=30)
    assert all(call.cancelled() for call in done)
    assert len(done) == len(calls)
    assert [record.msg for record in caplog.records] == ["settling_delayed"] * 3
    server.thaw()

    async def are_back() -> bool:
        coins = await inventory.list_coins(BOB)
        return [coin.key_id for coin in coins] == ["b0", "b1", "b2", "b3", "b4"]

    await await_until(are_back)
    tally.add("a server that stands still", runs=3)
    assert [record.msg for record in caplog.records] == ["settling_delayed"] * 3


async def test_an_event_loop_that_ends_waits_no_longer(
    server: RunningServer, inventory: AsyncSmartInventory, client: Redis
) -> None:
    """Whoever presses Ctrl-C while the server stands still gets away: closing waits as long."""
    server.freeze()
    call = asyncio.ensure_future(inventory.select_coin(BOB, "BRONZE"))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait((call,), timeout=30)
    await asyncio.wait_for(connection.close_all(client, client), 30)
    server.thaw()


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2", None, True])
async def test_a_limit_that_is_none(client: Redis, wrong: Any) -> None:
    """It's refused, and named."""
    with pytest.raises(InvalidArgumentError) as caught:
        AsyncSmartInventory(client, settle_timeout=wrong)
    assert caught.value.argument == "settle_timeout"
