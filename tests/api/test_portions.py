"""Many coins go in portions, on every backend and face; what comes in between is kept."""

from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncGarbageCollector, AsyncSmartInventory
from aqm_db._operations import collecting, contacts, stock as of_stock
from aqm_db.errors import CorruptEntryError
from aqm_db.types import GCResult, NewCoin
from tests.support.samples import BOB, Clock, halves, stock

pytestmark = pytest.mark.asyncio

META = f"inv:v1:meta:{BOB}"
ASIDE = "inv:v1:aside"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A portion is two coins, a page one contact."""
    for module in (contacts, collecting, of_stock):
        monkeypatch.setattr(module, "PORTION", 2)
    for module in (collecting, of_stock):
        monkeypatch.setattr(module, "CONTACTS_AT_ONCE", 2)
    monkeypatch.setattr(collecting, "COLLECTED_AT_ONCE", 2)
    monkeypatch.setattr(contacts, "COUNTED_AT_ONCE", 2)


async def fill(inventory: AsyncSmartInventory, contact_id: str = BOB) -> None:
    """Five coins of GOLD and four of SILVER."""
    await stock(inventory, contact_id, "GOLD", *(f"g{number}" for number in range(5)))
    await stock(inventory, contact_id, "SILVER", *(f"s{number}" for number in range(4)))


async def rows_of(client: Redis) -> int:
    """How many rows there are."""
    return len(await client.keys("inv:v1:key:*"))


async def set_corrupt_aside(inventory: AsyncSmartInventory, client: Redis) -> None:
    """A coin that is found out to be malformed."""
    await stock(inventory, BOB, "BRONZE", "bad:1")
    await client.hdel(f"inv:v1:key:{BOB}:bad%3A1", "signature")
    assert await inventory.select_coin(BOB, "BRONZE") is None
    assert await client.zrange(ASIDE, 0, -1) == [f"{BOB}:bad%3A1".encode()]


async def test_forgetting(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """All go, and each is counted once; those that were set aside, too."""
    await set_corrupt_aside(inventory, inventory_client)
    await fill(inventory)
    assert await inventory.forget_contact(registered_bestie) == 10
    assert await inventory_client.keys("inv:v1:[^ct]*") == []


async def test_lowering_a_priority(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """The oldest stay, up to the caps; nothing of the portions is left in the contact."""
    await fill(inventory)
    assert await inventory.set_contact_priority(registered_bestie, "MATE") is True
    assert [coin.key_id for coin in await inventory.list_coins(BOB)] == ["s0", "s1", "s2", "s3"]
    assert not await inventory_client.hexists(META, "excess")


async def test_a_priority_that_was_lowered_in_part(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """The same again does the rest, and nothing more; another one takes its place."""
    await fill(inventory)
    await inventory_client.hset(META, mapping={"priority": "STRANGER", "excess": 1})
    await inventory.set_contact_priority(registered_bestie, "STRANGER")
    assert await rows_of(inventory_client) == 0
    await inventory.set_contact_priority(registered_bestie, "BESTIE")
    await fill_again(inventory)
    await inventory_client.hset(META, mapping={"priority": "STRANGER", "excess": 1})
    await inventory.set_contact_priority(registered_bestie, "BESTIE")
    assert await rows_of(inventory_client) == 3
    assert not await inventory_client.hexists(META, "excess")
    await inventory_client.hset(META, "priority", "STRANGER")
    await inventory.set_contact_priority(registered_bestie, "STRANGER")
    assert await rows_of(inventory_client) == 3


async def fill_again(inventory: AsyncSmartInventory) -> None:
    """Three other coins."""
    await stock(inventory, BOB, "GOLD", "h0", "h1", "h2")


async def test_a_priority_that_others_set_meanwhile(
    inventory: AsyncSmartInventory,
    registered_bestie: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stays what they set, and so do the coins that were left."""
    await fill(inventory)
    build, left = contacts.build_set_priority, []

    def overtaken(scope: Any, contact_id: str, priority: str, caps: Any, changed: int) -> Any:
        left.append(changed)
        # As if the second portion came after others had raised it to MATE.
        return build(scope, contact_id, "MATE" if changed else priority, caps, changed)

    monkeypatch.setattr(contacts, "build_set_priority", overtaken)
    await inventory.set_contact_priority(registered_bestie, "STRANGER")
    # The priority, and the two coins of its portion.
    assert left == [0, 3]
    assert len(await inventory.list_coins(BOB)) == 7


