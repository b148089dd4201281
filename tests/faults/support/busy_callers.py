"""Callers who do everything that there is to do with keys and coins, in one order."""

from random import Random

from redis.asyncio import Redis

from aqm_db import AsyncSecureVault, AsyncSmartInventory
from aqm_db.types import CoinCategory, InventoryEntry
from tests.faults.support.append_only_file import Kind, Request
from tests.faults.support.tried_calls import BLOB, HALVES

CONTACTS = ("ann", "ben", "cem")
CAPS = {
    priority: {"GOLD": 40, "SILVER": 40, "BRONZE": 40}
    for priority in ("BESTIE", "MATE", "STRANGER")
}
TIERS: tuple[CoinCategory, ...] = ("GOLD", "SILVER", "BRONZE")


class Caller:
    """One who stores, takes and gives back, in an order that is the same in each run.

    Args:
        client: a client, which others share.
        number: who it is.
    """

    def __init__(self, client: Redis, number: int) -> None:
        self.number = number
        self._chance = Random(number)  # noqa: S311 - it keeps no secret
        self._request = ""
        self._vault = AsyncSecureVault(client, request_ids=lambda: self._request)
        self._inventory = AsyncSmartInventory(
            client, budget_caps=CAPS, request_ids=lambda: self._request
        )
        self._coins: list[tuple[str, str]] = []
        self._keys: list[str] = []
        self._held: list[InventoryEntry] = []

    def choose(self) -> Kind:
        """What to do next, of what can be done."""
        weights: dict[Kind, int] = {
            "store": 4,
            "select": 4,
            "keep": 2,
            "release": bool(self._held),
            "consume": bool(self._coins),
            "burn": bool(self._keys),
        }
        kinds: list[Kind] = [*weights]
        return self._chance.choices(kinds, [*weights.values()])[0]

    async def call(self, request: Request) -> bool:
        """Does it; whether it had an effect."""
        self._request = request.request_id
        contact_id, tier = self._chance.choice(CONTACTS), self._chance.choice(TIERS)
        match request.kind:
            case "store":
                request.key_id = request.request_id
                await self._inventory.store_key(contact_id, request.key_id, tier, *HALVES)
                self._coins.append((contact_id, request.key_id))
                return True
            case "select":
                entry = await self._inventory.select_coin(contact_id, tier)
                if entry is not None:
                    request.key_id = entry.key_id
                    self._held.append(entry)
                return entry is not None
            case "release":
                entry = self._held.pop()
                request.key_id = entry.key_id
                return await self._inventory.release_coin(entry)
            case "consume":
                contact_id, request.key_id = self._coins.pop()
                return await self._inventory.consume_key(contact_id, request.key_id)
            case "keep":
                request.key_id = request.request_id
                await self._vault.store_key(request.key_id, "GOLD", BLOB, b"nonce", b"tag")
                self._keys.append(request.key_id)
                return True
            case "burn":
                request.key_id = self._keys.pop()
                return await self._vault.burn_key(request.key_id)
