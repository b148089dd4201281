"""Queues that are full, and what in them keeps no good coin out, looked for in portions."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory, config
from aqm_db.errors import BudgetExceededError, InvalidIdentifierError
from aqm_db.types import NewCoin
from tests.conftest import INVENTORY_DB
from tests.support.backends import REDIS_6, VALKEY_9, Backend, RunningServer, Servers
from tests.support.faces import ASYNC, Face
from tests.support.samples import BOB, Clock

pytestmark = pytest.mark.asyncio

CAP = 250
"""More than a script looks at."""
QUEUE = f"inv:v1:idx:{BOB}:BRONZE"
META = f"inv:v1:meta:{BOB}"
Make = Callable[[int], AsyncSmartInventory]


@pytest.fixture
def with_cap(
    face: Face, server: RunningServer, inventory_client: Redis, clock: Clock
) -> Iterator[Make]:
    """Makes an inventory of another cap."""
    with server.sync_client(INVENTORY_DB) as sync_client:
        client: Any = inventory_client if face is ASYNC else sync_client

        def make(cap: int) -> AsyncSmartInventory:
            return face.inventory(client, budget_caps=caps_of(cap), clock=clock)

        yield make


def caps_of(cap: int) -> Mapping[str, Mapping[str, int]]:
    """The same cap for all."""
    tiers: dict[str, int] = dict.fromkeys(config.BUDGET_CAPS["BESTIE"], cap)
    return dict.fromkeys(config.BUDGET_CAPS, tiers)


def coin(key_id: str, expires_at: int | None = None) -> NewCoin:
    """A coin of Bob's."""
    return NewCoin(BOB, key_id, "BRONZE", b"p", b"s", expires_at)


async def fill(inventory: AsyncSmartInventory, cap: int, ends: dict[int, int]) -> None:
    """Stores as many coins as there is room for; some have an end."""
    await inventory.register_contact(BOB, "BESTIE")
    coins = [coin(f"k{number}", ends.get(number)) for number in range(cap)]
    assert await inventory.store_keys(coins) == [True] * cap


async def store(inventory: AsyncSmartInventory, key_id: str, end: int | None = None) -> bool:
    """Whether one more coin finds room."""
    try:
        return await inventory.store_key(BOB, key_id, "BRONZE", b"p", b"s", expires_at=end)
    except BudgetExceededError:
        return False


@pytest.mark.parametrize("place", [0, 99, 100, 249])
async def test_a_stale_coin_makes_room_wherever_it_is(
    with_cap: Make, clock: Clock, place: int
) -> None:
    """From its end on, and not before, though the queue was looked through before that."""
    inventory = with_cap(CAP)
    await fill(inventory, CAP, {place: clock.now + 1000})
    assert not await store(inventory, "early")
    clock.advance(ms=999)
    assert not await store(inventory, "early")
    clock.advance(ms=1)
    assert await store(inventory, "late")
    assert not await store(inventory, "later")


@pytest.mark.parametrize("place", [0, 99, 100, 249])
async def test_a_stale_coin_makes_room_within_the_budget(
    with_cap: Make, clock: Clock, inventory_client: Redis, place: int
) -> None:
    """From its end on, and not before; so does one whose row is gone, and one that is corrupt."""
    inventory = with_cap(CAP)
    await fill(inventory, CAP, {place: clock.now + 1000})

    async def store_within(key_id: str) -> bool:
        [outcome] = await inventory.store_keys([coin(key_id)], enforce_budget=True)
        assert outcome is True or isinstance(outcome, BudgetExceededError)
        return outcome is True

    clock.advance(ms=999)
    assert not await store_within("early")
    clock.advance(ms=1)
    assert await store_within("late")
    assert not await store_within("later")
    # What was good when it was looked at is looked at again once one of them is stale.
    broken, gone = (f"inv:v1:key:{BOB}:k{number}" for number in (5, 7))
    await inventory_client.hdel(broken, "signature")
    await inventory_client.delete(gone)
    await inventory_client.hdel(META, "looked_BRONZE")
    assert await store_within("a")
    assert await store_within("b")
    assert not await store_within("c")
    assert await inventory_client.zcard(QUEUE) == CAP
    assert await inventory_client.exists(broken)
    assert await inventory_client.zrange("inv:v1:aside", 0, -1) == [f"{BOB}:k5".encode()]


