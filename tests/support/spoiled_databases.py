"""A stocked database, and the ways to spoil it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase, AsyncSmartInventory
from tests.support.samples import BOB, DAY_MS, Clock, sample_key, snapshot, stock

ROW = "vault:v1:key:"
STATS = "vault:v1:stats"
EXPIRY = "vault:v1:expiry"
SPENT = "vault:v1:spent"
COIN = f"inv:v1:key:{BOB}:"
GOLD, SILVER, BRONZE = (f"inv:v1:idx:{BOB}:{tier}" for tier in ("GOLD", "SILVER", "BRONZE"))
META = f"inv:v1:meta:{BOB}"
ODD_META = "inv:v1:meta:an%3Aodd%25one"
USED = f"inv:v1:used:{BOB}"
ASIDE, CONTACTS, FORGOTTEN = "inv:v1:aside", "inv:v1:contacts", "inv:v1:forgotten"
GHOST, GHOST_META = "inv:v1:used:ghost", "inv:v1:meta:ghost"
COINS = ("b1", "back", "g1", "g2", "s1", "s2", "s3")
CLAIM = f"inv:v1:claim:{BOB}:claimed"
CANARY = b"CANARY"
LONG = "x" * 257
"""Longer than an id may be."""
LATER = Clock().now + 40 * DAY_MS


@dataclass(frozen=True)
class Place:
    """A stocked database of either face, and how to spoil it.

    Attributes:
        db: what is checked.
        other: another user of it, always asynchronous.
        vault: a client of the vault's database.
        inventory: a client of the inventory's database.
        clock: the time of what is checked.
    """

    db: AsyncClientDatabase
    other: AsyncClientDatabase
    vault: Redis
    inventory: Redis
    clock: Clock

    def of(self, key: str) -> Redis:
        """The client of the database that holds a key."""
        return self.vault if key.startswith("vault:") else self.inventory

    async def each(self, *faults: "Spoil") -> None:
        """Spoils it in several ways."""
        for spoil in faults:
            await spoil(self)

    async def state(self) -> dict[Any, Any]:
        """All keys: what they hold, and whether they expire."""
        return {
            key: (content, await client.pttl(key) > 0)
            for client in (self.vault, self.inventory)
            for key, content in (await snapshot(client)).items()
        }


async def fill(db: AsyncClientDatabase, inventory_client: Redis) -> None:
    """Keys of every tier, a tombstone, coins of every tier, a claim, and a released coin."""
    await db.vault.store_key(**sample_key("gold", "GOLD"))
    await db.vault.store_key(**sample_key("silver", "SILVER"))
    await db.vault.store_key(**sample_key("bronze", "BRONZE"))
    await db.vault.store_key(**sample_key("burned", "GOLD"))
    await db.vault.burn_key("burned")
    await db.inventory.register_contact(BOB, "BESTIE", "Bob")
    await db.inventory.register_contact("an:odd%one", "MATE")
    await stock(db.inventory, "an:odd%one", "SILVER", "a:b", "{c}")
    await stock(db.inventory, BOB, "GOLD", "taken", "back", "g1", "g2")
    await stock(db.inventory, BOB, "SILVER", "s1", "s2", "s3")
    await stock(db.inventory, BOB, "BRONZE", "b1")
    claiming = AsyncSmartInventory(
        inventory_client, clock=db.inventory.clock, request_ids=lambda: "claimed"
    )
    await claiming.select_coin(BOB, "GOLD")
    back = await db.inventory.select_coin(BOB, "GOLD")
    assert back is not None
    assert await db.inventory.release_coin(back)


Spoil: TypeAlias = Callable[[Place], Awaitable[Any]]


@dataclass(frozen=True)
class Fault:
    """A way to spoil a database.

    Attributes:
        name: what it's called in test ids.
        spoil: does it.
        mended: kinds and keys of what a repair mends.
        left: kinds and keys of what stays.
        changed: the keys that a repair may change.
    """

    name: str
    spoil: Spoil
    mended: tuple[tuple[str, str], ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    changed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


async def _wrong_type(client: Redis, *keys: str) -> None:
    for key in keys:
        await client.delete(key)
        await client.set(key, CANARY)


def _without(key: str, field: str) -> Spoil:
    """A row that lost a field."""
    return lambda place: place.of(key).hdel(key, field)


def _with(key: str, field: str, value: str | bytes) -> Spoil:
    """A row with another field."""
    return lambda place: place.of(key).hset(key, field, value)


async def doubtful_orphan(place: Place) -> None:
    """A coin isn't queued, and what was used can't be read."""
    await place.inventory.zrem(SILVER, "s1")
    await _wrong_type(place.inventory, USED)


async def full(place: Place) -> None:
    """A coin isn't queued, and its queue is full."""
    await place.inventory.zrem(SILVER, "s1")
    await stock(place.other.inventory, BOB, "SILVER", "s4", "s5")


