"""Fixtures of the tests on clusters: the same vaults and inventories, in one owner's slot."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline, Redis as Client

from aqm_db import AsyncGarbageCollector, AsyncSecureVault, AsyncSmartInventory
from tests.support.backends import REDIS_6, VALKEY_9, Backend
from tests.support.clusters import RunningCluster
from tests.support.faces import Face
from tests.support.samples import Clock

OWNER = "tester"
PREFIX = b"aqm:{tester}:"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves the suites of one server, on a cluster, to the thorough session."""
    again = collection_path.name.endswith("_there.py")
    return True if again and not config.getoption("thorough") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves slow tests to the thorough session."""
    if not config.getoption("thorough"):
        slow = [item for item in items if item.get_closest_marker("thorough")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Clusters of the newest server; thoroughly, of the oldest as well."""
    if "backend" in metafunc.fixturenames:
        backends = (VALKEY_9, REDIS_6) if metafunc.config.getoption("thorough") else (VALKEY_9,)
        metafunc.parametrize("backend", backends, ids=lambda it: it.name, scope="session")


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> Backend:
    """Which kind of server the cluster is of."""
    value = request.param
    assert isinstance(value, Backend)
    return value


@pytest.fixture(scope="session")
def server(backend: Backend) -> Iterator[RunningCluster]:
    """A cluster that nothing happens to."""
    with RunningCluster(backend) as running:
        yield running


class OwnersClient(Client):
    """A client of the node that has an owner's slot, to which the owner's prefix goes unsaid."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """See redis-py."""
        execute: Any = super().execute_command
        reply = await execute(*_prefix_keys(*args), **options)
        return [key.removeprefix(PREFIX) for key in reply] if args[0] == "KEYS" else reply

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:  # noqa: FBT001, FBT002 - as redis-py has it
        """See redis-py."""
        callbacks: Any = self.response_callbacks
        return _OwnersPipeline(self.connection_pool, callbacks, transaction, shard_hint)


class _OwnersPipeline(Pipeline):
    """The same for a pipeline."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """See redis-py."""
        execute: Any = super().execute_command
        return execute(*_prefix_keys(*args), **options)


def _prefix_keys(name: str, *rest: Any) -> tuple[Any, ...]:
    if name in {"DEL", "EXISTS", "UNLINK"}:
        return name, *(_prefixed(key) for key in rest)
    return (name, _prefixed(rest[0]), *rest[1:]) if rest else (name,)


def _prefixed(name: str | bytes) -> bytes:
    return PREFIX + (name.encode() if isinstance(name, str) else name)


@pytest_asyncio.fixture
async def vault_client(server: RunningCluster) -> AsyncIterator[Redis]:
    """A client of the owner's keys, of which there are none before and after."""
    client = OwnersClient(port=server.primary_of(PREFIX.decode()).port)
    yield client
    if names := await client.keys():
        await client.delete(*names)
    await client.aclose()


@pytest.fixture
def inventory_client(vault_client: Redis) -> Redis:
    """The same: the vault and the inventory share a database."""
    return vault_client


@pytest_asyncio.fixture
async def cluster_client(face: Face, server: RunningCluster) -> AsyncIterator[Any]:
    """The client that the objects under test have."""
    async with server.client_of(face) as client:
        yield client


@pytest.fixture
def vault(face: Face, cluster_client: Any, vault_client: Redis, clock: Clock) -> AsyncSecureVault:
    """An empty vault."""
    return face.vault(cluster_client, owner=OWNER, clock=clock)


@pytest.fixture
def inventory(
    face: Face, cluster_client: Any, inventory_client: Redis, clock: Clock
) -> AsyncSmartInventory:
    """An empty inventory."""
    return face.inventory(cluster_client, owner=OWNER, clock=clock)


@pytest.fixture
def gc(face: Face, cluster_client: Any, inventory: AsyncSmartInventory) -> AsyncGarbageCollector:
    """The inventory's garbage collector."""
    return face.gc(inventory, cluster_client)
