"""The integrity check, on every backend and face: what is seen, what is mended, what is left."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase, AsyncSecureVault, config
from aqm_db._io.redispy.async_seam import AsyncSeam
from aqm_db._io.seam import Call
from aqm_db._model.keys import encode_id
from aqm_db.errors import (
    AccessDeniedError,
    BudgetExceededError,
    InvalidArgumentError,
    KeyAlreadyBurnedError,
)
from aqm_db.integrity import AsyncIntegrityChecker, IntegrityReport, Problem
from aqm_db.types import CoinCategory, NewCoin, NewKey, VaultStats
from tests.conftest import INVENTORY_DB, VAULT_DB
from tests.support.backends import REDIS_6, VALKEY_9, Backend, RunningServer, Servers
from tests.support.faces import ASYNC, Face
from tests.support.samples import BOB, DAY_MS, Clock, halves, sample_key, snapshot
from tests.support.spoiled_databases import (
    BRONZE,
    CANARY,
    CLAIM,
    COIN,
    EXPIRY,
    FAULTS,
    GOLD,
    LATER,
    META,
    ROW,
    SILVER,
    STATS,
    USED,
    Fault,
    Place,
    Spoil,
    doubtful_orphan,
    fill,
    full,
    unregistered,
)

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def place(
    face: Face, server: RunningServer, vault_client: Redis, inventory_client: Redis, clock: Clock
) -> AsyncIterator[Place]:
    """Something of everything that a healthy database holds."""
    other = AsyncClientDatabase(vault_client, inventory_client, clock=clock)
    await fill(other, inventory_client)
    clients = (vault_client, inventory_client)
    if face is ASYNC:
        yield Place(face.database(*clients, clock=clock), other, *clients, clock)
    else:
        with server.sync_client(VAULT_DB) as vault, server.sync_client(INVENTORY_DB) as inventory:
            yield Place(face.database(vault, inventory, clock=clock), other, *clients, clock)


# A healthy database -----------------------------------------------------------------------


async def test_a_healthy_database_is_clean(place: Place) -> None:
    """Nothing is found, and a repair of nothing changes nothing."""
    before = await place.state()
    expected = IntegrityReport((), private_halves=4, public_halves=9, contacts=2)
    for repair in (False, True):
        report = await place.db.check(repair=repair)
        assert report == expected
        assert report.clean
        assert report.repaired == 0
    assert await place.state() == before


async def test_a_queue_above_its_cap_is_no_problem(place: Place) -> None:
    """A higher priority drops no coin, though its cap for the tier may be lower."""
    await place.other.inventory.register_contact("friend", "MATE")
    await place.other.inventory.store_keys(
        [NewCoin("friend", f"b{number}", "BRONZE", b"p", b"s") for number in range(4)]
    )
    await place.other.inventory.set_contact_priority("friend", "BESTIE")
    before = await place.state()
    assert (await place.db.check(repair=True)).clean
    assert await place.state() == before


async def test_an_empty_database_is_clean(vault_client: Redis, inventory_client: Redis) -> None:
    """There is nothing that could be wrong."""
    db = AsyncClientDatabase(vault_client, inventory_client)
    assert await db.check(repair=True) == IntegrityReport((), 0, 0, 0)
    assert await vault_client.dbsize() == 0


async def test_what_the_server_expired_is_no_problem(place: Place) -> None:
    """An expired row leaves the index and the counters when these are read."""
    await place.vault.delete(ROW + "gold")
    await place.vault.zincrby(EXPIRY, -31 * DAY_MS, "gold")
    assert (await place.db.check(repair=True)).clean
    assert await place.vault.zcard(EXPIRY) == 3
    assert await place.other.vault.get_stats() == VaultStats(0, 1, 1, 1, 1)
    assert await place.vault.zcard(EXPIRY) == 2


async def test_an_entry_that_disagrees_with_its_row(place: Place) -> None:
    """It's listed where the row ends by the server's clock, which decides."""
    await place.vault.zincrby(EXPIRY, 3_600_000, "gold")
    report = await place.db.check(repair=True)
    [problem] = report.problems
    assert (problem.kind, problem.repaired) == ("misplaced_entry", True)
    left = await place.vault.pttl(ROW + "gold")
    ends = await place.vault.zscore(EXPIRY, "gold")
    assert ends is not None
    assert abs(ends - await server_time(place.vault) - left) < 1000


async def server_time(client: Redis) -> int:
    """What the server's clock shows, in ms."""
    seconds, microseconds = await client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def test_all_of_many_pages_is_looked_at(vault_client: Redis, inventory_client: Redis) -> None:
    """More than a SCAN page holds, and more than a page of the recount."""
    caps = {
        priority: dict.fromkeys(config.VALID_COIN_CATEGORIES, 700)
        for priority in config.VALID_PRIORITIES
    }
    db = AsyncClientDatabase(vault_client, inventory_client, budget_caps=caps)
    tiers: tuple[CoinCategory, ...] = ("GOLD", "SILVER", "BRONZE")
    await db.vault.store_keys(
        [NewKey(f"k{number}", tiers[number % 3], b"b", b"i", b"t") for number in range(1500)]
    )
    for number in range(600):
        await db.inventory.register_contact(f"c{number}", "MATE")
    await db.inventory.store_keys(
        [NewCoin("c1", f"k{number}", "SILVER", b"p", b"s") for number in range(700)]
    )
    await vault_client.zrem(EXPIRY, *(f"k{number}" for number in range(600)))
    await inventory_client.delete("inv:v1:idx:c1:SILVER")
    report = await db.check()
    assert (report.private_halves, report.public_halves, report.contacts) == (1500, 700, 600)
    assert Counter(problem.kind for problem in report.problems) == {"orphaned_row": 600 + 700}
    assert (await db.check(repair=True)).clean
    assert await db.check() == IntegrityReport((), 1500, 700, 600)


