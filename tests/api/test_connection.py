"""The specification's factories, health check and end, on both faces."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

import aqm_db
from aqm_db import config, connection, sync
from aqm_db.errors import AccessDeniedError, InventoryUnavailableError, VaultUnavailableError
from aqm_db.types import HealthStatus
from tests.support.backends import FAKEREDIS, VALKEY_9, RunningServer, Servers
from tests.support.peers import ScriptedServer, listening
from tests.support.samples import sample_key

FACES = pytest.mark.parametrize("face", [aqm_db, sync], ids=["aio", "sync"])


async def done(result: Any) -> Any:
    """What a function of either face returned."""
    return await result if asyncio.iscoroutine(result) else result


@pytest.fixture
def port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    assert isinstance(number, int)
    return number


@pytest.fixture
def tcp_port(port: int) -> Iterator[int]:
    """A port of this machine with a server."""
    with RunningServer(VALKEY_9, "--port", str(port), "--bind", "127.0.0.1"):
        yield port


@FACES
@pytest.mark.asyncio
async def test_clients_of_both_databases(face: ModuleType, tcp_port: int) -> None:
    """The vault is in 0 and the inventory in 1, with the settings of config."""
    vault_client: Any = await done(face.create_vault_client(host="127.0.0.1", port=tcp_port))
    inventory_client: Any = await done(
        face.create_inventory_client(host="127.0.0.1", port=tcp_port)
    )
    for client, db in ((vault_client, 0), (inventory_client, 1)):
        assert isinstance(client, AsyncRedis if face is aqm_db else Redis)
        settings = client.get_connection_kwargs()
        assert settings["db"] == db
        assert settings["socket_timeout"] == config.REDIS_SOCKET_TIMEOUT
        assert settings["socket_connect_timeout"] == config.REDIS_SOCKET_TIMEOUT
        assert settings["retry"].get_retries() == config.REDIS_RETRY_ATTEMPTS
        assert not settings.get("decode_responses")
        pool: Any = client.connection_pool
        assert not pool.maint_notifications_enabled()
    health = await done(face.health_check(vault_client, inventory_client))
    assert (health.vault_connected, health.inventory_connected) == (True, True)
    await done(face.close_all(vault_client, inventory_client))


@FACES
@pytest.mark.asyncio
async def test_no_server(face: ModuleType, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory whose server can't be reached says which database is missing."""
    monkeypatch.setattr(config, "REDIS_RETRY_DELAY", 0)
    with pytest.raises(VaultUnavailableError) as caught:
        await done(face.create_vault_client(host="127.0.0.1", port=port))
    assert caught.value.outcome_unknown is False
    with pytest.raises(InventoryUnavailableError):
        await done(face.create_inventory_client(host="127.0.0.1", port=port))


@FACES
@pytest.mark.asyncio
async def test_a_server_that_wants_a_password(face: ModuleType, tcp_port: int) -> None:
    """A refusal isn't unavailability."""
    with Redis(port=tcp_port) as admin:
        admin.config_set("requirepass", "secret")
    with pytest.raises(AccessDeniedError):
        await done(face.create_vault_client(host="127.0.0.1", port=tcp_port))


@FACES
@pytest.mark.parametrize("backend", [VALKEY_9, FAKEREDIS], ids=lambda backend: backend.name)
@pytest.mark.asyncio
async def test_health(face: ModuleType, servers: Servers, backend: Any) -> None:
    """What both databases hold; fakeredis doesn't tell its uptime."""
    make: Any = servers[backend].client if face is aqm_db else servers[backend].sync_client
    vault_client, inventory_client = make(12), make(13)
    vault_class: Any = aqm_db.AsyncSecureVault if face is aqm_db else sync.SecureVault
    await done(vault_class(vault_client).store_key(**sample_key("k", "GOLD")))
    health = await done(face.health_check(vault_client, inventory_client))
    assert health == HealthStatus(
        vault_connected=True,
        inventory_connected=True,
        vault_key_count=4,
        inventory_key_count=0,
        uptime_seconds=health.uptime_seconds,
    )
    assert (health.uptime_seconds == 0) <= (backend is FAKEREDIS or health.uptime_seconds == 0)
    await done(vault_client.flushdb())
    await done(face.close_all(vault_client, inventory_client))