@pytest.mark.parametrize("place", [0, 100, 249])
async def test_a_batch_looks_through_all_of_a_queue(
    with_cap: Make, inventory_client: Redis, place: int
) -> None:
    """One coin has the room of the one whose row is gone, and each has an outcome of its own."""
    inventory = with_cap(CAP)
    await fill(inventory, CAP, {})
    await inventory_client.delete(f"inv:v1:key:{BOB}:k{place}")
    outcomes = await inventory.store_keys([coin("a"), coin(""), coin("b")])
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds[1] is InvalidIdentifierError
    assert {kinds[0], kinds[2]} == {bool, BudgetExceededError}
    assert await inventory_client.zcard(QUEUE) == CAP


async def test_a_coin_that_is_back_is_looked_at_when_it_ends(
    with_cap: Make, clock: Clock, inventory_client: Redis
) -> None:
    """Though its place is one that was looked through before it came back."""
    inventory = with_cap(2)
    await fill(inventory, 2, {0: clock.now + 1000})
    entry = await inventory.select_coin(BOB, "BRONZE")
    assert entry is not None
    assert await store(inventory, "k2")
    assert not await store(inventory, "k3")
    assert await inventory.release_coin(entry)
    assert await inventory.consume_key(BOB, "k2")
    assert not await store(inventory, "k3")
    clock.advance(ms=1000)
    assert await store(inventory, "k3")
    assert not await inventory_client.exists(f"inv:v1:key:{BOB}:k0")


@pytest.mark.parametrize("noted", ["", "x", "1", "99999999999999 x", "9" * 16 + " 1", "1 1 1"])
async def test_a_malformed_note_of_a_look_is_none(
    with_cap: Make, inventory_client: Redis, noted: str
) -> None:
    """The queue is looked through once more."""
    inventory = with_cap(2)
    await fill(inventory, 2, {})
    assert not await store(inventory, "k2")
    await inventory_client.delete(f"inv:v1:key:{BOB}:k1")
    assert not await store(inventory, "k2")
    await inventory_client.hset(META, "looked_BRONZE", noted)
    assert await store(inventory, "k2")


async def test_places_without_an_end_are_looked_at(with_cap: Make, inventory_client: Redis) -> None:
    """Scores that somebody wrote by hand keep nothing out, and no call from its end."""
    inventory = with_cap(CAP)
    await inventory.register_contact(BOB, "BESTIE")
    await inventory_client.zadd(QUEUE, {f"low{number}": "-inf" for number in range(CAP // 2)})
    await inventory_client.zadd(QUEUE, {f"high{number}": "inf" for number in range(CAP // 2)})
    for number in range(3):
        assert await store(inventory, f"k{number}")


@pytest.mark.parametrize("kind", [VALKEY_9, REDIS_6], ids=lambda kind: kind.name)
@pytest.mark.parametrize("how", ["alone", "in a batch"])
async def test_a_queue_is_looked_through_once(servers: Servers, kind: Backend, how: str) -> None:
    """In portions of a hundred entries; who is refused after that costs no look at any."""
    client = servers[kind].client(INVENTORY_DB)
    await client.flushdb()
    inventory = AsyncSmartInventory(client, budget_caps=caps_of(CAP))
    await fill(inventory, CAP, {})

    async def count_commands(key_id: str) -> tuple[int, int]:
        await client.config_resetstat()
        if how == "alone":
            assert not await store(inventory, key_id)
        else:
            [outcome] = await inventory.store_keys([coin(key_id)])
            assert isinstance(outcome, BudgetExceededError)
        stats: Any = await client.info("commandstats")
        reads = stats["cmdstat_hmget"]["calls"]
        return stats["cmdstat_evalsha"]["calls"], reads

    scripts, reads = await count_commands("first")
    assert scripts == 3
    assert CAP <= reads <= CAP + 3 * scripts
    for _ in range(3):
        scripts, reads = await count_commands("again")
        assert scripts == 1
        assert reads <= 3
    # What is stored behind that is all that is looked at.
    assert await inventory.select_coin(BOB, "BRONZE") is not None
    assert await store(inventory, "k")
    scripts, reads = await count_commands("again")
    assert scripts == 1
    assert reads <= 4
    await client.flushdb()
    await client.aclose()
