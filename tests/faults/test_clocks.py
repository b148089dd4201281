"""Two clients whose clocks differ: nothing is handed out twice, and nothing goes but what is stale.

A coin is stale when its time, by the clock of whoever stored it, has passed by the clock of whoever
selects it; that is all that clocks decide.
"""

from itertools import count

import pytest
from redis.asyncio import Redis

from aqm_db.errors import KeyAlreadyUsedError
from aqm_db.types import VaultStats
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import kept, queued
from tests.faults.support.public_calls import Objects, objects_over
from tests.faults.support.tried_calls import BLOB, HALVES
from tests.support.samples import BOB, DAY_MS, Clock

pytestmark = pytest.mark.asyncio

HOUR_MS = 3_600_000
TTL_MS = 30 * DAY_MS


@pytest.fixture(params=[-31 * DAY_MS, -HOUR_MS, HOUR_MS, 31 * DAY_MS], ids=str)
def ahead(request: pytest.FixtureRequest) -> int:
    """By how many ms the second client's clock is ahead of the first one's."""
    return int(request.param)


@pytest.fixture
def pair(direct: Redis, ahead: int) -> tuple[Objects, Objects]:
    """Both clients, on one database."""
    clock, other = Clock(), Clock()
    other.advance(ms=ahead)
    return objects_over(direct, clock=clock), objects_over(direct, clock=other, name="other")


def time_of(objects: Objects) -> int:
    """What a client takes the time to be."""
    clock = objects.inventory.clock
    assert clock is not None
    return clock()


@pytest.mark.parametrize("selecting", [0, 1])
async def test_coins_come_in_the_order_in_which_they_were_stored(
    direct: Redis, pair: tuple[Objects, Objects], selecting: int, tally: Tally
) -> None:
    """Whoever stored them, in turn, and whoever selects: in order, less those that are stale."""
    await pair[0].inventory.register_contact(BOB, "BESTIE")
    stored = [(f"{number}", pair[number % 2]) for number in range(5)]
    for key_id, objects in stored:
        await objects.inventory.store_key(BOB, key_id, "BRONZE", *HALVES)
    now = time_of(pair[selecting])
    usable = [key_id for key_id, objects in stored if time_of(objects) + TTL_MS > now]
    delivered = []
    while (entry := await pair[selecting].inventory.select_coin(BOB, "BRONZE")) is not None:
        delivered.append(entry.key_id)
    assert delivered == usable
    assert await queued(direct) == []
    tally.add("clocks that differ", runs=len(stored))


