"""The index of contacts, on every backend and face: it lists who is registered, and nobody else."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory
from aqm_db._operations.memory import UsedCoin, remember_used
from aqm_db._operations.outcome import Progress
from aqm_db.errors import AccessDeniedError, CorruptEntryError
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.samples import BOB, stock

pytestmark = pytest.mark.asyncio

CONTACTS, FORGOTTEN = "inv:v1:contacts", "inv:v1:forgotten"
META, USED, USED_UNTIL = f"inv:v1:meta:{BOB}", f"inv:v1:used:{BOB}", f"inv:v1:used_until:{BOB}"
DAY_MS = 86_400_000
HOSTILE = ("a:b", "*", "{x}", "é", "%3A", " ")


async def end_of(client: Redis, *names: str) -> int:
    """When the last of some keys ends, by the server's clock (ms)."""
    seconds, micros = await client.time()
    ttls = [await client.pttl(name) for name in names]
    return int(seconds) * 1000 + int(micros) // 1000 + max(ttls)


async def test_who_is_registered_is_listed(
    inventory: AsyncSmartInventory, inventory_client: Redis
) -> None:
    """By ids as they are, whatever is in them; nobody twice, and nobody who was forgotten."""
    for contact_id in HOSTILE:
        assert await inventory.register_contact(contact_id, "MATE") is True
        assert await inventory.register_contact(contact_id, "MATE") is False
    assert await inventory_client.smembers(CONTACTS) == {each.encode() for each in HOSTILE}
    assert {one for page in [p async for p in inventory.contact_pages()] for one in page} == set(
        HOSTILE
    )
    await inventory.forget_contact("*")
    assert (await inventory.get_inventory()).keys() == set(HOSTILE) - {"*"}
    assert b"*" not in await inventory_client.smembers(CONTACTS)


async def test_many_contacts_take_many_pages(
    inventory: AsyncSmartInventory, inventory_client: Redis
) -> None:
    """Each is found."""
    listed = {f"c{number}" for number in range(1300)}
    await inventory_client.sadd(CONTACTS, *listed)
    pages = [page async for page in inventory.contact_pages()]
    assert {one for page in pages for one in page} == listed
    assert len(pages) > 1


async def test_registering_again_mends_the_index(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """What wrote the contact may know nothing of an index."""
    await inventory_client.set("inv:v1:schema", "2")
    await inventory_client.delete(CONTACTS)
    assert await inventory.get_inventory() == {}
    assert await inventory.register_contact(registered_bestie, "MATE") is False
    assert (await inventory.get_inventory()).keys() == {registered_bestie}


async def test_entries_of_nobody_are_passed_over(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """One that is listed and isn't registered, and what is no id at all."""
    await inventory_client.sadd(CONTACTS, "gone", b"\xff", b"")
    assert (await inventory.get_inventory()).keys() == {registered_bestie}
    found = {one for page in [p async for p in inventory.contact_pages()] for one in page}
    assert found == {registered_bestie, "gone"}


async def test_an_index_of_the_wrong_type(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """Nobody takes it for an empty one, and nobody is registered or forgotten beside it."""
    await inventory_client.set(CONTACTS, "x")
    for call in (
        inventory.get_inventory,
        lambda: inventory.register_contact("carol", "MATE"),
        lambda: inventory.forget_contact(registered_bestie),
    ):
        with pytest.raises(CorruptEntryError):
            await call()
    assert await inventory_client.exists(META) == 1
    assert await inventory_client.exists("inv:v1:meta:carol") == 0


async def test_who_left_a_memory_is_listed_until_it_ends(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """By the last of both memories; not once the contact is back."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    await inventory.select_coin(registered_bestie, "GOLD")
    await inventory_client.zadd(USED_UNTIL, {"long": 2**52})
    await inventory.forget_contact(registered_bestie)
    score = await inventory_client.zscore(FORGOTTEN, BOB)
    assert score is not None
    assert abs(score - await end_of(inventory_client, USED, USED_UNTIL)) < 10_000
    await inventory.register_contact(registered_bestie, "BESTIE")
    assert await inventory_client.exists(FORGOTTEN) == 0


async def test_who_used_nothing_is_not_listed(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """Nothing is left of the contact."""
    await inventory.forget_contact(registered_bestie)
    assert await inventory_client.exists(FORGOTTEN, CONTACTS) == 0


async def test_a_backup_s_memory_of_an_unregistered_contact_is_listed(
    inventory_client: Redis, registered_bestie: str
) -> None:
    """Of one that is registered it isn't."""
    inventory = AsyncSmartInventory(inventory_client)
    seconds, _ = await inventory_client.time()
    coins = [UsedCoin(each, "k", int(seconds) * 1000, None) for each in ("gone", registered_bestie)]
    await remember_used(inventory.scope, coins, Progress("test"))
    assert await inventory_client.zrange(FORGOTTEN, 0, -1) == [b"gone"]
    score = await inventory_client.zscore(FORGOTTEN, "gone")
    end = await end_of(inventory_client, "inv:v1:used:gone")
    assert score is not None
    assert abs(score - end) < 10_000


async def test_memories_that_have_ended_leave_the_index_by_and_by(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """Ten at a time, when somebody writes there."""
    await inventory_client.zadd(FORGOTTEN, {f"old{number}": number for number in range(15)})
    await inventory.forget_contact(registered_bestie)
    assert await inventory_client.zcard(FORGOTTEN) == 5
    await inventory.register_contact(registered_bestie, "MATE")
    await inventory.forget_contact(registered_bestie)
    assert await inventory_client.exists(FORGOTTEN) == 0


async def test_a_contact_is_not_listed_without_being_written(server: RunningServer) -> None:
    """Where a command of a registration is forbidden, nothing of it is there."""
    user: Redis = server.client(1, username="u", password="p")
    async with server.client(1) as client, user:
        admin: Any = client
        for command in ("hset", "sadd", "srem", "zrem", "persist"):
            rules = ("reset", "on", ">p", "~*", "+@all", f"-{command}")
            await admin.execute_command("ACL", "SETUSER", "u", *rules)
            with pytest.raises(AccessDeniedError):
                await AsyncSmartInventory(user).register_contact(BOB, "MATE")
            assert await admin.keys() == []
        # One that was listed before stays so.
        await admin.sadd(CONTACTS, BOB)
        await admin.execute_command("ACL", "SETUSER", "u", "+@all", "-hset")
        with pytest.raises(AccessDeniedError):
            await AsyncSmartInventory(user).register_contact(BOB, "MATE")
        assert await admin.smembers(CONTACTS) == {BOB.encode()}


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server that a test may restrict."""
    with RunningServer(VALKEY_9) as running:
        yield running
