"""What was used stays used, on every backend and face: for 30 days, or to the coin's own end."""

from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncGarbageCollector, AsyncSmartInventory
from aqm_db.errors import KeyAlreadyUsedError
from aqm_db.types import InventoryEntry
from tests.support.samples import BOB, DAY_MS, Clock, halves

pytestmark = pytest.mark.asyncio

USED = f"inv:v1:used:{BOB}"
UNTIL = f"inv:v1:used_until:{BOB}"
LIFE_MS = 90 * DAY_MS

Use = Callable[[AsyncSmartInventory], Awaitable[object]]


async def keep(inventory: AsyncSmartInventory, key_id: str, expires_at: int | None) -> None:
    """Stores a GOLD coin of Bob's that has an end of its own."""
    await inventory.store_key(BOB, key_id, "GOLD", *halves("GOLD"), expires_at=expires_at)


async def take(inventory: AsyncSmartInventory) -> InventoryEntry:
    """Takes the coin that is next."""
    entry = await inventory.select_coin(BOB, "GOLD")
    assert entry is not None
    return entry


async def use_after_release(inventory: AsyncSmartInventory) -> None:
    """Takes a coin, gives it back, and takes it again."""
    assert await inventory.release_coin(await take(inventory))
    await take(inventory)


async def use_many(inventory: AsyncSmartInventory) -> None:
    """Takes one as many are taken."""
    taken = await inventory.select_coins([BOB], "GOLD")
    assert isinstance(taken[BOB], InventoryEntry)


USES: dict[str, Use] = {
    "selected": take,
    "selected among many": use_many,
    "selected, released and selected": use_after_release,
    "consumed": lambda inventory: inventory.consume_key(BOB, "k"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_a_long_lived_coin_stays_used_to_its_end(
    inventory: AsyncSmartInventory, registered_bestie: str, clock: Clock, use: Use
) -> None:
    """The source that repeats it 31 days later, or on its last day, brings it back to nobody."""
    assert registered_bestie == BOB
    ends = clock.now + LIFE_MS
    await keep(inventory, "k", ends)
    await use(inventory)
    for days in (29, 2, 58):
        clock.advance(days=days)
        # What others store is what makes it forget.
        await keep(inventory, f"other {days}", None)
        with pytest.raises(KeyAlreadyUsedError, match="k"):
            await keep(inventory, "k", ends)
    clock.advance(days=1)
    await keep(inventory, "k", ends + LIFE_MS)


async def test_it_survives_that_its_contact_is_forgotten(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str, clock: Clock
) -> None:
    """The memory of a contact that isn't registered ends with the last of its coins."""
    ends = clock.now + LIFE_MS
    await keep(inventory, "k", ends)
    await keep(inventory, "longer", ends + DAY_MS)
    await keep(inventory, "short", clock.now + DAY_MS)
    for _ in range(3):
        await take(inventory)
    clock.advance(days=1)
    await inventory.forget_contact(registered_bestie)
    assert LIFE_MS - 60_000 < await inventory_client.pttl(UNTIL) <= LIFE_MS
    clock.advance(days=39)
    await inventory.register_contact(registered_bestie, "BESTIE")
    assert await inventory_client.pttl(UNTIL) == -1
    assert await inventory_client.zrange(UNTIL, 0, -1) == [b"k", b"longer"]
    for key_id in ("k", "longer"):
        with pytest.raises(KeyAlreadyUsedError):
            await keep(inventory, key_id, ends)


async def test_it_survives_collection(
    inventory: AsyncSmartInventory,
    gc: AsyncGarbageCollector,
    inventory_client: Redis,
    registered_bestie: str,
    clock: Clock,
) -> None:
    """Garbage collection forgets it when its own end is past, and no earlier."""
    ends = clock.now + LIFE_MS
    await keep(inventory, "k", ends)
    await take(inventory)
    clock.advance(ms=LIFE_MS - 1)
    await gc.garbage_collect()
    assert not await inventory_client.exists(USED)
    await inventory.set_contact_priority(registered_bestie, "BESTIE")
    with pytest.raises(KeyAlreadyUsedError):
        await keep(inventory, "k", ends)
    clock.advance(ms=1)
    await gc.dry_run()
    assert await inventory_client.exists(UNTIL)
    await gc.garbage_collect()
    assert not await inventory_client.exists(UNTIL)


async def _collect(inventory: AsyncSmartInventory, gc: AsyncGarbageCollector) -> None:
    await gc.collect_single_contact(BOB)
    await inventory.set_contact_priority(BOB, "BESTIE")


async def _trim(inventory: AsyncSmartInventory, _: AsyncGarbageCollector) -> None:
    await inventory.set_contact_priority(BOB, "MATE")
    await inventory.set_contact_priority(BOB, "BESTIE")


async def _forget(inventory: AsyncSmartInventory, _: AsyncGarbageCollector) -> None:
    await inventory.forget_contact(BOB)
    await inventory.register_contact(BOB, "BESTIE")


@pytest.mark.parametrize("drop", [_collect, _trim, _forget])
async def test_a_released_coin_that_is_dropped_was_not_used(
    inventory: AsyncSmartInventory,
    gc: AsyncGarbageCollector,
    inventory_client: Redis,
    registered_bestie: str,
    clock: Clock,
    drop: Callable[[AsyncSmartInventory, AsyncGarbageCollector], Awaitable[None]],
) -> None:
    """Its source may bring it again, however long it lives."""
    assert registered_bestie == BOB
    ends = clock.now + LIFE_MS
    await keep(inventory, "k", ends)
    assert await inventory.release_coin(await take(inventory))
    await drop(inventory, gc)
    assert not await inventory_client.exists(USED, UNTIL)
    await keep(inventory, "k", ends)


async def test_the_usual_coin_costs_no_second_entry(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str, clock: Clock
) -> None:
    """One that is gone within 30 days of its use is remembered as long as any."""
    assert registered_bestie == BOB
    for key_id, ends in (("a", None), ("b", clock.now + 30 * DAY_MS), ("c", clock.now + 1)):
        await keep(inventory, key_id, ends)
        await take(inventory)
    assert await inventory_client.zcard(USED) == 3
    assert not await inventory_client.exists(UNTIL)
