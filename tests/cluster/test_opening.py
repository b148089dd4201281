"""Databases on a cluster: how they're opened, and what they share."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aqm_db import (
    AsyncClientDatabase,
    AsyncSecureVault,
    AsyncSmartInventory,
    close_all,
    config,
    connect,
    health_check,
    sync,
)
from aqm_db._io.redispy import sync_exchange
from aqm_db.acl import acl_rules
from aqm_db.errors import (
    AccessDeniedError,
    InvalidArgumentError,
    UnsafeServerError,
    VaultUnavailableError,
)
from tests.cluster.support.load import CAPS
from tests.support.backends import REDIS_6, Backend
from tests.support.clusters import RunningCluster
from tests.support.faces import ASYNC, Face
from tests.support.samples import BOB, sample_key, stock

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _empty(server: RunningCluster) -> None:
    """No test finds what another one left."""
    server.clear()


@asynccontextmanager
async def opened(face: Face, url: str, **options: Any) -> AsyncGenerator[Any]:
    """An open database; each call of the synchronous one blocks."""
    if face is ASYNC:
        async with connect(url, **options) as database:
            yield database
    else:
        with sync.connect(url, **options) as database:
            yield _Blocking(database)


class _Blocking:
    """A synchronous object to be awaited, with all that belongs to it."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._wrapped, name)
        if name in {"vault", "inventory", "gc", "reporter"}:
            return _Blocking(value)
        if name == "for_owner":
            return self._for_owner
        if name == "iter_owners":
            return lambda: _each(value())

        async def call(*args: Any, **kwargs: Any) -> Any:
            return value(*args, **kwargs)

        return call

    def _for_owner(self, owner: str) -> Any:
        return _Blocking(self._wrapped.for_owner(owner))


async def _each(found: Any) -> AsyncGenerator[Any]:
    for item in found:
        yield item


async def test_a_database_of_each_of_many_owners(face: Face, server: RunningCluster) -> None:
    """One set of clients serves owners on every node."""
    owners = [f"owner-{number}" for number in range(30)]
    async with opened(face, server.url, owner="first") as database:
        for owner in owners:
            db = database.for_owner(owner)
            await db.vault.store_key(**sample_key("k", "GOLD"))
            await db.inventory.register_contact(BOB, "BESTIE")
            await stock(db.inventory, BOB, "SILVER", "c1", "c2")
            await db.inventory.select_coin(BOB, "GOLD")
        assert len({server.primary_of(f"aqm:{{{owner}}}:").port for owner in owners}) == 3
        assert sorted([owner async for owner in database.iter_owners()]) == sorted(owners)
        for owner in owners:
            assert (await database.for_owner(owner).vault.get_stats()).active_gold == 1
        health = await database.health()
        assert health.vault_connected
        assert health.vault_key_count == health.inventory_key_count > 30 * 5
        assert health.uptime_seconds >= 0
        for owner in owners:
            assert await database.delete_owner(owner) >= 7
        assert [owner async for owner in database.iter_owners()] == []
        assert await database.delete_owner(owners[0]) == 0


async def test_the_end_of_another_owner_is_confirmed(face: Face, server: RunningCluster) -> None:
    """By the replicas of the node that has their keys, and no owner is left of that."""
    owners = ["alice", "bob", "carol"]
    patient = {"confirm_replicas": 1, "confirm_timeout": 4000}
    async with opened(face, server.url, owner="first", **patient) as database:
        for owner in owners:
            await database.for_owner(owner).vault.store_key(**sample_key("k", "GOLD"))
        for owner in owners:
            assert await database.delete_owner(owner) >= 3
        assert [owner async for owner in database.iter_owners()] == []
    hasty = {"confirm_replicas": 2, "confirm_timeout": 20}
    async with opened(face, server.url, owner="first", **hasty) as database:
        with pytest.raises(VaultUnavailableError, match="1 of 2 replicas") as caught:
            await database.delete_owner("alice")
        assert caught.value.outcome_unknown