async def full_of_nothing(place: Place) -> None:
    """A coin isn't queued, and its queue is full of entries without rows."""
    await place.inventory.zrem(SILVER, "s1")
    await place.inventory.zadd(SILVER, {"n1": 1, "n2": 2})


async def unregistered(place: Place) -> None:
    """A contact is lost, and so is the place of a coin of theirs."""
    await place.inventory.delete(META)
    await place.inventory.zrem(SILVER, "s1")


async def _moved(place: Place) -> None:
    await place.inventory.zrem(SILVER, "s1")
    await place.inventory.zadd(BRONZE, {"s1": 7})


async def _listed_wrong_tier(place: Place) -> None:
    score = await place.vault.zscore(EXPIRY, "gold")
    assert score is not None
    await place.vault.zadd(EXPIRY, {"gold": score + 0.5})


async def _foreign(client: Redis, *keys: str | bytes) -> None:
    for key in keys:
        await client.set(key, CANARY)


FAULTS = (
    Fault(
        "a counter is wrong",
        lambda place: place.vault.hset(STATS, "active_gold", "7"),
        mended=(("wrong_counter", STATS),),
        changed=(STATS,),
    ),
    Fault(
        "counters are malformed",
        lambda place: place.vault.hset(
            STATS, mapping={"active_silver": "one", "total_burned": "-1"}
        ),
        mended=(("wrong_counter", STATS), ("wrong_counter", STATS)),
        changed=(STATS,),
    ),
    Fault(
        "counters are lost",
        lambda place: place.vault.delete(STATS),
        mended=(("wrong_counter", STATS),) * 3,
        changed=(STATS,),
    ),
    Fault(
        "an index entry is lost",
        lambda place: place.vault.zrem(EXPIRY, "silver"),
        mended=(("orphaned_row", ROW + "silver"),),
        changed=(EXPIRY,),
    ),
    Fault(
        "the index is lost",
        lambda place: place.vault.delete(EXPIRY),
        mended=tuple(("orphaned_row", ROW + tier) for tier in ("bronze", "gold", "silver")),
        changed=(EXPIRY,),
    ),
    Fault(
        "a row is lost",
        lambda place: place.vault.delete(ROW + "bronze"),
        mended=(("dangling_entry", ROW + "bronze"), ("wrong_counter", STATS)),
        changed=(EXPIRY, SPENT, STATS),
    ),
    Fault(
        "index entries are no ids",
        lambda place: place.vault.zadd(EXPIRY, {b"\xff": LATER, LONG.encode(): LATER + 0.25}),
        mended=(
            ("dangling_entry", ROW + "%5Cxff"),
            ("dangling_entry", ROW + LONG),
        ),
        changed=(EXPIRY,),
    ),
    Fault(
        "an entry stands under another tier",
        _listed_wrong_tier,
        mended=(("misplaced_entry", ROW + "gold"),),
        changed=(EXPIRY,),
    ),
    Fault(
        "a burned key is listed",
        lambda place: place.vault.zadd(EXPIRY, {"burned": LATER}),
        mended=(("dangling_entry", ROW + "burned"),),
        changed=(EXPIRY,),
    ),
    Fault(
        "a row has no expiry",
        lambda place: place.vault.persist(ROW + "gold"),
        mended=(("no_expiry", ROW + "gold"),),
        changed=(ROW + "gold",),
    ),
    Fault(
        "a tombstone has no expiry",
        lambda place: place.vault.persist(ROW + "burned"),
        mended=(("no_expiry", ROW + "burned"),),
        changed=(ROW + "burned",),
    ),
    Fault(
        "a tombstone holds key material",
        lambda place: place.vault.hset(ROW + "burned", "auth_tag", CANARY),
        mended=(("kept_material", ROW + "burned"),),
        changed=(ROW + "burned",),
    ),
    Fault(
        "rows lost a field",
        lambda place: place.each(
            _without(ROW + "gold", "encrypted_blob"),
            _without(ROW + "silver", "encryption_iv"),
            _without(ROW + "bronze", "auth_tag"),
        ),
        left=tuple(("corrupt_row", ROW + tier) for tier in ("bronze", "gold", "silver")),
    ),
    Fault(
        "rows lost another field, or have one that is no number",
        lambda place: place.each(
            _without(ROW + "gold", "coin_version"),
            _without(ROW + "silver", "created_at"),
            _with(ROW + "bronze", "created_at", "today"),
        ),
        left=tuple(("corrupt_row", ROW + tier) for tier in ("bronze", "gold", "silver")),
    ),
    Fault(
        "rows have a field that is no text",
        lambda place: place.each(
            _with(ROW + "gold", "coin_version", b"\xff"),
            _with(ROW + "silver", "coin_version", b"\xed\xa0\x80"),
            _with(ROW + "bronze", "coin_version", b"ok \xf0\x9f\x98"),
        ),
        left=tuple(("corrupt_row", ROW + tier) for tier in ("bronze", "gold", "silver")),
    ),
    Fault(
        "rows are neither active nor burned, or of no tier",
        lambda place: place.each(
            _with(ROW + "gold", "status", "LOST"), _with(ROW + "silver", "coin_category", "LOST")
        ),
        mended=(
            ("dangling_entry", ROW + "gold"),
            ("dangling_entry", ROW + "silver"),
            ("wrong_counter", STATS),
            ("wrong_counter", STATS),
        ),
        left=(("corrupt_row", ROW + "gold"), ("corrupt_row", ROW + "silver")),
        changed=(EXPIRY, STATS),
    ),
    Fault(
        "a row of the wrong type",
        lambda place: _wrong_type(place.vault, ROW + "silver"),
        mended=(("dangling_entry", ROW + "silver"), ("wrong_counter", STATS)),
        left=(("corrupt_row", ROW + "silver"),),
        changed=(EXPIRY, STATS),
    ),
    Fault(
        "an index of the wrong type",
        lambda place: _wrong_type(place.vault, EXPIRY),
        left=(("wrong_type", EXPIRY),),
    ),
    Fault(
        "counters of the wrong type",
        lambda place: _wrong_type(place.vault, STATS),
        left=(("wrong_type", STATS),),
    ),
    Fault(
        "foreign names in the vault",
        lambda place: _foreign(
            place.vault,
            *("vault:v1:keyring", "vault:v1:key:a:b", "vault:v1:key:%zz", "vault:v1:stats:x"),
            *("vault:v1:key:%61", b"vault:v1:key:\xff", ROW + LONG, "vault:v10:key:a", "vault:v1"),
        ),
        left=tuple(
            ("foreign_key", name)
            for name in (
                *("vault:v1:key:%61", "vault:v1:key:%zz", "vault:v1:key:\\xff"),
                *("vault:v1:key:a:b", ROW + LONG, "vault:v1:keyring", "vault:v1:stats:x"),
            )
        ),
    ),
    Fault(
        "a coin's row is lost",
        lambda place: place.inventory.delete(COIN + "s1"),
        mended=(("dangling_entry", COIN + "s1"),),
        changed=(SILVER,),
    ),
    Fault(
        "a coin isn't queued",
        lambda place: place.inventory.zrem(SILVER, "s2"),
        mended=(("orphaned_row", COIN + "s2"),),
        changed=(SILVER,),
    ),
    Fault(
        "a queue is lost",
        lambda place: place.inventory.delete(SILVER),
        mended=tuple(("orphaned_row", f"{COIN}s{number}") for number in (1, 2, 3)),
        changed=(SILVER,),
    ),
    Fault(
        "a coin that was used isn't queued",
        lambda place: place.inventory.zrem(GOLD, "back"),
        left=(("orphaned_row", COIN + "back"),),
        changed=(ASIDE,),
    ),
    Fault(
        "a coin isn't queued, and what was used can't be read",
        doubtful_orphan,
        left=(("orphaned_row", COIN + "s1"), ("wrong_type", USED)),
        changed=(ASIDE,),
    ),
    Fault(
        "a coin isn't queued, and its queue is full",
        full,
        left=(("orphaned_row", COIN + "s1"),),
        changed=(ASIDE,),
    ),
    Fault(
        "a coin isn't queued, and its queue is full of nothing",
        full_of_nothing,
        mended=(
            ("dangling_entry", COIN + "n1"),
            ("dangling_entry", COIN + "n2"),
            ("orphaned_row", COIN + "s1"),
        ),
        changed=(SILVER,),
    ),
    Fault(
        "a contact is lost",
        unregistered,
        mended=(("dangling_entry", META), ("orphaned_row", META)),
        left=(
            ("orphaned_row", COIN + "s1"),
            *(("unregistered_contact", queue) for queue in (BRONZE, GOLD, SILVER)),
        ),
        changed=(ASIDE, CONTACTS, FORGOTTEN, USED),
    ),
    Fault(
        "a coin stands in two queues",
        lambda place: place.inventory.zadd(BRONZE, {"s1": 7}),
        mended=(("misplaced_entry", COIN + "s1"),),
        changed=(BRONZE,),
    ),
    Fault(
        "a coin stands in another queue",
        _moved,
        mended=(("misplaced_entry", COIN + "s1"), ("orphaned_row", COIN + "s1")),
        changed=(SILVER, BRONZE),
    ),
    Fault(
        "coins lost a field, or have a malformed one",
        lambda place: place.each(
            _without(COIN + "s1", "coin_category"),
            _without(COIN + "s2", "public_key"),
            _without(COIN + "s3", "signature"),
            _without(COIN + "g1", "fetched_at"),
            _with(COIN + "g2", "coin_category", "PLATINUM"),
            _with(COIN + "back", "fetched_at", "today"),
            _with(COIN + "b1", "expires_at", "tomorrow"),
        ),
        mended=tuple(("dangling_entry", COIN + key_id) for key_id in COINS),
        left=tuple(("corrupt_row", COIN + key_id) for key_id in COINS),
        changed=(ASIDE, GOLD, SILVER, BRONZE),
    ),
    Fault(
        "a coin of the wrong type",
        lambda place: _wrong_type(place.inventory, COIN + "s1"),
        mended=(("dangling_entry", COIN + "s1"),),
        left=(("corrupt_row", COIN + "s1"),),
        changed=(ASIDE, SILVER),
    ),
    Fault(
        "queued entries are no ids",
        lambda place: place.inventory.zadd(SILVER, {b"\xff": 1, LONG.encode(): 2}),
        mended=(
            ("dangling_entry", COIN + "%5Cxff"),
            ("dangling_entry", COIN + LONG),
        ),
        changed=(SILVER,),
    ),
    Fault(
        "a claim has no expiry",
        lambda place: place.inventory.persist(CLAIM),
        mended=(("no_expiry", CLAIM),),
        changed=(CLAIM,),
    ),
    Fault(
        "contacts have a malformed field",
        lambda place: place.each(
            _with(META, "priority", "ENEMY"),
            _with(ODD_META, "last_msg_at", "-1"),
            _with("inv:v1:meta:nameless", "display_name", b"\xff"),
            _with("inv:v1:meta:nameless", "last_msg_at", "1"),
            _with("inv:v1:meta:nameless", "priority", "MATE"),
        ),
        mended=(("orphaned_row", "inv:v1:meta:nameless"),),
        left=tuple(("corrupt_contact", key) for key in (META, ODD_META, "inv:v1:meta:nameless")),
        changed=(CONTACTS,),
    ),
    Fault(
        "the index of contacts is lost",
        lambda place: place.inventory.delete(CONTACTS),
        mended=(("orphaned_row", META), ("orphaned_row", ODD_META)),
        changed=(CONTACTS,),
    ),
    Fault(
        "the index of contacts lists nobody",
        lambda place: place.inventory.sadd(CONTACTS, "ghost", LONG),
        mended=(("dangling_entry", GHOST_META),),
        changed=(CONTACTS,),
    ),
    Fault(
        "what is remembered of a forgotten contact isn't listed",
        lambda place: place.inventory.zadd(GHOST, {"k": LATER}),
        mended=(("orphaned_row", GHOST_META),),
        changed=(FORGOTTEN, GHOST),
    ),
    Fault(
        "contacts are listed as forgotten, and aren't",
        lambda place: place.inventory.zadd(FORGOTTEN, {BOB: LATER, "ghost": 2**52, "over": 1}),
        mended=(("dangling_entry", META), ("dangling_entry", GHOST_META)),
        changed=(FORGOTTEN,),
    ),
    Fault(
        "rows are listed as set aside, and aren't",
        lambda place: place.inventory.zadd(ASIDE, {f"{BOB}:s1": 0, f"{BOB}:gone": 0, "odd": 0}),
        mended=(("dangling_entry", COIN + "s1"), ("dangling_entry", COIN + "gone")),
        changed=(ASIDE,),
    ),
    Fault(
        "a row that was set aside goes back",
        lambda place: place.each(
            lambda place: place.inventory.zrem(SILVER, "s2"),
            lambda place: place.inventory.zadd(ASIDE, {f"{BOB}:s2": 0}),
        ),
        mended=(("orphaned_row", COIN + "s2"),),
        changed=(ASIDE, SILVER),
    ),
    Fault(
        "indexes of the inventory of the wrong type",
        lambda place: _wrong_type(place.inventory, ASIDE, CONTACTS, FORGOTTEN),
        left=(("wrong_type", ASIDE), ("wrong_type", CONTACTS), ("wrong_type", FORGOTTEN)),
    ),
    Fault(
        "a contact of the wrong type",
        lambda place: _wrong_type(place.inventory, META),
        left=(("corrupt_contact", META),),
    ),
    Fault(
        "queues of the wrong type",
        lambda place: _wrong_type(place.inventory, SILVER, GOLD),
        left=(("wrong_type", GOLD), ("wrong_type", SILVER)),
    ),
    Fault(
        "other keys of the wrong type",
        lambda place: place.each(
            _with("inv:v1:maintenance", "a", CANARY),
            lambda place: _wrong_type(
                place.inventory,
                *("inv:v1:leases", "inv:v1:leases_until", "inv:v1:coming", "inv:v1:totals"),
            ),
            lambda place: _wrong_type(place.vault, "vault:v1:unpublished"),
        ),
        left=tuple(
            ("wrong_type", name)
            for name in (
                *("inv:v1:coming", "inv:v1:leases", "inv:v1:leases_until", "inv:v1:maintenance"),
                *("inv:v1:totals", "vault:v1:unpublished"),
            )
        ),
    ),
    Fault(
        "foreign names in the inventory",
        lambda place: _foreign(
            place.inventory,
            *("inv:v1:index", "inv:v1:key:a", "inv:v1:key:a:b:c", "inv:v1:key::b", "inv:v2:key:a"),
            f"inv:v1:idx:{BOB}:PLATINUM",
        ),
        left=tuple(
            ("foreign_key", name)
            for name in (
                f"inv:v1:idx:{BOB}:PLATINUM",
                *("inv:v1:index", "inv:v1:key::b", "inv:v1:key:a", "inv:v1:key:a:b:c"),
            )
        ),
    ),
)
