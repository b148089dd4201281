"""Fixtures of the fault tests, and the table that they print."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.conftest import INVENTORY_DB
from tests.support.backends import VALKEY_9, Backend, RunningServer, Servers


@pytest.fixture
def real_server(request: pytest.FixtureRequest, servers: Servers) -> RunningServer:
    """A server that the tests share: Valkey 9.1, unless a test names others (``indirect``)."""
    backend: Backend = getattr(request, "param", VALKEY_9)
    return servers[backend]


@pytest.fixture
def valkey(servers: Servers) -> RunningServer:
    """A server that the tests share; one that a test spoils is its own."""
    return servers[VALKEY_9]


@pytest_asyncio.fixture
async def direct(real_server: RunningServer) -> AsyncIterator[Redis]:
    """A client on a good link, of an empty database."""
    client = real_server.client(INVENTORY_DB)
    await client.flushdb()
    yield client
    await client.flushdb()
    await client.aclose()


@pytest.fixture
def backoffs(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds between attempts, which pass at once: policies stay as they are."""
    waited: list[float] = []

    async def record(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("redis.asyncio.retry.sleep", record)
    monkeypatch.setattr("redis.retry.sleep", waited.append)
    return waited


@pytest_asyncio.fixture
async def leap(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes seconds pass at once, on the event loop and on the clock that counts suspension."""
    loop = asyncio.get_running_loop()
    real_time, passed = loop.time, [0.0]
    monkeypatch.setattr(loop, "time", lambda: real_time() + passed[0])
    real_clock = time.clock_gettime

    def read_clock(clock: int) -> float:
        return real_clock(clock) + passed[0]

    monkeypatch.setattr(time, "clock_gettime", read_clock)

    def pass_(seconds: float) -> None:
        passed[0] += seconds

    return pass_
