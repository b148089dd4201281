"""Clusters behind other addresses than their nodes tell: a client's own ``address_remap``."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from redis.backoff import ConstantBackoff

from tests.cluster.support.load import HALVES
from tests.support.backends import Backend
from tests.support.clusters import HiddenCluster, Migration
from tests.support.faces import Face
from tests.support.samples import BOB, sample_key

pytestmark = pytest.mark.asyncio
ALICE = "aqm:{alice}:"


@pytest.fixture(scope="module")
def hidden(backend: Backend) -> Iterator[HiddenCluster]:
    """A cluster of which only the client knows where it is."""
    with HiddenCluster(backend) as running:
        yield running


@pytest_asyncio.fixture
async def client(face: Face, hidden: HiddenCluster) -> AsyncIterator[Any]:
    """A client that has the option, and nobody's data."""
    hidden.clear()
    async with hidden.client_of(face) as made:
        yield made


async def test_a_slot_that_moved(face: Face, hidden: HiddenCluster, client: Any) -> None:
    """The node that MOVED names is asked at once: nobody has to ask for the topology."""
    inventory = face.inventory(client, owner="alice")
    await inventory.register_contact(BOB, "BESTIE")
    await inventory.store_key(BOB, "k1", "GOLD", *HALVES)
    migration = Migration(hidden, ALICE)
    migration.begin()
    assert list(migration.steps())
    migration.end()
    for node in hidden.nodes:
        node.client.config_resetstat()
    coin = await inventory.select_coin(BOB, "GOLD")
    assert coin is not None
    assert coin.key_id == "k1"
    for node in hidden.nodes:
        assert not [name for name in node.client.info("commandstats") if "cluster" in name]


async def test_a_slot_on_its_way(face: Face, hidden: HiddenCluster, client: Any) -> None:
    """What has gone ahead is read where ASK says."""
    client.retry = type(client.retry)(ConstantBackoff(0.001), 3)
    vault = face.vault(client, owner="alice")
    await vault.store_key(**sample_key("k", "GOLD"))
    migration = Migration(hidden, ALICE)
    migration.begin()
    assert list(migration.steps())
    try:
        entry = await vault.fetch_key("k")
    finally:
        migration.end()
    assert entry is not None
    assert entry.key_id == "k"
