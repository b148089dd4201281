"""Lost replies, repeated requests and cancellation: no coin is lost, and none goes out twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncSecureVault, AsyncSmartInventory, close_all
from aqm_db._async_seam import AsyncSeam
from aqm_db.errors import (
    ContactNotRegisteredError,
    InventoryUnavailableError,
)
from tests.backends import REDIS_6, VALKEY_9, Backend, RunningServer, Servers
from tests.conftest import INVENTORY_DB
from tests.peers import Cutter, listening
from tests.samples import BOB, stock

pytestmark = pytest.mark.asyncio

RETRIES = 5


@pytest.fixture(params=[VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
def real_server(request: pytest.FixtureRequest, servers: Servers) -> RunningServer:
    """A real server: fakeredis proves nothing about lost replies."""
    backend = request.param
    assert isinstance(backend, Backend)
    return servers[backend]


@pytest_asyncio.fixture
async def direct(real_server: RunningServer) -> AsyncIterator[Redis]:
    """A client on a good link, of an empty database."""
    client = real_server.client(INVENTORY_DB)
    await client.flushdb()
    yield client
    await client.flushdb()
    await client.aclose()


@pytest_asyncio.fixture
async def cutter(real_server: RunningServer, tmp_path: Path) -> AsyncIterator[Cutter]:
    """A link that loses replies when it's told to."""
    peer = Cutter(real_server.socket_path)
    async with listening(peer, tmp_path / "s"):
        yield peer


@pytest_asyncio.fixture
async def cut(cutter: Cutter, tmp_path: Path) -> AsyncIterator[Redis]:
    """A client on that link, with more retries than losses."""
    client = Redis(
        unix_socket_path=str(tmp_path / "s"),
        db=INVENTORY_DB,
        retry=Retry(NoBackoff(), RETRIES),
    )
    yield client
    await client.aclose()


# Lost replies ------------------------------------------------------------------------------


# Cancellation ------------------------------------------------------------------------------


async def cancelled_at(step: int, times: int, call: Awaitable[Any]) -> Any:
    """Runs a call, cancels it after some turns of the event loop, and returns how it ended."""
    task = asyncio.ensure_future(call)
    for _ in range(step):
        await asyncio.sleep(0)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait((task,))
    return asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()


async def conserved(direct: Redis, rounds: int, times: int) -> tuple[int, int]:
    """Cancels a call at every step; how many coins there were, and how many there are."""
    inventory = AsyncSmartInventory(direct)
    await inventory.register_contact(BOB, "MATE")
    delivered: list[str] = []
    stored = 0
    for step in range(rounds):
        await stock(inventory, BOB, "SILVER", f"{step}")
        stored += 1
        entry = await cancelled_at(step % 40, times, inventory.select_coin(BOB, "SILVER"))
        if isinstance(entry, BaseException):
            assert isinstance(entry, asyncio.CancelledError)
            entry = await inventory.select_coin(BOB, "SILVER")
        if entry is not None:
            delivered.append(entry.key_id)
    remaining = (await inventory.get_inventory(BOB)).silver_count
    assert len(delivered) == len(set(delivered))
    return stored, len(delivered) + remaining


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_call_that_is_cancelled_at_any_step_loses_no_coin(
    direct: Redis, times: int
) -> None:
    """A coin that was on its way to a cancelled caller is back in its queue."""
    stored, found = await conserved(direct, 120, times)
    assert found == stored


