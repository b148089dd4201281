"""Fixtures: every behaviour test runs on each backend, and on each face."""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import astuple
from functools import cache
from importlib import metadata
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import settings
from redis.asyncio import Redis

from aqm_db import (
    AsyncGarbageCollector,
    AsyncSecureVault,
    AsyncSmartInventory,
    AsyncStorageReporter,
)
from tests.faults.support.fault_table import Tally
from tests.support.backends import BACKENDS, Backend, RunningServer, Servers
from tests.support.eager_loops import run_eagerly
from tests.support.faces import ASYNC, FACES, Face
from tests.support.samples import BOB, MATE, Clock, SampleKey, sample_key
from tests.support.slices import SLICES, slice_of
from tests.support.time_limits import SECONDS, Patience, heed_interrupts

VAULT_DB = 15
INVENTORY_DB = 14
_TALLY = pytest.StashKey[Tally]()
_COVERAGE = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds what the sessions of nox ask for."""
    parser.addoption(
        "--thorough", action="store_true", help="try every fault everywhere, not a slice of them"
    )
    parser.addoption(
        "--eager", action="store_true", help="run tasks until they wait, as soon as they are made"
    )
    parser.addoption(
        "--slice",
        choices=SLICES,
        help="only a part of the tests; tests/support/slices.py says which",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Decides on the event loops, and sees to it that nothing hangs."""
    if config.getoption("eager"):
        run_eagerly()
    # A test says nothing about time.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
    config.addinivalue_line("markers", "chat: plays a chat, in processes of its own")
    config.addinivalue_line("markers", "thorough: too slow for the default session, on clusters")
    config.addinivalue_line("markers", "lint: checks the source with the tools of nox -s lint")
    heed_interrupts()
    # Most children of the workers of pytest-xdist run nothing that isn't run in here as well.
    if hasattr(config, "workerinput"):
        names = os.environ.keys() & {"COVERAGE_PROCESS_CONFIG"}
        config.stash[_COVERAGE] = {name: os.environ.pop(name) for name in names}
    config.pluginmanager.register(Patience(SECONDS[config.option.thorough]))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves a slice of the tests, if a session of nox asks for one."""
    name = config.getoption("slice")
    if name is not None:
        chosen = dict.fromkeys(slice_of(items, name))
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hands what a worker of pytest-xdist has counted to whoever prints it."""
    tally, output = session.config.stash.get(_TALLY, None), _output_of(session.config)
    if tally is not None and output is not None:
        output["faults"] = {fault: astuple(count) for fault, count in tally.counts.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Adds up what workers have counted."""
    # One that has died has no output.
    for fault, counts in getattr(node, "workeroutput", {}).get("faults", {}).items():
        runs, lost, duplicated, wrong = counts
        tally = node.config.stash.setdefault(_TALLY, Tally())
        tally.note(fault, runs=runs, lost=lost, duplicated=duplicated, wrong=wrong)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints the table of faults."""
    tally = config.stash.get(_TALLY, None)
    if tally is not None:
        terminalreporter.section("faults")
        for line in tally.lines():
            terminalreporter.write_line(line)


def _output_of(config: pytest.Config) -> dict[str, Any] | None:
    """What a worker of pytest-xdist sends home; None if this is none."""
    return getattr(config, "workeroutput", None)


@pytest.fixture
def measured(pytestconfig: pytest.Config) -> dict[str, str]:
    """The environment of a child that runs what nothing else does, and whose coverage counts."""
    settings_of_coverage: dict[str, str] = pytestconfig.stash.get(_COVERAGE, {})
    return {**os.environ, **settings_of_coverage}


@pytest.fixture
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether everything is tried, rather than the slice that the default session has time for."""
    return bool(pytestconfig.getoption("thorough"))


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Tally:
    """The table of faults; tests of mutants leave it alone."""
    return pytestconfig.stash.setdefault(_TALLY, Tally())


@pytest.fixture(scope="session", autouse=True)
def _versions_read_once() -> Iterator[None]:
    """redis-py looks up its own version for each client: most of what it takes to make one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(metadata, "version", cache(metadata.version))
        yield


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The running servers, stopped when the session ends."""
    running = Servers()
    yield running
    running.stop()


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    value = request.param
    assert isinstance(value, Backend)
    return value


@pytest.fixture(params=FACES, ids=str)
def face(request: pytest.FixtureRequest) -> Face:
    """Each face in turn."""
    value = request.param
    assert isinstance(value, Face)
    return value


@pytest.fixture
def server(backend: Backend, servers: Servers) -> RunningServer:
    """The running server of the backend."""
    return servers[backend]


@pytest.fixture
def own_server(kind: Backend) -> Iterator[RunningServer]:
    """A server of a kind that the test names, and that it may spoil."""
    with RunningServer(kind) as server:
        yield server


@pytest_asyncio.fixture
async def vault_client(server: RunningServer) -> AsyncIterator[Redis]:
    """A client of the vault's database, which is empty before and after."""
    client = server.client(VAULT_DB)
    await client.flushdb()
    yield client
    await client.flushdb()
    await client.aclose()


@pytest_asyncio.fixture
async def inventory_client(server: RunningServer) -> AsyncIterator[Redis]:
    """A client of the inventory's database, which is empty before and after."""
    client = server.client(INVENTORY_DB)
    await client.flushdb()
    yield client
    await client.flushdb()
    await client.aclose()


@pytest.fixture
def clock() -> Clock:
    """The time of the objects under test."""
    return Clock()


@pytest.fixture
def vault(
    face: Face, server: RunningServer, vault_client: Redis, clock: Clock
) -> Iterator[AsyncSecureVault]:
    """An empty vault."""
    if face is ASYNC:
        yield face.vault(vault_client, clock=clock)
    else:
        with server.sync_client(VAULT_DB) as client:
            yield face.vault(client, clock=clock)


@pytest.fixture
def inventory(
    face: Face, server: RunningServer, inventory_client: Redis, clock: Clock
) -> Iterator[AsyncSmartInventory]:
    """An empty inventory."""
    if face is ASYNC:
        yield face.inventory(inventory_client, clock=clock)
    else:
        with server.sync_client(INVENTORY_DB) as client:
            yield face.inventory(client, clock=clock)


@pytest.fixture
def gc(
    face: Face, server: RunningServer, inventory: AsyncSmartInventory, inventory_client: Redis
) -> Iterator[AsyncGarbageCollector]:
    """The inventory's garbage collector."""
    if face is ASYNC:
        yield face.gc(inventory, inventory_client)
    else:
        with server.sync_client(INVENTORY_DB) as client:
            yield face.gc(inventory, client)


@pytest.fixture
def reporter(
    face: Face, vault: AsyncSecureVault, inventory: AsyncSmartInventory
) -> AsyncStorageReporter:
    """Reports over both."""
    return face.reporter(vault, inventory)


@pytest.fixture
def sample_gold_key() -> SampleKey:
    """A GOLD coin's private half."""
    return sample_key("gold-1", "GOLD")


@pytest.fixture
def sample_silver_key() -> SampleKey:
    """A SILVER coin's private half."""
    return sample_key("silver-1", "SILVER")


@pytest.fixture
def sample_bronze_key() -> SampleKey:
    """A BRONZE coin's private half."""
    return sample_key("bronze-1", "BRONZE")


@pytest_asyncio.fixture
async def registered_bestie(inventory: AsyncSmartInventory) -> str:
    """A contact of the highest priority."""
    await inventory.register_contact(BOB, "BESTIE", "Bob")
    return BOB


@pytest_asyncio.fixture
async def registered_mate(inventory: AsyncSmartInventory) -> str:
    """A contact of middle priority."""
    await inventory.register_contact(MATE, "MATE")
    return MATE
