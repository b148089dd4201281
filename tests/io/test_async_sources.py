"""The user's own commands on the library's pool, and clients that nobody closes."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MaxConnectionsError

from aqm_db import AsyncSecureVault, AsyncSmartInventory, close_all, connect
from aqm_db._io.redispy import private_parts
from aqm_db.errors import AccessDeniedError, VaultUnavailableError
from tests.faults.support.cancelled_callers import turns
from tests.support.backends import FAKEREDIS, VALKEY_9, RunningServer, Servers
from tests.support.clusters import RunningCluster
from tests.support.peers import ScriptedServer, listening
from tests.support.samples import BOB

pytestmark = pytest.mark.asyncio

PATIENCE = 60.0
"""Seconds after which something that should have come counts as hung."""


def client_with(pool: type[ConnectionPool], path: Path, **options: Any) -> Redis:
    """A client whose pool has one connection."""
    return Redis.from_pool(
        pool(
            connection_class=UnixDomainSocketConnection,
            path=str(path),
            max_connections=1,
            protocol=2,
            **options,
        )
    )


def drop(held: list[Any]) -> None:
    """Drops all that a list holds, whatever refers to itself."""
    held.clear()
    gc.collect()


@pytest.mark.parametrize("pool", [ConnectionPool, BlockingConnectionPool])
async def test_an_idle_link_starves_nobody(servers: Servers, pool: type[ConnectionPool]) -> None:
    """The only connection goes to whoever calls, and stays open all the while."""
    client = client_with(pool, servers[VALKEY_9].socket_path)
    inventory = AsyncSmartInventory(client)
    async with asyncio.timeout(PATIENCE):
        number = await client.client_id()
        for _ in range(3):
            assert await asyncio.gather(*(inventory.has_keys_for(BOB) for _ in range(5)))
            assert await client.client_id() == number
    await close_all(client, client)


async def test_an_idle_link_without_a_transport_starves_nobody(servers: Servers) -> None:
    """It's hung up, and its connection is free."""
    client = servers[FAKEREDIS].client(0, max_connections=1)
    inventory = AsyncSmartInventory(client)
    async with asyncio.timeout(PATIENCE):
        for _ in range(3):
            assert await inventory.has_keys_for(BOB) is False
            assert await client.ping()
    await close_all(client, client)


async def test_a_link_that_owes_the_rest_of_a_message_is_hung_up(tmp_path: Path) -> None:
    """The next command of the user's would read it."""
    server = ScriptedServer(
        lambda command: b"+PONG\r\n" if command == [b"PING"] else b":1\r\n$5\r\nun"
    )
    async with listening(server, tmp_path / "s"):
        client = client_with(ConnectionPool, tmp_path / "s")
        assert await AsyncSecureVault(client).exists("k") is True
        await turns(20)
        assert await client.ping()
        assert server.clients == 2
        await close_all(client, client)


async def test_a_blocking_pool_is_waited_for(servers: Servers) -> None:
    """While the user has its only connection, a call waits for it, as the pool promises."""
    client = client_with(BlockingConnectionPool, servers[VALKEY_9].socket_path, timeout=PATIENCE)
    other = servers[VALKEY_9].client(0)
    busy = asyncio.ensure_future(client.blpop(["aqm-test"], PATIENCE))
    while not [each for each in await other.client_list() if each["cmd"] == "blpop"]:
        pass
    call = asyncio.ensure_future(AsyncSecureVault(client).exists("k"))
    await turns(20)
    assert not call.done()
    await other.rpush("aqm-test", "go")
    async with asyncio.timeout(PATIENCE):
        assert await call is False
        await busy
    await close_all(client, client)
    await other.aclose()


async def test_a_blocking_pool_whose_wait_is_over(servers: Servers) -> None:
    """A call says that nothing was sent, and the pool isn't asked again: it has waited."""
    waits = 0

    class Counting(BlockingConnectionPool):
        async def get_connection(self, *_: Any, **__: Any) -> Any:
            nonlocal waits
            waits += 1
            get: Any = super().get_connection
            return await get()

    client = client_with(
        Counting, servers[VALKEY_9].socket_path, timeout=0, retry=Retry(NoBackoff(), 5)
    )
    async with client.client() as holder:
        assert await holder.ping()
        with pytest.raises(VaultUnavailableError, match="No connection available") as caught:
            await AsyncSecureVault(client).exists("k")
    assert caught.value.outcome_unknown is False
    assert waits == 2
    assert await AsyncSecureVault(client).exists("k") is False
    await close_all(client, client)


async def test_a_pool_that_connects_by_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server says of a password is told as ever."""
    monkeypatch.setattr(private_parts, "TAKE", private_parts.TAKE._replace(name="gone"))
    server = ScriptedServer(lambda _: b":1\r\n")
    server.greeting = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
    async with listening(server, tmp_path / "s"):
        client = client_with(ConnectionPool, tmp_path / "s", password="wrong")
        with pytest.raises(AccessDeniedError):
            await AsyncSecureVault(client).exists("k")
        await close_all(client, client)


async def test_a_blocking_pool_with_a_mistake_of_its_own(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It's told as it is."""

    async def broken() -> None:
        raise RuntimeError("no such luck")

    client = client_with(BlockingConnectionPool, servers[VALKEY_9].socket_path)
    async with client.client() as holder:
        assert await holder.ping()
        with monkeypatch.context() as patched:
            patched.setattr(client.connection_pool, "get_connection", broken)
            with pytest.raises(RuntimeError, match="no such luck"):
                await AsyncSecureVault(client).exists("k")
    await close_all(client, client)


async def test_a_pool_without_room(servers: Servers) -> None:
    """A pool that doesn't wait refuses a call, which says so."""
    client = client_with(ConnectionPool, servers[VALKEY_9].socket_path, retry=Retry(NoBackoff(), 1))
    async with client.client() as holder:
        assert await holder.ping()
        with pytest.raises(VaultUnavailableError, match="Too many connections") as caught:
            await AsyncSecureVault(client).exists("k")
        assert caught.value.outcome_unknown is False
        with pytest.raises(MaxConnectionsError):
            await client.ping()
    await close_all(client, client)


async def test_clients_that_are_dropped() -> None:
    """Their connections are hung up, with a warning, as redis-py does it with its own."""
    with RunningServer(VALKEY_9) as server:
        watching = server.client(0)
        inventories = [AsyncSmartInventory(server.client(0)) for _ in range(10)]
        assert [await each.has_keys_for(BOB) for each in inventories] == [False] * 10
        with pytest.warns(ResourceWarning, match="a client was dropped") as warned:
            drop(inventories)
        assert len(warned) == 10
        async with asyncio.timeout(PATIENCE):
            while len(await watching.client_list()) > 1:
                pass
        await watching.aclose()


async def test_a_client_of_a_cluster_that_is_dropped() -> None:
    """It's the same."""
    with RunningCluster(VALKEY_9, with_replicas=False) as cluster:
        databases = [await connect(cluster.url, owner="alice")]
        assert await databases[0].vault.exists("k") is False
        with pytest.warns(ResourceWarning) as warned:
            drop(databases)
        assert "a client was dropped" in " ".join(str(each.message) for each in warned)
        await turns(20)


async def test_a_client_that_is_closed_and_dropped(servers: Servers) -> None:
    """There is nothing to warn of."""
    client = servers[VALKEY_9].client(0)
    assert await AsyncSmartInventory(client).has_keys_for(BOB) is False
    await client.aclose()
    del client
    gc.collect()
