"""Servers that are full, evict, are replicas, forget scripts, or were started anew."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import AbstractBackoff, NoBackoff

from aqm_db import AsyncSmartInventory
from aqm_db.errors import AQMDatabaseError, NotWritableError
from aqm_db.types import NewCoin, NewKey, VaultStats
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import queued
from tests.faults.support.public_calls import CALLS, Objects, errors_of, furnish, objects_over
from tests.faults.support.restored_database import Kept, read_content
from tests.faults.support.tried_calls import BLOB, OPERATIONS, pair_over
from tests.support.backends import REDIS_6, VALKEY_9, Backend, RunningServer
from tests.support.samples import BOB, Clock, halves, snapshot, stock

pytestmark = pytest.mark.asyncio

LATER = Clock()
LATER.advance(ms=1)
READING = {
    *("vault.fetch_key", "vault.exists", "vault.count_active", "vault.count_active(GOLD)"),
    *("vault.get_all_active_ids", "vault.get_all_active_ids(GOLD)", "vault.get_stats"),
    *("inventory.get_contact_meta", "inventory.get_inventory", "inventory.get_inventory()"),
    *("inventory.has_keys_for", "inventory.get_available_tiers", "inventory.contact_pages"),
    *("inventory.list_coins", "inventory.count_stale", "db.health", "db.check"),
    "db.get_maintenance_progress",
    *("gc.dry_run", "gc.dry_run(0)"),
    *(name for name in CALLS if name.startswith("reporter.")),
}
NOTHING_TO_WRITE = {
    *("vault.store_key(k1)", "vault.purge_expired", "gc.garbage_collect"),
    *("inventory.register_contact", "inventory.store_key(B1)", "inventory.store_key(B2)"),
}
"""Calls that find out, on the furnished database, that there is nothing for them to do."""
TAKING = {
    *("vault.burn_key", "vault.use_key", "vault.purge_expired(0)"),
    *("inventory.select_coin(GOLD)", "inventory.select_coin(BRONZE)", "inventory.select_coins"),
    *("inventory.consume_key", "inventory.set_contact_priority", "inventory.forget_contact"),
    *("gc.garbage_collect(0)", "gc.collect_single_contact"),
}
"""Calls that give memory back, or soon will."""


class NeverWaiting(AbstractBackoff):
    """Fails a test in which a client tries again."""

    def compute(self, failures: int) -> float:
        """How long to wait after a failure."""
        raise AssertionError(f"it was tried again after {failures} failures")


@pytest_asyncio.fixture(params=[VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
async def own_server(request: pytest.FixtureRequest) -> AsyncIterator[RunningServer]:
    """A server that the test may spoil."""
    with RunningServer(request.param) as server:
        yield server


@pytest_asyncio.fixture
async def client(own_server: RunningServer) -> AsyncIterator[Redis]:
    """A client of it that must not need a second attempt."""
    client = own_server.client(0, retry=Retry(NeverWaiting(), 5))
    yield client
    await client.aclose()


@pytest_asyncio.fixture
async def furnished(client: Redis) -> Objects:
    """Keys and coins of every tier, and a key that the server has expired."""
    objects = objects_over(client)
    await objects.vault.store_key("k0", "GOLD", BLOB, b"nonce", b"tag")
    entry = await furnish(objects)
    await client.delete("vault:v1:key:k0")
    return objects_over(client, clock=LATER, entry=entry, name="later")


async def test_out_of_memory(client: Redis, furnished: Objects, tally: Tally) -> None:
    """A full server refuses what adds, changes nothing then, and still hands out and burns."""
    back = Kept(client)
    await back.keep()
    for name, call in CALLS.items():
        before = await back.put_back()
        await client.config_set("maxmemory", "1")
        errors = await errors_of(call(furnished))
        await client.config_set("maxmemory", "0")
        full = any(isinstance(error, NotWritableError) for error in errors)
        assert full is (name not in READING | NOTHING_TO_WRITE | TAKING), name
        assert all(isinstance(error, AQMDatabaseError) for error in errors), name
        # A repair consists of many scripts, each of which is done or not.
        changes = name != "db.check(repair)" and await back.content() != before
        assert not (full and changes), name
        tally.add("out of memory")
    await back.put_back()
    assert await furnished.vault.get_stats() == VaultStats(1, 1, 1, 1, 1)


@pytest.mark.parametrize("setting", [("maxmemory", "1"), ("min-replicas-to-write", "1")])
async def test_a_server_that_does_what_it_refuses_to_confirm(
    client: Redis, setting: tuple[str, str]
) -> None:
    """A coin that it takes from its queue all the same is in doubt, and not refused."""
    inventory = objects_over(client).inventory
    await inventory.register_contact(BOB, "BESTIE")
    await stock(inventory, BOB, "GOLD", "g1", "g2")
    careful = AsyncSmartInventory(client, confirm_replicas=1, confirm_timeout=1)
    # So that the server knows the script.
    assert await inventory.select_coin(BOB, "SILVER") is None
    await client.config_set(*setting)
    with pytest.raises(AQMDatabaseError) as caught:
        await careful.select_coin(BOB, "GOLD")
    taken = await queued(client) == ["g2"]
    assert getattr(caught.value, "outcome_unknown", False) is taken


async def test_a_read_only_replica(client: Redis, furnished: Objects, tally: Tally) -> None:
    """It refuses every write at once, and answers every read."""
    before = await snapshot(client)
    # Nobody listens there, so that it keeps what it has.
    await client.replicaof("127.0.0.1", "1")
    for name, call in CALLS.items():
        errors = await errors_of(call(furnished))
        refused = any(isinstance(error, NotWritableError) for error in errors)
        assert refused is (name not in READING | NOTHING_TO_WRITE), name
        assert all(isinstance(error, AQMDatabaseError) for error in errors), name
        assert await snapshot(client) == before, name
        tally.add("read-only replica")
    assert await furnished.vault.get_stats() == VaultStats(1, 1, 1, 1, 1)


async def test_more_keys_than_a_replica_can_count(client: Redis) -> None:
    """Where a replica can't tell how many keys are left, it says so instead of a wrong number."""
    vault = objects_over(client).vault
    keys = [NewKey(f"k{number}", "GOLD", BLOB, b"nonce", b"tag") for number in range(1000)]
    await vault.store_keys(keys)
    await client.delete(*(f"vault:v1:key:k{number}" for number in range(1000)))
    await client.replicaof("127.0.0.1", "1")
    with pytest.raises(NotWritableError):
        await vault.get_stats()
    await client.replicaof("NO", "ONE")
    assert await vault.get_stats() == VaultStats(0, 0, 0, 0, 1000)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-ttl"])
