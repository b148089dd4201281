"""The vault and the inventory over a seam: what it's for."""

from typing import Final

import pytest

from aqm_db.errors import (
    BudgetExceededError,
    ContactNotRegisteredError,
    InventoryUnavailableError,
    KeyAlreadyBurnedError,
    KeyAlreadyExistsError,
    KeyAlreadyUsedError,
)
from aqm_db.gc import AsyncGarbageCollector
from aqm_db.inventory import AsyncSmartInventory
from aqm_db.types import InventoryEntry, NewCoin, NewKey
from aqm_db.vault import AsyncSecureVault

from ._deserting import GONE
from ._lab import OWNER, Lab, scenario

_BOB: Final = "bob"
_SEALED: Final = (bytes(48), bytes(12), bytes(16))
_HALVES: Final = (bytes(32), bytes(64))


class UsingTests:
    """The main operations of a vault and an inventory."""

    @scenario
    async def test_a_private_half_is_used_once(self, lab: Lab) -> None:
        """Stored, fetched, burned; and not again."""
        vault = AsyncSecureVault(lab.seam, owner=OWNER)
        assert await vault.store_key("k", "SILVER", *_SEALED) is True
        with pytest.raises(KeyAlreadyExistsError):
            await vault.store_key("k", "SILVER", *_SEALED)
        entry = await vault.fetch_key("k")
        assert entry is not None
        assert (entry.key_id, entry.encrypted_blob) == ("k", _SEALED[0])
        assert await vault.get_all_active_ids() == ["k"]
        assert await vault.burn_key("k") is True
        with pytest.raises(KeyAlreadyBurnedError):
            await vault.burn_key("k")
        assert not any((await vault.count_active()).values())

    @scenario
    async def test_many_private_halves(self, lab: Lab) -> None:
        """Each has an outcome of its own."""
        vault = AsyncSecureVault(lab.seam, owner=OWNER)
        keys = [NewKey(key_id, "SILVER", *_SEALED) for key_id in ("a", "b", "a")]
        first, second, third = await vault.store_keys(keys)
        assert (first, second, type(third)) == (True, True, KeyAlreadyExistsError)
        assert await vault.count_active("SILVER") == 2

    @scenario
    async def test_coins_are_handed_out_in_order(self, lab: Lab) -> None:
        """The oldest of a tier, then of lower ones; a coin that was used can't come back."""
        inventory = await _stock(lab, "1", "2")
        assert await inventory.store_key(_BOB, "low", "BRONZE", *_HALVES) is True
        coins = [await inventory.select_coin(_BOB, tier) for tier in ("SILVER", "GOLD", "SILVER")]
        assert [coin.key_id for coin in coins if coin is not None] == ["1", "2", "low"]
        assert await inventory.select_coin(_BOB, "GOLD") is None
        with pytest.raises(KeyAlreadyUsedError):
            await inventory.store_key(_BOB, "1", "SILVER", *_HALVES)
        assert coins[0] is not None
        assert await inventory.release_coin(coins[0]) is True
        assert await inventory.consume_key(_BOB, "1") is True

    @scenario
    async def test_what_is_cached_of_contacts(self, lab: Lab) -> None:
        """By reads and walks."""
        inventory = await _stock(lab, "1", "2", "3")
        await inventory.register_contact("carol", "STRANGER")
        summaries = await inventory.get_inventory()
        assert {name: each.silver_count for name, each in summaries.items()} == {
            _BOB: 3,
            "carol": 0,
        }
        assert [coin.key_id for coin in await inventory.list_coins(_BOB)] == ["1", "2", "3"]
        assert await inventory.get_available_tiers(_BOB) == ["SILVER"]

    @scenario
    async def test_refusals_of_the_library(self, lab: Lab) -> None:
        """They aren't the seam's."""
        inventory = await _stock(lab)
        with pytest.raises(ContactNotRegisteredError):
            await inventory.store_key("nobody", "1", "SILVER", *_HALVES)
        await inventory.register_contact("carol", "STRANGER")
        coin = NewCoin("carol", "1", "SILVER", *_HALVES)
        [outcome] = await inventory.store_keys([coin], enforce_budget=True)
        assert isinstance(outcome, BudgetExceededError)

    @scenario
    async def test_a_coin_whose_reply_is_lost_is_handed_out_once(self, lab: Lab) -> None:
        """Alone, and to a group."""
        inventory = await _stock(lab, "1", "2", "3")
        lab.link.lose(1)
        coin = await inventory.select_coin(_BOB, "SILVER")
        lab.link.lose(1)
        coins = await inventory.select_coins([_BOB], "SILVER")
        found = [each for each in (coin, coins[_BOB]) if isinstance(each, InventoryEntry)]
        assert [each.key_id for each in found] == ["1", "2"]
        assert [each.key_id for each in await inventory.list_coins(_BOB)] == ["3"]

    @scenario
    async def test_a_coin_that_nobody_waits_for_is_put_back(self, lab: Lab) -> None:
        """Alone, and to a group."""
        inventory = await _stock(lab, "1", "2")
        assert isinstance(await lab.desert(inventory.select_coin(_BOB, "SILVER")), GONE)
        assert isinstance(await lab.desert(inventory.select_coins([_BOB], "SILVER")), GONE)
        assert [coin.key_id for coin in await inventory.list_coins(_BOB)] == ["1", "2"]

    @scenario
    async def test_garbage_is_collected(self, lab: Lab) -> None:
        """Of a contact who isn't written to any more."""
        inventory = await _stock(lab, "1", "2")
        collector = AsyncGarbageCollector(inventory, lab.seam)
        result = await collector.collect_single_contact(_BOB)
        assert result.keys_deleted == 2
        assert await inventory.has_keys_for(_BOB) is False

    @scenario
    async def test_no_server(self, lab: Lab) -> None:
        """It's the seam's error that says so."""
        inventory = await _stock(lab)
        lab.link.go_down()
        with pytest.raises(InventoryUnavailableError):
            await inventory.select_coin(_BOB, "GOLD")


async def _stock(lab: Lab, *key_ids: str) -> AsyncSmartInventory:
    """An inventory with a contact, and some coins of SILVER."""
    inventory = AsyncSmartInventory(lab.seam, owner=OWNER)
    await inventory.register_contact(_BOB, "BESTIE")
    # From here on, the server knows the script.
    assert await inventory.select_coin(_BOB, "GOLD") is None
    for key_id in key_ids:
        await inventory.store_key(_BOB, key_id, "SILVER", *_HALVES)
    return inventory
