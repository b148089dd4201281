"""Health is told in time, however silent a server is."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
import redis
from redis.asyncio import Redis

import aqm_db
from aqm_db import config, sync
from aqm_db.errors import AQMDatabaseError
from aqm_db.types import HealthStatus
from tests.api.test_connection import done
from tests.conftest import INVENTORY_DB, VAULT_DB
from tests.faults.support.fault_table import Tally
from tests.support.backends import REDIS_8, VALKEY_9, RunningServer
from tests.support.faces import ASYNC, Face
from tests.support.peers import ScriptedServer, listening_on_loopback
from tests.support.waiting import await_until, eventually

pytestmark = pytest.mark.asyncio
FAULT = "a server that stands still: health"


@pytest.fixture(params=[VALKEY_9, REDIS_8], ids=lambda backend: backend.name)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """One that can be stopped."""
    with RunningServer(request.param) as running:
        yield running
        running.thaw()


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes two seconds elsewhere takes less."""
    monkeypatch.setattr(config, "HEALTH_TIMEOUT", 0.2)


Clients = tuple[Any, Any]


@pytest_asyncio.fixture
async def clients(face: Face, server: RunningServer) -> AsyncIterator[Clients]:
    """Clients of both databases that wait for ever."""
    make: Any = server.client if face is ASYNC else server.sync_client
    both = make(VAULT_DB, socket_timeout=None), make(INVENTORY_DB, socket_timeout=None)
    yield both
    server.thaw()
    await done((aqm_db if face is ASYNC else sync).close_all(*both))


def check_health(face: Face, clients: Clients) -> Any:
    """What a function of either face returns."""
    return (aqm_db if face is ASYNC else sync).health_check(*clients)


async def test_a_server_that_stands_still(
    face: Face, server: RunningServer, clients: Clients, tally: Tally
) -> None:
    """It isn't connected, whether it was met before or not, and is named."""
    for _ in range(2):
        server.freeze()
        health = await done(check_health(face, clients))
        assert (health.vault_connected, health.inventory_connected) == (False, False)
        assert health.unreachable == (str(server.socket_path),)
        server.thaw()

        async def is_connected() -> bool:
            health: HealthStatus = await done(check_health(face, clients))
            return health.vault_connected and health.inventory_connected

        await await_until(is_connected)
        tally.add(FAULT)


async def test_a_server_that_is_asked_again_and_again(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it's silent, no more threads wait for it, however often it's asked."""
    monkeypatch.setattr(config, "HEALTH_TIMEOUT", 0.01)
    both = server.sync_client(VAULT_DB), server.sync_client(INVENTORY_DB)
    before = threading.active_count()
    server.freeze()
    for _ in range(9):
        assert not sync.health_check(*both).vault_connected
    # One for each client asks, and one connects.
    assert threading.active_count() <= before + 4
    server.thaw()
    eventually(lambda: threading.active_count() == before)
    sync.close_all(*both)


async def test_a_caller_who_gives_up(server: RunningServer) -> None:
    """Nothing is left that asks."""
    client = server.client(VAULT_DB)
    before = asyncio.all_tasks()
    server.freeze()
    call = asyncio.ensure_future(aqm_db.health_check(client, client))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    server.thaw()
    await aqm_db.close_all(client, client)
    assert asyncio.all_tasks() == before


async def test_a_server_that_refuses(face: Face) -> None:
    """What isn't about the user, or the link, is an error."""
    refusing = ScriptedServer(lambda _: b"-ERR unknown command\r\n")
    async with listening_on_loopback(refusing, None) as port:
        make: Any = Redis if face is ASYNC else redis.Redis
        client = make(port=port, protocol=2)
        with pytest.raises(AQMDatabaseError, match="refused DBSIZE"):
            await (
                aqm_db.health_check(client, client)
                if face is ASYNC
                else asyncio.to_thread(sync.health_check, client, client)
            )
        await done((aqm_db if face is ASYNC else sync).close_all(client, client))
