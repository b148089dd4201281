"""Contacts, coins and private halves of real sizes, stored before the clock starts."""

import os
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from aqm_db import AsyncSecureVault, AsyncSmartInventory, config
from aqm_db.types import CoinCategory, NewKey, Priority
from benchmarks.measuring.loops import Call, closed_loop

PORTION = 500
_AT_ONCE = 64
_DAY_MS = 86_400_000
_SIGNATURE_BYTES = {"GOLD": 2420, "SILVER": 64, "BRONZE": 64}
_SECRET_BYTES = {"GOLD": 2400, "SILVER": 2400, "BRONZE": 32}
"""An ML-KEM-768 decapsulation key (FIPS 203); an X25519 private key."""
KEENEST: dict[CoinCategory, Priority] = {"GOLD": "BESTIE", "SILVER": "MATE", "BRONZE": "MATE"}
"""For each tier the priority that caches the most of it."""


class Clock:
    """The time, which can be put back."""

    def __init__(self) -> None:
        self._behind = 0

    def __call__(self) -> int:
        """Milliseconds since the epoch."""
        return int(time.time() * 1000) - self._behind

    def an_hour_ago(self) -> AbstractContextManager[None]:
        """Coins wait for hours as a rule, and one of the last 30 seconds costs a write more."""
        return self.days_ago(1 / 24)

    @contextmanager
    def days_ago(self, days: float) -> Generator[None]:
        """What is stored meanwhile is as old afterwards."""
        self._behind = int(days * _DAY_MS)
        try:
            yield
        finally:
            self._behind = 0


CLOCK = Clock()
"""The time of all objects that are measured."""


@dataclass(frozen=True, slots=True)
class Coin:
    """A public half that a contact sent, not stored yet."""

    contact_id: str
    key_id: str
    tier: CoinCategory
    public_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Secret:
    """A private half, as its owner encrypted it, not stored yet."""

    key_id: str
    tier: CoinCategory
    blob: bytes
    iv: bytes
    tag: bytes


def new_coin(contact_id: str, tier: CoinCategory) -> Coin:
    """A coin of real size."""
    signature = _SIGNATURE_BYTES[tier]
    public_key = config.COIN_SIZE_BYTES[tier] - signature
    return Coin(contact_id, str(uuid4()), tier, os.urandom(public_key), os.urandom(signature))


def new_secret(tier: CoinCategory) -> Secret:
    """A private half of real size."""
    blob = os.urandom(_SECRET_BYTES[tier])
    return Secret(str(uuid4()), tier, blob, os.urandom(12), os.urandom(16))


def storing(inventory: AsyncSmartInventory, coin: Coin) -> Call:
    """The call that stores a coin."""
    return partial(
        inventory.store_key,
        coin.contact_id,
        coin.key_id,
        coin.tier,
        coin.public_key,
        coin.signature,
    )


def keeping(vault: AsyncSecureVault, secret: Secret) -> Call:
    """The call that stores a private half."""
    return partial(vault.store_key, secret.key_id, secret.tier, secret.blob, secret.iv, secret.tag)


async def all_of(calls: Sequence[Call]) -> None:
    """Makes calls quickly, for their effect."""
    await closed_loop(calls, _AT_ONCE)


async def store_all(inventory: AsyncSmartInventory, coins: Sequence[Coin]) -> None:
    """Stores coins."""
    await all_of([storing(inventory, coin) for coin in coins])


async def keep_all(vault: AsyncSecureVault, secrets: Sequence[Secret]) -> None:
    """Stores private halves, many in a call."""
    keys = [NewKey(each.key_id, each.tier, each.blob, each.iv, each.tag) for each in secrets]
    for first in range(0, len(keys), PORTION):
        assert all(await vault.store_keys(keys[first : first + PORTION])), "a key wasn't stored"


async def new_contacts(
    inventory: AsyncSmartInventory, count: int, priority: Priority = "BESTIE"
) -> list[str]:
    """Registers contacts."""
    contacts = [str(uuid4()) for _ in range(count)]
    await all_of([partial(inventory.register_contact, each, priority) for each in contacts])
    return contacts


async def new_coins(
    inventory: AsyncSmartInventory, count: int, tier: CoinCategory = "GOLD"
) -> list[Coin]:
    """Coins to be stored: new contacts have as many as they may, and take turns."""
    cap = config.BUDGET_CAPS[KEENEST[tier]][tier]
    contacts = await new_contacts(inventory, -(-count // cap), KEENEST[tier])
    return [new_coin(contacts[number % len(contacts)], tier) for number in range(count)]


async def stocked(inventory: AsyncSmartInventory, count: int) -> list[str]:
    """Stores GOLD coins, and returns whom to select them for, in turns."""
    coins = await new_coins(inventory, count)
    with CLOCK.an_hour_ago():
        await all_of([storing(inventory, coin) for coin in coins])
    return [coin.contact_id for coin in coins]


async def kept(vault: AsyncSecureVault, count: int, tier: CoinCategory = "GOLD") -> list[str]:
    """Stores private halves, and returns their ids."""
    secrets = [new_secret(tier) for _ in range(count)]
    await all_of([keeping(vault, secret) for secret in secrets])
    return [secret.key_id for secret in secrets]
