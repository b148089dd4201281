"""Data that came without indexes gets them, once, by whoever first asks for all of it."""

from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncGarbageCollector, AsyncSecureVault, AsyncSmartInventory
from aqm_db.errors import CorruptEntryError, SchemaVersionError
from aqm_db.types import GCResult
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.samples import DAY_MS, Clock

pytestmark = pytest.mark.asyncio


async def write_half(
    client: Redis,
    key_id: str,
    created_at: int | str,
    *,
    status: str = "ACTIVE",
    coin_category: str = "GOLD",
) -> None:
    """A private half as the specification has it."""
    row: dict[Any, Any] = {
        "key_id": key_id,
        "coin_category": coin_category,
        "encrypted_blob": "blob",
        "encryption_iv": "iv",
        "auth_tag": "tag",
        "status": status,
        "created_at": created_at,
        "coin_version": "kyber768_v1",
    }
    await client.hset(f"vault:v1:key:{key_id}", mapping=row)


async def write_contact(client: Redis, contact_id: str, now: int) -> None:
    """A contact with a coin, as the specification has them."""
    await client.hset(
        f"inv:v1:meta:{contact_id}",
        mapping={"priority": "MATE", "last_msg_at": now, "display_name": ""},
    )
    await write_coin(client, contact_id, "c", now)
    await client.zadd(f"inv:v1:idx:{contact_id}:SILVER", {"c": now})


async def write_coin(client: Redis, contact_id: str, key_id: str, now: int) -> None:
    """A coin's row, which no queue lists."""
    await client.hset(
        f"inv:v1:key:{contact_id}:{key_id}",
        mapping={
            "coin_category": "SILVER",
            "public_key": "public",
            "signature": "signature",
            "fetched_at": now,
        },
    )


async def test_private_halves_are_listed(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock
) -> None:
    """With an end of their own or without; what isn't active isn't."""
    await write_half(vault_client, "ends", clock.now)
    await vault_client.pexpire("vault:v1:key:ends", 5 * DAY_MS)
    await write_half(vault_client, "stays", clock.now - DAY_MS)
    await write_half(vault_client, "burned", clock.now, status="BURNED")
    await write_half(vault_client, "odd", clock.now, coin_category="IRON")
    await write_half(vault_client, "undated", "long ago")
    await vault_client.set("vault:v1:key:text", "no hash")
    await vault_client.hset("vault:v1:key:%", "status", "ACTIVE")
    await vault.store_key("ours", "SILVER", b"b", b"i", b"t")
    assert sorted(await vault.get_all_active_ids()) == ["ends", "ours", "stays", "undated"]
    assert await vault.get_all_active_ids("SILVER") == ["ours"]


async def test_adopted_halves_leave_with_their_time(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock
) -> None:
    """They are purged, and counted off, as any other."""
    await write_half(vault_client, "old", clock.now - 31 * DAY_MS)
    await vault_client.hset("vault:v1:stats", "active_gold", 1)
    assert await vault.purge_expired() == 1
    assert await vault.count_active("GOLD") == 0
    assert await vault.get_all_active_ids() == []


async def test_contacts_are_listed(
    inventory: AsyncSmartInventory, inventory_client: Redis, clock: Clock
) -> None:
    """All of them, whatever they are called, and each once."""
    for contact_id in ("carol", "dave%3A1", "e%zz"):
        await write_contact(inventory_client, contact_id, clock.now)
    await inventory.register_contact("bob", "BESTIE")
    assert set(await inventory.get_inventory()) == {"bob", "carol", "dave:1"}
    assert {each async for page in inventory.contact_pages() for each in page} == {
        *("bob", "carol", "dave:1")
    }


async def test_rows_that_no_queue_lists_go_with_their_contact(
    gc: AsyncGarbageCollector, inventory_client: Redis, clock: Clock
) -> None:
    """They were written by hand, or what listed them was."""
    await write_contact(inventory_client, "carol", clock.now - 31 * DAY_MS)
    await write_coin(inventory_client, "carol", "orphan:1", clock.now)
    await inventory_client.rename("inv:v1:key:carol:orphan:1", "inv:v1:key:carol:orphan%3A1")
    assert await gc.garbage_collect() == GCResult(1, 2, 2 * 1248)
    assert await inventory_client.keys("inv:v1:key:*") == []


async def test_the_names_of_rows_that_no_queue_lists_are_kept_as_they_stand(
    inventory: AsyncSmartInventory, inventory_client: Redis, clock: Clock
) -> None:
    """Separators in ids don't mix up what belongs to whom."""
    await write_contact(inventory_client, "b%3Ab", clock.now)
    await write_coin(inventory_client, "b%3Ab", "k%3A1", clock.now)
    await inventory.get_inventory()
    assert await inventory_client.zrange("inv:v1:aside", 0, -1) == [b"b%3Ab:k%3A1"]


