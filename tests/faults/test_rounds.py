"""Faults in the middle of a round over all owners: it goes on, and everybody is cared for.

A round is done by whoever comes next, or says why it can't be; who was cared for in it isn't again,
and nothing goes that should stay.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db._lua.loader import list_scripts
from aqm_db._model.keys import Keys
from aqm_db._operations import turn as turn_of_owners
from aqm_db.errors import CorruptEntryError, NotWritableError, UnavailableError
from aqm_db.maintenance import _all_owners
from tests.conftest import INVENTORY_DB
from tests.faults.support.cared_owners import (
    MINUTE,
    Death,
    Echo,
    Incident,
    Site,
    furnished,
)
from tests.faults.support.clients_on_bad_links import DEFAULT, NO_RETRIES
from tests.faults.support.fault_table import Tally
from tests.faults.support.public_calls import errors_of
from tests.faults.test_permissions import commands_of
from tests.support.backends import REDIS_6, REDIS_8, VALKEY_9, RunningServer
from tests.support.peers import Cutter, listening_on_loopback
from tests.support.samples import snapshot

pytestmark = pytest.mark.asyncio

over_servers = pytest.mark.parametrize(
    "real_server", [VALKEY_9, REDIS_6], indirect=True, ids=lambda backend: backend.name
)


@pytest_asyncio.fixture
async def site(direct: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """All owners, after few of whom it's noted how far a round is."""
    monkeypatch.setattr(_all_owners, "_NOTE_EVERY", 2)
    async with furnished(direct) as made:
        yield made


@over_servers
async def test_a_reply_that_is_lost(
    real_server: RunningServer, site: Site, tally: Tally, backoffs: list[float], *, thorough: bool
) -> None:
    """Whichever it is: the request is sent again, and the round is as any other."""
    cutter = Cutter(real_server.socket_path)
    async with listening_on_loopback(cutter, None) as port, DEFAULT.client(port) as client:
        for place in count(step=1 if thorough else 5):
            await site.begin()
            cutter.losing, cutter.sparing = 1, place
            assert await site.open(client).maintain_owners(sleep=site.sleep)
            assert not await site.list_garbage()
            await site.judge(tally, "reply lost, asked again", case=place, once=True)
            if cutter.losing:
                assert place > 10
                break


@over_servers
async def test_a_reply_that_is_lost_for_good(
    real_server: RunningServer, site: Site, tally: Tally, *, thorough: bool
) -> None:
    """The round ends with an error, and whoever comes next does the rest."""
    cutter = Cutter(real_server.socket_path)
    async with listening_on_loopback(cutter, None) as port:
        for place in count(step=1 if thorough else 5):
            async with NO_RETRIES.client(port) as client:
                await site.begin()
                cutter.losing, cutter.sparing = 1, place
                try:
                    await site.open(client).maintain_owners(sleep=site.sleep)
                except UnavailableError as error:
                    assert error.outcome_unknown is True  # noqa: PT017 - not every place has one
                await site.judge(tally, "reply lost, given up", case=place)
            if cutter.losing:
                assert place > 10
                break


@pytest.mark.parametrize("is_executed", [False, True])
async def test_a_program_that_dies(
    direct: Redis, site: Site, tally: Tally, *, thorough: bool, is_executed: bool
) -> None:
    """It gives nothing back: its turns end in a minute, and others do the rest."""
    for place in count(step=1 if thorough else 5):
        await site.begin()
        death = Death(place, is_executed=is_executed)
        db = site.open(direct, death)
        with suppress(UnavailableError):
            await db.maintain_owners(sleep=site.sleep)
        assert await site.count_working(within=MINUTE) == await site.count_working()
        await site.judge(tally, "a program dies", case=(place, is_executed))
        if not death.has_come:
            assert place > 10
            break


@pytest.mark.parametrize("others", [1, 2, 5, 20, 1000])
async def test_requests_that_arrive_once_more(
    direct: Redis, site: Site, tally: Tally, others: int
) -> None:
    """Meanwhile, and when the round is over: nobody is cared for twice, and nothing is changed."""
    await site.begin()
    echo = Echo(others)
    db = site.open(direct, echo)
    assert await db.maintain_owners(sleep=site.sleep)
    assert not await site.list_garbage()
    before = await snapshot(direct)
    async for _ in echo.repeat_each():
        assert await snapshot(direct) == before
    await site.judge(tally, "requests come late", case=others, once=True)


