"""Each protection of walks, and of backups that aren't whole, is needed.

As in test_mutants, every docstring says which protection is taken out, and which test then fails.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from aqm_db import connect
from aqm_db._io import answers
from aqm_db._io.facts import Facts
from aqm_db._io.redispy import async_channel, sync_exchange
from aqm_db.backup import _records
from tests.care import test_backup as of_backups
from tests.faults.support.mutants import is_noticed_as
from tests.io import test_walks as of_walks
from tests.support.backends import RunningServer
from tests.support.samples import Clock, always

pytestmark = pytest.mark.asyncio

NOTICED = (AssertionError, pytest.fail.Exception)
"""How a test fails that notices a mutant."""
server = of_walks.server
open_scope = of_walks.open_scope


async def is_noticed(mutant: pytest.MonkeyPatch, test: Callable[[], Awaitable[None]]) -> None:
    """Makes sure that a test fails with a mutant, and passes without it."""
    await is_noticed_as(NOTICED, mutant, test)


async def test_connections_that_are_taken_for_one(
    server: RunningServer, open_scope: of_walks.Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks of connections: test_another_process."""
    for module in (async_channel, sync_exchange):
        monkeypatch.setattr(module, "find_mark", always("one"))
    await is_noticed(monkeypatch, lambda: of_walks.test_another_process(server, open_scope))


async def test_processes_that_are_taken_for_one(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of processes: test_a_seam_that_knows_no_connections."""
    monkeypatch.setattr(answers, "parse_info", always(Facts({"run_id": "one"})))
    await is_noticed(monkeypatch, lambda: of_walks.test_a_seam_that_knows_no_connections(server))


async def test_a_walk_that_begins_anew_for_ever(
    server: RunningServer, open_scope: of_walks.Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How often it begins: test_connections_without_end_to_a_process_that_is_not_known."""
    monkeypatch.setattr(answers, "_MOST_STARTS", 40)
    await is_noticed(
        monkeypatch,
        lambda: of_walks.test_connections_without_end_to_a_process_that_is_not_known(
            server, open_scope
        ),
    )


async def test_a_backup_that_nobody_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its counts: test_a_file_that_holds_less_than_it_should_is_refused."""

    async def test() -> None:
        clock, path = Clock(), tmp_path / "alice.backup"
        path.unlink(missing_ok=True)
        async with connect("memory://", clock=clock) as db:
            await of_backups.test_a_file_that_holds_less_than_it_should_is_refused(db, clock, path)

    monkeypatch.setattr(_records, "_check_counts", always(None))
    await is_noticed(monkeypatch, test)
