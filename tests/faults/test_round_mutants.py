"""Each protection of rounds over all owners, and of groups of calls, is needed.

As in test_mutants, every docstring says which protection is taken out, and which test then fails.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase
from aqm_db._lua.loader import Script
from aqm_db._operations import batch, rounds, turn
from aqm_db.errors import AQMDatabaseError
from aqm_db.maintenance import _all_owners
from tests.care import test_all_owners as of_all_owners
from tests.faults import test_portions_of_select as of_groups, test_rounds as of_rounds
from tests.faults.support.cared_owners import Site
from tests.faults.support.fault_table import Tally
from tests.faults.support.mutants import is_noticed_as, without
from tests.support.samples import Clock

pytestmark = pytest.mark.asyncio
admin = of_rounds.admin
spoiled = of_rounds.spoiled

NOTICED = (AssertionError, AQMDatabaseError, pytest.fail.Exception)
"""How a test fails that notices a mutant."""


async def is_noticed(mutant: pytest.MonkeyPatch, test: Callable[[], Awaitable[object]]) -> None:
    """Makes sure that a test fails with a mutant, and passes without it."""
    await is_noticed_as(NOTICED, mutant, test)


async def run_on_site(test: Callable[..., Awaitable[object]], direct: Redis) -> None:
    """Runs a test of rounds on a fresh site, with a table of its own."""
    await direct.flushdb()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_all_owners, "_NOTE_EVERY", 2)
        await test(direct, await Site.furnish(direct), Tally())


@pytest.mark.parametrize("at_once", [1, 200])
async def test_a_group_that_takes_nothing_back(
    direct: Redis, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """What earlier portions took goes back: test_a_group_that_is_cancelled_between."""

    async def keep(*_: object) -> None:
        pass

    async def test() -> None:
        await direct.flushdb()
        inventory = await of_groups.make_aged(direct, Clock())
        with pytest.MonkeyPatch.context() as patched:
            await of_groups.test_a_group_that_is_cancelled_between(
                inventory, 2, at_once, Tally(), patched
            )

    monkeypatch.setattr(batch._Batch, "withdraw", keep)
    await is_noticed(monkeypatch, test)


@pytest.mark.parametrize(
    ("script", "pattern", "replacement", "test"),
    [
        pytest.param(
            turn.VISIT,
            r"has_turn\(present, turn\) then",
            "false then",
            partial(of_rounds.test_several_programs_at_once, thorough=False),
            id="two programs at once",
        ),
        pytest.param(
            turn.VISIT,
            r"':working', working\)",
            "':working', 3600000)",
            partial(of_rounds.test_a_program_that_dies, is_executed=True, thorough=False),
            id="a dead program's turn that lasts",
        ),
        pytest.param(
            turn.VISIT,
            r"visit \.\. ':working', working\)",
            "visit .. (has_work and ':working' or ''), has_work and working or 3600000)",
            partial(of_rounds.test_a_program_that_dies, is_executed=True, thorough=True),
            id="a turn that is kept before the look",
        ),
        pytest.param(
            turn.DROP,
            r"redis.call\('DEL', turn\)",
            "0",
            partial(of_rounds.test_a_round_that_is_cancelled_at_any_step, thorough=False),
            id="a turn that isn't given back",
        ),
        pytest.param(
            turn.VISIT,
            r"by == visit and state ~= ''",
            "by == visit",
            partial(of_rounds.test_requests_that_arrive_once_more, others=20),
            id="a late visit",
        ),
        pytest.param(
            rounds.ADVANCE,
            r"if count_owners\(counts\) < [^\n]*",
            "if false then",
            partial(of_rounds.test_requests_that_arrive_once_more, others=20),
            id="a late note",
        ),
        pytest.param(
            rounds.BEGIN,
            r"if now - began < every then",
            "if false then",
            partial(of_rounds.test_requests_that_arrive_once_more, others=20),
            id="a late beginning",
        ),
    ],
)
async def test_a_round_without(
    direct: Redis,
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    pattern: str,
    replacement: str,
    test: Callable[..., Awaitable[object]],
) -> None:
    """What scripts of rounds look at: the test that the case names."""
    without(monkeypatch, script, pattern, replacement)
    await is_noticed(monkeypatch, partial(run_on_site, test, direct))


async def test_a_turn_that_may_have_no_end(direct: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """It's nobody's: test_a_turn_without_an_end."""

    async def test() -> None:
        await direct.flushdb()
        clock = Clock()
        db = AsyncClientDatabase(direct, direct, clock=clock)
        for owner in of_all_owners.OWNERS:
            await of_all_owners.furnish(db.for_owner(owner))
        await of_all_owners.test_a_turn_without_an_end(db, clock, direct, "somebody")

    without(monkeypatch, turn.VISIT, r" and redis.call\('PTTL', turn\) ~= -1", "")
    await is_noticed(monkeypatch, test)


async def test_a_turn_that_a_full_server_refuses(
    admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written before it takes no room: test_a_server_that_is_full."""

    async def test() -> None:
        await admin.config_set("maxmemory", 0)
        await of_rounds.test_a_server_that_is_full(admin, Tally())

    for script in (turn.VISIT, turn.KEEP, turn.TAKE):
        without(monkeypatch, script, r"redis.call\('PEXPIRE', turn, ttl\)", "")
    await is_noticed(monkeypatch, test)
