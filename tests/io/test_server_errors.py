"""What a server can answer, and a link can do, against what each call raises."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncSecureVault, AsyncSmartInventory
from aqm_db.errors import AccessDeniedError, VaultUnavailableError
from tests.support.peers import ScriptedServer, listening
from tests.support.samples import BOB, sample_key

pytestmark = pytest.mark.asyncio

RETRIES = 2


async def test_a_passing_error_passes(tmp_path: Path) -> None:
    """A call outlives what its client's retries outlive."""
    lines = [b"-LOADING Redis is loading\r\n", None, b"*2\r\n:0\r\n:1\r\n"]
    server = ScriptedServer(lambda _: lines.pop(0))
    path = tmp_path / "s"
    async with listening(server, path):
        client = Redis(unix_socket_path=str(path), protocol=2, retry=Retry(NoBackoff(), RETRIES))
        assert await AsyncSmartInventory(client).register_contact(BOB, "MATE") is True
        await client.aclose()
    assert server.requests == 3 * server.requests[:1]


async def test_a_silent_server_times_out(tmp_path: Path) -> None:
    """A server that never answers is given up after the client's own socket timeout."""
    server = ScriptedServer(lambda _: b"")
    path = tmp_path / "s"
    async with listening(server, path):
        client = Redis(
            unix_socket_path=str(path),
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=0.05,
        )
        vault = AsyncSecureVault(client)
        for _ in range(2):
            with pytest.raises(VaultUnavailableError) as caught:
                await vault.exists("k")
            assert caught.value.outcome_unknown is True
        await client.aclose()


async def test_a_reply_that_nobody_asked_for_ends_the_connection(tmp_path: Path) -> None:
    """A stray reply isn't taken for the next call's answer."""
    server = ScriptedServer(lambda _: b":0\r\n:1\r\n")
    path = tmp_path / "s"
    async with listening(server, path):
        client = Redis(unix_socket_path=str(path), protocol=2, retry=Retry(NoBackoff(), 1))
        vault = AsyncSecureVault(client)
        assert [await vault.exists(key) for key in "abc"] == [False] * 3
        await client.aclose()


async def test_an_exhausted_pool_is_waited_for(tmp_path: Path) -> None:
    """A pool without a free connection is unavailable, and nothing was executed."""
    server = ScriptedServer(lambda _: b":0\r\n")
    path = tmp_path / "s"
    async with listening(server, path):
        pool = ConnectionPool(
            connection_class=UnixDomainSocketConnection,
            path=str(path),
            protocol=2,
            max_connections=1,
        )
        client = Redis(connection_pool=pool)
        client.set_retry(Retry(NoBackoff(), 1))
        taken = await pool.get_connection()  # type: ignore[no-untyped-call]
        with pytest.raises(VaultUnavailableError) as caught:
            await AsyncSecureVault(client).exists("k")
        assert caught.value.outcome_unknown is False
        await pool.release(taken)
        assert await AsyncSecureVault(client).exists("k") is False
        await client.aclose()
        await pool.aclose()


async def test_a_refused_handshake_is_raised_at_once(tmp_path: Path) -> None:
    """A wrong password isn't tried again."""
    asked: list[bytes] = []

    class Refusing(ScriptedServer):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.read(65_536))
            writer.write(b"-WRONGPASS invalid username-password pair\r\n")
            await reader.read()

    path = tmp_path / "s"
    async with listening(Refusing(lambda _: None), path):
        client = Redis(
            unix_socket_path=str(path), protocol=2, password="x", retry=Retry(NoBackoff(), 3)
        )
        with pytest.raises(AccessDeniedError):
            await AsyncSecureVault(client).store_key(**sample_key("k", "GOLD"))
        assert len(asked) == 1
        await client.aclose()


async def test_a_client_without_a_retry_policy(tmp_path: Path) -> None:
    """A client that never retries is asked once."""
    server = ScriptedServer(lambda _: None)
    path = tmp_path / "s"
    async with listening(server, path):
        pool = BlockingConnectionPool(
            connection_class=UnixDomainSocketConnection, path=str(path), protocol=2
        )
        client = Redis(connection_pool=pool)
        client.connection_pool.connection_kwargs["retry"] = None
        with pytest.raises(VaultUnavailableError):
            await AsyncSecureVault(client).exists("k")
        assert len(server.requests) == 1
        await pool.aclose()