async def test_eviction(client: Redis, policy: str, tally: Tally) -> None:
    """A server that evicts loses coins, but none is handed out twice by itself, and calls go on.

    Whatever it evicts: rows, indexes, contacts, used coins, claims. ``connect`` refuses such a
    server; a caller who brings a client of his own isn't asked.
    """
    objects = objects_over(client)
    contacts = [f"contact {number}" for number in range(30)]
    for contact_id in contacts:
        await objects.inventory.register_contact(contact_id, "BESTIE")
    await client.config_set("maxmemory-policy", policy)
    delivered: list[str] = []
    errors: list[BaseException] = []
    calls = 0
    for number in range(12):
        coins = [
            NewCoin(contact_id, f"{contact_id} {number}", "GOLD", *halves("GOLD"))
            for contact_id in contacts
        ]
        keys = [NewKey(f"k{number} {n}", "GOLD", BLOB, b"nonce", b"tag") for n in range(30)]
        found = [*await objects.inventory.store_keys(coins), *await objects.vault.store_keys(keys)]
        errors += [each for each in found if isinstance(each, BaseException)]
        taken = await objects.inventory.select_coins(contacts, "GOLD")
        for entry in taken.values():
            if isinstance(entry, BaseException):
                errors.append(entry)
            elif entry is not None:
                delivered.append(entry.key_id)
        for key in keys[::3]:
            errors += await errors_of(objects.vault.burn_key(key.key_id))
        errors += await errors_of(objects.vault.get_stats())
        errors += await errors_of(objects.inventory.get_inventory())
        calls += 102
        used: dict[str, Any] = await client.info("memory")
        await client.config_set("maxmemory", used["used_memory"] - 40_000)
    stats: dict[str, Any] = await client.info("stats")
    assert stats["evicted_keys"] > 100
    tally.add(
        "eviction",
        runs=calls,
        duplicated=len(delivered) - len(set(delivered)),
        wrong=sum(not isinstance(error, AQMDatabaseError) for error in errors),
    )
    assert delivered


@pytest.mark.parametrize("name", CALLS)
async def test_forgotten_scripts(client: Redis, name: str, tally: Tally) -> None:
    """SCRIPT FLUSH before a call, a batch too, changes nothing about it."""
    entry = await furnish(objects_over(client))
    back = Kept(client)
    await back.keep()
    ends: list[Any] = []
    for forgets in (False, True):
        await back.put_back()
        if forgets:
            await client.script_flush()
        objects = objects_over(client, clock=LATER, entry=entry, name="later")
        errors = await errors_of(CALLS[name](objects))
        ends.append(([str(error) for error in errors], await read_content(client)))
    assert ends[0] == ends[1]
    tally.add("SCRIPT FLUSH")


@pytest.mark.parametrize("backend", [VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
async def test_a_server_that_was_started_anew(backend: Backend, tally: Tally) -> None:
    """A connection that was idle while the server went away and came back isn't used."""
    with RunningServer(backend, "--appendonly", "yes", "--appendfsync", "always") as server:
        client = server.client(0, retry=Retry(NoBackoff(), 0))
        for operation in OPERATIONS:
            await client.flushdb()
            vault, inventory = pair_over(client)
            subject = await operation.prepare(vault, inventory)
            before = await snapshot(client)
            server.kill()
            server.restart()
            await asyncio.wait_for(_disconnected(client), 10)
            assert await snapshot(client) == before
            assert await operation.call(vault, inventory, subject)
            tally.add("server restarted under idle connections")
        await client.aclose()


async def _disconnected(client: Redis) -> None:
    """Returns when the client has seen the end of its connection."""
    while any(connection.is_connected for connection in client.connection_pool._in_use_connections):
        await asyncio.sleep(0)