async def test_owners_share_one_connection_to_each_node(server: RunningCluster) -> None:
    """However many there are, and however much they do at once."""
    async with connect(server.url, owner="first") as database:
        before = _connections(server)
        await asyncio.gather(
            *(database.for_owner(f"owner-{n}").vault.get_stats() for n in range(500))
        )
        # One for each node, and the one that redis-py asks for the topology.
        assert _connections(server) - before <= 3
        for number in range(500):
            await database.delete_owner(f"owner-{number}")


def _connections(server: RunningCluster) -> int:
    return sum(node.info("clients", "connected_clients") for node in server.nodes)


async def test_what_a_database_does_with_all_its_objects(
    face: Face, server: RunningCluster
) -> None:
    """Nothing of it needs to know that there are many servers."""
    async with opened(face, server.url, owner="alice", budget_caps=CAPS) as db:
        await db.inventory.register_contact(BOB, "BESTIE")
        await stock(db.inventory, BOB, "GOLD", "c1", "c2")
        await db.vault.store_key(**sample_key("k", "GOLD"))
        assert await db.vault.get_all_active_ids() == ["k"]
        assert (await db.reporter.get_full_dashboard())["vault"].active_gold == 1
        assert (await db.gc.dry_run(0)).contacts_cleaned in {0, 1}
        report = await db.check()
        assert report.clean
        assert (report.private_halves, report.public_halves, report.contacts) == (1, 2, 1)
        names = {finding.name: finding for finding in (await db.doctor()).findings}
        assert names["permissions"].severity == "ok"
        assert names["tls"].severity == "ok"
        assert await db.delete_owner("alice") > 0


async def test_a_cluster_needs_an_owner(face: Face, server: RunningCluster) -> None:
    """Its name decides on the slot."""
    with pytest.raises(InvalidArgumentError, match=r"^owner: a cluster needs one") as caught:
        async with opened(face, server.url):
            pass
    assert caught.value.argument == "owner"
    with server.sync_client() as client, pytest.raises(InvalidArgumentError, match="^owner: "):
        sync.SecureVault(client)
    async_client = server.client()
    for make in (AsyncSecureVault, AsyncSmartInventory):
        with pytest.raises(InvalidArgumentError, match="^owner: "):
            make(async_client)
    await async_client.aclose()


async def test_a_cluster_client_of_the_other_face(server: RunningCluster) -> None:
    """It's refused with the name of who takes it."""
    async_client: Any = server.client()
    with server.sync_client() as sync_client:
        client: Any = sync_client
        with pytest.raises(TypeError, match="there is SecureVault in aqm_db.sync"):
            AsyncSecureVault(client, owner="alice")
        with pytest.raises(TypeError, match="there is AsyncSecureVault in aqm_db"):
            sync.SecureVault(async_client, owner="alice")
    await async_client.aclose()


async def test_a_cluster_client_that_decodes(server: RunningCluster) -> None:
    """Keys are bytes."""
    client = server.client(decode_responses=True)
    with pytest.raises(ValueError, match="^client: must be made with decode_responses=False"):
        AsyncSecureVault(client, owner="alice")
    await client.aclose()
    with (
        server.sync_client(decode_responses=True) as sync_client,
        pytest.raises(ValueError, match="^client: must be made with decode_responses=False"),
    ):
        sync.SecureVault(sync_client, owner="alice")


async def test_clients_of_ones_own(face: Face, server: RunningCluster) -> None:
    """health_check and close_all take them, too; a closed client opens again."""
    if face is ASYNC:
        client = server.client()
        await AsyncSecureVault(client, owner="alice").store_key(**sample_key("k", "GOLD"))
        assert (await health_check(client, client)).vault_key_count >= 3
        await close_all(client, client)
        database = AsyncClientDatabase(client, client, owner="alice")
        assert await database.delete_owner("alice") == 4
        await database.aclose()
    else:
        sync_client = server.sync_client()
        sync.SecureVault(sync_client, owner="alice").store_key(**sample_key("k", "GOLD"))
        assert sync.health_check(sync_client, sync_client).vault_key_count >= 3
        sync.close_all(sync_client, sync_client)
        with sync.ClientDatabase(sync_client, sync_client, owner="alice") as sync_database:
            assert sync_database.delete_owner("alice") == 4


