"""Maintenance of all owners: whom a round comes to, how it goes on, and what stops no other."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase, connect
from aqm_db._io.seam import Call, Reply, Undo
from aqm_db.errors import (
    AccessDeniedError,
    CorruptEntryError,
    InvalidArgumentError,
    InventoryUnavailableError,
    UnavailableError,
    VaultUnavailableError,
)
from aqm_db.maintenance import _all_owners
from aqm_db.types import MaintenanceProgress, NewCoin
from tests.conftest import INVENTORY_DB, VAULT_DB
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.layers import Passing
from tests.support.samples import BOB, Clock, halves, sample_key, stock

pytestmark = pytest.mark.asyncio
OWNERS = [f"owner-{number}" for number in range(8)]


async def at_once(_: float) -> None:
    """No time passes."""
    await asyncio.sleep(0)


def note_calls(db: AsyncClientDatabase, before: Callable[[Call], None]) -> None:
    """Has a function see each call of a script before it's sent."""

    class Noting(Passing):
        async def run(self, call: Call, undo: Undo | None = None) -> Reply:
            before(call)
            return await self._behind.run(call, undo)

    db.gates.add_layer(Noting)  # pyright: ignore[reportArgumentType]


@pytest_asyncio.fixture
async def db(
    vault_client: Redis, inventory_client: Redis, clock: Clock
) -> AsyncIterator[AsyncClientDatabase]:
    """A provider's database without an owner; its owners have a coin and a private half each."""
    database = AsyncClientDatabase(vault_client, inventory_client, clock=clock)
    for owner in OWNERS:
        await furnish(database.for_owner(owner))
    yield database
    await database.aclose()


async def furnish(database: AsyncClientDatabase) -> None:
    """Stores a coin and a private half."""
    await database.inventory.register_contact(BOB, "BESTIE")
    await stock(database.inventory, BOB, "GOLD", "g1")
    await database.vault.store_key(**sample_key("k", "GOLD"))


async def left(database: AsyncClientDatabase) -> tuple[int, int]:
    """The coins and the private halves that are there."""
    coins = await database.inventory.list_coins(BOB)
    return len(coins), await database.vault.count_active("GOLD")


async def progress_of(db: AsyncClientDatabase) -> MaintenanceProgress:
    """How far the round is."""
    progress = await db.get_maintenance_progress()
    assert progress is not None
    return progress


