"""Each protection of embedded databases is needed: without it, a test that names it fails.

As in test_mutants, every docstring says which protection is taken out, and which test then fails.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aqm_db.embedded import EmbeddedServer, _share
from aqm_db.embedded._server import ServerProcess
from aqm_db.embedded._server_file import ServerFile
from aqm_db.errors import AQMDatabaseError, EmbeddedServerError
from tests.care import test_embedded_ends as of_ends, test_embedded_revival as of_revival
from tests.support import embedded_programs

NOTICED = (AssertionError, AQMDatabaseError)
"""How a test fails that notices a mutant."""


@pytest.fixture
def directories() -> Iterator[Callable[[], Path]]:
    """Where databases may be made, one for each run of a test."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        names = iter("ab")
        yield lambda: Path(path).resolve() / next(names)


Directories = Callable[[], Path]


def is_noticed(
    mutant: pytest.MonkeyPatch, test: Callable[[Path], None], directories: Directories
) -> None:
    """Makes sure that a test fails with a mutant, and passes without it."""
    started: dict[tuple[int, int], ServerProcess] = {}
    mutant.setattr(_share, "_started", started)
    with pytest.raises(NOTICED):
        test(directories())
    for process in started.values():
        with process:
            process.kill()
    mutant.undo()
    test(directories())


def do_nothing(*_: object) -> None:
    """Stands for a protection."""


def refuse(_: EmbeddedServer, *, timeout: float) -> None:
    """Starts nothing."""
    raise EmbeddedServerError(f"not in {timeout} seconds either")


def test_a_server_that_nobody_starts_again(
    directories: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead server comes back: test_the_event_loop_goes_on."""
    monkeypatch.setattr(EmbeddedServer, "revive", refuse)
    is_noticed(
        monkeypatch,
        lambda directory: of_revival.test_the_event_loop_goes_on(asyncio.run, directory),
        directories,
    )


def test_a_server_that_hangs_on_nothing(
    directories: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with its last user: test_its_starter_closes_before."""
    monkeypatch.setattr(_share, "tie_server", do_nothing)
    monkeypatch.setattr(embedded_programs, "PATIENCE", 2.0)
    is_noticed(monkeypatch, of_ends.test_its_starter_closes_before, directories)


def test_a_server_that_nobody_finds(
    directories: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another takes its place: test_something_else_is_in_the_place_of_the_socket."""
    monkeypatch.setattr(ServerFile, "end_server", do_nothing)
    monkeypatch.setattr(_share, "_STOP_SECONDS", 2.0)
    test = of_ends.test_something_else_is_in_the_place_of_the_socket
    is_noticed(monkeypatch, test, directories)


def test_a_server_that_writes_of_each_rewrite(
    directories: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log stays as it is: test_rewrites_leave_the_log_as_it_is."""
    monkeypatch.setattr(_share, "quieten_log", do_nothing)
    is_noticed(monkeypatch, of_ends.test_rewrites_leave_the_log_as_it_is, directories)
