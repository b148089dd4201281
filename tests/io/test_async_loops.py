"""Event loops: one after another, beside each other, in threads, closed early, of other kinds."""

import asyncio
import gc
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import uvloop
from redis.asyncio import BlockingConnectionPool, Redis, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncClientDatabase, AsyncSecureVault, AsyncSmartInventory, close_all, connect
from aqm_db._io.redispy.async_link import ReaderLink, WireLink
from aqm_db._io.redispy.async_loops import get_channels
from aqm_db.errors import UnavailableError, VaultUnavailableError
from aqm_db.types import InventoryEntry
from tests.faults.support.cancelled_callers import turns
from tests.support.backends import FAKEREDIS, VALKEY_9, Backend, RunningServer, Servers
from tests.support.clusters import RunningCluster, RunningSentinels
from tests.support.samples import BOB, stock

PATIENCE = 60.0
"""Seconds after which a call that should have ended counts as hung."""


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server that the test may spoil."""
    with RunningServer(VALKEY_9) as running:
        yield running
        running.kill()


@pytest.fixture(params=[VALKEY_9, FAKEREDIS], ids=lambda backend: backend.name)
def either(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A server whose connections have a transport, and one whose connections have none."""
    backend = request.param
    assert isinstance(backend, Backend)
    with RunningServer(backend) as running:
        yield running


async def stocked(client: Redis, *key_ids: str) -> AsyncSmartInventory:
    """Bob's coins."""
    inventory = AsyncSmartInventory(client)
    await inventory.register_contact(BOB, "MATE")
    await stock(inventory, BOB, "BRONZE", *key_ids)
    return inventory


async def selected(inventory: AsyncSmartInventory) -> str | None:
    """The id of a coin of Bob's, in time."""
    async with asyncio.timeout(PATIENCE):
        coin = await inventory.select_coin(BOB, "BRONZE")
    return None if coin is None else coin.key_id


def test_silence_ends_a_call_on_the_second_loop_too(server: RunningServer) -> None:
    """The timer that watched the first loop's connection isn't waited for any more."""
    client = server.client(0, retry=Retry(NoBackoff(), 0), socket_timeout=0.5)
    vault = AsyncSecureVault(client)

    async def ask() -> bool:
        return await vault.exists("k")

    async def ask_who_is_silent() -> None:
        await ask()
        server.freeze()
        async with asyncio.timeout(PATIENCE):
            await ask()

    assert asyncio.run(ask()) is False
    with pytest.raises(VaultUnavailableError, match="no reply came for 0.5 seconds") as caught:
        asyncio.run(ask_who_is_silent())
    assert caught.value.outcome_unknown is True


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_a_server_that_was_away_is_found_again_by_eager_tasks(server: RunningServer) -> None:
    """A connection that is refused at once is tried anew by the next call."""
    factory = getattr(asyncio, "eager_task_factory", None)

    async def ask() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        client = server.client(0, retry=Retry(NoBackoff(), 0))
        vault = AsyncSecureVault(client)
        server.kill()
        server.socket_path.unlink()
        with pytest.raises(VaultUnavailableError):
            await vault.exists("k")
        await asyncio.to_thread(server.restart)
        assert await vault.exists("k") is False
        await client.aclose()

    asyncio.run(ask())


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "second"])
def test_a_second_loop_while_the_first_one_stands(either: RunningServer, *, is_first: bool) -> None:
    """Each has a connection of its own, in turns, and each coin is handed out once."""
    client = either.client(0)
    with closing(asyncio.new_event_loop()) as one, closing(asyncio.new_event_loop()) as two:
        inventory = one.run_until_complete(stocked(client, "1", "2", "3", "4"))
        got = [each.run_until_complete(selected(inventory)) for each in (one, two, one, two, one)]
        assert got == ["1", "2", "3", "4", None]
        # Whichever it's closed on, the other one closes its own as soon as it runs.
        closer, other = (one, two) if is_first else (two, one)
        closer.run_until_complete(close_all(client, client))
        other.run_until_complete(turns(20))
        assert not any(each.is_open() for each in get_channels(client)._channels.values())