async def test_what_comes_later_is_not_looked_for(
    inventory: AsyncSmartInventory,
    vault: AsyncSecureVault,
    inventory_client: Redis,
    vault_client: Redis,
    clock: Clock,
) -> None:
    """One walk is enough: the mark says that it was made."""
    assert (await inventory.get_inventory(), await vault.get_all_active_ids()) == ({}, [])
    assert await inventory_client.get("inv:v1:schema") == b"2"
    assert await vault_client.get("vault:v1:schema") == b"2"
    await write_contact(inventory_client, "carol", clock.now)
    await write_half(vault_client, "k", clock.now)
    assert (await inventory.get_inventory(), await vault.get_all_active_ids()) == ({}, [])


async def test_an_earlier_mark_is_none(
    inventory: AsyncSmartInventory, inventory_client: Redis, clock: Clock
) -> None:
    """The specification's own layout is version 1."""
    await inventory_client.set("inv:v1:schema", "1")
    await write_contact(inventory_client, "carol", clock.now)
    assert set(await inventory.get_inventory()) == {"carol"}
    assert await inventory_client.get("inv:v1:schema") == b"2"


async def test_a_later_version_is_refused(
    inventory: AsyncSmartInventory,
    vault: AsyncSecureVault,
    inventory_client: Redis,
    vault_client: Redis,
) -> None:
    """Nobody knows what it has written where."""
    await inventory_client.set("inv:v1:schema", "3")
    await vault_client.set("vault:v1:schema", "17")
    with pytest.raises(SchemaVersionError, match="the inventory has version 3 of its layout"):
        await inventory.get_inventory()
    with pytest.raises(SchemaVersionError) as caught:
        await vault.purge_expired()
    assert (caught.value.database, caught.value.found, caught.value.known) == ("vault", 17, 2)
    assert await inventory_client.get("inv:v1:schema") == b"3"


async def test_a_malformed_mark_raises(
    inventory: AsyncSmartInventory,
    vault: AsyncSecureVault,
    inventory_client: Redis,
    vault_client: Redis,
) -> None:
    """It says nothing, so nothing is done."""
    await inventory_client.set("inv:v1:schema", "two")
    await vault_client.hset("vault:v1:schema", "a", "b")
    with pytest.raises(CorruptEntryError, match="the inventory's version is malformed"):
        await inventory.get_inventory()
    with pytest.raises(CorruptEntryError, match="the vault's version is malformed"):
        await vault.get_all_active_ids()


async def test_owners_need_no_mark(
    inventory_client: Redis, vault_client: Redis, clock: Clock
) -> None:
    """What an owner has was written with its indexes, and nobody walks over the others' data."""
    owned = AsyncSmartInventory(inventory_client, owner="alice", clock=clock)
    await owned.register_contact("bob", "BESTIE")
    assert set(await owned.get_inventory()) == {"bob"}
    halves = AsyncSecureVault(vault_client, owner="alice", clock=clock)
    await halves.store_key("k", "GOLD", b"b", b"i", b"t")
    assert await halves.get_all_active_ids() == ["k"]
    for client in (inventory_client, vault_client):
        assert await client.keys("*schema") == []
    await vault_client.set("aqm:{alice}:vault:v1:schema", "3")
    with pytest.raises(SchemaVersionError):
        await halves.get_all_active_ids()


async def test_who_may_not_write_reads_all_the_same(clock: Clock) -> None:
    """A replica, a full server, and a user who may only read adopt nothing: the data is walked."""
    with RunningServer(VALKEY_9) as server:
        admin: Any = server.client(0)
        await admin.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-@write")
        await write_contact(admin, "carol", clock.now)
        await write_half(admin, "k", clock.now)
        await admin.set("inv:v1:meta:%", "none of ours")
        await admin.hset("vault:v1:key:%", "status", "ACTIVE")
        user = server.client(0, username="u", password="p")
        assert set(await AsyncSmartInventory(user).get_inventory()) == {"carol"}
        assert await AsyncSecureVault(user).get_all_active_ids() == ["k"]
        assert await admin.exists("inv:v1:schema", "vault:v1:schema") == 0
        # What is left is none of ours.
        await admin.delete("inv:v1:meta:carol", "vault:v1:key:k")
        assert await AsyncSmartInventory(user).get_inventory() == {}
        assert await AsyncSecureVault(user).get_all_active_ids() == []
        await user.aclose()
        await admin.aclose()
