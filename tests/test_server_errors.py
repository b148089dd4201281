"""What a server can answer, and a link can do, against what each call raises."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncSecureVault, AsyncSmartInventory
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    ConcurrencyError,
    InventoryUnavailableError,
    NotWritableError,
    UnavailableError,
    VaultUnavailableError,
)
from tests.peers import Answer, ScriptedServer, listening
from tests.samples import BOB, sample_key

pytestmark = pytest.mark.asyncio

CANARY = b"canary-key-material"
RETRIES = 2

Call = Callable[[AsyncSecureVault, AsyncSmartInventory], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "vault.store_key": lambda vault, _: vault.store_key("k", "GOLD", CANARY, CANARY, CANARY),
    "vault.burn_key": lambda vault, _: vault.burn_key("k"),
    "vault.fetch_key": lambda vault, _: vault.fetch_key("k"),
    "vault.exists": lambda vault, _: vault.exists("k"),
    "vault.get_stats": lambda vault, _: vault.get_stats(),
    "vault.get_all_active_ids": lambda vault, _: vault.get_all_active_ids(),
    "inventory.store_key": lambda _, inventory: inventory.store_key(
        BOB, "k", "GOLD", CANARY, CANARY
    ),
    "inventory.select_coin": lambda _, inventory: inventory.select_coin(BOB, "GOLD"),
    "inventory.consume_key": lambda _, inventory: inventory.consume_key(BOB, "k"),
    "inventory.register_contact": lambda _, inventory: inventory.register_contact(BOB, "MATE"),
    "inventory.set_contact_priority": lambda _, inventory: inventory.set_contact_priority(
        BOB, "MATE"
    ),
    "inventory.forget_contact": lambda _, inventory: inventory.forget_contact(BOB),
    "inventory.get_contact_meta": lambda _, inventory: inventory.get_contact_meta(BOB),
    "inventory.get_inventory": lambda _, inventory: inventory.get_inventory(BOB),
}


@pytest.fixture(params=CALLS, ids=str)
def call_name(request: pytest.FixtureRequest) -> str:
    """Each call in turn."""
    return str(request.param)


async def raised_by(
    answer: Answer, call_name: str, directory: Path
) -> tuple[AQMDatabaseError, int]:
    """The error that a call raises at a server that answers so, and how often it asked."""
    server = ScriptedServer(answer)
    path = directory / "s"
    async with listening(server, path):
        client = Redis(unix_socket_path=str(path), protocol=2, retry=Retry(NoBackoff(), RETRIES))
        with pytest.raises(AQMDatabaseError) as caught:
            await CALLS[call_name](AsyncSecureVault(client), AsyncSmartInventory(client))
        await client.aclose()
    return caught.value, len(server.requests)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("NOPERM this user has no permissions to run the 'evalsha' command", AccessDeniedError),
        ("NOAUTH Authentication required.", AccessDeniedError),
        ("WRONGPASS invalid username-password pair or user is disabled.", AccessDeniedError),
        ("ERR ACL failure in script: User default has no permissions", AccessDeniedError),
        ("ERR Error running script: @user_script:1: -NOPERM no", AccessDeniedError),
        (
            "ERR @user_script: 1: The user executing it can't access at least one of the keys",
            AccessDeniedError,
        ),
        ("OOM command not allowed when used memory > 'maxmemory'.", NotWritableError),
        ("MISCONF Redis is configured to save RDB snapshots", NotWritableError),
        ("NOREPLICAS Not enough good replicas to write.", NotWritableError),
        ("READONLY You can't write against a read only replica.", NotWritableError),
        ("ERR Error running script: -READONLY You can't write", NotWritableError),
        ("MOVED 3999 127.0.0.1:6381", ConcurrencyError),
        ("ASK 3999 127.0.0.1:6381", ConcurrencyError),
        ("CROSSSLOT Keys in request don't hash to the same slot", ConcurrencyError),
        ("ERR unknown command 'X', with args beginning with: 'canary-key-material'", None),
        ("CUSTOM canary-key-material", None),
    ],
)
async def test_an_error_reply_is_raised_at_once(
    tmp_path: Path, call_name: str, line: str, expected: type[AQMDatabaseError] | None
) -> None:
    """An answer that another attempt wouldn't change isn't asked for twice, nor quoted."""
    error, requests = await raised_by(lambda _: f"-{line}\r\n".encode(), call_name, tmp_path)
    assert type(error) is (expected or AQMDatabaseError)
    # A pipeline of reads is answered command by command.
    assert requests <= 4
    assert CANARY.decode() not in str(error)
    assert error.__cause__ is None


@pytest.mark.parametrize(
    "line",
    [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script.",
        "CLUSTERDOWN Hash slot not served",
        "MASTERDOWN Link with MASTER is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
    ],
)
async def test_a_server_that_can_not_work_now_is_asked_again(
    tmp_path: Path, call_name: str, line: str
) -> None:
    """After the client's retries the call fails, and nothing was executed."""
    error, requests = await raised_by(lambda _: f"-{line}\r\n".encode(), call_name, tmp_path)
    assert type(error) is unavailable(call_name)
    assert isinstance(error, UnavailableError)
    assert error.outcome_unknown is False
    assert requests in (1 + RETRIES, 4 * (1 + RETRIES))


async def test_a_reply_that_never_comes_leaves_the_outcome_unknown(
    tmp_path: Path, call_name: str
) -> None:
    """A server that hangs up on every request may have executed it."""
    error, requests = await raised_by(lambda _: None, call_name, tmp_path)
    assert type(error) is unavailable(call_name)
    assert isinstance(error, UnavailableError)
    assert error.outcome_unknown is True
    assert requests == 1 + RETRIES


async def test_no_server(tmp_path: Path, call_name: str) -> None:
    """Where nobody listens, nothing was executed."""
    client = Redis(unix_socket_path=str(tmp_path / "nobody"), retry=Retry(NoBackoff(), RETRIES))
    with pytest.raises(unavailable(call_name)) as caught:
        await CALLS[call_name](AsyncSecureVault(client), AsyncSmartInventory(client))
    assert isinstance(caught.value, UnavailableError)
    assert caught.value.outcome_unknown is False
    await client.aclose()


def unavailable(call_name: str) -> type[UnavailableError]:
    """The class that belongs to the call's database."""
    return VaultUnavailableError if "vault" in call_name else InventoryUnavailableError


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
            writer.close()

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
