"""The server's clock is set ahead and back: nothing is executed twice, and nothing is erased.

The server is a real one, in a process whose clock a test sets.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase, AsyncSecureVault, AsyncSmartInventory
from aqm_db.errors import KeyAlreadyUsedError, UnavailableError
from aqm_db.replenisher import AsyncReplenisher
from aqm_db.types import NewCoin, VaultStats
from tests.conftest import INVENTORY_DB
from tests.faults.support.fault_table import Tally
from tests.faults.support.furnished_database import library_client
from tests.faults.support.tried_calls import CAPS, HALVES, OPERATIONS, Operation
from tests.support.backends import REDIS_8, VALKEY_9, Backend
from tests.support.coin_server import CoinServer
from tests.support.faces import FACES, Face
from tests.support.peers import Cutter, listening
from tests.support.samples import BOB, reservations_of, sample_key
from tests.support.stepped_clocks import DAY_SECONDS, SteppedServer

pytestmark = pytest.mark.asyncio

HOUR_SECONDS = 3600
REMEMBERED = {"vault.store_key", "inventory.register_contact", "inventory.store_key"}
CHANGING = [each for each in OPERATIONS if each.name != "vault.fetch_key"]


@pytest.fixture(params=[VALKEY_9, REDIS_8], ids=lambda backend: backend.name)
def kind(request: pytest.FixtureRequest) -> Backend:
    """Which server."""
    backend: Backend = request.param
    return backend


@pytest.fixture
def server(kind: Backend) -> Iterator[SteppedServer]:
    """One whose clock can be set."""
    with SteppedServer(kind) as running:
        yield running


@pytest_asyncio.fixture
async def direct(server: SteppedServer) -> AsyncGenerator[Redis]:
    """A client of it, on a link that is whole."""
    async with server.client(INVENTORY_DB) as client:
        yield client


@pytest_asyncio.fixture
async def db(direct: Redis) -> AsyncClientDatabase:
    """A vault and an inventory in it, by its clock."""
    return AsyncClientDatabase(direct, direct, budget_caps=CAPS)


# Requests ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("backoffs")
@pytest.mark.parametrize("face", FACES, ids=str)
@pytest.mark.parametrize("operation", CHANGING, ids=str)
async def test_a_repeat_that_outlives_its_trace(
    server: SteppedServer,
    direct: Redis,
    tmp_path: Path,
    operation: Operation,
    face: Face,
    tally: Tally,
) -> None:
    """A reply is lost, and the server forgets the request before it's asked again.

    A row remembers the request that made it, so that one is told what it did. Of every other one
    nobody knows, and nothing is done.
    """
    subject = await operation.prepare(
        AsyncSecureVault(direct), AsyncSmartInventory(direct, budget_caps=CAPS)
    )
    executed: list[Any] = []
    cutter = Cutter(server.socket_path)

    def forget() -> None:
        # As if half an hour had passed before the repetition.
        server.step(HOUR_SECONDS / 2)
        with server.sync_client(INVENTORY_DB) as client:
            executed.append({key: client.dump(key) for key in client.scan_iter()})

    async with bad_link(face, cutter, tmp_path / "c") as (vault, inventory):
        await inventory.get_contact_meta(BOB)
        await inventory.set_contact_priority(BOB, "BESTIE")
        cutter.losing, cutter.meanwhile = 1, forget
        if operation.name in REMEMBERED:
            assert await operation.call(vault, inventory, subject) is True
        else:
            with pytest.raises(UnavailableError) as caught:
                await operation.call(vault, inventory, subject)
            assert caught.value.outcome_unknown
    state = {key: await direct.dump(key) async for key in direct.scan_iter()}
    twice = state != executed[0]
    tally.add("the server forgets a request", duplicated=int(twice), case=operation)


@pytest.mark.parametrize("face", FACES, ids=str)
@pytest.mark.parametrize("seconds", [-DAY_SECONDS, -40, 40, 31 * DAY_SECONDS])
async def test_a_clock_that_steps_between_two_calls(
    server: SteppedServer, direct: Redis, face: Face, seconds: float, tally: Tally
) -> None:
    """The next call is begun anew, once the server has said what time it is; it's executed once."""
    inventory = AsyncSmartInventory(direct, budget_caps=CAPS)
    await inventory.register_contact(BOB, "BESTIE")
    far = 2_000_000_000_000
    for key_id in ("b1", "b2", "b3"):
        await inventory.store_key(BOB, key_id, "BRONZE", *HALVES, expires_at=far)
    async with bad_link(face, server.socket_path, None) as (_, stepping):
        first = await stepping.select_coin(BOB, "BRONZE")
        server.step(seconds)
        second = await stepping.select_coin(BOB, "BRONZE")
        many = await stepping.select_coins([BOB], "BRONZE")
    delivered = [getattr(each, "key_id", each) for each in (first, second, many[BOB])]
    tally.add(
        "the server's clock steps",
        lost=int(delivered != ["b1", "b2", "b3"]),
        duplicated=3 - len(set(delivered)),
        case=(seconds, delivered),
    )


