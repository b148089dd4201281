"""A primary and its replica behind three sentinels."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
import redis
from redis.asyncio import Sentinel
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from aqm_db import close_all, config, connect, health_check, sync
from aqm_db._io.redispy import faces
from aqm_db.errors import AccessDeniedError, InventoryUnavailableError, VaultUnavailableError
from tests.api.test_connection import done
from tests.cluster.support.load import Load
from tests.faults.support.fault_table import Tally
from tests.support.backends import Backend
from tests.support.clusters import Node, RunningSentinels
from tests.support.faces import ASYNC, Face
from tests.support.samples import BOB, sample_key, stock
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def watched(backend: Backend) -> Iterator[RunningSentinels]:
    """A primary that things happen to."""
    with RunningSentinels(backend) as running:
        yield running


@pytest_asyncio.fixture
async def database(face: Face, watched: RunningSentinels) -> AsyncIterator[Any]:
    """An open database, on either face."""
    watched.primary().client.flushall()
    if face is ASYNC:
        async with connect(watched.url) as db:
            yield db
    else:
        with sync.connect(watched.url) as sync_db:
            yield sync_db


@pytest.fixture
def client(face: Face, database: Any) -> Any:
    """The database's one client."""
    return (
        database.resources.clients[0]
        if face is ASYNC
        else database.asynchronous.resources.clients[0].client
    )


async def test_one_logical_database(
    face: Face, watched: RunningSentinels, database: Any, client: Any
) -> None:
    """The vault and the inventory share it, and need no owner."""
    vault, inventory = face.vault(client), face.inventory(client)
    await vault.store_key(**sample_key("k", "GOLD"))
    await inventory.register_contact(BOB, "BESTIE")
    await stock(inventory, BOB, "GOLD", "c1")
    assert watched.primary().client.keys("*:meta:*") == [b"inv:v1:meta:bob_test_uuid"]
    assert watched.primary().client.exists("vault:v1:key:k")
    assert (await vault.get_stats()).active_gold == 1


@pytest.mark.thorough
async def test_a_primary_is_killed(
    face: Face, watched: RunningSentinels, database: Any, client: Any, tally: Tally
) -> None:
    """Calls wait for the replica that takes over; what was replicated is there, once."""
    load = Load(face, client, ["alice"])
    inventory = load.inventories["alice"]
    await inventory.register_contact(BOB, "BESTIE")
    for number in range(5):
        await inventory.store_key(BOB, f"k{number}", "BRONZE", b"public", b"signature")
        load.ledger.stored.add(f"k{number}")
    victim = await asyncio.to_thread(watched.primary)
    await asyncio.to_thread(eventually, victim.is_replicated)
    victim.kill()
    while (coin := await inventory.select_coin(BOB, "BRONZE")) is not None:
        load.ledger.delivered.append(coin.key_id)
    tally.add("kill -9 of a primary with sentinels", **await load.balance())
    assert load.ledger.delivered == [f"k{number}" for number in range(5)]
    await asyncio.to_thread(_back, watched, victim)


@pytest.mark.thorough
async def test_a_primary_is_demoted_under_load(
    face: Face, watched: RunningSentinels, database: Any, client: Any, tally: Tally
) -> None:
    """Its READONLY is no answer: the new primary is asked. With confirmation, nothing is lost."""
    load = Load(face, client, ["alice", "bob"], confirm_replicas=1, confirm_timeout=300)
    async with load.running():
        await load.delivers(100)
        before = await asyncio.to_thread(watched.primary)
        await asyncio.to_thread(_failed_over, watched)
        assert await asyncio.to_thread(watched.primary) is not before
        await load.delivers(100)
    tally.add("primary demoted under load, confirmed", **await load.balance())


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "REDIS_FAILOVER_ATTEMPTS", 2)