async def test_what_is_gone_when_it_is_looked_at_is_no_problem(
    vault_client: Redis, inventory_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others burn, select, and let claims expire meanwhile."""
    gone = {
        "vault:v1:*": [ROW + "k", STATS, EXPIRY],
        "inv:v1:*": [META, COIN + "k", GOLD, USED, CLAIM, "inv:v1:maintenance"],
        # The members of the index of contacts.
        "*": [BOB],
    }

    async def scan(
        _: AsyncSeam, pattern: str, within: str | None = None
    ) -> AsyncIterator[list[bytes]]:
        yield [name.encode() for name in gone[pattern]]

    monkeypatch.setattr(AsyncSeam, "scan", scan)
    report = await AsyncClientDatabase(vault_client, inventory_client).check(repair=True)
    assert report.problems == ()
    assert await vault_client.dbsize() + await inventory_client.dbsize() == 0


# Faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_a_fault_is_seen_and_mended(place: Place, fault: Fault) -> None:
    """It is seen and nothing is changed; it is mended and nothing else is; it is seen no more."""
    await fault.spoil(place)
    spoiled = await place.state()
    seen = await place.db.check()
    assert await place.state() == spoiled
    expected = [(*problem, True) for problem in fault.mended]
    expected += [(*problem, False) for problem in fault.left]
    assert sorted((p.kind, p.key) for p in seen.problems) == sorted(e[:2] for e in expected)
    assert seen.clean is False
    assert seen.repaired == 0

    mended = await place.db.check(repair=True)
    assert sorted((p.kind, p.key, p.repaired) for p in mended.problems) == sorted(expected)
    assert sorted(map(str, seen.problems)) == sorted(
        str(replace(problem, repaired=False)) for problem in mended.problems
    )
    assert mended.repaired == len(fault.mended)
    assert mended.clean is not bool(fault.left)
    after = await place.state()
    assert {
        key.decode("utf-8", "backslashreplace")
        for key in spoiled.keys() | after.keys()
        # What comes back to its queue is counted once more.
        if spoiled.get(key) != after.get(key) and b"inv:v1:totals" not in key
    } == set(fault.changed)

    again = await place.db.check(repair=True)
    assert sorted((p.kind, p.key) for p in again.problems) == sorted(fault.left)
    assert again.repaired == 0
    assert await place.state() == after
    assert CANARY.decode() not in repr((seen, mended, again))


# What a repair does ------------------------------------------------------------------------


async def test_the_counters_are_those_of_the_rows(place: Place) -> None:
    """However the index and the counters were spoiled, both are right in the end."""
    await place.vault.zrem(EXPIRY, "silver")
    await place.vault.hset(STATS, mapping={"active_gold": 9, "active_bronze": "?"})
    await place.vault.hset(STATS, "total_expired", 3)
    report = await place.db.check(repair=True)
    assert sorted(p.detail for p in report.problems if p.kind == "wrong_counter") == [
        "active_bronze is no number, and should be 1",
        "active_gold is 9, and should be 1",
    ]
    assert await place.other.vault.get_stats() == VaultStats(1, 1, 1, 1, 3)


async def test_an_entry_that_was_put_back_knows_its_tier(place: Place) -> None:
    """What expires later is taken off the right counter."""
    await place.vault.delete(EXPIRY)
    assert (await place.db.check(repair=True)).clean
    await place.vault.delete(*(ROW + tier for tier in ("gold", "silver", "bronze")))
    assert await place.other.vault.get_stats() == VaultStats(0, 0, 0, 1, 3)


@pytest.mark.parametrize(
    ("age_days", "left_days"),
    [(10, 20), (31, 30), (-1, 30)],
    ids=["young", "overdue", "from a clock ahead"],
)
async def test_a_row_gets_the_rest_of_its_30_days(
    place: Place, age_days: int, left_days: int
) -> None:
    """None is deleted: the clock that says that it's overdue may be wrong."""
    await place.vault.persist(ROW + "gold")
    place.clock.advance(days=age_days)
    await place.db.check(repair=True)
    left = await place.vault.pttl(ROW + "gold")
    assert (left_days - 1) * DAY_MS < left <= left_days * DAY_MS
    # By the server's clock, which ends it.
    ends = await place.vault.zscore(EXPIRY, "gold")
    assert ends is not None
    assert abs(ends - await server_time(place.vault) - left) < 1000
    assert await place.other.vault.fetch_key("gold") is not None


async def test_a_tombstone_gets_a_minute(place: Place) -> None:
    """As long as burning gives it."""
    await place.vault.persist(ROW + "burned")
    await place.db.check(repair=True)
    assert 0 < await place.vault.pttl(ROW + "burned") <= 60_000
    with pytest.raises(KeyAlreadyBurnedError):
        await place.other.vault.burn_key("burned")


async def test_coins_go_back_to_their_places(place: Place) -> None:
    """Oldest first, as they were fetched."""
    await place.inventory.delete(SILVER)
    for number, key_id in enumerate(("s2", "s3", "s1")):
        await place.inventory.hset(COIN + key_id, "fetched_at", str(place.clock.now + number))
    assert (await place.db.check(repair=True)).clean
    for key_id in ("s2", "s3", "s1"):
        entry = await place.other.inventory.select_coin(BOB, "SILVER")
        assert entry is not None
        assert entry.key_id == key_id


async def test_a_stale_coin_goes_back_too(place: Place) -> None:
    """Whether it is stale is for the collector to say."""
    await place.inventory.zrem(SILVER, "s1")
    place.clock.advance(days=31)
    assert (await place.db.check(repair=True)).repaired == 1
    assert await place.inventory.zscore(SILVER, "s1") is not None
    assert await place.inventory.exists(COIN + "s1")


async def test_a_coin_that_was_used_long_ago_goes_back(place: Place) -> None:
    """What may be stored again may be queued again."""
    await place.inventory.zrem(GOLD, "back")
    assert (await place.db.check(repair=True)).repaired == 0
    place.clock.advance(days=30, ms=1)
    assert (await place.db.check(repair=True)).repaired == 1


async def test_a_used_coin_that_lives_longer_goes_back_at_its_end(place: Place) -> None:
    """It's remembered to its own end, after the time of its use is forgotten."""
    await place.inventory.zrem(GOLD, "back")
    ends = place.clock.now + 90 * DAY_MS
    await place.inventory.zadd(f"inv:v1:used_until:{BOB}", {"back": ends})
    place.clock.advance(days=90, ms=-1)
    assert (await place.db.check(repair=True)).repaired == 0
    place.clock.advance(ms=1)
    assert (await place.db.check(repair=True)).repaired == 1


@pytest.mark.parametrize(
    ("spoil", "detail"),
    [
        (full, "no queue lists it, and its queue is full"),
        (doubtful_orphan, "no queue lists it, and it was used"),
        (unregistered, "no queue lists it, and its contact is not registered, or malformed"),
    ],
)
async def test_it_says_why_a_coin_stays_where_it_is(
    place: Place, spoil: Spoil, detail: str
) -> None:
    """What stands in the way can be removed by whoever reads it."""
    await spoil(place)
    assert detail in {problem.detail for problem in (await place.db.check()).problems}


async def test_a_stranger_gets_no_coin_back(place: Place) -> None:
    """The cap is 0."""
    await place.inventory.zrem(SILVER, "s1")
    await place.inventory.hset(META, "priority", "STRANGER")
    assert (await place.db.check(repair=True)).repaired == 0
    assert await place.inventory.exists(COIN + "s1")


async def test_a_clock_that_is_wrong_loses_nothing(place: Place) -> None:
    """31 days in either direction, with every row without its expiry and its entry."""
    before = await place.state()
    rows = [key for key in before if b":key:" in key]
    for days in (31, -62):
        place.clock.advance(days=days)
        await place.vault.delete(EXPIRY)
        await place.inventory.delete(SILVER, BRONZE)
        for row in rows:
            await place.vault.persist(row)
        assert (await place.db.check(repair=True)).clean
        after = await place.state()
        assert {row: after[row][0] for row in rows} == {row: before[row][0] for row in rows}


async def test_rows_that_were_written_by_hand(
    place: Place, vault_client: Redis, clock: Clock
) -> None:
    """The specification's rows have neither an expiry nor an entry: now they have."""
    fields: dict[Any, Any] = dict.fromkeys(
        ("encrypted_blob", "encryption_iv", "auth_tag", "coin_version"), b"written by hand"
    )
    fields |= {"status": "ACTIVE", "coin_category": "GOLD", "created_at": clock.now}
    await vault_client.hset(ROW + "hand", mapping=fields)
    await vault_client.hincrby(STATS, "active_gold", 1)
    report = await place.db.check(repair=True)
    assert report.problems == (
        Problem("no_expiry", "vault", ROW + "hand", "the row would stay for ever", repaired=True),
        Problem(
            "orphaned_row",
            "vault",
            ROW + "hand",
            "the expiry index does not list it",
            repaired=True,
        ),
    )
    assert await place.other.vault.get_stats() == VaultStats(2, 1, 1, 1, 0)


# Owners, arguments, imports ----------------------------------------------------------------


async def test_an_owner_is_checked_alone(face: Face, server: RunningServer, place: Place) -> None:
    """Nothing of others is read as one's own, and nothing of theirs is touched."""
    for name in ("a*", "a"):
        mine = AsyncClientDatabase(place.vault, place.inventory, owner=name, clock=place.clock)
        await fill(mine, place.inventory)
        await place.vault.delete(f"aqm:{{{encode_id(name)}}}:vault:v1:expiry")
    await place.vault.delete(EXPIRY)
    await place.vault.set("aqm:{a%2A}:vault:v1:mine", CANARY)
    await place.vault.set("other", CANARY)
    before = await place.state()
    if face is ASYNC:
        db = face.database(place.vault, place.inventory, owner="a*", clock=place.clock)
        report = await db.check(repair=True)
    else:
        with server.sync_client(VAULT_DB) as vault, server.sync_client(INVENTORY_DB) as inventory:
            db = face.database(vault, inventory, owner="a*", clock=place.clock)
            report = await db.check(repair=True)
    assert sorted((p.kind, p.key) for p in report.problems) == [
        ("foreign_key", "aqm:{a%2A}:vault:v1:mine"),
        *(
            ("orphaned_row", f"aqm:{{a%2A}}:vault:v1:key:{tier}")
            for tier in ("bronze", "gold", "silver")
        ),
    ]
    assert report.repaired == 3
    after = await place.state()
    assert {key for key in after if after[key] != before.get(key)} == {
        b"aqm:{a%2A}:vault:v1:expiry"
    }


@pytest.mark.parametrize("wrong", ["no", 1, None])
async def test_repair_is_a_bool(place: Place, wrong: Any) -> None:
    """A text that says no isn't taken for a yes."""
    before = await place.state()
    with pytest.raises(InvalidArgumentError, match="repair: must be a bool") as raised:
        await place.db.check(repair=wrong)
    assert raised.value.argument == "repair"
    assert await place.state() == before


async def test_a_checker_takes_what_it_checks() -> None:
    """Of the other face, for example, nothing."""
    with pytest.raises(TypeError, match="vault: must be of class AsyncSecureVault"):
        AsyncIntegrityChecker(object(), object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    vault = AsyncSecureVault(Redis())
    with pytest.raises(TypeError, match="inventory: must be of class AsyncSmartInventory"):
        AsyncIntegrityChecker(vault, vault)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Others at work ----------------------------------------------------------------------------


@pytest.fixture(params=[VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
def real_server(request: pytest.FixtureRequest, servers: Servers) -> RunningServer:
    """A real server: in fakeredis nothing happens meanwhile."""
    backend = request.param
    assert isinstance(backend, Backend)
    return servers[backend]


@pytest_asyncio.fixture
async def clients(real_server: RunningServer) -> AsyncIterator[tuple[Redis, Redis]]:
    """Clients of an empty vault and an empty inventory."""
    pair = (real_server.client(VAULT_DB), real_server.client(INVENTORY_DB))
    for client in pair:
        await client.flushdb()
    yield pair
    for client in pair:
        await client.flushdb()
        await client.aclose()


async def _work(db: AsyncClientDatabase, number: int, rounds: int) -> None:
    """One of many clients: mints, burns, prefetches, selects, releases, consumes."""
    chance = random.Random(number)  # noqa: S311 - work, not a secret
    tiers: tuple[CoinCategory, ...] = ("GOLD", "SILVER", "BRONZE")
    for turn in range(rounds):
        key_id, tier = f"{number}-{turn}", chance.choice(tiers)
        await db.vault.store_key(**sample_key(key_id, tier))
        if turn % 3:
            await db.vault.burn_key(key_id)
        contact = f"c{chance.randrange(3)}"
        with suppress(BudgetExceededError):
            await db.inventory.store_key(contact, key_id, tier, *halves(tier))
        entry = await db.inventory.select_coin(contact, tier)
        if entry is not None and turn % 2:
            await db.inventory.release_coin(entry)
        await db.inventory.consume_key(contact, f"{number}-{turn - 1}")
        if turn % 10 == 0:
            await db.inventory.set_contact_priority(contact, "BESTIE")
            await db.gc.garbage_collect()


@pytest.mark.parametrize("repair", [False, True], ids=["look", "repair"])
async def test_others_who_work_are_no_problem(
    real_server: RunningServer, clients: tuple[Redis, Redis], *, repair: bool
) -> None:
    """Eight clients at work, and every check meanwhile finds nothing, and spoils nothing."""
    db = AsyncClientDatabase(*clients)
    for number in range(3):
        await db.inventory.register_contact(f"c{number}", "BESTIE")
    others = [(real_server.client(VAULT_DB), real_server.client(INVENTORY_DB)) for _ in range(8)]
    workers = [
        asyncio.create_task(_work(AsyncClientDatabase(*pair), number, 60))
        for number, pair in enumerate(others)
    ]
    found: list[Problem] = []
    checks = 0
    while not all(worker.done() for worker in workers):
        found += (await db.check(repair=repair)).problems
        checks += 1
    await asyncio.gather(*workers)
    assert found == []
    assert checks > 1
    stats = await db.vault.get_stats()
    assert (stats.total_burned, stats.total_expired) == (8 * 40, 0)
    assert len(await db.vault.get_all_active_ids()) == 8 * 20
    for client in (client for pair in others for client in pair):
        await client.aclose()


async def test_counters_that_are_mended_while_others_work(
    real_server: RunningServer, clients: tuple[Redis, Redis]
) -> None:
    """Whatever they were, they are right when the work is done."""
    db = AsyncClientDatabase(*clients)
    for number in range(3):
        await db.inventory.register_contact(f"c{number}", "BESTIE")
    other = AsyncClientDatabase(real_server.client(VAULT_DB), real_server.client(INVENTORY_DB))
    workers = [asyncio.create_task(_work(other, number, 40)) for number in range(8)]
    while not all(worker.done() for worker in workers):
        await clients[0].hset(STATS, "active_gold", "1000")
        await clients[0].zremrangebyrank(EXPIRY, 0, 1)
        await db.check(repair=True)
    await asyncio.gather(*workers)
    await db.check(repair=True)
    assert (await db.check()).clean
    tiers: tuple[CoinCategory, ...] = ("GOLD", "SILVER", "BRONZE")
    assert await db.vault.count_active() == {
        tier: len(await db.vault.get_all_active_ids(tier)) for tier in tiers
    }
    await other.aclose()


# Repairs that are cut off ------------------------------------------------------------------


async def _spoil_all(vault: Redis, inventory: Redis) -> None:
    """A fault for every command that a repair writes with."""
    await vault.delete(EXPIRY, STATS)
    await vault.zadd(EXPIRY, {"gold": LATER, "lost": LATER + DAY_MS, "burned": LATER})
    await vault.persist(ROW + "bronze")
    await vault.hset(ROW + "burned", "auth_tag", CANARY)
    await inventory.delete(GOLD, SILVER)
    await inventory.zadd(BRONZE, {"s1": 1, "lost": 2})
    await inventory.persist(CLAIM)
    # It was released, so a queue that lost it could not be mended.
    await inventory.zadd(GOLD, {"back": 1})


async def _assert_nothing_is_lost(db: AsyncClientDatabase) -> None:
    """Every key and every coin that was there can still be used, once."""
    assert await db.vault.get_stats() == VaultStats(1, 1, 1, 0, 0)
    for key_id in ("gold", "silver", "bronze"):
        assert await db.vault.burn_key(key_id)
    taken: set[str] = set()
    while (entry := await db.inventory.select_coin(BOB, "GOLD")) is not None:
        assert entry.key_id not in taken
        taken.add(entry.key_id)
    assert taken == {"back", "g1", "g2", "s1", "s2", "s3", "b1"}


@pytest.mark.parametrize("denied", ["zadd", "zrem", "hset", "hdel", "pexpire"])
async def test_a_repair_that_is_denied_loses_nothing(
    real_server: RunningServer, clients: tuple[Redis, Redis], clock: Clock, denied: str
) -> None:
    """What was mended stays so, the rest is as it was, and whoever may mends it later."""
    admin = AsyncClientDatabase(*clients, clock=clock)
    await fill(admin, clients[1])
    await _spoil_all(*clients)
    await clients[0].acl_setuser(
        "limited", enabled=True, nopass=True, keys=["*"], commands=["+@all", f"-{denied}"]
    )
    limited = AsyncClientDatabase(
        *(
            real_server.client(db, username="limited", password="x")
            for db in (VAULT_DB, INVENTORY_DB)
        ),
        clock=clock,
    )
    problems = set((await admin.check()).problems)
    before = {**await snapshot(clients[0]), **await snapshot(clients[1])}
    with pytest.raises(AccessDeniedError):
        await limited.check(repair=True)
    after = {**await snapshot(clients[0]), **await snapshot(clients[1])}
    rows = [key for key in before if b":key:" in key and key != f"{ROW}burned".encode()]
    assert [after[row] for row in rows] == [before[row] for row in rows]
    assert set((await admin.check()).problems) <= problems
    assert (await admin.check(repair=True)).clean
    assert (await admin.check()).problems == ()
    await _assert_nothing_is_lost(admin)
    await limited.aclose()
    await clients[0].acl_deluser("limited")


async def test_a_repair_that_is_sent_again_repairs_once(
    clients: tuple[Redis, Redis], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request runs twice, as after a lost reply, and only the second answer arrives."""
    run_all = AsyncSeam.run_all

    async def twice(seam: AsyncSeam, calls: Sequence[Call], _: object) -> Any:
        await run_all(seam, calls)
        return await run_all(seam, calls)

    db = AsyncClientDatabase(*clients, clock=clock)
    await fill(db, clients[1])
    await _spoil_all(*clients)
    with monkeypatch.context() as patch:
        patch.setattr(AsyncSeam, "run_all", twice)
        assert (await db.check(repair=True)).problems == ()
    assert (await db.check()).problems == ()
    await _assert_nothing_is_lost(db)
