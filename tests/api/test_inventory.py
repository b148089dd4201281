"""The Smart Inventory, on every backend and face."""

import dataclasses
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory, SmartInventory, config
from aqm_db.errors import (
    BudgetExceededError,
    CoinExpiredError,
    ContactNotRegisteredError,
    CorruptEntryError,
    InvalidPriorityError,
    KeyAlreadyExistsError,
    KeyAlreadyUsedError,
)
from aqm_db.types import CoinCategory, ContactMeta, InventoryEntry, InventorySummary, NewCoin
from tests.support.samples import BOB, DAY_MS, MATE, Clock, SampleKey, halves, snapshot, stock

pytestmark = pytest.mark.asyncio

TIERS: tuple[CoinCategory, ...] = ("GOLD", "SILVER", "BRONZE")


async def taken(inventory: AsyncSmartInventory, tier: CoinCategory) -> str | None:
    """The id of the coin that is selected for Bob."""
    entry = await inventory.select_coin(BOB, tier)
    return None if entry is None else entry.key_id


# Contacts ----------------------------------------------------------------------------------


async def test_register_contact_success(inventory: AsyncSmartInventory) -> None:
    """A new contact is new."""
    assert await inventory.register_contact(BOB, "BESTIE") is True


async def test_register_contact_duplicate_is_idempotent(
    inventory: AsyncSmartInventory, clock: Clock
) -> None:
    """A contact who is registered stays as it is."""
    await inventory.register_contact(BOB, "BESTIE", "Bob")
    first = clock.now
    clock.advance(days=1)
    assert await inventory.register_contact(BOB, "STRANGER", "Robert") is False
    assert await inventory.get_contact_meta(BOB) == ContactMeta(BOB, "BESTIE", first, "Bob")


async def test_register_contact_invalid_priority_raises(inventory: AsyncSmartInventory) -> None:
    """A priority that doesn't exist is refused, and nobody is registered."""
    enemy: Any = "ENEMY"
    with pytest.raises(InvalidPriorityError, match="priority"):
        await inventory.register_contact(BOB, enemy)
    assert await inventory.get_contact_meta(BOB) is None


async def test_get_contact_meta(
    inventory: AsyncSmartInventory, registered_bestie: str, clock: Clock
) -> None:
    """A contact is read as it was registered."""
    assert await inventory.get_contact_meta(registered_bestie) == ContactMeta(
        BOB, "BESTIE", clock.now, "Bob"
    )


async def test_get_contact_meta_nonexistent_returns_none(inventory: AsyncSmartInventory) -> None:
    """There is nothing to read of someone who isn't registered."""
    assert await inventory.get_contact_meta("nobody") is None


async def test_set_priority_upgrade(inventory: AsyncSmartInventory, registered_mate: str) -> None:
    """A better priority keeps every coin, and makes room for more."""
    await stock(inventory, registered_mate, "SILVER", "s1", "s2")
    assert await inventory.set_contact_priority(registered_mate, "BESTIE") is True
    assert await inventory.get_inventory(registered_mate) == InventorySummary(
        MATE, 0, 2, 0, "BESTIE"
    )
    await stock(inventory, registered_mate, "GOLD", "g1")


async def test_set_priority_upgrade_drops_nothing(
    inventory: AsyncSmartInventory, registered_mate: str
) -> None:
    """A BESTIE's caps for SILVER and BRONZE are lower than a MATE's, and all coins stay usable."""
    await stock(inventory, registered_mate, "SILVER", *"123456")
    await stock(inventory, registered_mate, "BRONZE", *"7890")
    full = InventorySummary(MATE, 0, 6, 4, "BESTIE")
    # The second one is no change, and drops nothing either.
    for _ in range(2):
        await inventory.set_contact_priority(registered_mate, "BESTIE")
        assert await inventory.get_inventory(registered_mate) == full
    with pytest.raises(BudgetExceededError) as caught:
        await stock(inventory, registered_mate, "SILVER", "s")
    assert (caught.value.current_count, caught.value.cap) == (6, 4)
    entry = await inventory.select_coin(registered_mate, "SILVER")
    assert entry is not None
    assert entry.key_id == "1"
    assert await inventory.release_coin(entry) is True
    # Back within caps that hold all of them.
    await inventory.set_contact_priority(registered_mate, "MATE")
    assert (await inventory.get_inventory(registered_mate)).silver_count == 6


