"""Fixtures of the fault tests, and the table that they print."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.backends import VALKEY_9, RunningServer, Servers
from tests.conftest import INVENTORY_DB
from tests.faults.tally import Tally

_TALLY = pytest.StashKey[Tally]()


def pytest_configure(config: pytest.Config) -> None:
    """Starts an empty table."""
    config.stash[_TALLY] = Tally()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints the table."""
    tally = config.stash.get(_TALLY, Tally())
    if tally.counts:
        terminalreporter.section("faults")
        for line in tally.lines():
            terminalreporter.write_line(line)


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Tally:
    """The table; tests of mutants leave it alone."""
    return pytestconfig.stash.setdefault(_TALLY, Tally())


@pytest.fixture
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether everything is tried, rather than the slice that the default session has time for."""
    return bool(pytestconfig.getoption("thorough"))


@pytest.fixture
def valkey(servers: Servers) -> RunningServer:
    """A server that the tests share; one that a test spoils is its own."""
    return servers[VALKEY_9]


@pytest_asyncio.fixture
async def direct(valkey: RunningServer) -> AsyncIterator[Redis]:
    """A client on a good link, of an empty database."""
    client = valkey.client(INVENTORY_DB)
    await client.flushdb()
    yield client
    await client.flushdb()
    await client.aclose()