def test_threads_with_loops_of_their_own(server: RunningServer) -> None:
    """They share one database: nobody hangs, and each coin is handed out once."""
    coins = [str(number) for number in range(12)]
    got: list[str | None] = []

    async def opened() -> AsyncClientDatabase:
        cap = {"GOLD": 20, "SILVER": 20, "BRONZE": 20}
        caps = {"BESTIE": cap, "MATE": cap, "STRANGER": cap}
        db = await connect(f"unix://{server.socket_path}", budget_caps=caps)
        await db.inventory.register_contact(BOB, "MATE")
        await stock(db.inventory, BOB, "BRONZE", *coins)
        return db

    async def take() -> None:
        got.extend(await asyncio.gather(*(selected(db.inventory) for _ in range(4))))

    db = asyncio.run(opened())
    threads = [threading.Thread(target=asyncio.run, args=(take(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert got.count(None) == 4
    assert sorted(filter(None, got), key=int) == coins
    asyncio.run(db.aclose())


@pytest.mark.parametrize("limit", [1, 100])
def test_a_loop_that_was_closed_early(server: RunningServer, limit: int) -> None:
    """What was open on it is given up; the next one connects anew, even if one is all there is."""
    client = server.client(0, max_connections=limit)
    with warnings.catch_warnings():
        # asyncio's own, for what was left open on it.
        warnings.simplefilter("ignore", ResourceWarning)
        with closing(asyncio.new_event_loop()) as first:
            inventory = first.run_until_complete(stocked(client, "1", "2"))
            assert first.run_until_complete(selected(inventory)) == "1"
        with closing(asyncio.new_event_loop()) as second:
            assert second.run_until_complete(selected(inventory)) == "2"
            second.run_until_complete(close_all(client, client))
        gc.collect()


def test_a_second_loop_that_finds_no_server(server: RunningServer) -> None:
    """It's told that nothing was executed."""
    client = server.client(0, retry=Retry(NoBackoff(), 0))
    vault = AsyncSecureVault(client)

    async def ask() -> bool:
        return await vault.exists("k")

    with closing(asyncio.new_event_loop()) as one, closing(asyncio.new_event_loop()) as two:
        assert one.run_until_complete(ask()) is False
        server.kill()
        with pytest.raises(VaultUnavailableError) as caught:
            two.run_until_complete(ask())
        assert caught.value.outcome_unknown is False
        one.run_until_complete(close_all(client, client))


def test_closing_on_another_loop_waits_for_calls_on_the_first(server: RunningServer) -> None:
    """The client is closed there when they have ended."""
    client = server.client(0)
    with closing(asyncio.new_event_loop()) as one, closing(asyncio.new_event_loop()) as two:
        inventory = one.run_until_complete(stocked(client, "1", "2"))
        call = one.create_task(selected(inventory))
        one.run_until_complete(asyncio.sleep(0))
        two.run_until_complete(close_all(client, client))
        assert one.run_until_complete(call) == "1"
        one.run_until_complete(turns(20))
        assert not any(each.is_open() for each in get_channels(client)._channels.values())


def test_closing_what_a_loop_that_was_closed_early_left_open(server: RunningServer) -> None:
    """It's given up, though no call came in between."""
    client = server.client(0)
    with warnings.catch_warnings():
        # asyncio's own, for what was left open on it.
        warnings.simplefilter("ignore", ResourceWarning)
        with closing(asyncio.new_event_loop()) as first:
            first.run_until_complete(stocked(client))
        asyncio.run(close_all(client, client))
        gc.collect()


def test_a_loop_that_is_closed_early_with_calls_in_flight(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    """They never end; no task but the caller's is left behind, and the next loop's calls work."""
    client = server.client(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with closing(asyncio.new_event_loop()) as first:
            inventory = first.run_until_complete(stocked(client, "1", "2"))
            caller = first.create_task(inventory.select_coin(BOB, "BRONZE"))
            first.run_until_complete(asyncio.sleep(0))
        with closing(asyncio.new_event_loop()) as second:
            assert second.run_until_complete(selected(inventory)) in {"1", "2"}
            second.run_until_complete(close_all(client, client))
        assert not caller.done()
        del caller
        gc.collect()
    [record] = caplog.records
    assert "Task was destroyed" in record.message
    assert "select_coin" in record.message


def test_a_program_that_ends_with_calls_in_flight(
    either: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    """``asyncio.run`` cancels them: no coin is lost, no task is destroyed, no connection stays."""
    client = either.client(0)

    async def main(*, warm: bool) -> None:
        inventory = AsyncSmartInventory(client)
        if warm:
            await stocked(client, "1", "2", "3", "4")
        coroutines = [inventory.select_coin(BOB, "BRONZE") for _ in range(20)]
        calls.extend(asyncio.ensure_future(each) for each in coroutines)
        await asyncio.sleep(0)

    async def left() -> list[str]:
        coins = await AsyncSmartInventory(client).list_coins(BOB)
        await client.aclose()
        return sorted(coin.key_id for coin in coins)

    calls: list[asyncio.Task[InventoryEntry | None]] = []
    for warm in (True, False):
        asyncio.run(main(warm=warm))
        assert all(call.cancelled() for call in calls)
        assert not any(each.is_open() for each in get_channels(client)._channels.values())
    gc.collect()
    with caplog.at_level(logging.WARNING):
        assert asyncio.run(left()) == ["1", "2", "3", "4"]
    assert not caplog.records


@pytest.mark.parametrize("distance", range(10))
def test_a_caller_that_is_cancelled_just_before_the_end(servers: Servers, distance: int) -> None:
    """What takes its coin back is cancelled with all else, and goes on all the same."""
    client = servers[VALKEY_9].client(5)

    async def main() -> None:
        await client.flushdb()
        inventory = await stocked(client, "1", "2")
        call = asyncio.ensure_future(inventory.select_coin(BOB, "BRONZE"))
        await asyncio.sleep(0)
        call.cancel()
        await turns(distance)

    async def left() -> list[str]:
        coins = await AsyncSmartInventory(client).list_coins(BOB)
        await close_all(client, client)
        return [coin.key_id for coin in coins]

    asyncio.run(main())
    assert asyncio.run(left()) == ["1", "2"]


@pytest.mark.parametrize("limit", [1, 100])
def test_a_pool_that_was_used_on_an_earlier_loop(server: RunningServer, limit: int) -> None:
    """Its idle connection is that loop's, and is made anew."""
    client = server.client(0, max_connections=limit)
    with warnings.catch_warnings():
        # redis-py's own, for what its user left open.
        warnings.simplefilter("ignore", ResourceWarning)

        async def ping() -> None:
            assert await client.ping()

        asyncio.run(ping())

        async def select() -> str | None:
            inventory = await stocked(client, "1")
            got = await selected(inventory)
            await close_all(client, client)
            return got

        assert asyncio.run(select()) == "1"
        gc.collect()


def test_two_clients_of_one_pool_on_two_loops(server: RunningServer) -> None:
    """The pool's connection is left to the loop that it is of."""
    pool = server.client(0, max_connections=1).connection_pool
    one_client, two_client = Redis(connection_pool=pool), Redis(connection_pool=pool)
    with closing(asyncio.new_event_loop()) as one, closing(asyncio.new_event_loop()) as two:
        inventory = one.run_until_complete(stocked(one_client, "1", "2", "3"))
        other = AsyncSmartInventory(two_client)
        got = [
            one.run_until_complete(selected(inventory)),
            two.run_until_complete(selected(other)),
            one.run_until_complete(selected(inventory)),
        ]
        assert got == ["1", "2", "3"]
        channels: Any = get_channels(two_client).get_channel
        two.run_until_complete(_closed(channels))
        one.run_until_complete(close_all(one_client, one_client))


async def _closed(channel: Callable[[], Any]) -> None:
    await channel().aclose()


def test_a_blocking_pool_that_waits_on_another_loop(server: RunningServer) -> None:
    """It can wait on one only, and a call on another says so."""
    client = Redis.from_pool(
        BlockingConnectionPool(
            connection_class=UnixDomainSocketConnection,
            path=str(server.socket_path),
            max_connections=1,
            timeout=PATIENCE,
        )
    )

    async def wait() -> "asyncio.Task[Any]":
        busy = asyncio.ensure_future(client.blpop(["aqm-test"], PATIENCE))
        await turns(50)
        waiting = asyncio.ensure_future(client.ping())
        await turns(50)
        assert not waiting.done()
        tasks.extend((busy, waiting))
        return waiting

    async def ask() -> bool:
        return await AsyncSecureVault(client).exists("k")

    async def go_on() -> None:
        async with asyncio.timeout(PATIENCE):
            async with server.client(0) as other:
                assert await other.rpush("aqm-test", "go")
            await asyncio.gather(*tasks)
        await client.aclose()

    tasks: list[asyncio.Task[Any]] = []
    with closing(asyncio.new_event_loop()) as one, closing(asyncio.new_event_loop()) as two:
        one.run_until_complete(wait())
        with pytest.raises(VaultUnavailableError, match="different event loop") as caught:
            two.run_until_complete(ask())
        assert caught.value.outcome_unknown is False
        one.run_until_complete(go_on())


@pytest.mark.parametrize("kind", ["cluster", "sentinels"])
def test_clients_of_many_servers_serve_one_loop(kind: str) -> None:
    """On another one a call raises at once, with nothing sent; the first one's go on."""
    make: Callable[[], Any] = (
        (lambda: RunningCluster(VALKEY_9, with_replicas=False))
        if kind == "cluster"
        else (lambda: RunningSentinels(VALKEY_9))
    )

    async def exists(db: Any) -> bool:
        async with asyncio.timeout(PATIENCE):
            found: bool = await db.vault.exists("k")
        return found

    async def opened() -> Any:
        return await connect(running.url, owner="alice")

    with (
        make() as running,
        closing(asyncio.new_event_loop()) as one,
        closing(asyncio.new_event_loop()) as two,
    ):
        db = one.run_until_complete(opened())
        with pytest.raises(UnavailableError, match="on another event loop") as caught:
            two.run_until_complete(exists(db))
        assert caught.value.outcome_unknown is False
        assert one.run_until_complete(exists(db)) is False
        two.run_until_complete(db.aclose())
        one.run_until_complete(turns(50))


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_which_connections_are_taken_over(
    servers: Any, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Those of sockets, on every kind of loop; fakeredis' have no transport to take."""

    async def links() -> list[type]:
        found: list[type] = []
        for backend in (VALKEY_9, FAKEREDIS):
            client = servers[backend].client(0)
            await AsyncSecureVault(client).exists("k")
            channel: Any = get_channels(client).get_channel()
            found.append(type(channel._link))
            await close_all(client, client)
        return found

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(links()) == [WireLink, ReaderLink]