async def test_nodes_that_no_cluster_is_at(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """It's said after the retries."""
    monkeypatch.setattr(config, "REDIS_FAILOVER_ATTEMPTS", 1)
    nodes = "127.0.0.1:1,127.0.0.1:2"
    with pytest.raises(VaultUnavailableError, match="cannot be connected") as caught:
        async with opened(face, f"redis+cluster://{nodes}", owner="alice"):
            pass
    assert not caught.value.outcome_unknown


async def test_a_password(face: Face, backend: Backend, server: RunningCluster) -> None:
    """A user who is an owner gets in with it, and nobody without."""
    rules = acl_rules("alice", with_scan=True, has_selectors=backend is not REDIS_6)
    for node in server.nodes:
        node.client.execute_command("ACL", "SETUSER", "alice", "on", ">se:cret", *rules)
    hosts = server.url.removeprefix("redis+cluster://")
    async with opened(face, f"redis+cluster://alice:se%3Acret@{hosts}", owner="alice") as db:
        await db.vault.store_key(**sample_key("k", "GOLD"))
        with pytest.raises(AccessDeniedError):
            await db.for_owner("carol").vault.get_stats()
        assert await db.delete_owner("alice") == 4
    with pytest.raises(AccessDeniedError):
        async with opened(face, f"redis+cluster://alice:wrong@{hosts}", owner="alice"):
            pass
    for node in server.nodes:
        node.client.acl_deluser("alice")


async def test_a_cluster_that_loses_keys(face: Face, backend: Backend) -> None:
    """A single primary that evicts is refused like a server that does."""
    with RunningCluster(backend) as unsafe:
        unsafe.nodes[1].client.config_set("maxmemory-policy", "allkeys-lru")
        unsafe.nodes[1].client.config_set("maxmemory", 100_000_000)
        with pytest.raises(UnsafeServerError, match="allkeys-lru"):
            async with opened(face, unsafe.url, owner="alice"):
                pass
        async with opened(face, unsafe.url, owner="alice", allow_unsafe=True) as db:
            assert await db.delete_owner("alice") == 0


async def test_what_is_cancelled_is_settled_before_the_end(server: RunningCluster) -> None:
    """A coin that nobody got is back in its queue when the database is closed."""
    async with connect(server.url, owner="alice", budget_caps=CAPS) as db:
        await db.inventory.register_contact(BOB, "BESTIE")
        await stock(db.inventory, BOB, "GOLD", "c1")
        call = asyncio.create_task(db.inventory.select_coin(BOB, "GOLD"))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await call
    async with connect(server.url, owner="alice") as db:
        assert [coin.key_id for coin in await db.inventory.list_coins(BOB)] == ["c1"]


async def test_an_interrupted_call_is_settled(
    server: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of a KeyboardInterrupt, and its connection is no other call's."""
    with sync.connect(server.url, owner="alice", budget_caps=CAPS) as db:
        db.inventory.register_contact(BOB, "BESTIE")
        db.inventory.store_key(BOB, "c1", "GOLD", b"public", b"signature")
        interrupts = [KeyboardInterrupt()]
        reply: Any = sync_exchange.read_reply

        def interrupted(connection: Any, patience: float | None) -> Any:
            if interrupts:
                raise interrupts.pop()
            return reply(connection, patience)

        monkeypatch.setattr(sync_exchange, "read_reply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            db.inventory.select_coin(BOB, "GOLD")
        assert [coin.key_id for coin in db.inventory.list_coins(BOB)] == ["c1"]
