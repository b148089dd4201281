"""Clients that are closed while calls are under way, or are being taken back."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncClientDatabase, AsyncSecureVault, AsyncSmartInventory, close_all
from aqm_db._model.defaults import new_request_id
from aqm_db._operations import batch
from aqm_db.errors import InventoryUnavailableError, VaultUnavailableError
from aqm_db.types import InventoryEntry
from tests.conftest import INVENTORY_DB
from tests.faults.support.byte_cutter import ByteCutter
from tests.faults.support.cancelled_callers import (
    MOMENTS,
    Moment,
    by_cancel,
    cancelled_at,
    given_up,
    turns,
)
from tests.faults.support.clients_on_bad_links import NO_RETRIES
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import Ledger, assert_link_is_clean, queued
from tests.faults.support.tried_calls import HALVES, pair_over, stocked
from tests.support.backends import RunningServer
from tests.support.peers import ScriptedServer, listening, listening_on_loopback
from tests.support.samples import BOB, stock

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("times", [0, 1, 2])
@pytest.mark.parametrize("warm", [True, False], ids=["connected", "connecting"])
async def test_a_client_that_is_closed_at_any_step(
    real_server: RunningServer,
    direct: Redis,
    *,
    warm: bool,
    times: int,
    thorough: bool,
    tally: Tally,
) -> None:
    """Closing waits for callers, and for what is taken back from those who gave up."""
    line = ByteCutter(real_server.socket_path)
    step = 1 if thorough else 13
    moments = MOMENTS if warm else [Moment(None, number) for number in range(0, 120, step)]
    async with line.listening() as port:
        for moment in moments:
            await direct.flushdb()
            await stocked(*pair_over(direct, new_request_id))
            client = NO_RETRIES.make(port)
            _, inventory = pair_over(client, new_request_id)
            if warm:
                await assert_link_is_clean(client, inventory)
            line.arm(None)
            tasks: list[asyncio.Task[Any]] = [
                asyncio.ensure_future(inventory.select_coin(BOB, "GOLD")),
                asyncio.ensure_future(inventory.store_key(BOB, "b4", "BRONZE", *HALVES)),
                asyncio.ensure_future(inventory.select_coin(BOB, "GOLD")),
            ]
            await moment.come(tasks[0], line)
            for _ in range(times):
                for task in tasks[:2]:
                    task.cancel()
                await asyncio.sleep(0)
            await close_all(client, client)
            assert all(task.done() for task in tasks)
            assert not client.connection_pool._in_use_connections
            endings = await asyncio.gather(*tasks, return_exceptions=True)
            ledger = Ledger()
            ledger.stored, ledger.doubtful = {"b1", "b2", "b3"}, {"b4"}
            for ending in endings:
                if isinstance(ending, InventoryEntry):
                    ledger.delivered.append(ending.key_id)
                elif ending is True:
                    ledger.stored.add("b4")
                else:
                    assert isinstance(ending, asyncio.CancelledError), ending
                    assert times
            assert isinstance(endings[2], InventoryEntry)
            lost, duplicated = ledger.balance(await queued(direct))
            tally.add("client closed meanwhile", lost=lost, duplicated=duplicated, case=moment)


async def test_closing_waits_for_nothing_that_nobody_waits_for(tmp_path: Path) -> None:
    """A connection that can't be made, and a reply that won't come, don't hold up the end."""

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(never, tmp_path / "never"):
        client = Redis(
            unix_socket_path=str(tmp_path / "never"),
            socket_timeout=None,
            socket_connect_timeout=None,
        )
        call = AsyncSmartInventory(client).select_coin(BOB, "GOLD")
        assert isinstance(await cancelled_at(20, 1, call), asyncio.CancelledError)
        await close_all(client, client)
    silent = ScriptedServer(lambda _: b"")
    async with listening(silent, tmp_path / "silent"):
        client = Redis(unix_socket_path=str(tmp_path / "silent"), protocol=2, socket_timeout=None)
        reading, cancel = by_cancel(AsyncSecureVault(client).fetch_key("k"))
        while not silent.requests:
            await asyncio.sleep(0)
        assert isinstance(await given_up(reading, cancel, 1), asyncio.CancelledError)
        await close_all(client, client)


async def test_a_transport_that_is_closed_while_it_connects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From Python 3.12 on, asyncio makes a TypeError of it; whoever waits is told as ever."""

    def written_to_nothing(*_: object) -> None:
        raise TypeError("'NoneType' object is not callable")

    monkeypatch.setattr(asyncio.StreamWriter, "writelines", written_to_nothing)
    async with listening_on_loopback(ScriptedServer(lambda _: b""), None) as port:
        client = Redis(port=port, retry=Retry(NoBackoff(), 0))
        with pytest.raises(VaultUnavailableError, match="the client was closed") as caught:
            await AsyncSecureVault(client).exists("k")
        assert caught.value.outcome_unknown is False
        await client.aclose()


async def test_a_call_that_comes_while_a_client_is_closed(tmp_path: Path) -> None:
    """Whoever waits for a connection that closing gives up is told so, and isn't cancelled."""

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    told = 0
    async with await asyncio.start_unix_server(never, tmp_path / "s"):
        for number in range(8):
            client = Redis(
                unix_socket_path=str(tmp_path / "s"),
                retry=Retry(NoBackoff(), 0),
                socket_timeout=None,
                socket_connect_timeout=None,
            )
            vault = AsyncSecureVault(client)
            await cancelled_at(20, 1, vault.exists("k"))
            closing = asyncio.ensure_future(close_all(client, client))
            await turns(number)
            late, cancel = by_cancel(vault.exists("k"))
            await turns(50)
            ending = await given_up(late, cancel, 1)
            assert isinstance(ending, VaultUnavailableError | asyncio.CancelledError)
            if isinstance(ending, VaultUnavailableError):
                assert ending.outcome_unknown is False
                told += 1
            await closing
            await close_all(client, client)
    assert told