# What is kept ------------------------------------------------------------------------------


async def test_nothing_is_erased_while_the_clock_is_ahead(
    server: SteppedServer, db: AsyncClientDatabase, tally: Tally
) -> None:
    """Coins, used ids and contacts stay when it's 31 days ahead, whoever erases; it comes back."""
    await db.inventory.register_contact(BOB, "BESTIE")
    for number in range(5):
        await db.inventory.store_key(BOB, f"b{number}", "BRONZE", *HALVES)
    used = await db.inventory.select_coin(BOB, "BRONZE")
    assert used is not None
    server.step(31 * DAY_SECONDS)
    assert (await db.gc.garbage_collect()).keys_deleted == 0
    assert await db.inventory.select_coin(BOB, "BRONZE") is None
    outcomes = await db.inventory.store_keys([NewCoin(BOB, used.key_id, "BRONZE", *HALVES)])
    assert outcomes != [True]
    server.step(-31 * DAY_SECONDS)
    assert [coin.key_id for coin in await db.inventory.list_coins(BOB)] == ["b1", "b2", "b3", "b4"]
    assert (await db.inventory.get_inventory(BOB)).priority == "BESTIE"
    selected = await db.inventory.select_coin(BOB, "BRONZE")
    assert selected is not None
    tally.add("the server's clock is ahead for a while", lost=int(selected.key_id != "b1"))


async def test_a_coin_comes_back_while_the_clock_is_ahead(
    server: SteppedServer, db: AsyncClientDatabase, tally: Tally
) -> None:
    """It's released, though it's stale by that clock, and handed out once that is right again."""
    await db.inventory.register_contact(BOB, "BESTIE")
    await db.inventory.store_key(BOB, "b0", "BRONZE", *HALVES)
    used = await db.inventory.select_coin(BOB, "BRONZE")
    assert used is not None
    server.step(31 * DAY_SECONDS)
    released = await db.inventory.release_coin(used)
    assert await db.inventory.select_coin(BOB, "BRONZE") is None
    server.step(-31 * DAY_SECONDS)
    selected = await db.inventory.select_coin(BOB, "BRONZE")
    tally.add(
        "a coin is released while the server's clock is ahead",
        lost=int(not released or selected is None),
    )


async def test_what_was_used_while_the_clock_was_behind(
    server: SteppedServer, db: AsyncClientDatabase, tally: Tally
) -> None:
    """It stays used when the clock is right again, until it's released."""
    await db.inventory.register_contact(BOB, "BESTIE")
    await db.inventory.store_key(BOB, "b0", "BRONZE", *HALVES)
    server.step(-40 * DAY_SECONDS)
    used = await db.inventory.select_coin(BOB, "BRONZE")
    assert used is not None
    server.step(40 * DAY_SECONDS)
    coins = [NewCoin(BOB, key_id, "BRONZE", *HALVES) for key_id in ("b0", "b1")]
    outcome, _ = await db.inventory.store_keys(coins)
    released = await db.inventory.release_coin(used)
    tally.add(
        "a coin is used while the server's clock is behind",
        lost=int(not released),
        duplicated=int(not isinstance(outcome, KeyAlreadyUsedError)),
    )