@pytest.mark.usefixtures("_impatient")
async def test_a_demotion_that_sentinels_do_not_see(
    face: Face, watched: RunningSentinels, database: Any, client: Any
) -> None:
    """A primary that says READONLY is asked for again, until the retries are over."""
    inventory = face.inventory(client)
    await inventory.register_contact(BOB, "BESTIE")
    primary = await asyncio.to_thread(watched.primary)
    other = next(node for node in watched.servers if node is not primary)
    primary.client.replicaof("127.0.0.1", other.port)
    with pytest.raises(InventoryUnavailableError) as caught:
        await inventory.register_contact("carol", "BESTIE")
    assert not caught.value.outcome_unknown
    primary.client.replicaof("no", "one")
    await asyncio.to_thread(_settled, watched)
    assert await inventory.register_contact("dave", "BESTIE")


async def test_sentinels_that_are_not_there(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """It's said after the retries."""
    monkeypatch.setattr(config, "REDIS_FAILOVER_ATTEMPTS", 1)
    url = "redis+sentinel://127.0.0.1:1,127.0.0.1:2/aqm"
    with pytest.raises(VaultUnavailableError) as caught:
        await connect(url) if face is ASYNC else sync.connect(url)
    assert not caught.value.outcome_unknown
    assert str(caught.value) == "no sentinel answers"


@pytest.fixture(params=[0, 1], ids=["all", "but-one"])
def answering(watched: RunningSentinels, request: pytest.FixtureRequest) -> Iterator[None]:
    """Sentinels of which all answer, or all but the first."""
    silent = watched.sentinels[: request.param]
    for sentinel in silent:
        sentinel.freeze()
    yield
    for sentinel in silent:
        sentinel.thaw()


class _NoRepeat(ConstantBackoff):
    def compute(self, failures: int) -> float:
        pytest.fail(f"asked again after {failures} failures")


@pytest.mark.usefixtures("answering")
async def test_a_name_that_sentinels_do_not_know(
    face: Face, watched: RunningSentinels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It's named, and not asked for again: that would take as long as a failover."""
    monkeypatch.setattr(faces, "ConstantBackoff", _NoRepeat)
    monkeypatch.setattr(config, "SENTINEL_TIMEOUT", 0.2)
    with pytest.raises(VaultUnavailableError) as caught:
        await _opened(face, watched.url.replace(f"/{watched.name}", "/agm"))
    assert str(caught.value) == "the sentinels know no servers of the name 'agm'"
    assert not caught.value.outcome_unknown


@pytest.mark.usefixtures("_impatient")
async def test_a_name_that_sentinels_forget(
    face: Face, watched: RunningSentinels, database: Any, client: Any
) -> None:
    """Whoever has found its servers once waits for them: sentinels are set up anew at times."""
    inventory = face.inventory(client)
    await inventory.register_contact(BOB, "BESTIE")
    primary = await asyncio.to_thread(watched.primary)
    watched.forget()
    primary.client.client_kill_filter(_type="normal", skipme=True)
    try:
        with pytest.raises(InventoryUnavailableError, match="name no primary of 'aqm' that is up"):
            await inventory.get_contact_meta(BOB)
    finally:
        await asyncio.to_thread(watched.remember, primary)
    assert await inventory.get_contact_meta(BOB) is not None


async def test_a_primary_that_sentinels_take_for_dead(
    face: Face, database: Any, client: Any, watched: RunningSentinels
) -> None:
    """It isn't asked: another one will be named."""
    sentinels = client.connection_pool.sentinel_manager

    def is_fit(*_: object) -> bool:
        return False

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sentinels, "check_master_state", is_fit)
        with pytest.raises(RedisConnectionError, match="name no primary of 'aqm' that is up"):
            await done(sentinels.discover_master(watched.name))
    assert await done(sentinels.discover_master(watched.name)) == watched.primary().address


@pytest.fixture
def _silent(watched: RunningSentinels) -> Iterator[None]:
    """Nobody answers, and everybody waits for long."""
    yield
    for node in (*watched.servers, *watched.sentinels):
        node.thaw()


@pytest.mark.usefixtures("_silent")
async def test_health(
    face: Face, watched: RunningSentinels, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It's told in time, whoever is silent."""
    monkeypatch.setattr(config, "HEALTH_TIMEOUT", 0.1)
    before = await done(database.health())
    assert before.vault_connected
    primary = watched.primary()
    for node in (*watched.servers, *watched.sentinels):
        node.freeze()
    health = await done(database.health())
    assert not health.vault_connected
    assert health.unreachable == (f"127.0.0.1:{primary.port}",)


async def test_health_where_no_sentinel_is(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is called what the sentinels would call it."""
    monkeypatch.setattr(config, "HEALTH_TIMEOUT", 0.1)
    make: Any = Sentinel if face is ASYNC else redis.Sentinel
    client = make([("127.0.0.1", 1)]).master_for("aqm")
    if face is ASYNC:
        health = await health_check(client, client)
        await close_all(client, client)
    else:
        health = sync.health_check(client, client)
        sync.close_all(client, client)
    assert health.unreachable == ("aqm",)
    assert not health.inventory_connected


@pytest.fixture(scope="module")
def guarded(backend: Backend) -> Iterator[RunningSentinels]:
    """Sentinels that ask for a password, as their servers don't."""
    with RunningSentinels(backend, "se&cret") as running:
        yield running


async def _opened(face: Face, url: str) -> None:
    if face is ASYNC:
        async with connect(url) as db:
            await db.vault.get_stats()
    else:
        with sync.connect(url) as sync_db:
            sync_db.vault.get_stats()


@pytest.mark.parametrize("user", ["", "&sentinel_username=default"])
async def test_sentinels_with_a_password(face: Face, guarded: RunningSentinels, user: str) -> None:
    """They get it from the url, and the servers, which want none, don't."""
    await _opened(face, f"{guarded.url}?sentinel_password=se%26cret{user}")


@pytest.mark.parametrize(
    "query", ["", "?sentinel_password=wr0ng", "?sentinel_password=wr0ng&sentinel_username=nobody"]
)
async def test_a_wrong_password_of_sentinels(
    face: Face, guarded: RunningSentinels, query: str
) -> None:
    """It's said at once that it is theirs, and not shown."""
    with pytest.raises(AccessDeniedError, match="the sentinels refuse .* sentinel_pass") as caught:
        await _opened(face, guarded.url + query)
    assert "wr0ng" not in str(caught.value)


async def test_a_user_of_sentinels_who_may_not_ask(face: Face, guarded: RunningSentinels) -> None:
    """The same is said."""
    for node in guarded.sentinels:
        node.client.execute_command("ACL SETUSER", "some", "on", ">p", "+ping", "+hello", "+client")
    with pytest.raises(AccessDeniedError, match="the sentinels refuse"):
        await _opened(face, f"{guarded.url}?sentinel_password=p&sentinel_username=some")


def _back(watched: RunningSentinels, victim: Node) -> None:
    """A server that was killed comes back as a replica."""
    victim.start()
    _settled(watched)


def _failed_over(watched: RunningSentinels) -> None:
    before = watched.primary()
    ask: Any = watched.sentinels[0].client
    eventually(partial(ask.execute_command, "SENTINEL FAILOVER", watched.name))
    eventually(lambda: watched.primary() is not before)
    _settled(watched)


def _settled(watched: RunningSentinels) -> None:
    """Waits until all sentinels name one primary, which the other server follows."""

    def is_settled() -> bool:
        primary = watched.primary()
        [replica] = [node for node in watched.servers if node is not primary]
        named: list[Any] = [
            sentinel.client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", watched.name)
            for sentinel in watched.sentinels
        ]
        return (
            {port for _, port in named} == {primary.port}
            and primary.info("replication", "role") == "master"
            and replica.info("replication", "role") == "slave"
            and replica.info("replication", "master_port") == primary.port
            and replica.info("replication", "master_link_status") == "up"
            and primary.client.execute_command("WAIT", 1, 100) == 1
        )

    eventually(is_settled)