@pytest.mark.parametrize("days", [31, 400])
async def test_collecting(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    gc: AsyncGarbageCollector,
    registered_bestie: str,
    clock: Clock,
    days: int,
) -> None:
    """A dry run counts what is collected then, and a contact once."""
    await set_corrupt_aside(inventory, inventory_client)
    await fill(inventory)
    clock.advance(days=days)
    expected = GCResult(1, 10, 5 * 3604 + 4 * 1248 + 96)
    assert await gc.dry_run() == expected
    assert await gc.garbage_collect() == expected
    assert await gc.garbage_collect() == await gc.dry_run() == GCResult(0, 0, 0)
    assert await rows_of(inventory_client) == await inventory_client.exists(ASIDE) == 0


async def test_rows_that_no_queue_lists(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    gc: AsyncGarbageCollector,
    registered_bestie: str,
) -> None:
    """They go with the contact's coins, whatever they are; those of others stay."""
    for number in range(5):
        await inventory_client.set(f"inv:v1:key:{BOB}:{number}", "x")
    await inventory_client.set("inv:v1:key:bob:1", "x")
    await inventory_client.zadd(ASIDE, {f"{BOB}:{number}": 0 for number in range(5)})
    await inventory_client.zadd(ASIDE, {"bob:1": 0, f"{BOB}x:1": 0})
    assert await gc.dry_run(0) == GCResult(0, 0, 0)
    assert await gc.collect_single_contact(registered_bestie) == GCResult(1, 5, 0)
    assert await inventory_client.zcard(ASIDE) == 2
    assert await inventory.forget_contact("bob") == 1
    assert await inventory_client.exists("inv:v1:key:bob:1") == 0


async def test_stale_coins_among_good_ones(
    inventory: AsyncSmartInventory,
    gc: AsyncGarbageCollector,
    registered_bestie: str,
    clock: Clock,
) -> None:
    """Wherever they stand, they are found, and no others."""
    for number in range(5):
        ends = clock.now + (86_400_000 if number % 2 else 40 * 86_400_000)
        coin = NewCoin(BOB, f"g{number}", "GOLD", *halves("GOLD"), ends)
        assert await inventory.store_keys([coin]) == [True]
    clock.advance(days=2)
    assert await inventory.count_stale() == {BOB: {"GOLD": 2, "SILVER": 0, "BRONZE": 0}}
    assert await gc.dry_run() == GCResult(0, 2, 2 * 3604)
    assert await gc.garbage_collect() == GCResult(0, 2, 2 * 3604)
    assert [coin.key_id for coin in await inventory.list_coins(BOB)] == ["g0", "g2", "g4"]


async def test_many_contacts(
    inventory: AsyncSmartInventory, gc: AsyncGarbageCollector, clock: Clock
) -> None:
    """Each is looked at, however the pages fall."""
    ids = [f"c{number}" for number in range(5)]
    for contact_id in ids:
        await inventory.register_contact(contact_id, "BESTIE")
        await fill(inventory, contact_id)
    assert (await inventory.get_inventory()).keys() == set(ids)
    assert await inventory.count_stale(40) == {
        contact_id: {"GOLD": 5, "SILVER": 4, "BRONZE": 0} for contact_id in ids
    }
    clock.advance(days=31)
    assert await gc.garbage_collect() == GCResult(5, 45, 5 * (5 * 3604 + 4 * 1248))


async def test_whoever_takes_a_row_away_takes_its_note(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """Consuming a coin that was set aside."""
    await set_corrupt_aside(inventory, inventory_client)
    assert await inventory.consume_key(registered_bestie, "bad:1") is True
    assert await inventory_client.exists(ASIDE) == 0


async def test_an_index_of_the_wrong_type(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """A malformed coin stays where it is, and nothing is forgotten."""
    await stock(inventory, BOB, "BRONZE", "bad")
    await inventory_client.hdel(f"inv:v1:key:{BOB}:bad", "signature")
    await inventory_client.set(ASIDE, "x")
    for call in (
        lambda: inventory.select_coin(BOB, "BRONZE"),
        lambda: inventory.forget_contact(registered_bestie),
    ):
        with pytest.raises(CorruptEntryError):
            await call()
    assert await inventory_client.zcard(f"inv:v1:idx:{BOB}:BRONZE") == 1
    assert await inventory_client.exists(META) == 1