async def test_a_contact_that_was_written_to_while_the_clock_was_behind(
    server: SteppedServer, db: AsyncClientDatabase, tally: Tally
) -> None:
    """It's active still when the clock is right again, and keeps its coins."""
    await db.inventory.register_contact(BOB, "BESTIE")
    for key_id in ("b0", "b1"):
        await db.inventory.store_key(BOB, key_id, "BRONZE", *HALVES)
    server.step(-40 * DAY_SECONDS)
    assert await db.inventory.select_coin(BOB, "BRONZE") is not None
    server.step(40 * DAY_SECONDS)
    await db.gc.garbage_collect()
    left = [coin.key_id for coin in await db.inventory.list_coins(BOB)]
    assert (await db.inventory.get_inventory(BOB)).priority == "BESTIE"
    tally.add(
        "a contact is written to while the server's clock is behind", lost=int(left != ["b1"])
    )


async def test_what_is_over_goes_once_the_clock_has_stayed(
    server: SteppedServer, db: AsyncClientDatabase
) -> None:
    """A program that comes back after a month collects an hour later."""
    await db.inventory.register_contact(BOB, "BESTIE")
    await db.inventory.store_key(BOB, "b1", "BRONZE", *HALVES)
    server.step(31 * DAY_SECONDS)
    assert (await db.gc.dry_run()).keys_deleted == 0
    assert (await db.gc.garbage_collect()).keys_deleted == 0
    deleted: list[int] = []
    for _ in range(7):
        # No longer than a clock may go on by, unseen.
        server.step(HOUR_SECONDS / 6.5)
        deleted.append((await db.gc.dry_run()).keys_deleted)
        assert (await db.gc.garbage_collect()).keys_deleted == deleted[-1]
    assert deleted == [0, 0, 0, 0, 0, 0, 1]
    assert await db.inventory.list_coins(BOB) == []


@pytest.mark.parametrize(
    ("seconds", "looks"), [(HOUR_SECONDS / 2, 2), (HOUR_SECONDS, 2), (7 * DAY_SECONDS, 3)]
)
async def test_pauses_are_not_doubted_for_ever(
    server: SteppedServer, db: AsyncClientDatabase, seconds: float, looks: int
) -> None:
    """Whoever collects only now and then does so a few times later."""
    await db.inventory.register_contact(BOB, "BESTIE")
    await db.inventory.store_key(BOB, "b1", "BRONZE", *HALVES, expires_at=await soon(server))
    deleted: list[int] = []
    for _ in range(looks + 2):
        server.step(seconds)
        deleted.append((await db.gc.garbage_collect()).keys_deleted)
    assert sum(deleted) == 1
    assert deleted.index(1) <= looks


async def test_a_clock_that_comes_back_a_little_is_doubted_still(
    server: SteppedServer, db: AsyncClientDatabase
) -> None:
    """NTP moves it a little while it's a month ahead: that confirms nothing."""
    await db.inventory.register_contact(BOB, "BESTIE")
    await db.inventory.store_key(BOB, "b1", "BRONZE", *HALVES)
    server.step(31 * DAY_SECONDS)
    for seconds in (-2, -HOUR_SECONDS, 1):
        server.step(seconds)
        assert (await db.gc.garbage_collect()).keys_deleted == 0
    assert [coin.key_id for coin in await db.inventory.list_coins(BOB)] == ["b1"]


async def soon(server: SteppedServer) -> int:
    """In ten seconds, by the server's clock (ms)."""
    async with server.client(INVENTORY_DB) as client:
        seconds, _ = await client.time()
        return int(seconds) * 1000 + 10_000


