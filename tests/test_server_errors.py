"""What a server can answer, and a link can do, against what each call raises."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncGarbageCollector, AsyncSecureVault, AsyncSmartInventory
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    ConcurrencyError,
    CorruptEntryError,
    InventoryUnavailableError,
    NotWritableError,
    UnavailableError,
    VaultUnavailableError,
)
from tests.backends import REDIS_6, VALKEY_9, Backend, RunningServer
from tests.peers import Answer, ScriptedServer, listening
from tests.samples import BOB, halves, sample_key, stock

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


# Real servers ------------------------------------------------------------------------------


@pytest_asyncio.fixture(params=[VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
async def own_server(request: pytest.FixtureRequest) -> AsyncIterator[RunningServer]:
    """A server that the test may spoil."""
    backend = request.param
    assert isinstance(backend, Backend)
    with RunningServer(backend) as server:
        yield server


async def test_out_of_memory_stores_nothing(own_server: RunningServer) -> None:
    """A full server refuses what adds, and still hands out and burns what is there."""
    client = own_server.client(0)
    vault, inventory = AsyncSecureVault(client), AsyncSmartInventory(client)
    await inventory.register_contact(BOB, "BESTIE")
    await stock(inventory, BOB, "GOLD", "g1")
    await vault.store_key(**sample_key("old", "GOLD"))
    await client.config_set("maxmemory", "1")
    for call in (
        vault.store_key(**sample_key("new", "GOLD")),
        inventory.store_key(BOB, "g2", "GOLD", *halves("GOLD")),
        inventory.register_contact("carol", "MATE"),
    ):
        with pytest.raises(NotWritableError):
            await call
    entry = await inventory.select_coin(BOB, "GOLD")
    assert entry is not None
    assert await vault.burn_key("old")
    await client.config_set("maxmemory", "0")
    assert await vault.count_active() == {"GOLD": 0, "SILVER": 0, "BRONZE": 0}
    assert not await vault.exists("new")
    assert await inventory.get_available_tiers(BOB) == []
    await client.aclose()


@pytest.mark.parametrize(
    "command",
    ["zadd", "zrem", "hset", "pexpire", "renamenx", "del", "set", "hmget", "zrange", "hdel"],
)
async def test_a_forbidden_command_loses_nothing(own_server: RunningServer, command: str) -> None:
    """Whatever an ACL forbids inside a script, no key is lost and none is half written."""
    admin = own_server.client(0)
    await admin.flushall()
    everything = AsyncSmartInventory(admin)
    await everything.register_contact(BOB, "BESTIE")
    await stock(everything, BOB, "GOLD", "g1", "g2")
    await AsyncSecureVault(admin).store_key(**sample_key("k", "GOLD"))
    await admin.acl_setuser(
        "limited", enabled=True, nopass=True, keys=["*"], commands=["+@all", f"-{command}"]
    )
    client = own_server.client(0, username="limited", password="x")
    vault, inventory = AsyncSecureVault(client), AsyncSmartInventory(client)
    gc = AsyncGarbageCollector(inventory, client)
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: inventory.select_coin(BOB, "GOLD"),
        lambda: inventory.consume_key(BOB, "g2"),
        lambda: vault.burn_key("k"),
        lambda: vault.store_key(**sample_key("new", "GOLD")),
        lambda: inventory.store_key(BOB, "g3", "GOLD", *halves("GOLD")),
        lambda: inventory.set_contact_priority(BOB, "MATE"),
        lambda: gc.collect_single_contact(BOB),
    ]
    denied = 0
    for number, call in enumerate(calls):
        before = await recount(admin)
        try:
            await call()
        except AccessDeniedError:
            denied += 1
            assert await recount(admin) == before, f"call {number} half-wrote"
    assert denied
    await client.aclose()
    await admin.aclose()


async def recount(client: Redis) -> dict[str, Any]:
    """What is usable: coins in queues with their rows, and private halves with the counters."""
    usable: dict[str, Any] = {"vault": sorted(await AsyncSecureVault(client).get_all_active_ids())}
    usable["counted"] = await AsyncSecureVault(client).count_active()
    for tier in ("GOLD", "SILVER", "BRONZE"):
        ids: list[Any] = await client.zrange(f"inv:v1:idx:{BOB}:{tier}", 0, -1)
        rows = [await client.hexists(f"inv:v1:key:{BOB}:{i.decode()}", "public_key") for i in ids]
        usable[tier] = list(zip(ids, rows, strict=True))
    usable["rows"] = sorted(await client.keys(f"inv:v1:key:{BOB}:*"))
    return usable


async def test_forgotten_scripts_are_sent_again(own_server: RunningServer) -> None:
    """SCRIPT FLUSH between calls changes nothing."""
    client = own_server.client(0)
    inventory = AsyncSmartInventory(client)
    await inventory.register_contact(BOB, "BESTIE")
    await stock(inventory, BOB, "GOLD", "g1")
    await client.script_flush()
    entry = await inventory.select_coin(BOB, "GOLD")
    assert entry is not None
    await client.script_flush()
    collected = await AsyncGarbageCollector(inventory, client).garbage_collect(1)
    assert collected.contacts_cleaned == 0
    await client.aclose()


async def test_a_restarted_server_is_found_again(own_server: RunningServer) -> None:
    """A connection that was idle while the server went away isn't used."""
    client = own_server.client(0, retry=Retry(NoBackoff(), 0))
    vault = AsyncSecureVault(client)
    assert await vault.exists("k") is False
    admin = own_server.client(0)
    await admin.client_kill_filter(_type="normal", skipme=True)
    await asyncio.wait_for(_disconnected(client), 10)
    assert await vault.exists("k") is False
    await admin.aclose()
    await client.aclose()


async def _disconnected(client: Redis) -> None:
    """Returns when the client has seen the end of its connection."""
    while any(connection.is_connected for connection in client.connection_pool._in_use_connections):
        await asyncio.sleep(0)


async def test_wrong_type_in_a_script_is_corrupt(own_server: RunningServer) -> None:
    """Each server words the failure of a command in a script in its own way."""
    client = own_server.client(0)
    await client.set("inv:v1:meta:bob", "x")
    with pytest.raises(CorruptEntryError):
        await AsyncSmartInventory(client).select_coin("bob", "GOLD")
    await client.aclose()
