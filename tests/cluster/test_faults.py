"""What happens to clusters, and what callers notice of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import pytest_asyncio
from redis.backoff import ConstantBackoff

from aqm_db import AsyncClientDatabase, AsyncSmartInventory, sync
from aqm_db.errors import ConcurrencyError, InventoryUnavailableError
from tests.cluster.support.load import CAPS, HALVES, Load
from tests.faults.support.fault_table import Tally
from tests.support.backends import Backend
from tests.support.clusters import Migration, RunningCluster
from tests.support.faces import ASYNC, Face
from tests.support.samples import BOB
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio
OWNERS = ["alice", "bob", "carol", "dave"]
ALICE = "aqm:{alice}:"


@pytest.fixture(scope="module")
def victims(backend: Backend) -> Iterator[RunningCluster]:
    """A cluster that things happen to."""
    with RunningCluster(backend) as running:
        yield running


@pytest_asyncio.fixture
async def client(face: Face, victims: RunningCluster) -> AsyncIterator[Any]:
    """A client of it, and nobody's data."""
    victims.clear()
    async with victims.client_of(face) as made:
        yield made


Find = Callable[[], Coroutine[Any, Any, list[str]]]


@pytest_asyncio.fixture
async def idle(face: Face, victims: RunningCluster) -> AsyncIterator[Find]:
    """Finds all owners, with a client that knows the cluster as it was at the beginning."""
    if face is ASYNC:
        client = victims.client()
        async with AsyncClientDatabase(client, client, owner="admin") as database:
            await database.health()

            async def find() -> list[str]:
                return sorted([owner async for owner in database.iter_owners()])

            yield find
    else:
        sync_client = victims.sync_client()
        with sync.ClientDatabase(sync_client, sync_client, owner="admin") as sync_database:
            yield lambda: asyncio.to_thread(lambda: sorted(sync_database.iter_owners()))


def names_another(*_: object) -> bool:
    """What is said of the reply to another call."""
    return False