async def test_private_halves_that_the_clock_has_erased(
    server: SteppedServer, db: AsyncClientDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """The server expires them, which nobody can hold back; it's logged, and counted right."""
    for number in range(3):
        await db.vault.store_key(**sample_key(f"k{number}", "GOLD"))
    server.step(31 * DAY_SECONDS)
    assert [await db.vault.exists(f"k{number}") for number in range(3)] == [False] * 3
    server.step(-31 * DAY_SECONDS)
    await db.vault.store_key(**sample_key("k3", "GOLD"))
    with caplog.at_level(logging.WARNING):
        assert await db.vault.get_stats() == VaultStats(1, 0, 0, 0, 3)
    [record] = [record for record in caplog.records if record.msg == "keys_lost"]
    assert record.__dict__["count"] == 3


async def test_counters_when_the_clock_was_set_back(
    server: SteppedServer, db: AsyncClientDatabase, tally: Tally
) -> None:
    """Keys that were stored before it expire after those that were stored since."""
    await db.vault.store_key(**sample_key("before", "GOLD"))
    server.step(-HOUR_SECONDS)
    for number in range(9):
        await db.vault.store_key(**sample_key(f"since{number}", "GOLD"))
    server.step(30 * DAY_SECONDS + 5)
    active = await db.vault.get_all_active_ids()
    assert active == ["before"]
    counted = (await db.vault.get_stats()).active_gold
    tally.add("the server's clock is set back", wrong=int(counted != len(active)))
    assert (await db.check()).clean


@asynccontextmanager
async def bad_link(
    face: Face, peer: Cutter | Path, path: Path | None
) -> AsyncGenerator[tuple[AsyncSecureVault, AsyncSmartInventory]]:
    """A vault and an inventory over a link that may lose replies, by the server's clock."""
    if isinstance(peer, Path):
        async with library_client(face, peer) as client:
            yield face.vault(client), face.inventory(client, budget_caps=CAPS)
        return
    assert path is not None
    async with listening(peer, path), library_client(face, path) as client:
        yield face.vault(client), face.inventory(client, budget_caps=CAPS)


async def test_a_clock_that_jumped_is_told(
    server: SteppedServer, db: AsyncClientDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """Maintenance logs it, and a doctor says what follows, and that the clock isn't right."""
    assert await ask_of_clock(db) == ["The server's clock agrees with this machine's."]
    await db.inventory.register_contact(BOB, "BESTIE")
    await db.inventory.store_key(BOB, "b1", "BRONZE", *HALVES)
    server.step(31 * DAY_SECONDS)
    with caplog.at_level(logging.WARNING):
        await run_round(db)
    [record] = [record for record in caplog.records if record.msg == "clock_jumped"]
    assert record.__dict__["seconds"] == pytest.approx(31 * DAY_SECONDS, abs=60)
    assert any("gone on by 31 days" in message for message in await ask_of_clock(db))
    server.step(-31 * DAY_SECONDS - HOUR_SECONDS)
    [wrong] = await ask_of_clock(db)
    assert "behind this machine's" in wrong


async def test_what_a_clock_has_cost_is_told(
    server: SteppedServer, db: AsyncClientDatabase
) -> None:
    """A doctor says how many private halves the server expired before their time."""
    await db.vault.store_key(**sample_key("k", "GOLD"))
    server.step(31 * DAY_SECONDS)
    assert await db.vault.exists("k") is False
    server.step(-31 * DAY_SECONDS)
    assert (await db.vault.get_stats()).active_gold == 0
    [lost] = await ask_of_clock(db)
    assert lost.startswith("1 private halves were gone before their time")


async def ask_of_clock(db: AsyncClientDatabase) -> list[str]:
    """What a doctor says of clocks."""
    return [each.message for each in (await db.doctor()).findings if each.name == "clock"]


async def run_round(db: AsyncClientDatabase) -> None:
    """A round of maintenance, by whoever's turn it is."""
    done = asyncio.Event()

    async def sleep(_: float) -> None:
        done.set()
        await asyncio.Event().wait()

    async with db.maintenance(sleep=sleep):
        await done.wait()


async def test_reserved_slots_outlast_a_clock_that_is_confirmed(
    server: SteppedServer, db: AsyncClientDatabase
) -> None:
    """A laptop slept overnight; an hour later its clock is confirmed, and no slot is another's."""
    await db.inventory.register_contact(BOB, "BESTIE")
    server.step(8 * HOUR_SECONDS)
    for minutes in (0, 10, 10, 10, 10, 10, 9):
        server.step(60 * minutes - 1)
        reserved = await reservations_of(db.inventory).reserve({BOB: {"BRONZE": 5}})
        await reservations_of(db.inventory).end(reserved.values())
    first = await reservations_of(db.inventory).reserve({BOB: {"BRONZE": 5}})
    server.step(75)
    second = await reservations_of(db.inventory).reserve({BOB: {"BRONZE": 5}})
    server.step(60)
    third = await reservations_of(db.inventory).reserve({BOB: {"BRONZE": 5}})
    slots = [getattr(each[BOB, "BRONZE"], "slots", each) for each in (first, second, third)]
    assert slots == [5, 0, 5]


@pytest.mark.parametrize("days", [-40, 40])
async def test_reserved_slots_are_free_again_whatever_the_clock_did(
    server: SteppedServer, db: AsyncClientDatabase, days: int
) -> None:
    """A program is killed while the clock is wrong, and it's set right then."""
    await db.inventory.register_contact(BOB, "BESTIE")
    server.step(days * DAY_SECONDS)
    await reservations_of(db.inventory).reserve({BOB: {"BRONZE": 5}})
    server.step(-days * DAY_SECONDS)
    slots: list[object] = []
    for _ in range(2):
        again = await reservations_of(db.inventory).reserve({BOB: {"BRONZE": 5}})
        slots.append(getattr(again[BOB, "BRONZE"], "slots", again))
        server.step(121)
    # Set back, it can't have been so late; set ahead, it may have jumped, and two minutes count.
    assert slots == ([0, 5] if days < 0 else [5, 5])


@pytest.mark.parametrize("is_confirmed", [False, True], ids=["jumped", "confirmed"])
async def test_stale_coins_are_replaced_once_the_clock_is_confirmed(
    server: SteppedServer,
    db: AsyncClientDatabase,
    is_confirmed: bool,  # noqa: FBT001
) -> None:
    """A clock that is a month ahead may be wrong: until that is known, all coins stay, and fit."""
    await db.inventory.register_contact(BOB, "MATE")
    replenisher = AsyncReplenisher(db.inventory, CoinServer().fetch)
    count = (await replenisher.replenish()).stored
    before = [coin.key_id for coin in await db.inventory.list_coins(BOB)]
    assert len(before) == count > 0
    server.step(31 * DAY_SECONDS)
    for _ in range(6):
        assert (await replenisher.replenish()).stored == 0
        server.step(9 * 60)
    assert [coin.key_id for coin in await db.inventory.list_coins(BOB)] == before
    if is_confirmed:
        server.step(9 * 60)
        assert (await replenisher.replenish()).stored == count
        after = {coin.key_id for coin in await db.inventory.list_coins(BOB)}
        assert len(after) == count
        assert not after & set(before)
    else:
        server.step(-31 * DAY_SECONDS)
        assert (await replenisher.replenish()).results == ()
        assert await db.inventory.select_coin(BOB, "SILVER") is not None


async def test_a_coin_that_was_used_by_a_clock_behind(
    server: SteppedServer, db: AsyncClientDatabase
) -> None:
    """A machine without a battery boots in an earlier year: what is used then stays used."""
    await db.inventory.register_contact(BOB, "BESTIE")
    await db.inventory.store_key(BOB, "b1", "BRONZE", *HALVES)
    server.step(-40 * DAY_SECONDS)
    assert await db.inventory.select_coin(BOB, "BRONZE") is not None
    server.step(40 * DAY_SECONDS)
    with pytest.raises(KeyAlreadyUsedError):
        await db.inventory.store_key(BOB, "b1", "BRONZE", *HALVES)