async def test_a_client_that_is_closed_by_its_own_method(
    real_server: RunningServer, direct: Redis, *, thorough: bool, tally: Tally
) -> None:
    """redis-py's ``aclose`` waits for nobody; callers are told, or connect once more."""
    for number in range(0, 150, 1 if thorough else 3):
        client = real_server.client(INVENTORY_DB, retry=Retry(NoBackoff(), 0))
        registering = asyncio.ensure_future(
            AsyncSmartInventory(client).register_contact(f"contact-{number}", "MATE")
        )
        await turns(number)
        await client.aclose()
        [ending] = await asyncio.gather(registering, return_exceptions=True)
        wrong = ending is not True and type(ending) is not InventoryUnavailableError
        tally.add("client closed by redis-py", wrong=int(wrong), case=ending)
        if isinstance(ending, InventoryUnavailableError) and not ending.outcome_unknown:
            assert not await direct.exists(f"inv:v1:meta:contact-{number}")
        await close_all(client, client)


async def test_what_redis_py_makes_of_a_client_that_is_closed_while_it_connects(
    real_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At some of these steps it writes to a connection that it has taken apart."""
    client = real_server.client(INVENTORY_DB, retry=Retry(NoBackoff(), 0))

    async def taken_apart(_: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'writelines'")

    monkeypatch.setattr(client.connection_pool, "ensure_connection", taken_apart)
    with pytest.raises(VaultUnavailableError, match="the client was closed") as caught:
        await AsyncSecureVault(client).exists("k")
    assert caught.value.outcome_unknown is False
    await client.aclose()


async def test_closing_waits_for_the_next_attempt(tmp_path: Path, backoffs: list[float]) -> None:
    """A call whose reply was lost is sent again before its client is closed."""
    replies = [None, None, b"*2\r\n:0\r\n:1\r\n"]
    server = ScriptedServer(lambda _: replies.pop(0))
    async with listening(server, tmp_path / "s"):
        client = Redis(unix_socket_path=str(tmp_path / "s"), protocol=2)
        registering = asyncio.ensure_future(
            AsyncSmartInventory(client).register_contact(BOB, "MATE")
        )
        while not server.requests:
            await asyncio.sleep(0)
        await close_all(client, client)
        assert registering.done()
        assert await registering is True
    assert server.requests == 3 * server.requests[:1]
    assert len(backoffs) == 2


async def test_closing_waits_for_a_call_that_finds_out_the_time(tmp_path: Path) -> None:
    """A first call is sent once more, in the turn in which it is answered: that's not its end."""
    server = ScriptedServer(lambda _: b"*2\r\n:0\r\n:1\r\n")
    async with listening(server, tmp_path / "s"):
        for number in range(15):
            client = Redis(
                unix_socket_path=str(tmp_path / "s"), protocol=2, retry=Retry(NoBackoff(), 0)
            )
            inventory = AsyncSmartInventory(client)
            await inventory.scope.seam.read(("PING",))
            registering = asyncio.ensure_future(inventory.register_contact(BOB, "MATE"))
            await turns(number)
            await close_all(client, client)
            assert await registering is True


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


@pytest.mark.parametrize("closes_first", [True, False], ids=["closed first", "cancelled first"])
@pytest.mark.parametrize("is_database", [True, False], ids=["database", "close_all"])
async def test_close_waits_for_what_earlier_portions_took(
    direct: Redis,
    real_server: RunningServer,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_database: bool,
    closes_first: bool,
) -> None:
    """Whoever is cancelled gives back all that many requests took, though everything is closed."""
    monkeypatch.setattr(batch, "AT_ONCE", 2)
    contacts = [f"c{number}" for number in range(5)]
    others = AsyncSmartInventory(direct)
    for contact_id in contacts:
        await others.register_contact(contact_id, "MATE")
        await stock(others, contact_id, "BRONZE", f"{contact_id}'s")
    for number in range(12):
        client = real_server.client(INVENTORY_DB)
        database = AsyncClientDatabase(client, client)
        inventory, close = database.inventory, database.aclose
        if not is_database:
            inventory, close = AsyncSmartInventory(client), partial(close_all, client, client)
        # What one portion took shows in the queues.
        selecting = asyncio.ensure_future(inventory.select_coins(contacts, "BRONZE"))
        while not selecting.done() and await others.has_keys_for("c1"):
            await asyncio.sleep(0)
        await turns(number)
        if closes_first:
            closing = asyncio.ensure_future(close())
            await asyncio.sleep(0)
            selecting.cancel()
        else:
            selecting.cancel()
            closing = asyncio.ensure_future(close())
        [outcome] = await asyncio.gather(selecting, return_exceptions=True)
        await closing
        left = [each.bronze_count for each in (await others.get_inventory()).values()]
        if isinstance(outcome, dict):
            # The cancellation came too late.
            for entry in filter(None, outcome.values()):
                assert isinstance(entry, InventoryEntry)
                assert await others.release_coin(entry)
        else:
            assert isinstance(outcome, asyncio.CancelledError)
            assert left == [1] * len(contacts)


async def test_close_waits_for_answers(direct: Redis, real_server: RunningServer) -> None:
    """Closing while calls are in flight lets them end."""
    client = real_server.client(INVENTORY_DB)
    inventory = AsyncSmartInventory(client)
    await inventory.has_keys_for(BOB)
    calls = [asyncio.ensure_future(inventory.register_contact(f"c{n}", "MATE")) for n in range(20)]
    await asyncio.sleep(0)
    await close_all(client, client)
    assert await asyncio.gather(*calls) == [True] * 20