@FACES
@pytest.mark.asyncio
async def test_health_of_nothing(face: ModuleType, port: int) -> None:
    """A database that doesn't answer is an answer, not an error."""
    make: Any = AsyncRedis if face is aqm_db else Redis
    retry = AsyncRetry if face is aqm_db else Retry
    client = make(host="127.0.0.1", port=port, retry=retry(NoBackoff(), 0))
    assert await done(face.health_check(client, client)) == HealthStatus(
        vault_connected=False,
        inventory_connected=False,
        vault_key_count=0,
        inventory_key_count=0,
        uptime_seconds=0.0,
    )
    await done(face.close_all(client, client))


@FACES
@pytest.mark.parametrize(
    ("info", "is_connected"),
    [
        (b"$20\r\nuptime_in_seconds:70\r\n", True),
        (b"-ERR unknown command 'INFO'\r\n", True),
        (b"-NOPERM this user has no permissions\r\n", True),
        (None, False),
    ],
    ids=["told", "unknown", "denied", "gone"],
)
@pytest.mark.asyncio
async def test_health_of_a_server_that_tells_little(
    face: ModuleType, tmp_path: Path, info: bytes | None, *, is_connected: bool
) -> None:
    """An uptime that isn't told is 0; a server that is gone by then isn't connected."""
    server = ScriptedServer(lambda command: info if command[0] == b"INFO" else b":3\r\n")
    path = tmp_path / "s"

    async def ask() -> HealthStatus:
        make: Any = AsyncRedis if face is aqm_db else Redis
        retry = AsyncRetry if face is aqm_db else Retry
        client = make(unix_socket_path=str(path), protocol=2, retry=retry(NoBackoff(), 0))
        health: HealthStatus = await done(face.health_check(client, client))
        await done(face.close_all(client, client))
        return health

    async with listening(server, path):
        # In a thread, since a synchronous client blocks the loop that the server runs on.
        health = await asyncio.to_thread(lambda: asyncio.run(ask()))
    assert (health.vault_connected, health.inventory_connected) == (is_connected, is_connected)
    assert health.vault_key_count == (3 if is_connected else 0)
    assert health.uptime_seconds == (70.0 if info and info.startswith(b"$") else 0.0)


@pytest.mark.asyncio
async def test_wrong_kinds_of_client(servers: Servers) -> None:
    """A client of the other face is refused, with the class that takes it."""
    wrong: Any = servers[VALKEY_9].sync_client(0)
    with pytest.raises(
        TypeError, match=r"AsyncSecureVault takes .* for a redis.Redis .*SecureVault"
    ):
        aqm_db.AsyncSecureVault(wrong)
    wrong = servers[VALKEY_9].client(0)
    with pytest.raises(TypeError, match=r"SmartInventory takes .*AsyncSmartInventory"):
        sync.SmartInventory(wrong)
    for nothing in (None, "redis://localhost", object()):
        wrong = nothing
        with pytest.raises(TypeError, match=f"client: .* not {type(nothing).__name__}"):
            aqm_db.AsyncSecureVault(wrong)
    with pytest.raises(ValueError, match="client: .* decode_responses=False"):
        aqm_db.AsyncSmartInventory(servers[VALKEY_9].client(0, decode_responses=True))


@pytest.mark.asyncio
async def test_objects_of_the_other_face_are_refused(servers: Servers) -> None:
    """A collector and a reporter are made of objects of their own face."""
    client = servers[VALKEY_9].client(0)
    wrong: Any
    with servers[VALKEY_9].sync_client(0) as sync_client:
        for wrong in (sync.SmartInventory(sync_client), None, client):
            with pytest.raises(TypeError, match="^inventory: must be of class AsyncSmartInventory"):
                aqm_db.AsyncGarbageCollector(wrong, client)
            with pytest.raises(TypeError, match="^inventory: must be of class AsyncSmartInventory"):
                aqm_db.AsyncStorageReporter(aqm_db.AsyncSecureVault(client), wrong)
        wrong = sync.SecureVault(sync_client)
        with pytest.raises(TypeError, match="^vault: must be of class AsyncSecureVault"):
            aqm_db.AsyncStorageReporter(wrong, aqm_db.AsyncSmartInventory(client))
        wrong = aqm_db.AsyncSmartInventory(client)
        with pytest.raises(TypeError, match="^inventory: must be of class SmartInventory"):
            sync.GarbageCollector(wrong, sync_client)


def test_the_factories_take_the_defaults_of_config() -> None:
    """Without arguments they go where the specification says."""
    for module in (connection, sync):
        for factory in (module.create_vault_client, module.create_inventory_client):
            assert factory.__kwdefaults__ == {"host": "localhost", "port": 6379}