def failures(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Who couldn't be cared for, and why."""
    return [
        (record.__dict__["owner"], record.__dict__["error"])
        for record in log.records
        if record.msg == "owner_failed"
    ]


async def test_a_round_comes_to_all(db: AsyncClientDatabase, clock: Clock) -> None:
    """Garbage and old private halves of all go, those without an owner too."""
    await furnish(db)
    assert await db.get_maintenance_progress() is None
    clock.advance(days=31)
    began = clock.now
    assert await db.maintain_owners(sleep=at_once) is True
    for owner in OWNERS:
        assert await left(db.for_owner(owner)) == (0, 0)
    assert await left(db) == (0, 0)
    assert await db.get_maintenance_progress() == MaintenanceProgress(
        began_at=began, ended_at=clock.now, owners_cared_for=9, owners_failed=0, owners_expected=0
    )


async def test_who_has_nothing_to_do_keeps_it(
    db: AsyncClientDatabase, inventory_client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is collected, and nothing is called that could: a look is enough."""
    caplog.set_level(logging.INFO)
    called: list[str] = []
    note_calls(db, lambda call: called.append(call.script.name))
    assert await db.maintain_owners(sleep=at_once)
    # Each is found twice.
    assert called.count("turn_visit") == 1 + len(OWNERS)
    assert called.count("vault_look") == len(OWNERS)
    assert called.count("turn_keep") == 1 + len(OWNERS)
    # What has no owner is cared for in any case.
    assert called.count("vault_counters") == 1
    for owner in OWNERS:
        assert await left(db.for_owner(owner)) == (1, 1)
    [record] = [each for each in caplog.records if each.name == "aqm_db.maintenance"]
    assert record.msg == "maintenance_completed"
    assert record.__dict__["owners"] == 9
    turn = db.for_owner("owner-1").inventory.keys.maintenance
    assert 0 < await inventory_client.pttl(turn) <= 3_600_000


async def test_more_owners_than_a_program_remembers(
    db: AsyncClientDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom it has forgotten it visits again, and the server passes them over."""
    monkeypatch.setattr(_all_owners, "_MET_AT_MOST", 2)
    called: list[str] = []
    note_calls(db, lambda call: called.append(call.script.name))
    assert await db.maintain_owners(sleep=at_once)
    assert called.count("turn_visit") > 1 + len(OWNERS)
    assert (await progress_of(db)).owners_cared_for == 1 + len(OWNERS)


async def _make_inactive(database: AsyncClientDatabase, clock: Clock) -> None:
    clock.advance(days=31)
    await database.vault.burn_key("k")


async def _make_stale(database: AsyncClientDatabase, clock: Clock) -> None:
    coin = NewCoin(BOB, "s1", "GOLD", *halves("GOLD"), expires_at=clock.now + 5)
    assert await database.inventory.store_keys([coin], enforce_budget=False) == [True]
    clock.advance(ms=6)


@pytest.mark.parametrize("spoil", [_make_inactive, _make_stale])
async def test_each_kind_of_garbage_is_found(
    db: AsyncClientDatabase, clock: Clock, spoil: Callable[..., Any]
) -> None:
    """The look misses none."""
    one = db.for_owner("owner-3")
    await spoil(one, clock)
    garbage = (await one.gc.dry_run()).keys_deleted
    assert garbage > 0
    await db.maintain_owners(sleep=at_once)
    assert (await one.gc.dry_run()).keys_deleted == 0


async def test_memory_of_use_that_is_over_is_found(
    db: AsyncClientDatabase, clock: Clock, inventory_client: Redis
) -> None:
    """It isn't told as garbage, but goes as well."""
    one = db.for_owner("owner-3")
    for key_id in ("g1", "g2"):
        await one.inventory.select_coin(BOB, "GOLD")
        await stock(one.inventory, BOB, "GOLD", key_id + "x")
    await one.inventory.select_coin(BOB, "GOLD")
    used = one.inventory.keys.of(BOB).used
    before = await inventory_client.zcard(used)
    clock.advance(days=30, ms=1)
    assert await one.inventory.select_coin(BOB, "GOLD") is None
    await inventory_client.hset(one.inventory.keys.of(BOB).meta, "last_msg_at", str(clock.now))
    await db.maintain_owners(sleep=at_once)
    assert await inventory_client.zcard(used) < before


async def test_what_was_set_aside_of_an_inactive_stranger_is_found(
    db: AsyncClientDatabase, clock: Clock, inventory_client: Redis
) -> None:
    """No queue lists it, and the contact has nothing else that would call for a collector."""
    one = db.for_owner("owner-3")
    await one.inventory.register_contact("mallory", "STRANGER")
    await one.vault.burn_key("k")
    await one.inventory.forget_contact(BOB)
    names = one.inventory.keys.of("mallory")
    await inventory_client.hset(names.row("lost"), "coin_category", "GOLD")
    await inventory_client.zadd(one.inventory.keys.inv_aside, {"mallory:lost": 0})
    clock.advance(days=31)
    assert await db.maintain_owners(sleep=at_once)
    assert not await inventory_client.exists(names.row("lost"))
    assert not await inventory_client.zcard(one.inventory.keys.inv_aside)


async def test_a_crowd_of_contacts_is_left_to_the_collector(
    db: AsyncClientDatabase, clock: Clock
) -> None:
    """A look doesn't take long, however many an owner has."""
    called: list[str] = []
    one = db.for_owner("owner-3")
    for number in range(20):
        await one.inventory.register_contact(f"contact-{number}", "MATE")
    note_calls(db, lambda call: called.append(call.script.name))
    await db.maintain_owners(sleep=at_once)
    # This one, and what has no owner.
    assert called.count("vault_counters") == 2
    assert await left(one) == (1, 1)


async def test_a_round_is_due_once_in_the_interval(db: AsyncClientDatabase, clock: Clock) -> None:
    """Give or take a tenth; the next one knows how many the last one had."""
    assert await db.maintain_owners(every=100, sleep=at_once)
    clock.advance(ms=89_999)
    assert not await db.maintain_owners(every=100, sleep=at_once)
    first = await progress_of(db)
    clock.advance(ms=1)
    assert await db.maintain_owners(every=100, sleep=at_once)
    second = await progress_of(db)
    assert (second.owners_expected, second.owners_cared_for) == (9, 9)
    assert second.began_at == first.began_at + 90_000


async def test_a_clock_that_was_set_back(db: AsyncClientDatabase, clock: Clock) -> None:
    """The next round is due, and comes to all all the same."""
    await db.maintain_owners(sleep=at_once)
    began = (await progress_of(db)).began_at
    clock.advance(days=-1)
    assert await db.maintain_owners(sleep=at_once)
    progress = await progress_of(db)
    assert (progress.began_at, progress.owners_cared_for) == (began + 1, 9)


async def test_it_goes_on_where_it_stopped(
    db: AsyncClientDatabase, server: RunningServer, clock: Clock
) -> None:
    """Whoever was cared for before is passed over, by another program too."""

    def fail(call: Call) -> None:
        if call.keys[0].startswith("aqm:{owner-5}:"):
            raise InventoryUnavailableError("gone")

    note_calls(db, fail)
    with pytest.raises(InventoryUnavailableError, match="gone"):
        await db.maintain_owners(sleep=at_once)
    stopped = await progress_of(db)
    assert stopped.ended_at is None
    assert 0 < stopped.owners_cared_for < 9
    second = AsyncClientDatabase(server.client(VAULT_DB), server.client(INVENTORY_DB), clock=clock)
    assert await second.maintain_owners(sleep=at_once)
    ended = await progress_of(db)
    assert ended.began_at == stopped.began_at
    assert (ended.owners_cared_for, ended.owners_left) == (9, 0)
    await second.aclose()


async def test_what_is_left_is_known_from_the_round_before(
    db: AsyncClientDatabase, clock: Clock
) -> None:
    """As far as it can be."""
    await db.maintain_owners(sleep=at_once)
    clock.advance(days=1)
    told: list[MaintenanceProgress] = []

    def fail(call: Call) -> None:
        if call.script.name == "turn_visit":
            raise InventoryUnavailableError("gone")

    note_calls(db, fail)
    with pytest.raises(InventoryUnavailableError):
        await db.maintain_owners(sleep=at_once, report=told.append)
    assert (await progress_of(db)).owners_left == 9
    assert [each.owners_left for each in told] == [9]


async def test_programs_share_a_round(
    db: AsyncClientDatabase, server: RunningServer, clock: Clock
) -> None:
    """Each owner is one program's, and all of them are told together."""
    second = AsyncClientDatabase(server.client(VAULT_DB), server.client(INVENTORY_DB), clock=clock)
    were_due = await asyncio.gather(
        db.maintain_owners(sleep=at_once), second.maintain_owners(sleep=at_once)
    )
    assert all(were_due)
    assert (await progress_of(db)).owners_cared_for == 9
    await second.aclose()


async def test_an_owner_with_maintenance_of_their_own(
    db: AsyncClientDatabase, clock: Clock, inventory_client: Redis
) -> None:
    """They are left to it, whatever it thinks is old."""
    one = db.for_owner("owner-3")
    await inventory_client.set(one.inventory.keys.maintenance, "somebody", px=60_000)
    clock.advance(days=31)
    await db.maintain_owners(sleep=at_once)
    assert await left(one) == (1, 1)
    assert (await progress_of(db)).owners_cared_for == 8
    assert await inventory_client.get(one.inventory.keys.maintenance) == b"somebody"


async def test_an_owner_who_is_being_cared_for(
    db: AsyncClientDatabase, clock: Clock, inventory_client: Redis
) -> None:
    """Whoever does so may have died: they are visited again once that is known."""
    clock.advance(days=31)
    await inventory_client.hset(
        db.inventory.keys.round,
        mapping={"began": clock.now, "seen": clock.now, "expected": 0},
    )
    one, two = db.for_owner("owner-3"), db.for_owner("owner-4")
    working = f"round:{clock.now}:somebody:working"
    for each in (one, two):
        await inventory_client.set(each.inventory.keys.maintenance, working, px=60_000)
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds == 60:
            waited.append(seconds)
            assert await left(one) == (1, 1)
            await inventory_client.delete(one.inventory.keys.maintenance)

    await db.maintain_owners(sleep=sleep)
    assert waited == [60]
    assert await left(one) == (0, 0)
    assert await left(two) == (1, 1)
    assert (await progress_of(db)).owners_cared_for == 8


async def test_an_owner_who_was_being_cared_for(
    db: AsyncClientDatabase, server: RunningServer, clock: Clock, inventory_client: Redis
) -> None:
    """Programs that share a round don't wait for what the other one has done meanwhile."""
    await inventory_client.hset(
        db.inventory.keys.round,
        mapping={"began": clock.now, "seen": clock.now, "expected": 0},
    )
    turn = db.for_owner("owner-3").inventory.keys.maintenance
    await inventory_client.set(turn, f"round:{clock.now}:somebody:working", px=60_000)
    waited: list[float] = []
    visits = 0

    def finish(call: Call) -> None:
        nonlocal visits
        if call.script.name == "turn_visit" and call.keys[0] == turn:
            visits += 1
            if visits == 2:
                with server.sync_client(INVENTORY_DB) as other:
                    other.delete(turn)

    async def sleep(seconds: float) -> None:
        if seconds == 60:
            waited.append(seconds)

    note_calls(db, finish)
    await db.maintain_owners(sleep=sleep)
    assert waited == []
    assert (await progress_of(db)).owners_cared_for == 9


@pytest.mark.parametrize("turn", ["somebody", "round:99:somebody", "\udcff"])
async def test_a_turn_without_an_end(
    db: AsyncClientDatabase, clock: Clock, inventory_client: Redis, turn: str
) -> None:
    """Its owner would be left out for ever, by their own maintenance too: it's nobody's."""
    value = turn.encode("utf-8", "surrogateescape")
    one, two = db.for_owner("owner-3"), db.for_owner("owner-4")
    for each in (one, two):
        await inventory_client.set(each.inventory.keys.maintenance, value)
    clock.advance(days=31)
    over = asyncio.Event()

    async def sleep(_: float) -> None:
        over.set()
        await asyncio.Event().wait()

    async with two.maintenance(sleep=sleep):
        await over.wait()
    assert await left(two) == (0, 0)
    await db.maintain_owners(sleep=at_once)
    assert await left(one) == (0, 0)


async def test_a_round_that_nobody_is_at(
    db: AsyncClientDatabase, clock: Clock, inventory_client: Redis
) -> None:
    """A long one is gone on with, and one that was given up is followed by another."""
    times = {"began": clock.now - 10_000_000, "seen": clock.now - 299_999, "expected": 7}
    fields: dict[Any, Any] = {**times, "by:somebody": "3 1"}
    await inventory_client.hset(db.inventory.keys.round, mapping=fields)
    await db.maintain_owners(sleep=at_once)
    joined = await progress_of(db)
    assert (joined.began_at, joined.owners_cared_for) == (times["began"], 12)
    assert joined.owners_failed == 1
    await inventory_client.delete(db.inventory.keys.round)
    await inventory_client.hset(
        db.inventory.keys.round, mapping={**fields, "seen": clock.now - 300_000}
    )
    await db.maintain_owners(sleep=at_once)
    begun = await progress_of(db)
    assert (begun.began_at, begun.owners_cared_for) == (clock.now, 9)
    # The one that was given up doesn't know how many there are.
    assert begun.owners_expected == 7


async def test_another_round_has_begun_since(
    db: AsyncClientDatabase, clock: Clock, inventory_client: Redis
) -> None:
    """Whoever took this one for given up has it; the rest of this one is theirs."""
    for number in range(150):
        await db.for_owner(f"more-{number}").inventory.register_contact(BOB, "BESTIE")
    later = clock.now + 1

    async def supersede(_: float) -> None:
        await inventory_client.hset(db.inventory.keys.round, "began", later)

    assert await db.maintain_owners(sleep=supersede)
    progress = await progress_of(db)
    assert progress.began_at == later
    assert (progress.owners_cared_for, progress.ended_at) == (0, None)


@pytest.mark.parametrize("name", ["inv_contacts", "vault_expiry", "maintenance"])
async def test_one_failure_stops_no_other(
    db: AsyncClientDatabase,
    clock: Clock,
    vault_client: Redis,
    inventory_client: Redis,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    """What is malformed is logged, with whose it is."""
    one = db.for_owner("owner-3")
    key = getattr(one.inventory.keys, name)
    client = vault_client if name == "vault_expiry" else inventory_client
    await client.delete(key)
    await client.hset(key, "wrong", "type")
    clock.advance(days=31)
    await db.maintain_owners(sleep=at_once)
    assert failures(caplog) == [("owner-3", "CorruptEntryError")] * len(failures(caplog))
    progress = await progress_of(db)
    assert progress.owners_cared_for == 8
    assert progress.owners_failed == len(failures(caplog)) > 0
    if name != "maintenance":
        # Somebody else may have more luck.
        assert not await inventory_client.exists(one.inventory.keys.maintenance)
    for owner in set(OWNERS) - {"owner-3"}:
        assert await left(db.for_owner(owner)) == (0, 0)


async def test_who_had_no_luck_is_tried_again(
    db: AsyncClientDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is found twice, and the second time all may be well."""
    refused: set[str] = set()

    def refuse_once(call: Call) -> None:
        turn = call.keys[0]
        if call.script.name == "turn_visit" and turn not in refused:
            refused.add(turn)
            raise CorruptEntryError("not now")

    note_calls(db, refuse_once)
    assert await db.maintain_owners(sleep=at_once)
    assert len(failures(caplog)) == 1 + len(OWNERS)
    # Data without an owner is come to once.
    assert (await progress_of(db)).owners_cared_for == len(OWNERS)


@pytest.mark.parametrize("kind", [VALKEY_9], ids=lambda kind: kind.name)
async def test_an_owner_who_may_not_be_reached(
    own_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The user's rights are the server's to know, and stop nothing but what they forbid."""
    url = f"unix://{own_server.socket_path}"
    async with connect(url) as db:
        for owner in OWNERS:
            await furnish(db.for_owner(owner))
    async with own_server.client(0) as admin:
        patterns = [f"~aqm:{{{owner}}}:*" for owner in OWNERS[1:]]
        rules = ("on", ">pw", "+@all", "~inv:*", "~vault:*", *patterns)
        await admin.execute_command("ACL", "SETUSER", "provider", *rules)  # type: ignore[no-untyped-call]
        await admin.execute_command("ACL", "SETUSER", "blind", "on", ">pw", "~*", "+@all", "-scan")  # type: ignore[no-untyped-call]
    async with connect(f"unix://provider:pw@{own_server.socket_path}") as db:
        await db.maintain_owners(sleep=at_once)
        assert failures(caplog)[0] == (OWNERS[0], "AccessDeniedError")
        assert (await progress_of(db)).owners_cared_for == 8
    async with connect(f"unix://blind:pw@{own_server.socket_path}") as db:
        before = await progress_of(db)
        with pytest.raises(AccessDeniedError):
            await db.maintain_owners(every=0.001, sleep=at_once)
        assert await progress_of(db) == before


async def test_a_server_that_is_started_again() -> None:
    """The round goes on: the walk from its beginning, past those who were cared for."""
    with RunningServer(VALKEY_9, "--appendonly", "yes", "--appendfsync", "always") as server:
        async with connect(f"unix://{server.socket_path}") as db:
            for owner in OWNERS:
                await db.for_owner(owner).inventory.register_contact(BOB, "BESTIE")
            visits = 0

            def restart_at_fourth(call: Call) -> None:
                nonlocal visits
                visits += call.script.name == "turn_visit"
                if visits == 4 and call.script.name == "turn_visit":
                    server.kill()
                    server.restart()

            note_calls(db, restart_at_fourth)
            assert await db.maintain_owners(sleep=at_once)
            progress = await progress_of(db)
            assert (progress.owners_cared_for, progress.owners_failed) == (9, 0)


async def test_a_database_that_is_closed(db: AsyncClientDatabase) -> None:
    """The round ends, and nobody connects again."""

    async def close(_: float) -> None:
        await db.aclose()

    with pytest.raises(UnavailableError, match=r"^the database was closed$"):
        await db.maintain_owners(sleep=close)
    with pytest.raises(VaultUnavailableError, match=r"^the database was closed$"):
        await db.maintain_owners()
    with pytest.raises(VaultUnavailableError, match=r"^the database was closed$"):
        db.maintenance(all_owners=True)


async def test_a_round_that_is_cancelled(
    db: AsyncClientDatabase, clock: Clock, inventory_client: Redis
) -> None:
    """Whoever was being cared for is free at once; the others are as they were."""
    clock.advance(days=31)
    for steps in range(0, 120, 7):
        task = asyncio.create_task(db.maintain_owners(sleep=at_once))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        turns: list[Any] = [
            await inventory_client.get(db.for_owner(owner).inventory.keys.maintenance)
            for owner in OWNERS
        ]
        assert not any(turn.endswith(b":working") for turn in turns if turn is not None)
    await db.maintain_owners(sleep=at_once)
    for owner in OWNERS:
        assert await left(db.for_owner(owner)) == (0, 0)


async def test_the_background(
    db: AsyncClientDatabase, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Rounds come again, and one that fails is logged and tried again."""
    delays: asyncio.Queue[float] = asyncio.Queue()
    go = asyncio.Semaphore(0)
    told: list[int] = []

    async def sleep(seconds: float) -> None:
        if seconds >= 50:
            delays.put_nowait(seconds)
            await go.acquire()

    async def report(progress: MaintenanceProgress) -> None:
        told.append(progress.owners_cared_for)

    is_broken = False

    def fail(call: Call) -> None:
        if is_broken:
            raise InventoryUnavailableError("gone")

    note_calls(db, fail)
    async with db.maintenance(
        all_owners=True,
        every=100,
        sleep=sleep,
        uniform=lambda low, high: (low + high) / 2,
        report=report,
    ):
        assert await delays.get() == 100
        is_broken = True
        go.release()
        assert await delays.get() == 60
        is_broken = False
        clock.advance(days=31)
        go.release()
        assert await delays.get() == 100
    assert [r.msg for r in caplog.records if r.name == "aqm_db.maintenance"] == [
        "maintenance_failed"
    ]
    assert told == [9, 9]
    for owner in OWNERS:
        assert await left(db.for_owner(owner)) == (0, 0)


async def test_what_a_report_raises(
    db: AsyncClientDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """It's the client's own, and stops nothing."""

    def report(_: MaintenanceProgress) -> None:
        raise LookupError("theirs")

    assert await db.maintain_owners(sleep=at_once, report=report)
    [record] = [r for r in caplog.records if r.msg == "report_failed"]
    assert record.__dict__["error"] == "LookupError"


@pytest.mark.parametrize("count", [1, 2])
async def test_a_mistake_in_a_round(
    db: AsyncClientDatabase, clock: Clock, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """It comes out as itself, and in a group only if there are several."""
    errors = [TypeError("ours") for _ in range(count)]
    left_to_raise = list(errors)

    async def collect(*_: object) -> None:
        if left_to_raise:
            raise left_to_raise.pop()
        await asyncio.Event().wait()

    monkeypatch.setattr("aqm_db.gc.AsyncGarbageCollector.garbage_collect", collect)
    clock.advance(days=31)
    with pytest.raises((TypeError, ExceptionGroup)) as caught:
        await db.maintain_owners(sleep=at_once)
    if isinstance(caught.value, ExceptionGroup):
        assert set(caught.value.exceptions) == set(errors)
    else:
        assert [caught.value] == errors[-1:]


async def test_nobody_waits_for_replicas_to_look(
    vault_client: Redis, inventory_client: Redis
) -> None:
    """There is none, and each change is to be confirmed: a turn isn't one, nor is progress."""
    plain = AsyncClientDatabase(vault_client, inventory_client)
    await furnish(plain.for_owner("alice"))
    db = AsyncClientDatabase(
        vault_client, inventory_client, owner="provider", confirm_replicas=1, confirm_timeout=1
    )
    assert await db.maintain_owners(sleep=at_once)
    progress = await progress_of(db)
    assert (progress.owners_cared_for, progress.owners_failed) == (1, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"began": "x", "expected": "1"},
        {"began": "1", "expected": "x"},
        {"began": "1", "expected": "1", "ended": "x"},
        {"began": "1", "expected": "1", "by:a": "1"},
        {"began": "1"},
    ],
)
async def test_progress_that_is_malformed(
    db: AsyncClientDatabase, inventory_client: Redis, fields: dict[Any, Any]
) -> None:
    """It's told as such, and the next round writes it anew."""
    await inventory_client.hset(db.inventory.keys.round, mapping=fields)
    with pytest.raises(CorruptEntryError):
        await db.get_maintenance_progress()
    assert await db.maintain_owners(sleep=at_once)
    assert (await progress_of(db)).owners_cared_for == 9


async def test_progress_of_the_wrong_type(db: AsyncClientDatabase, inventory_client: Redis) -> None:
    """A round says so before it begins."""
    await inventory_client.set(db.inventory.keys.round, "x")
    with pytest.raises(CorruptEntryError):
        await db.get_maintenance_progress()
    with pytest.raises(CorruptEntryError):
        await db.maintain_owners(sleep=at_once)


async def test_bad_input(db: AsyncClientDatabase) -> None:
    """Each argument is checked before anything starts."""
    wrong: list[tuple[str, Any]] = [
        *(("every", value) for value in ("1", None, True, 0, -1, float("nan"))),
        *(("inactive_days", value) for value in ("1", -1, 36_501)),
        *(("max_age_days", value) for value in ("1", -1, 36_501)),
        ("report", 5),
    ]
    for argument, value in wrong:
        with pytest.raises(InvalidArgumentError) as caught:
            await db.maintain_owners(**{argument: value})
        assert caught.value.argument == argument
    with pytest.raises(InvalidArgumentError, match=r"^report: "):
        db.maintenance(all_owners=True, report=5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidArgumentError, match=r"^all_owners: "):
        db.maintenance(all_owners=1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert await db.get_maintenance_progress() is None


async def test_without_anyio(db: AsyncClientDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "anyio", None)
    with pytest.raises(InvalidArgumentError, match="pip install 'aqm-db\\[background\\]'"):
        await db.maintain_owners()
    assert await db.get_maintenance_progress() is None