async def test_set_priority_of_a_malformed_one_drops_nothing(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """Nobody knows whether it's lower than what the contact was worth before."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    await inventory_client.hset(f"inv:v1:meta:{BOB}", "priority", "FRIEND")
    await inventory.set_contact_priority(registered_bestie, "MATE")
    assert await inventory.get_inventory(registered_bestie) == InventorySummary(
        BOB, 1, 0, 0, "MATE"
    )


async def test_set_priority_downgrade_trims_excess(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """A lower priority drops what is above its caps, with the rows."""
    await stock(inventory, registered_bestie, "GOLD", "g1", "g2")
    await stock(inventory, registered_bestie, "SILVER", "s1", "s2")
    await inventory.set_contact_priority(registered_bestie, "MATE")
    assert await inventory.get_inventory(registered_bestie) == InventorySummary(
        BOB, 0, 2, 0, "MATE"
    )
    assert not await inventory_client.exists(f"inv:v1:key:{BOB}:g1", f"inv:v1:key:{BOB}:g2")


async def test_set_priority_downgrade_drops_the_newest(
    server: Any, inventory_client: Redis, clock: Clock
) -> None:
    """The oldest coins are kept: they're the first to be used."""
    caps = {**config.BUDGET_CAPS, "MATE": {"GOLD": 0, "SILVER": 2, "BRONZE": 0}}
    inventory = AsyncSmartInventory(inventory_client, budget_caps=caps, clock=clock)
    await inventory.register_contact(BOB, "BESTIE")
    await stock(inventory, BOB, "SILVER", "s1", "s2", "s3", "s4")
    await inventory.set_contact_priority(BOB, "MATE")
    assert [await taken(inventory, "SILVER") for _ in range(3)] == ["s1", "s2", None]


async def test_a_dropped_coin_can_be_stored_again(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """A coin that a downgrade dropped was not used, though it was released before."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    entry = await inventory.select_coin(registered_bestie, "GOLD")
    assert entry is not None
    await inventory.release_coin(entry)
    await inventory.set_contact_priority(registered_bestie, "MATE")
    await inventory.set_contact_priority(registered_bestie, "BESTIE")
    await stock(inventory, registered_bestie, "GOLD", "g1")
    assert await taken(inventory, "GOLD") == "g1"


async def test_set_priority_unregistered_raises(inventory: AsyncSmartInventory) -> None:
    """Nobody is registered by the way."""
    with pytest.raises(ContactNotRegisteredError, match="nobody"):
        await inventory.set_contact_priority("nobody", "MATE")
    assert await inventory.get_contact_meta("nobody") is None


# Store -------------------------------------------------------------------------------------


async def test_store_key_success(
    inventory: AsyncSmartInventory, registered_bestie: str, sample_gold_key: SampleKey
) -> None:
    """A stored coin is counted."""
    assert await inventory.store_key(
        registered_bestie, sample_gold_key["key_id"], "GOLD", *halves("GOLD")
    )
    assert (await inventory.get_inventory(registered_bestie)).gold_count == 1


async def test_store_key_budget_exceeded_raises(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """The sixth GOLD coin is refused, with the numbers."""
    await stock(inventory, registered_bestie, "GOLD", *"12345")
    with pytest.raises(BudgetExceededError) as caught:
        await stock(inventory, registered_bestie, "GOLD", "6")
    assert (
        caught.value.contact_id,
        caught.value.coin_category,
        caught.value.current_count,
        caught.value.cap,
    ) == (BOB, "GOLD", 5, 5)
    assert (await inventory.get_inventory(registered_bestie)).gold_count == 5


async def test_store_key_mate_cannot_store_gold(
    inventory: AsyncSmartInventory, registered_mate: str
) -> None:
    """A cap of zero holds nothing."""
    with pytest.raises(BudgetExceededError):
        await stock(inventory, registered_mate, "GOLD", "g1")


async def test_store_key_stranger_cannot_store_anything(inventory: AsyncSmartInventory) -> None:
    """A STRANGER is worth no coin of any tier."""
    await inventory.register_contact("eve", "STRANGER")
    for tier in TIERS:
        with pytest.raises(BudgetExceededError):
            await stock(inventory, "eve", tier, "k")
    assert not await inventory.has_keys_for("eve")


async def test_store_key_unregistered_contact_raises(inventory: AsyncSmartInventory) -> None:
    """A contact has to be registered first."""
    with pytest.raises(ContactNotRegisteredError, match="nobody"):
        await stock(inventory, "nobody", "SILVER", "s1")


async def test_store_key_updates_sorted_set_index(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    clock: Clock,
) -> None:
    """The queue holds the id at the time it was stored."""
    await stock(inventory, registered_bestie, "SILVER", "s1")
    assert await inventory_client.zrange(f"inv:v1:idx:{BOB}:SILVER", 0, -1, withscores=True) in (
        [(b"s1", clock.now)],
        [[b"s1", clock.now]],
    )


async def test_store_key_twice_raises_in_whichever_tier(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """A coin is cached once, whatever tier it is said to be of."""
    await stock(inventory, registered_bestie, "SILVER", "k")
    for tier in TIERS:
        with pytest.raises(KeyAlreadyExistsError, match="k"):
            await stock(inventory, registered_bestie, tier, "k")


async def test_store_key_of_a_used_coin_raises(
    inventory: AsyncSmartInventory, registered_bestie: str, clock: Clock
) -> None:
    """A coin that was handed out can't come back, until its private half is gone anyway."""
    await stock(inventory, registered_bestie, "SILVER", "k")
    await inventory.select_coin(registered_bestie, "SILVER")
    with pytest.raises(KeyAlreadyUsedError, match="k"):
        await stock(inventory, registered_bestie, "SILVER", "k")
    clock.advance(days=30)
    await stock(inventory, registered_bestie, "SILVER", "k")


async def test_store_key_of_an_expired_coin_raises(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It could never be handed out; nothing is stored, by whichever way it comes."""
    before = await snapshot(inventory_client)
    for expires_at in (clock.now, clock.now - 1, clock.now - 40 * DAY_MS):
        for kept in (False, True):
            with pytest.raises(CoinExpiredError, match="old"):
                await inventory.store_key(
                    BOB,
                    "old",
                    "SILVER",
                    *halves("SILVER"),
                    expires_at=expires_at,
                    enforce_budget=kept,
                )
            coins = [
                NewCoin(BOB, key_id, "SILVER", *halves("SILVER"), expires_at)
                for key_id in ("old", "older")
            ]
            outcomes = await inventory.store_keys(coins, enforce_budget=kept)
            assert [type(outcome) for outcome in outcomes] == [CoinExpiredError] * 2
    after = await snapshot(inventory_client)
    # Reserving leaves its count of leases.
    assert {name: after[name] for name in before} == before
    assert not await inventory.has_keys_for(BOB)
    assert {record.msg for record in caplog.records} == {"expired_rejected"}
    assert await inventory.store_key(
        BOB, "old", "SILVER", *halves("SILVER"), expires_at=clock.now + 1
    )


async def test_store_key_of_an_expired_coin_that_is_known(
    inventory: AsyncSmartInventory, registered_bestie: str, clock: Clock
) -> None:
    """One that is cached, or was used, is told as that."""
    expires_at = clock.now + 1
    for key_id in ("used", "cached"):
        await inventory.store_key(BOB, key_id, "SILVER", *halves("SILVER"), expires_at=expires_at)
    assert await taken(inventory, "SILVER") == "used"
    clock.advance(ms=1)
    for key_id, error in (("used", KeyAlreadyUsedError), ("cached", KeyAlreadyExistsError)):
        with pytest.raises(error):
            await inventory.store_key(
                BOB, key_id, "SILVER", *halves("SILVER"), expires_at=expires_at
            )


async def test_store_key_under_a_full_tier_of_dead_entries(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str, clock: Clock
) -> None:
    """Entries that can't be handed out don't keep a good coin out."""
    await stock(inventory, registered_bestie, "SILVER", "dangling", "corrupt", "stale")
    await inventory_client.delete(f"inv:v1:key:{BOB}:dangling")
    await inventory_client.hdel(f"inv:v1:key:{BOB}:corrupt", "signature")
    clock.advance(days=30)
    await stock(inventory, registered_bestie, "SILVER", "good", "better")
    assert [await taken(inventory, "SILVER") for _ in range(3)] == ["good", "better", None]
    assert await inventory_client.exists(f"inv:v1:key:{BOB}:corrupt")
    assert not await inventory_client.exists(f"inv:v1:key:{BOB}:stale")


async def test_store_key_repairs_an_entry_without_a_row(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """A coin whose row was lost is listed once, in the tier it is stored in now."""
    await stock(inventory, registered_bestie, "GOLD", "k")
    await inventory_client.delete(f"inv:v1:key:{BOB}:k")
    await stock(inventory, registered_bestie, "SILVER", "k")
    assert await inventory.get_inventory(registered_bestie) == InventorySummary(
        BOB, 0, 1, 0, "BESTIE"
    )


# Select ------------------------------------------------------------------------------------


async def test_select_coin_returns_correct_tier(
    inventory: AsyncSmartInventory, registered_bestie: str, clock: Clock
) -> None:
    """A coin comes back as it was stored, from the tier asked for."""
    public_key, signature = halves("SILVER")
    expires_at = clock.now + DAY_MS
    await stock(inventory, registered_bestie, "GOLD", "g1")
    await inventory.store_key(BOB, "s1", "SILVER", public_key, signature, expires_at=expires_at)
    assert await inventory.select_coin(BOB, "SILVER") == InventoryEntry(
        BOB, "s1", "SILVER", public_key, signature, clock.now, expires_at, clock.now
    )


async def test_select_coin_fifo_order(
    inventory: AsyncSmartInventory, registered_bestie: str, clock: Clock
) -> None:
    """First in, first out: within one millisecond, and when the clock is set back."""
    await stock(inventory, registered_bestie, "SILVER", "z", "a")
    clock.advance(ms=-3_600_000)
    await stock(inventory, registered_bestie, "SILVER", "m", "b")
    assert [await taken(inventory, "SILVER") for _ in range(4)] == ["z", "a", "m", "b"]


async def test_select_coin_fallback_gold_to_silver(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """Without GOLD, SILVER is taken."""
    await stock(inventory, registered_bestie, "SILVER", "s1")
    await stock(inventory, registered_bestie, "BRONZE", "b1")
    assert [await taken(inventory, "GOLD") for _ in range(3)] == ["s1", "b1", None]


async def test_select_coin_fallback_silver_to_bronze(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """Without SILVER, BRONZE is taken."""
    await stock(inventory, registered_bestie, "BRONZE", "b1")
    assert await taken(inventory, "SILVER") == "b1"


async def test_select_coin_no_upward_fallback(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """A better coin than asked for is never wasted."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    assert await inventory.select_coin(registered_bestie, "BRONZE") is None
    assert await inventory.select_coin(registered_bestie, "SILVER") is None
    assert await taken(inventory, "GOLD") == "g1"


async def test_select_coin_empty_returns_none(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """With nothing cached, the caller has to ask the server."""
    assert await inventory.select_coin(registered_bestie, "GOLD") is None


async def test_select_coin_unregistered_raises(inventory: AsyncSmartInventory) -> None:
    """A contact has to be registered first."""
    with pytest.raises(ContactNotRegisteredError, match="nobody"):
        await inventory.select_coin("nobody", "GOLD")


async def test_select_coin_removes_from_inventory(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """A coin that was handed out is in no queue and has no row."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    await inventory.select_coin(registered_bestie, "GOLD")
    assert not await inventory.has_keys_for(registered_bestie)
    assert not await inventory_client.exists(f"inv:v1:key:{BOB}:g1")


async def test_select_coin_updates_last_msg_at(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str, clock: Clock
) -> None:
    """A selected coin is a message to the contact; one that isn't there is none."""
    registered = clock.now
    clock.advance(days=1)
    await inventory.select_coin(registered_bestie, "GOLD")
    assert await inventory_client.hget(f"inv:v1:meta:{BOB}", "last_msg_at") == b"%d" % registered
    await stock(inventory, registered_bestie, "GOLD", "g1")
    await inventory.select_coin(registered_bestie, "GOLD")
    assert await inventory_client.hget(f"inv:v1:meta:{BOB}", "last_msg_at") == b"%d" % clock.now


async def test_select_coin_drops_stale_coins(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str, clock: Clock
) -> None:
    """A coin whose private half is gone would lose a message: it's dropped, with its row."""
    await stock(inventory, registered_bestie, "SILVER", "after 30 days")
    await inventory.store_key(
        BOB, "after a day", "SILVER", *halves("SILVER"), expires_at=clock.now + DAY_MS
    )
    clock.advance(days=1)
    await stock(inventory, registered_bestie, "SILVER", "fresh")
    clock.advance(days=29)
    assert await taken(inventory, "SILVER") == "fresh"
    assert not await inventory_client.exists(
        f"inv:v1:key:{BOB}:after 30 days", f"inv:v1:key:{BOB}:after a day"
    )


@pytest.mark.parametrize(
    "damage",
    [
        {"coin_category": "GOLD"},
        {"coin_category": "TIN"},
        {"fetched_at": "yesterday"},
        {"fetched_at": "-5"},
        {"expires_at": "tomorrow"},
    ],
    ids=str,
)
async def test_select_coin_sets_malformed_rows_aside(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    damage: dict[Any, Any],
) -> None:
    """A malformed row doesn't block its tier, and stays for inspection."""
    await stock(inventory, registered_bestie, "SILVER", "bad", "good")
    await inventory_client.hset(f"inv:v1:key:{BOB}:bad", mapping=damage)
    assert [await taken(inventory, "SILVER") for _ in range(2)] == ["good", None]
    assert await inventory_client.exists(f"inv:v1:key:{BOB}:bad")


@pytest.mark.parametrize("field", ["coin_category", "public_key", "signature", "fetched_at"])
async def test_select_coin_sets_incomplete_rows_aside(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str, field: str
) -> None:
    """A row that lacks a field doesn't block its tier."""
    await stock(inventory, registered_bestie, "SILVER", "bad", "good")
    await inventory_client.hdel(f"inv:v1:key:{BOB}:bad", field)
    assert [await taken(inventory, "SILVER") for _ in range(2)] == ["good", None]


async def test_select_coin_sets_rows_of_the_wrong_type_aside(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """Neither a string in a row's place nor no row at all blocks a tier."""
    await stock(inventory, registered_bestie, "SILVER", "string", "nothing", "good")
    await inventory_client.set(f"inv:v1:key:{BOB}:string", "x")
    await inventory_client.delete(f"inv:v1:key:{BOB}:nothing")
    assert [await taken(inventory, "SILVER") for _ in range(2)] == ["good", None]
    assert await inventory_client.get(f"inv:v1:key:{BOB}:string") == b"x"


async def test_select_coin_of_an_id_that_is_no_text(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str, clock: Clock
) -> None:
    """A coin that was written under an id that no str is, is an error of its own."""
    fields: dict[Any, Any] = {
        "coin_category": "GOLD",
        "public_key": "p",
        "signature": "s",
        "fetched_at": clock.now,
    }
    await inventory_client.hset(f"inv:v1:key:{BOB}:".encode() + b"\xff", mapping=fields)
    await inventory_client.zadd(f"inv:v1:idx:{BOB}:GOLD", {b"\xff": 1})
    with pytest.raises(CorruptEntryError, match="id"):
        await inventory.select_coin(registered_bestie, "GOLD")


@pytest.mark.parametrize("name", ["meta", "used", "idx"])
async def test_select_coin_with_an_index_of_the_wrong_type_raises(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str, name: str
) -> None:
    """What can't be written is found before anything is: no coin is lost."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    await stock(inventory, registered_bestie, "SILVER", "s1")
    damaged = f"inv:v1:{name}:{BOB}" + (":GOLD" if name == "idx" else "")
    kept = await inventory_client.exists(damaged) and await inventory_client.dump(damaged)
    await inventory_client.delete(damaged)
    await inventory_client.set(damaged, "x")
    with pytest.raises(CorruptEntryError):
        await inventory.select_coin(registered_bestie, "GOLD")
    await inventory_client.delete(damaged)
    if kept:
        await inventory_client.restore(damaged, 0, kept)
    assert await taken(inventory, "GOLD") == "g1"
    assert await taken(inventory, "GOLD") == "s1"


# Release -----------------------------------------------------------------------------------


async def test_release_coin_puts_it_back_at_the_head(
    inventory: AsyncSmartInventory, registered_bestie: str, clock: Clock
) -> None:
    """A released coin is the next one, as it was."""
    await stock(inventory, registered_bestie, "SILVER", "s1", "s2")
    expires_at = clock.now + DAY_MS
    await inventory.store_key(BOB, "b1", "BRONZE", *halves("BRONZE"), expires_at=expires_at)
    for tier in ("SILVER", "BRONZE"):
        entry = await inventory.select_coin(registered_bestie, tier)
        assert entry is not None
        assert await inventory.release_coin(entry) is True
        again = await inventory.select_coin(registered_bestie, tier)
        assert again == dataclasses.replace(entry, used_at=clock.now + 1)
    assert await taken(inventory, "SILVER") == "s2"


@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
@pytest.mark.parametrize("meanwhile", ["nothing", "stored", "selected", "all selected"])
async def test_release_coin_keeps_first_in_first_out(
    inventory: AsyncSmartInventory,
    registered_mate: str,
    order: tuple[int, ...],
    meanwhile: str,
) -> None:
    """Coins come back in the order in which they were stored, whatever happened meanwhile."""
    await stock(inventory, registered_mate, "SILVER", "s1", "s2", "s3", "s4")
    entries = [await inventory.select_coin(registered_mate, "SILVER") for _ in range(3)]
    queue = ["s4"]
    if "selected" in meanwhile:
        # Whatever is stored into an empty queue came after what was in it.
        await inventory.consume_key(registered_mate, queue.pop())
    if meanwhile in {"stored", "all selected"}:
        await stock(inventory, registered_mate, "SILVER", "a5")
        queue.append("a5")
    for place in order:
        entry = entries[place]
        assert entry is not None
        assert await inventory.release_coin(entry) is True
    ids = [coin.key_id for coin in await inventory.list_coins(registered_mate)]
    assert ids == ["s1", "s2", "s3", *queue]


async def test_release_coin_of_a_selection_for_many(
    inventory: AsyncSmartInventory, registered_mate: str, registered_bestie: str
) -> None:
    """What was taken for a group goes back to the same places."""
    for contact_id in (registered_mate, registered_bestie):
        await stock(inventory, contact_id, "SILVER", "s1", "s2", "s3")
    chosen = [registered_mate, registered_bestie]
    taken_ones = [await inventory.select_coins(chosen, "SILVER") for _ in range(2)]
    for entries in taken_ones:
        for entry in entries.values():
            assert isinstance(entry, InventoryEntry)
            assert await inventory.release_coin(entry) is True
    for contact_id in chosen:
        ids = [coin.key_id for coin in await inventory.list_coins(contact_id)]
        assert ids == ["s1", "s2", "s3"]


async def test_release_coin_keeps_the_order_of_equal_scores(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_mate: str
) -> None:
    """Places that another client gave, twice the same or no whole number, are kept as they are."""
    await stock(inventory, registered_mate, "SILVER", "a", "b", "c", "d")
    queue = f"inv:v1:idx:{registered_mate}:SILVER"
    await inventory_client.zadd(queue, {"a": 7.5, "b": 7.5, "c": 7.25, "d": 1e15})
    entries = [await inventory.select_coin(registered_mate, "SILVER") for _ in range(4)]
    for entry in entries:
        assert entry is not None
        assert await inventory.release_coin(entry) is True
    assert await inventory_client.zrange(queue, 0, -1, withscores=True) == [
        (b"c", 7.25),
        (b"a", 7.5),
        (b"b", 7.5),
        (b"d", 1e15),
    ]


async def test_release_coin_without_its_origin_returns_false(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """Where a coin was taken from is a part of its receipt."""
    await stock(inventory, registered_bestie, "SILVER", "s1")
    entry = await inventory.select_coin(registered_bestie, "SILVER")
    assert entry is not None
    for origin in (None, b"s1", b"one two", b"nan two"):
        assert not await inventory.release_coin(dataclasses.replace(entry, origin=origin))
    assert await inventory.release_coin(entry) is True


async def test_release_coin_of_a_contact_that_is_registered_again_returns_false(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """Nothing of a contact who was forgotten comes back, though one of this id is there again."""
    await stock(inventory, registered_bestie, "SILVER", "s1", "s2")
    entry = await inventory.select_coin(registered_bestie, "SILVER")
    assert entry is not None
    await inventory.forget_contact(registered_bestie)
    await inventory.register_contact(registered_bestie, "BESTIE")
    assert await inventory.release_coin(entry) is False
    assert not await inventory.has_keys_for(registered_bestie)
    # Nor in place of the new contact's coins: this id was in the first one's queue as well.
    await stock(inventory, registered_bestie, "SILVER", "s2")
    again = await inventory.select_coin(registered_bestie, "SILVER")
    assert again is not None
    assert await inventory.release_coin(entry) is False
    assert await inventory.release_coin(again) is True


async def test_release_coin_of_a_contact_that_was_written_by_hand(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """A contact that no request registered is the same one until it's forgotten."""
    await inventory_client.hdel(f"inv:v1:meta:{registered_bestie}", "by", "newest")
    await stock(inventory, registered_bestie, "SILVER", "s1")
    for comes_back in (True, False):
        entry = await inventory.select_coin(registered_bestie, "SILVER")
        assert entry is not None
        if not comes_back:
            await inventory.forget_contact(registered_bestie)
            await inventory.register_contact(registered_bestie, "BESTIE")
        assert await inventory.release_coin(entry) is comes_back


async def test_release_coin_twice_returns_false(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """A coin that someone else took meanwhile can't be released again by the first."""
    await stock(inventory, registered_bestie, "SILVER", "s1")
    entry = await inventory.select_coin(registered_bestie, "SILVER")
    assert entry is not None
    assert await inventory.release_coin(entry) is True
    assert await inventory.release_coin(entry) is False
    other = await inventory.select_coin(registered_bestie, "SILVER")
    assert other is not None
    assert await inventory.release_coin(entry) is False
    assert await inventory.release_coin(other) is True


async def test_release_coin_that_was_never_selected_returns_false(
    inventory: AsyncSmartInventory, registered_bestie: str, clock: Clock
) -> None:
    """Nobody can release a coin into being."""
    entry = InventoryEntry(BOB, "k", "SILVER", b"p", b"s", clock.now, None, clock.now)
    assert await inventory.release_coin(entry) is False
    assert not await inventory.has_keys_for(registered_bestie)


@pytest.mark.parametrize("meanwhile", ["downgraded", "stale", "expired"])
async def test_release_coin_that_has_no_place_any_more_returns_false(
    inventory: AsyncSmartInventory, registered_bestie: str, clock: Clock, meanwhile: str
) -> None:
    """A coin that its contact is no longer worth, or that is stale, stays out."""
    expires_at = clock.now + DAY_MS if meanwhile == "expired" else None
    await inventory.store_key(BOB, "g1", "GOLD", *halves("GOLD"), expires_at=expires_at)
    entry = await inventory.select_coin(registered_bestie, "GOLD")
    assert entry is not None
    if meanwhile == "downgraded":
        await inventory.set_contact_priority(registered_bestie, "MATE")
    else:
        clock.advance(days=1 if meanwhile == "expired" else 30)
    assert await inventory.release_coin(entry) is False
    assert not await inventory.has_keys_for(registered_bestie)


# Consume -----------------------------------------------------------------------------------


async def test_consume_key_success(inventory: AsyncSmartInventory, registered_bestie: str) -> None:
    """A consumed coin is gone, and can't be stored again."""
    await stock(inventory, registered_bestie, "SILVER", "s1")
    assert await inventory.consume_key(registered_bestie, "s1") is True
    assert not await inventory.has_keys_for(registered_bestie)
    with pytest.raises(KeyAlreadyUsedError):
        await stock(inventory, registered_bestie, "SILVER", "s1")


async def test_consume_nonexistent_returns_false(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """There is nothing to remove, of a contact or of nobody; a selected coin is gone already."""
    assert await inventory.consume_key(registered_bestie, "s1") is False
    assert await inventory.consume_key("nobody", "s1") is False
    await stock(inventory, registered_bestie, "SILVER", "s1")
    await inventory.select_coin(registered_bestie, "SILVER")
    assert await inventory.consume_key(registered_bestie, "s1") is False


async def test_consume_key_removes_malformed_rows(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """Recovery from an error works whatever the row looks like."""
    await stock(inventory, registered_bestie, "SILVER", "string", "no tier")
    await inventory_client.set(f"inv:v1:key:{BOB}:string", "x")
    await inventory_client.hdel(f"inv:v1:key:{BOB}:no tier", "coin_category", "fetched_at")
    assert await inventory.consume_key(registered_bestie, "string")
    assert await inventory.consume_key(registered_bestie, "no tier")
    assert not await inventory.has_keys_for(registered_bestie)


# Query -------------------------------------------------------------------------------------


async def test_get_inventory_single_contact(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """One contact's coins are counted by tier."""
    await stock(inventory, registered_bestie, "GOLD", "g1", "g2")
    await stock(inventory, registered_bestie, "BRONZE", "b1")
    assert await inventory.get_inventory(registered_bestie) == InventorySummary(
        BOB, 2, 0, 1, "BESTIE"
    )


async def test_get_inventory_all_contacts(
    inventory: AsyncSmartInventory, registered_bestie: str, registered_mate: str
) -> None:
    """All contacts are counted, by id."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    assert await inventory.get_inventory() == {
        BOB: InventorySummary(BOB, 1, 0, 0, "BESTIE"),
        MATE: InventorySummary(MATE, 0, 0, 0, "MATE"),
    }


async def test_get_inventory_unregistered_raises(inventory: AsyncSmartInventory) -> None:
    """There is no inventory of someone who isn't registered."""
    with pytest.raises(ContactNotRegisteredError, match="nobody"):
        await inventory.get_inventory("nobody")


async def test_get_inventory_of_malformed_contacts(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """A malformed contact is an error for itself alone."""
    await inventory_client.set("inv:v1:meta:string", "x")
    await inventory_client.hset("inv:v1:meta:enemy", "priority", "ENEMY")
    await inventory_client.hset("inv:v1:meta:empty", "display_name", "x")
    await inventory_client.set(b"inv:v1:meta:\xff", "x")
    await inventory_client.set("inv:v1:idx:lost:GOLD", "x")
    await inventory.register_contact("lost", "MATE")
    assert list(await inventory.get_inventory()) == [registered_bestie]
    for contact_id in ("string", "enemy", "lost"):
        with pytest.raises(CorruptEntryError, match=contact_id):
            await inventory.get_inventory(contact_id)


async def test_has_keys_for_true(inventory: AsyncSmartInventory, registered_bestie: str) -> None:
    """One coin of any tier will do."""
    await stock(inventory, registered_bestie, "BRONZE", "b1")
    assert await inventory.has_keys_for(registered_bestie) is True


async def test_has_keys_for_false(inventory: AsyncSmartInventory, registered_bestie: str) -> None:
    """Neither an empty inventory nor nobody has coins."""
    assert await inventory.has_keys_for(registered_bestie) is False
    assert await inventory.has_keys_for("nobody") is False


async def test_get_available_tiers(inventory: AsyncSmartInventory, registered_bestie: str) -> None:
    """The tiers that have coins, best first."""
    await stock(inventory, registered_bestie, "BRONZE", "b1")
    await stock(inventory, registered_bestie, "SILVER", "s1")
    assert await inventory.get_available_tiers(registered_bestie) == ["SILVER", "BRONZE"]


async def test_get_available_tiers_with_an_index_of_the_wrong_type_raises(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """A malformed queue isn't an empty one."""
    await inventory_client.set(f"inv:v1:idx:{BOB}:GOLD", "x")
    with pytest.raises(CorruptEntryError):
        await inventory.get_available_tiers(registered_bestie)


@pytest.mark.parametrize(
    ("field", "value"),
    [("priority", b"ENEMY"), ("last_msg_at", b"yesterday"), ("display_name", b"\xff")],
)
async def test_a_malformed_contact_raises(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    field: str,
    value: bytes,
) -> None:
    """A field that makes no sense is an error that names it."""
    await inventory_client.hset(f"inv:v1:meta:{BOB}", field, value)
    with pytest.raises(CorruptEntryError, match=field):
        await inventory.get_contact_meta(registered_bestie)


async def test_store_for_a_contact_of_unknown_priority_raises(
    inventory: AsyncSmartInventory, inventory_client: Redis, registered_bestie: str
) -> None:
    """Without a cap nothing is stored."""
    await inventory_client.hset(f"inv:v1:meta:{BOB}", "priority", "ENEMY")
    with pytest.raises(CorruptEntryError):
        await stock(inventory, registered_bestie, "GOLD", "g1")
    assert not await inventory.has_keys_for(registered_bestie)


async def test_count_stale(
    inventory: AsyncSmartInventory, registered_bestie: str, registered_mate: str, clock: Clock
) -> None:
    """Coins are counted to the millisecond, by their own expiry or 30 days after they came."""
    await stock(inventory, registered_bestie, "GOLD", "g1", "g2")
    soon = clock.now + 7 * DAY_MS
    await inventory.store_key(registered_bestie, "b1", "BRONZE", *halves("BRONZE"), expires_at=soon)
    await inventory.store_key(
        registered_mate, "s1", "SILVER", *halves("SILVER"), expires_at=soon + 1
    )
    assert await inventory.count_stale() == {}
    assert await inventory.count_stale(7) == {BOB: {"GOLD": 0, "SILVER": 0, "BRONZE": 1}}
    assert await inventory.count_stale(30) == {
        BOB: {"GOLD": 2, "SILVER": 0, "BRONZE": 1},
        MATE: {"GOLD": 0, "SILVER": 1, "BRONZE": 0},
    }
    clock.advance(days=7)
    assert await inventory.count_stale() == {BOB: {"GOLD": 0, "SILVER": 0, "BRONZE": 1}}
    assert (await inventory.get_inventory(BOB)).bronze_count == 1


async def test_count_stale_passes_over_what_is_malformed(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    registered_mate: str,
) -> None:
    """A row that can't be read has no expiry; a contact whose queue can't be read is logged."""
    await stock(inventory, registered_bestie, "SILVER", "dangling", "undated", "string", "whole")
    await inventory_client.delete(f"inv:v1:key:{BOB}:dangling")
    await inventory_client.hset(f"inv:v1:key:{BOB}:undated", "fetched_at", "today")
    await inventory_client.set(f"inv:v1:key:{BOB}:string", "x")
    await stock(inventory, registered_mate, "SILVER", "s1")
    await inventory_client.set(f"inv:v1:idx:{MATE}:BRONZE", "x")
    assert await inventory.count_stale(30) == {BOB: {"GOLD": 0, "SILVER": 1, "BRONZE": 0}}


# Edge cases --------------------------------------------------------------------------------


async def test_store_after_select_refills(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """An emptied tier can be filled again."""
    await stock(inventory, registered_bestie, "GOLD", *"12345")
    assert [await taken(inventory, "GOLD") for _ in range(6)] == [*"12345", None]
    assert not await inventory.has_keys_for(registered_bestie)
    await stock(inventory, registered_bestie, "GOLD", *"67890")
    assert await inventory.get_available_tiers(registered_bestie) == ["GOLD"]


async def test_priority_downgrade_then_select(
    inventory: AsyncSmartInventory, registered_bestie: str
) -> None:
    """A tier that the new priority doesn't have gives no coin."""
    await stock(inventory, registered_bestie, "GOLD", *"12345")
    await inventory.set_contact_priority(registered_bestie, "MATE")
    assert await inventory.select_coin(registered_bestie, "GOLD") is None


async def test_owners_do_not_meet(inventory_client: Redis, clock: Clock) -> None:
    """The same contact and coin of two owners are two."""
    alice = AsyncSmartInventory(inventory_client, owner="alice", clock=clock)
    carol = AsyncSmartInventory(inventory_client, owner="carol:*", clock=clock)
    for inventory in (alice, carol):
        await inventory.register_contact(BOB, "BESTIE")
        await stock(inventory, BOB, "GOLD", "g1")
    assert list(await alice.get_inventory()) == [BOB]
    assert await taken(alice, "GOLD") == "g1"
    assert await taken(alice, "GOLD") is None
    assert await taken(carol, "GOLD") == "g1"
    keys: list[Any] = await inventory_client.keys()
    assert {key.split(b":inv:")[0] for key in keys} == {
        b"aqm:{alice}",
        b"aqm:{carol%3A%2A}",
    }


@pytest.mark.parametrize("name", ["keys", "clock", "request_ids"])
@pytest.mark.parametrize(
    "make",
    [lambda: AsyncSmartInventory(Redis()), lambda: SmartInventory(redis.Redis())],
    ids=["aio", "sync"],
)
async def test_what_operations_are_made_with_can_not_be_exchanged(
    make: Callable[[], object], name: str
) -> None:
    """A change that half of the operations would not see is none."""
    with pytest.raises(AttributeError, match=f"property '{name}' of "):
        setattr(make(), name, None)