async def test_a_reply_to_another_call(
    face: Face, victims: RunningCluster, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hands nothing out, and the connection that it came on is used no more."""
    inventory = face.inventory(client, owner="alice")
    await inventory.register_contact(BOB, "MATE")
    for key_id in ("1", "2"):
        await inventory.store_key(BOB, key_id, "BRONZE", *HALVES)
    with monkeypatch.context() as patched:
        patched.setattr("aqm_db._operations.stock.names_claim", names_another)
        with pytest.raises(InventoryUnavailableError, match="out of step") as caught:
            await inventory.select_coin(BOB, "BRONZE")
    assert caught.value.outcome_unknown is True
    primary = victims.primary_of(ALICE)
    before = {each["id"] for each in primary.client.client_list()}
    coin = await inventory.select_coin(BOB, "BRONZE")
    assert coin is not None
    assert coin.key_id == "2"
    assert {each["id"] for each in primary.client.client_list()} - before


async def test_a_primary_is_killed(
    face: Face,
    victims: RunningCluster,
    client: Any,
    idle: Find,
    tally: Tally,
    *,
    thorough: bool,
) -> None:
    """Calls go on with its replica; with confirmation nothing is lost or handed out twice."""
    load = Load(face, client, OWNERS, confirm_replicas=1, confirm_timeout=500)
    for _ in range(3 if thorough else 1):
        async with load.running():
            await load.delivers(200)
            victim = victims.primary_of(ALICE)
            victim.kill()
            await asyncio.to_thread(_wait_for_another, victims, victim)
            assert await idle() == OWNERS
            victim.start()
            await asyncio.to_thread(victims.settle)
            await load.delivers(200)
        load.again()
    tally.add("kill -9 of a primary, confirmed", **await load.balance())


async def test_a_slot_is_moved(
    face: Face, victims: RunningCluster, client: Any, tally: Tally, *, thorough: bool
) -> None:
    """Key by key, while it's in use; callers wait, and nothing is lost or handed out twice."""
    load = Load(face, client, OWNERS)
    for _ in range(3 if thorough else 1):
        async with load.running():
            await load.delivers(100)
            migration = Migration(victims, ALICE)
            await asyncio.to_thread(_moved, migration)
            await load.delivers(100)
        load.again()
    assert load.ledger.errors == []
    tally.add("slot moved key by key while in use", **await load.balance())


async def test_a_slot_that_stays_between_two_nodes(
    face: Face, victims: RunningCluster, client: Any
) -> None:
    """Changes and walks are refused after the retries; what was stored is read where it is."""
    client.retry = type(client.retry)(ConstantBackoff(0.001), 3)
    inventory = face.inventory(client, owner="alice", budget_caps=CAPS)
    vault = face.vault(client, owner="alice")
    await inventory.register_contact(BOB, "BESTIE")
    await inventory.store_key(BOB, "k1", "BRONZE", *HALVES)
    await vault.store_key("v1", "BRONZE", b"blob", b"nonce", b"tag")
    migration = await asyncio.to_thread(Migration, victims, ALICE)
    await asyncio.to_thread(migration.begin)
    moved = await asyncio.to_thread(list, migration.steps())
    assert sum(moved) > 3
    for call in (
        inventory.select_coin(BOB, "BRONZE"),
        inventory.store_key(BOB, "k2", "BRONZE", *HALVES),
        vault.burn_key("v1"),
        vault.get_stats(),
        inventory.get_inventory(),
    ):
        with pytest.raises(ConcurrencyError, match="the slot is being moved"):
            await call
    entry = await vault.fetch_key("v1")
    assert entry is not None
    assert entry.encrypted_blob == b"blob"
    assert [coin.key_id for coin in await inventory.list_coins(BOB)] == ["k1"]
    await asyncio.to_thread(migration.end)
    assert (await vault.get_stats()).active_bronze == 1
    coin = await inventory.select_coin(BOB, "BRONZE")
    assert coin is not None
    assert coin.key_id == "k1"


@pytest.mark.thorough
async def test_a_replica_is_cut_off_before_a_failover(
    face: Face, victims: RunningCluster, client: Any, tally: Tally
) -> None:
    """Replication is asynchronous: what it didn't take along is taken back by the failover.

    A coin that was handed out meanwhile is there again, and a key that was stored is gone.
    """
    inventory = await _stocked(face, client)
    cut = await asyncio.to_thread(Cut, victims)
    for number in range(3):
        coin = await inventory.select_coin(BOB, "BRONZE")
        assert coin is not None
        assert coin.key_id == f"k{number}"
    await inventory.store_key(BOB, "late", "BRONZE", *HALVES)
    await asyncio.to_thread(cut.fail_over)
    left = [coin.key_id for coin in await inventory.list_coins(BOB)]
    assert left == ["k0", "k1", "k2", "k3", "k4"]
    tally.note("replica cut off before a failover, unconfirmed", lost=1, duplicated=3)


@pytest.mark.thorough
async def test_a_replica_is_cut_off_with_confirmation(
    face: Face, victims: RunningCluster, client: Any, tally: Tally
) -> None:
    """A coin that no replica knows to be taken isn't handed out, and the caller hears of it."""
    inventory = await _stocked(face, client, confirm_replicas=1, confirm_timeout=100)
    cut = await asyncio.to_thread(Cut, victims)
    delivered: list[str] = []
    for _ in range(3):
        with pytest.raises(InventoryUnavailableError, match="0 of 1 replicas") as caught:
            await inventory.select_coin(BOB, "BRONZE")
        assert caught.value.outcome_unknown
    with pytest.raises(InventoryUnavailableError, match="0 of 1 replicas"):
        await inventory.store_key(BOB, "late", "BRONZE", *HALVES)
    await asyncio.to_thread(cut.fail_over)
    while (coin := await inventory.select_coin(BOB, "BRONZE")) is not None:
        delivered.append(coin.key_id)
    assert delivered == ["k0", "k1", "k2", "k3", "k4"]
    tally.add("replica cut off before a failover, confirmed")


async def _stocked(face: Face, client: Any, **options: Any) -> AsyncSmartInventory:
    inventory = face.inventory(client, owner="alice", budget_caps=CAPS, **options)
    await inventory.register_contact(BOB, "BESTIE")
    for number in range(5):
        await inventory.store_key(BOB, f"k{number}", "BRONZE", *HALVES)
    return inventory


class Cut:
    """A primary whose replica hears no more of it."""

    def __init__(self, cluster: RunningCluster) -> None:
        self._cluster = cluster
        self._primary = cluster.primary_of(ALICE)
        self._replica = cluster.replica_of(self._primary)
        eventually(lambda: self._primary.client.execute_command("WAIT", 1, 100) == 1)
        self._replica.freeze()
        # What the kernel would still deliver is filled up; what comes later stays here.
        for _ in range(24):
            self._primary.client.set(ALICE, b"x" * 1_000_000)

    def fail_over(self) -> None:
        """Kills the primary; the replica goes on, and the primary comes back as its replica."""
        self._primary.kill()
        self._replica.thaw()
        eventually(lambda: self._cluster.serves(self._replica, ALICE))
        self._primary.start()
        self._cluster.settle()


def _moved(migration: Migration) -> None:
    migration.begin()
    # Some keys at a time, so that callers meet the slot in each state between.
    for _ in migration.steps(5):
        pass
    migration.end()


def _wait_for_another(cluster: RunningCluster, victim: Any) -> None:
    def is_another() -> bool:
        alive = [node for node in cluster.nodes if node is not victim]
        return any(cluster.serves(node, ALICE) for node in alive)

    eventually(is_another)
