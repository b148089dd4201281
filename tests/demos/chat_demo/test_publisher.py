"""Keeps the server supplied."""

from typing import Any

import pytest

from aqm_db import AsyncClientDatabase
from aqm_db.chat_demo.link import Link
from aqm_db.chat_demo.person import Person
from aqm_db.chat_demo.publisher import Publisher
from tests.support.chat_people import (
    Recorder,
)

pytestmark = pytest.mark.asyncio


async def test_what_a_kill_left_unpublished(
    bob: Person, bobs: AsyncClientDatabase, bobs_link: Link
) -> None:
    """Is published at the next start, each coin once."""

    class Dying(Recorder):
        async def count(self) -> dict[str, int]:
            return await bobs_link.count()

        async def publish(self, halves: Any) -> int:
            await bobs_link.publish(halves)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Publisher(bob, bobs.vault, Dying().as_link()).restock()
    claimed = await bobs_link.claim("bob", "GOLD", 100)
    await Publisher(bob, bobs.vault, bobs_link).restock()
    assert len(claimed) == 10
    others = await bobs_link.claim("bob", "GOLD", 100)
    assert len({coin.key_id for coin in (*claimed, *others)}) == 20
    assert len(await bobs_link.claim("bob", "SILVER", 100)) == 20
    assert (await bobs.vault.get_stats()).active_gold == 20
