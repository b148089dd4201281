"""Random runs of calls, faults and damage: the database is always what the model says."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from aqm_db._operations import collecting, contacts, private_halves, stock
from tests.faults.support.fault_table import Tally
from tests.faults.support.mutants import without
from tests.faults.support.random_calls import CAPS, Machine
from tests.faults.support.single_faults import Place
from tests.support.backends import REDIS_6, VALKEY_9, Backend, Servers

BOUNDED = settings(
    max_examples=25,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
THOROUGH = {
    VALKEY_9: settings(
        BOUNDED, max_examples=500, stateful_step_count=50, derandomize=False, print_blob=True
    ),
}
THOROUGH[REDIS_6] = settings(THOROUGH[VALKEY_9], max_examples=100)
FAILING = settings(BOUNDED, max_examples=500, phases=[Phase.generate])
"""Where a failure is expected, the first one will do."""


@pytest.fixture
def place(
    request: pytest.FixtureRequest,
    servers: Servers,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Place]:
    """Where the runs go; nobody reads their log."""
    caplog.set_level(logging.CRITICAL, "aqm_db")
    backend = request.param
    assert isinstance(backend, Backend)
    with Place(servers[backend], tmp_path, CAPS) as place:
        yield place


@pytest.mark.parametrize(
    ("place", "thoroughly"),
    THOROUGH.items(),
    indirect=["place"],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_database_is_what_the_model_says(
    place: Place, thoroughly: settings, tally: Tally, *, thorough: bool
) -> None:
    """Whatever is called, fails and breaks, in whatever order."""
    _run(place, tally, thoroughly if thorough else BOUNDED)


MUTANTS = {
    "used coins are stored again": (
        stock.STORE,
        "if was_used and",
        "if false and",
    ),
    "a repeated store is refused": (stock.STORE, r"== request_id and OK", "== '' and OK"),
    "a store overwrites": (
        stock.STORE,
        "if has_row then",
        "if false then",
    ),
    "the newest coin is taken": (
        stock.SELECT,
        r"'ZRANGE', queue, 0, 0",
        "'ZREVRANGE', queue, 0, 0",
    ),
    "claims are ignored": (
        stock.SELECT,
        r"redis.call\('RENAMENX', row, claim\) == 0",
        "redis.call('RENAME', row, claim) == 0",
    ),
    "the use is not remembered": (
        stock.CONSUME,
        r"'ZADD', used, 'GT'",
        "'ZADD', used, 'XX'",
    ),
    "any receipt will do": (
        stock.RELEASE,
        r"tonumber\(receipt\) ~= used_at",
        "false",
    ),
    "a released coin is the last": (
        stock.RELEASE,
        r"'ZADD', queue, score, key_id",
        "'ZADD', queue, now + 1, key_id",
    ),
    "a contact that is back gets coins of the first": (
        stock.RELEASE,
        r"registration ~= \(contact\[2\] or ''\)",
        "false",
    ),
    "the oldest coins are dropped": (contacts.SET_PRIORITY, "'ZRANGE'", "'ZREVRANGE'"),
    "a higher priority drops coins": (
        contacts.SET_PRIORITY,
        "local lowered = unfinished and present == priority",
        "local lowered = true",
    ),
    "a contact is active for ever": (
        collecting.COLLECT,
        r"local is_inactive = [^\n]*",
        "local is_inactive = false",
    ),
    "expiry goes by clients' clocks": (
        private_halves.STORE,
        r"format_score\(expires_at, coin_category\)",
        "format_score(created_at + ttl, coin_category)",
    ),
    "burned keys stay on the counter": (
        private_halves.BURN,
        r"counters\[active\], counters.total_burned = counters\[active\] - 1",
        "counters[active], counters.total_burned = counters[active]",
    ),
    "a burned key is forgotten": (private_halves.BURN, "note_spent\\(spent, id, [^\n]*", ""),
    "a burned key comes back": (private_halves.STORE, "if fate == 'burned' then", "if false then"),
    "a repeated burn is refused": (private_halves.BURN, "== request_id then", "== '' then"),
    "expired keys stay on the counter": (
        private_halves.COUNTERS,
        r"math.max\(counters\[active\] - 1, 0\)",
        "counters[active]",
    ),
}


@pytest.mark.parametrize("place", [VALKEY_9], indirect=True, ids=[""])
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_does_not_do_what_the_model_says(
    place: Place, monkeypatch: pytest.MonkeyPatch, mutant: str, *, thorough: bool
) -> None:
    """The test above fails when a script is wrong."""
    if not thorough:
        pytest.skip("how soon a random run meets a mutant is a matter of luck: --thorough")
    without(monkeypatch, *MUTANTS[mutant])
    with pytest.raises((AssertionError, Flaky)):
        _run(place, None, FAILING)


def _run(place: Place, tally: Tally | None, how: settings) -> None:
    # Any callable will do, though the annotation asks for a class.
    make: Any = partial(Machine, place, tally)
    run_state_machine_as_test(make, settings=how)