async def test_both_select(direct: Redis, pair: tuple[Objects, Objects], tally: Tally) -> None:
    """Taking turns, they get each coin at most once, and lose none that is good for both."""
    numbers = count()
    good: set[str] = set()
    delivered: list[str] = []
    await pair[0].inventory.register_contact(BOB, "BESTIE")
    for turn in range(20):
        storing, selecting = pair[turn // 2 % 2], pair[turn % 2]
        key_id = f"{next(numbers)}"
        await storing.inventory.store_key(BOB, key_id, "BRONZE", *HALVES)
        if time_of(storing) + TTL_MS > max(map(time_of, pair)):
            good.add(key_id)
        entry = await selecting.inventory.select_coin(BOB, "BRONZE")
        if entry is not None:
            delivered.append(entry.key_id)
    assert len(delivered) == len(set(delivered))
    assert good <= set(delivered) | set(await queued(direct))
    tally.add("clocks that differ", runs=20)


@pytest.mark.parametrize("first", [0, 1])
async def test_a_used_coin_is_remembered_by_the_clock_of_its_use(
    pair: tuple[Objects, Objects], first: int, tally: Tally
) -> None:
    """It can't be stored again until 30 days after its use, by the clock of whoever stores."""
    using, storing = pair[first], pair[1 - first]
    await using.inventory.register_contact(BOB, "BESTIE")
    await using.inventory.store_key(BOB, "b1", "BRONZE", *HALVES)
    assert await using.inventory.select_coin(BOB, "BRONZE") is not None
    if time_of(using) > time_of(storing) - TTL_MS:
        with pytest.raises(KeyAlreadyUsedError):
            await storing.inventory.store_key(BOB, "b1", "BRONZE", *HALVES)
    else:
        assert await storing.inventory.store_key(BOB, "b1", "BRONZE", *HALVES)
    tally.add("clocks that differ")


@pytest.mark.parametrize("first", [0, 1])
async def test_a_coin_is_released_by_another_clock(
    direct: Redis, pair: tuple[Objects, Objects], first: int, tally: Tally
) -> None:
    """It goes back to the head of its queue once, unless it is stale for whoever releases it."""
    selecting, releasing = pair[first], pair[1 - first]
    await selecting.inventory.register_contact(BOB, "BESTIE")
    for key_id in ("b1", "b2"):
        await selecting.inventory.store_key(BOB, key_id, "BRONZE", *HALVES)
    entry = await selecting.inventory.select_coin(BOB, "BRONZE")
    assert entry is not None
    good = entry.fetched_at + TTL_MS > time_of(releasing)
    assert await releasing.inventory.release_coin(entry) is good
    assert await releasing.inventory.release_coin(entry) is False
    assert await queued(direct) == (["b1", "b2"] if good else ["b2"])
    if good:
        again = await releasing.inventory.select_coin(BOB, "BRONZE")
        assert again is not None
        assert again.key_id == "b1"
        # The first receipt is worth nothing now, whatever time the second one has.
        assert await selecting.inventory.release_coin(entry) is False
    tally.add("clocks that differ")


async def test_counters_equal_a_recount(
    direct: Redis, pair: tuple[Objects, Objects], tally: Tally
) -> None:
    """Keys that the server expires leave the counters, whichever clock they were stored by."""
    for number in range(12):
        await pair[number % 2].vault.store_key(f"k{number}", "SILVER", BLOB, b"nonce", b"tag")
    await pair[0].vault.burn_key("k3")
    await pair[1].vault.burn_key("k4")
    for number in range(12):
        # As the server does: it counts by its own clock, from when each was stored.
        await direct.delete(f"vault:v1:key:k{number}")
        await kept(direct)
        tally.add("clocks that differ")
    assert await pair[0].vault.get_stats() == VaultStats(0, 0, 0, 2, 10)


async def test_keys_that_are_gone_early_leave_the_counters(
    direct: Redis, tally: Tally, caplog: pytest.LogCaptureFixture
) -> None:
    """They do where keys of an earlier end live on; somebody deleted them, or a clock was ahead."""
    vault = objects_over(direct).vault
    for number in range(5):
        await vault.store_key(f"k{number}", "GOLD", BLOB, b"nonce", b"tag")
    await direct.delete("vault:v1:key:k1", "vault:v1:key:k3", "vault:v1:key:k4")
    assert await vault.get_stats() == VaultStats(2, 0, 0, 0, 3)
    assert sorted(await kept(direct)) == ["k0", "k2"]
    assert [record.msg for record in caplog.records] == ["keys_lost"]
    assert caplog.records[0].__dict__["count"] == 3
    tally.add("keys gone early")


async def test_collecting_and_purging_by_another_clock(
    direct: Redis, pair: tuple[Objects, Objects], ahead: int, tally: Tally
) -> None:
    """Nothing goes that isn't 30 days old by the clock of whoever collects."""
    own, other = pair
    await own.inventory.register_contact(BOB, "BESTIE")
    await own.inventory.store_key(BOB, "b1", "BRONZE", *HALVES)
    await own.vault.store_key("k1", "GOLD", BLOB, b"nonce", b"tag")
    old = ahead > TTL_MS
    assert (await other.gc.garbage_collect()).keys_deleted == old
    assert await other.vault.purge_expired() == old
    assert await queued(direct) == ([] if old else ["b1"])
    assert await kept(direct) == ([] if old else ["k1"])
    tally.add("clocks that differ")
