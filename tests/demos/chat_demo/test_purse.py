"""Gives a coin out, wherever it has to come from."""

import asyncio
import dataclasses
from typing import Any

import pytest

from aqm_db import AsyncClientDatabase
from aqm_db.chat_demo.link import Link
from aqm_db.chat_demo.person import Person
from aqm_db.chat_demo.publisher import mint_coin
from aqm_db.chat_demo.purse import Purse
from aqm_db.errors import InvalidCoinError
from aqm_db.types import CoinCategory
from tests.support.chat_people import half_of
from tests.support.samples import reservations_of

pytestmark = pytest.mark.asyncio


async def test_lower_tiers_when_the_best_is_used_up(
    alice: Person, bob: Person, alices: AsyncClientDatabase, bobs_link: Link
) -> None:
    """And fetches nothing before all are."""
    tiers: list[CoinCategory] = ["GOLD", "SILVER", "BRONZE"]
    await bobs_link.publish([half_of(mint_coin(bob, tier)) for tier in tiers])
    purse = Purse(alice, alices.inventory, bobs_link)
    assert [(await purse.take()).coin_category for _ in range(3)] == tiers


async def test_waits_until_coins_are_published(
    alice: Person,
    bob: Person,
    alices: AsyncClientDatabase,
    bobs_link: Link,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A coin that was published before it's waited for isn't missed."""
    asked = asyncio.Event()
    claim = bobs_link.claim

    async def claim_audibly(*arguments: Any) -> Any:
        claimed = await claim(*arguments)
        asked.set()
        return claimed

    monkeypatch.setattr(bobs_link, "claim", claim_audibly)
    purse = Purse(alice, alices.inventory, bobs_link)
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(purse.take())
        await asked.wait()
        await bobs_link.publish([half_of(mint_coin(bob, "BRONZE"))])
        purse.note_coins()
    assert taking.result().coin_category == "BRONZE"


async def test_slots_that_a_killed_process_had_reserved(
    alice: Person, bob: Person, alices: AsyncClientDatabase, bobs_link: Link
) -> None:
    """No message waits until they are free: it gets a coin past them."""
    await reservations_of(alices.inventory).reserve({"bob": {"GOLD": 5, "SILVER": 4, "BRONZE": 1}})
    await bobs_link.publish([half_of(mint_coin(bob, "SILVER")) for _ in range(2)])
    purse = Purse(alice, alices.inventory, bobs_link)
    assert (await purse.take()).coin_category == "SILVER"
    assert len(await bobs_link.claim("bob", "SILVER", 5)) == 1


async def test_a_forged_coin_is_never_given_out(
    alice: Person,
    bob: Person,
    alices: AsyncClientDatabase,
    bobs_link: Link,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that hands out its own gets no message to read."""
    claim = bobs_link.claim

    async def claim_forged(*arguments: Any) -> Any:
        return [dataclasses.replace(coin, public_key=bytes(32)) for coin in await claim(*arguments)]

    await bobs_link.publish([half_of(mint_coin(bob, "BRONZE")) for _ in range(2)])
    monkeypatch.setattr(bobs_link, "claim", claim_forged)
    with pytest.raises(InvalidCoinError):
        await Purse(alice, alices.inventory, bobs_link).take()
    assert not await alices.inventory.has_keys_for("bob")
