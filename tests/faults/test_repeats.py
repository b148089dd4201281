"""Running a call twice is running it once."""

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSecureVault, AsyncSmartInventory
from aqm_db.errors import KeyAlreadyBurnedError
from tests.faults.support.fault_table import Tally
from tests.faults.support.tried_calls import OPERATIONS, Operation, pair_over
from tests.support.samples import BOB, Clock, sample_key, snapshot, stock

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
async def test_a_request_that_is_sent_again(
    direct: Redis, operation: Operation, tally: Tally
) -> None:
    """The same request gets the same answer, and leaves the same state, each time it's sent."""
    subject = await operation.prepare(*pair_over(direct))
    before = await snapshot(direct)
    answer = await operation.call(*pair_over(direct, "again"), subject)
    after = await snapshot(direct)
    assert (after == before) is (operation.name == "vault.fetch_key")
    for _ in range(10):
        again = await operation.call(*pair_over(direct, "again"), subject)
        state = await snapshot(direct)
        tally.add("request sent again", duplicated=int(again != answer or state != after))


async def test_two_requests_are_two(direct: Redis) -> None:
    """The answer of one request isn't given to another."""
    ids = iter(["a", "b", "c", "d", "e", "f"])
    vault = AsyncSecureVault(direct, request_ids=lambda: next(ids))
    await vault.store_key(**sample_key("k", "GOLD"))
    await vault.burn_key("k")
    with pytest.raises(KeyAlreadyBurnedError):
        await vault.burn_key("k")


async def test_a_request_that_is_asked_again_gets_the_same_coin(
    direct: Redis, clock: Clock
) -> None:
    """What a claim holds is handed out to its own request only, until the claim expires."""
    inventory = AsyncSmartInventory(direct, clock=clock, request_ids=lambda: "same")
    other = AsyncSmartInventory(direct, clock=clock)
    await other.register_contact(BOB, "BESTIE")
    await stock(other, BOB, "SILVER", "s1", "s2")
    first = await inventory.select_coin(BOB, "SILVER")
    assert first is not None
    assert await inventory.select_coin(BOB, "SILVER") == first
    assert 0 < await direct.pttl(f"inv:v1:claim:{BOB}:same") <= 30_000
    await direct.delete(f"inv:v1:claim:{BOB}:same")
    second = await inventory.select_coin(BOB, "SILVER")
    assert second is not None
    assert second.key_id == "s2"


async def test_a_request_that_is_asked_again_is_of_the_same_contact(
    direct: Redis, tally: Tally
) -> None:
    """A coin that a contact had before they were forgotten doesn't become the next one's."""
    inventory = AsyncSmartInventory(direct, request_ids=lambda: "same")
    other = AsyncSmartInventory(direct)
    await other.register_contact(BOB, "BESTIE")
    await stock(other, BOB, "SILVER", "s1", "s2")
    first = await inventory.select_coin(BOB, "SILVER")
    assert first is not None
    await other.forget_contact(BOB)
    await other.register_contact(BOB, "BESTIE")
    again = await inventory.select_coin(BOB, "SILVER")
    assert again is not None
    # Two entries are equal whatever their origin is.
    assert (again, again.origin) == (first, first.origin)
    released = await other.release_coin(again)
    tally.add("contact forgotten and registered again", duplicated=int(released))


async def test_a_request_that_is_asked_again_sets_nothing_aside(direct: Redis) -> None:
    """What the first run didn't meet stays for a request whose caller hears of it."""
    inventory = AsyncSmartInventory(direct, request_ids=lambda: "same")
    await inventory.register_contact(BOB, "BESTIE")
    await stock(AsyncSmartInventory(direct), BOB, "SILVER", "s1", "malformed")
    await direct.hdel(f"inv:v1:key:{BOB}:malformed", "signature")
    first = await inventory.select_coin(BOB, "SILVER")
    assert await inventory.select_coin(BOB, "SILVER") == first
    assert (await inventory.get_inventory(BOB)).silver_count == 1