async def test_mutant_without_undo_loses_coins(
    direct: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above fails when cancelled calls aren't settled."""

    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(AsyncSeam, "_settle", nothing)
    stored, found = await conserved(direct, 120, 1)
    assert found < stored


async def test_a_cancelled_crowd_loses_no_coin(direct: Redis) -> None:
    """Of many callers, a part is cancelled at different steps; all coins are accounted for."""
    inventory = AsyncSmartInventory(direct)
    contacts = [f"contact {number}" for number in range(100)]
    for contact_id in contacts:
        await inventory.register_contact(contact_id, "MATE")
        await stock(inventory, contact_id, "SILVER", *(f"{contact_id} {n}" for n in range(5)))
    results = await asyncio.gather(
        *(
            cancelled_at(number % 50, 1, inventory.select_coin(contacts[number % 100], "SILVER"))
            for number in range(1000)
        )
    )
    delivered = [
        entry.key_id
        for entry in results
        if entry is not None and not isinstance(entry, BaseException)
    ]
    remaining = sum(summary.silver_count for summary in (await inventory.get_inventory()).values())
    assert len(set(delivered)) == len(delivered)
    assert len(delivered) + remaining == 500
    assert any(isinstance(result, asyncio.CancelledError) for result in results)


async def test_asyncio_timeout_becomes_a_timeout_error(direct: Redis) -> None:
    """A deadline that passes during a call is a TimeoutError, and the coin is back."""
    inventory = AsyncSmartInventory(direct)
    await inventory.register_contact(BOB, "MATE")
    await stock(inventory, BOB, "SILVER", "s1")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await inventory.select_coin(BOB, "SILVER")
    entry = await inventory.select_coin(BOB, "SILVER")
    assert entry is not None


async def test_a_call_that_was_not_sent_is_dropped(tmp_path: Path) -> None:
    """Cancelling a caller that still waits for a connection waits for nothing."""
    client = Redis(unix_socket_path=str(tmp_path / "nobody"), retry=Retry(NoBackoff(), 1_000_000))
    result = await cancelled_at(5, 1, AsyncSmartInventory(client).select_coin(BOB, "GOLD"))
    assert isinstance(result, asyncio.CancelledError)
    await client.aclose()


async def test_a_cancelled_call_without_server_ends(
    cutter: Cutter, cut: Redis, direct: Redis, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Where what a cancelled call did can't be found out, the log says so, and it ends."""
    inventory = AsyncSmartInventory(cut)
    await inventory.register_contact(BOB, "MATE")
    await stock(inventory, BOB, "SILVER", "s1")
    task = asyncio.ensure_future(inventory.select_coin(BOB, "SILVER"))
    cutter.losing = 10 * RETRIES
    cutter.meanwhile = task.cancel
    with pytest.raises(asyncio.CancelledError):
        await task
    [record] = [record for record in caplog.records if record.msg == "outcome_unknown"]
    assert record.__dict__["operation"] == "inv_select"
    assert record.__dict__["error"] == InventoryUnavailableError.__name__


async def test_a_cancelled_call_that_fails_needs_no_undo(direct: Redis) -> None:
    """Nothing is taken back where nothing was done."""
    inventory = AsyncSmartInventory(direct)
    await inventory.has_keys_for(BOB)
    for step in range(10):
        result = await cancelled_at(step, 1, inventory.select_coin("nobody", "GOLD"))
        assert isinstance(result, asyncio.CancelledError | ContactNotRegisteredError)


async def test_close_waits_for_cancelled_calls(direct: Redis, real_server: RunningServer) -> None:
    """Closing while cancelled calls are being settled closes after the last of them."""
    client = real_server.client(INVENTORY_DB)
    inventory = AsyncSmartInventory(client)
    await inventory.register_contact(BOB, "MATE")
    await stock(inventory, BOB, "SILVER", "s1", "s2", "s3")
    tasks = [asyncio.ensure_future(inventory.select_coin(BOB, "SILVER")) for _ in range(3)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.sleep(0)
    await close_all(client, client)
    assert (await AsyncSmartInventory(direct).get_inventory(BOB)).silver_count == 3
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_close_waits_for_answers(direct: Redis, real_server: RunningServer) -> None:
    """Closing while calls are in flight lets them end."""
    client = real_server.client(INVENTORY_DB)
    inventory = AsyncSmartInventory(client)
    await inventory.has_keys_for(BOB)
    calls = [asyncio.ensure_future(inventory.register_contact(f"c{n}", "MATE")) for n in range(20)]
    await asyncio.sleep(0)
    await close_all(client, client)
    assert await asyncio.gather(*calls) == [True] * 20


async def test_more_than_the_socket_takes_at_once(
    direct: Redis, real_server: RunningServer
) -> None:
    """Writes that fill the socket's buffer wait for it, and callers may be cancelled meanwhile."""
    vault = AsyncSecureVault(direct)
    blob = bytes(60_000)
    tasks = [
        asyncio.ensure_future(vault.store_key(f"k{number}", "GOLD", blob, b"i", b"t"))
        for number in range(200)
    ]
    await asyncio.sleep(0)
    for task in tasks[::4]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results.count(True) >= 150
    assert len(await vault.get_all_active_ids()) == await vault.count_active("GOLD")
