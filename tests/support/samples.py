"""Keys, coins and a clock that tests decide on."""

import os
from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory, config
from aqm_db._operations.reservations import Reservations
from aqm_db.types import CoinCategory

T = TypeVar("T")
DAY_MS = 86_400_000
BLOB_BYTES = {"GOLD": 1200, "SILVER": 1200, "BRONZE": 48}
BOB = "bob_test_uuid"
MATE = "mate_test_uuid"


class Clock:
    """Milliseconds since the epoch; they pass when a test says so."""

    def __init__(self, now: int = 1_800_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        """The time that it is."""
        return self.now

    def advance(self, *, ms: int = 0, days: int = 0) -> None:
        """Lets time pass; a negative time is a clock that was set back."""
        self.now += ms + days * DAY_MS


class SampleKey(TypedDict):
    """The arguments of the vault's ``store_key``."""

    key_id: str
    coin_category: CoinCategory
    encrypted_blob: bytes
    encryption_iv: bytes
    auth_tag: bytes


def sample_key(key_id: str, tier: CoinCategory) -> SampleKey:
    """A private half of realistic size."""
    return SampleKey(
        key_id=key_id,
        coin_category=tier,
        encrypted_blob=os.urandom(BLOB_BYTES[tier]),
        encryption_iv=os.urandom(12),
        auth_tag=os.urandom(16),
    )


def halves(tier: CoinCategory) -> tuple[bytes, bytes]:
    """A public key and a signature of the right sizes."""
    signature_size = 2420 if tier == "GOLD" else 64
    return os.urandom(config.COIN_SIZE_BYTES[tier] - signature_size), os.urandom(signature_size)


async def stock(
    inventory: AsyncSmartInventory, contact_id: str, tier: CoinCategory, *key_ids: str
) -> None:
    """Stores coins, in this order."""
    for key_id in key_ids:
        await inventory.store_key(contact_id, key_id, tier, *halves(tier))


async def snapshot(client: Redis) -> dict[Any, Any]:
    """Everything in a client's database, by key."""
    keys: list[Any] = await client.keys()
    kinds = client.pipeline(transaction=False)
    for key in keys:
        kinds.type(key)
    reads = client.pipeline(transaction=False)
    for key, kind in zip(keys, await kinds.execute(), strict=True):
        if kind == b"hash":
            reads.hgetall(key)
        elif kind == b"zset":
            reads.zrange(key, 0, -1, withscores=True)
        elif kind == b"set":
            reads.smembers(key)
        else:
            reads.get(key)
    return dict(zip(keys, await reads.execute(), strict=True))


def is_claim(key: bytes) -> bool:
    """Whether a key is a claim, which ends by itself, whatever becomes of its owner."""
    return b"inv:v1:claim:" in key


def reservations_of(inventory: AsyncSmartInventory) -> Reservations:
    """The reservations of an inventory."""
    return Reservations(inventory)


def always(value: T) -> Callable[..., T]:
    """A function that returns a value, whatever it's called with."""

    def answer(*_: object) -> T:
        return value

    return answer


async def age_leases(client: Redis, ms: int) -> None:
    """Lets time pass for reserved slots: these end by the server's clock, which no test sets."""
    leases: Any = await client.hgetall("inv:v1:leases")
    for name, value in leases.items():
        slots, filled, *ends, lasts = map(int, value.split())
        aged = (slots, filled, *(end - ms for end in ends), lasts)
        await client.hset("inv:v1:leases", name, " ".join(map(str, aged)))
        await client.zincrby("inv:v1:leases_until", -ms, name)