async def test_a_round_that_is_cancelled_at_any_step(
    direct: Redis, site: Site, tally: Tally, *, thorough: bool
) -> None:
    """Nobody is left in hand, and whoever comes next does the rest."""
    for steps in count(step=1 if thorough else 11):
        await site.begin()
        task = asyncio.ensure_future(site.open(direct).maintain_owners(sleep=site.sleep))
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.done():
            assert await task
            assert steps > 100
            break
        task.cancel()
        await asyncio.wait((task,))
        assert await site.count_working() == 0
        await site.judge(tally, "cancelled", case=steps)


# The server --------------------------------------------------------------------------------


@pytest.fixture(params=[VALKEY_9, REDIS_8, REDIS_6], ids=lambda kind: kind.name)
def spoiled(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A server of the test's own, which has on its disk what it has acknowledged."""
    with RunningServer(request.param, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest_asyncio.fixture
async def admin(spoiled: RunningServer) -> AsyncIterator[Redis]:
    """A client of it."""
    async with spoiled.client(INVENTORY_DB) as client:
        yield client


async def restarted(server: RunningServer) -> None:
    """Ends a server as a crash would, and starts it on what it has left."""
    server.kill()
    server.restart()


async def test_a_server_that_is_full(admin: Redis, tally: Tally) -> None:
    """It's made room on: a turn takes less than what goes."""
    async with furnished(admin) as site:
        await admin.config_set("maxmemory", 1)
        assert await site.open(admin).maintain_owners(sleep=site.sleep)
        assert not await site.list_garbage()
        await site.judge(tally, "the server is full", case="all owners", once=True)
        await admin.config_set("maxmemory", 0)
        await site.begin()
        await admin.config_set("maxmemory", 1)
        over = asyncio.Event()

        async def sleep(_: float) -> None:
            over.set()
            await asyncio.Event().wait()

        async with site.open(admin).for_owner("cat").maintenance(sleep=sleep):
            await over.wait()
        assert not [name for name in await site.list_garbage() if "{cat}" in name]
        await site.judge(tally, "the server is full", case="an owner", once=True)


async def test_a_server_that_takes_no_writes(
    admin: Redis, tally: Tally, caplog: pytest.LogCaptureFixture
) -> None:
    """That's said, and whoever comes when it does goes on."""
    async with furnished(admin) as site:
        await admin.config_set("min-replicas-to-write", 1)
        for _ in range(2):
            with pytest.raises(NotWritableError):
                await site.open(admin).maintain_owners(sleep=site.sleep)
        await admin.config_set("min-replicas-to-write", 0)
        await site.judge(tally, "the server takes no writes", case="from the beginning", once=True)
        for place in range(3, 40, 6):
            await site.begin()
            refuse = Incident(place, lambda: admin.config_set("min-replicas-to-write", 1))
            with pytest.raises(NotWritableError):
                await site.open(admin, refuse).maintain_owners(sleep=site.sleep)
            await admin.config_set("min-replicas-to-write", 0)
            # Of whom the turn couldn't be given back, it ends in a minute.
            await site.judge(tally, "the server takes no writes", case=place)


async def test_a_server_that_is_started_again(
    spoiled: RunningServer, admin: Redis, tally: Tally, *, thorough: bool
) -> None:
    """Whenever it is: the round goes on, and nobody is cared for twice."""
    async with furnished(admin) as site:
        for place in count(step=1 if thorough else 7):
            await site.begin()
            restart = Incident(place, lambda: restarted(spoiled))
            assert await site.open(admin, restart).maintain_owners(sleep=site.sleep)
            assert not await site.list_garbage()
            await site.judge(tally, "the server is started again", case=place, once=True)
            if not restart.has_come:
                assert place > 10
                break


COMMANDS = sorted(
    {"SCAN", "EVALSHA"}.union(*map(commands_of, (*list_scripts("turn"), turn_of_owners.LOOK)))
)


async def test_a_command_that_is_forbidden(
    spoiled: RunningServer, admin: Any, tally: Tally, caplog: pytest.LogCaptureFixture
) -> None:
    """It's said, of the round or of each owner; what is done without it is done."""
    async with furnished(admin) as site:
        for command in COMMANDS:
            await site.begin()
            caplog.clear()
            rules = ("reset", "on", "nopass", "~*", "+@all", f"-{command}")
            await admin.execute_command("ACL", "SETUSER", "limited", *rules)
            async with spoiled.client(INVENTORY_DB, username="limited", password="any") as client:
                refused = await errors_of(site.open(client).maintain_owners(sleep=site.sleep))
            failures = [r.__dict__["error"] for r in caplog.records if r.msg == "owner_failed"]
            told = [type(error).__name__ for error in refused] + failures
            assert set(told) <= {"AccessDeniedError"}, command
            assert told or not await site.list_garbage(), command
            await site.judge(tally, "a command is forbidden", case=command, within=2)


# What is stored ----------------------------------------------------------------------------


RECORDS: dict[str, dict[Any, Any] | None] = {
    "of the wrong type": None,
    "without its number": {"seen": "1"},
    "with another number": {"began": "1", "seen": "1"},
    "with a text for its number": {"began": "soon", "seen": "1"},
    "with a number of another form": {"began": "007", "seen": "1"},
    "with a number below zero": {"began": "-5"},
    "with a number that is far ahead": {"began": "999999999999999"},
    "with a number that is too long": {"began": "9" * 40},
    "with bytes that are no text": {"began": b"\xff\x00", b"\xff": b"\xff"},
    "of garbage beside its number": {"seen": "x", "ended": "", "expected": "-", "by:": "1 2 3"},
    "that has ended": {"ended": "1"},
    "of a crowd": {f"by:{number}": "1 1" for number in range(20_000)},
}
"""What may be found in the place of a round's record: its fields."""


@pytest.mark.parametrize("name", RECORDS)
async def test_a_record_that_is_corrupt(
    direct: Redis, site: Site, tally: Tally, name: str, *, thorough: bool
) -> None:
    """Before a round, or in the middle of one: it's said, or done without it."""
    key, fields = Keys().round, RECORDS[name]

    async def spoil() -> None:
        if fields is None:
            await direct.delete(key)
            await direct.rpush(key, "x")
        else:
            await direct.hset(key, mapping=fields)

    for place in range(0, 60, 1 if thorough else 9):
        await site.begin()
        spoiling = Incident(place, spoil)
        errors = await errors_of(site.open(direct, spoiling).maintain_owners(sleep=site.sleep))
        if fields is None:
            assert [type(error) for error in errors] == [CorruptEntryError] * len(errors)
            # Somebody has to take it away.
            await direct.delete(key)
        else:
            assert errors == []
        await site.judge(tally, "its record is corrupt", case=(name, place), within=2)


@pytest.mark.parametrize("turn", [None, b"", b"x", b"round:", b"round:9:\xff", b"round:1e9:a:b"])
async def test_a_turn_that_is_corrupt(
    direct: Redis, site: Site, tally: Tally, turn: bytes | None
) -> None:
    """One owner's stops no other's, and theirs goes once it's mended, or ends."""
    name = Keys("cat").maintenance
    await site.begin()
    if turn is None:
        await direct.rpush(name, "x")
    else:
        await direct.set(name, turn, px=3_600_000)
    assert await site.open(direct).maintain_owners(sleep=site.sleep)
    assert all("{cat}" in each for each in await site.list_garbage())
    await direct.delete(name)
    await site.judge(tally, "a turn is corrupt", case=turn, within=2)


async def wait(_: float) -> None:
    """Lets others go on, and no time pass: whoever has a turn keeps it."""
    await asyncio.sleep(0)


async def test_several_programs_at_once(
    direct: Redis, site: Site, tally: Tally, *, thorough: bool
) -> None:
    """They share a round, and nobody is cared for twice; whoever dies leaves it to the others."""
    for place in range(0, 60, 1 if thorough else 7):
        await site.begin()
        dying = site.open(direct, Death(place, is_executed=False))
        others = [site.open(direct), dying]
        rounds = [db.maintain_owners(sleep=wait) for db in others]
        await asyncio.gather(*rounds, return_exceptions=True)
        await site.judge(tally, "programs share it, and one dies", case=place, within=2)
        await site.begin()
        rounds = [site.open(direct).maintain_owners(sleep=wait) for _ in range(2 + place % 3)]
        assert all(await asyncio.gather(*rounds))
        await site.judge(tally, "programs share it", case=place, once=True)
