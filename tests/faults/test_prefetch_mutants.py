"""Each protection of coins at hand is needed.

As in test_mutants, every docstring says which protection is taken out, and which test then fails.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory, prefetcher
from aqm_db._operations.taking import Selection
from aqm_db.prefetcher import AsyncPrefetcher
from aqm_db.types import InventoryEntry
from tests.care import test_prefetcher as of_prefetchers
from tests.faults.support.mutants import is_noticed_as
from tests.support.backends import VALKEY_9, RunningServer, Servers
from tests.support.samples import BOB, Clock, always, stock

pytestmark = pytest.mark.asyncio

NOTICED = (AssertionError, pytest.fail.Exception)
"""How a test fails that notices a mutant."""
valkey = of_prefetchers.valkey
inventory = of_prefetchers.inventory
other = of_prefetchers.other


@pytest.fixture
def server(servers: Servers) -> RunningServer:
    """One is enough."""
    return servers[VALKEY_9]


async def is_noticed(
    mutant: pytest.MonkeyPatch,
    client: Redis,
    test: Callable[[], Awaitable[None]],
    inventory: AsyncSmartInventory | None = None,
) -> None:
    """Makes sure that a test fails with a mutant, and passes without it.

    Args:
        mutant: what takes the protection out.
        client: of the database, which is empty each time.
        test: the test.
        inventory: in which a contact has coins, if the test doesn't store them.
    """

    async def run() -> None:
        await client.flushdb()
        if inventory is not None:
            await inventory.register_contact(BOB, "BESTIE")
            await stock(inventory, BOB, "GOLD", *of_prefetchers.GOLD)
        await test()

    await is_noticed_as(NOTICED, mutant, run)


async def test_nothing_goes_back(
    inventory_client: Redis,
    inventory: AsyncSmartInventory,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the end of the block does: test_a_coin_held_for_hours_goes_back."""

    async def end(*_: object) -> None:
        pass

    monkeypatch.setattr(AsyncPrefetcher, "_end", end)
    await is_noticed(
        monkeypatch,
        inventory_client,
        lambda: of_prefetchers.test_a_coin_held_for_hours_goes_back(
            inventory, inventory_client, clock, BOB
        ),
        inventory,
    )


async def test_a_child_that_keeps_what_its_parent_has(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process forgets that was forked: test_a_process_that_was_forked."""
    monkeypatch.setattr(AsyncPrefetcher, "_leave", always(None))
    await is_noticed(
        monkeypatch, valkey, lambda: of_prefetchers.test_a_process_that_was_forked(valkey)
    )


async def test_a_newer_coin_goes_out_first(valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exchange for an older one: test_a_refill_that_is_slower_than_a_miss."""

    def keep(_: object, entry: InventoryEntry, began: int) -> InventoryEntry:
        return entry

    monkeypatch.setattr(AsyncPrefetcher, "_exchange", keep)
    await is_noticed(
        monkeypatch, valkey, lambda: of_prefetchers.test_a_refill_that_is_slower_than_a_miss(valkey)
    )


async def test_a_refill_that_takes_what_there_is(
    inventory_client: Redis, inventory: AsyncSmartInventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Selections of one tier alone: test_a_refill_takes_no_lower_tier."""

    def select(contact_id: str, tier: str, **_: Any) -> Selection:
        return Selection(contact_id, tier)

    monkeypatch.setattr(prefetcher, "Selection", select)
    seam = inventory.scope.seam

    async def test() -> None:
        inventory.scope = inventory.scope.replace_seam(seam)
        await of_prefetchers.test_a_refill_takes_no_lower_tier(inventory, inventory_client, BOB)

    await is_noticed(monkeypatch, inventory_client, test, inventory)


async def test_a_priority_that_nobody_looks_at(
    inventory_client: Redis,
    inventory: AsyncSmartInventory,
    other: AsyncSmartInventory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The look at priorities: test_contacts_who_change_elsewhere."""

    def keep(_: AsyncPrefetcher, contact_id: str, priority: object) -> None:
        # The test waits for what then never comes.
        assert (contact_id, priority) == (BOB, b"BESTIE")

    monkeypatch.setattr(AsyncPrefetcher, "_note_priority", keep)
    await is_noticed(
        monkeypatch,
        inventory_client,
        lambda: of_prefetchers.test_contacts_who_change_elsewhere(
            inventory, inventory_client, other, BOB, "priority"
        ),
        inventory,
    )


async def test_coins_that_are_never_stale(
    inventory_client: Redis,
    inventory: AsyncSmartInventory,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The end of a coin's time at hand: test_a_stale_coin_is_not_handed_out."""
    began = clock.now
    monkeypatch.setattr(prefetcher, "find_end", always(math.inf))

    async def test() -> None:
        clock.now = began
        caplog.clear()
        await of_prefetchers.test_a_stale_coin_is_not_handed_out(inventory, clock, BOB, caplog)

    await is_noticed(monkeypatch, inventory_client, test, inventory)
