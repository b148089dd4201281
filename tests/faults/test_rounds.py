"""Faults in the middle of a round over all owners: it goes on, and everybody is cared for.

A round is done by whoever comes next, or says why it can't be; who was cared for in it isn't again,
and nothing goes that should stay.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db.errors import UnavailableError
from aqm_db.maintenance import _all_owners
from tests.faults.support.cared_owners import Death, Echo, Site, furnished
from tests.faults.support.clients_on_bad_links import DEFAULT, NO_RETRIES
from tests.faults.support.fault_table import Tally
from tests.support.backends import REDIS_6, VALKEY_9, RunningServer
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
