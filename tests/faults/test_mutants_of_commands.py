"""Each protection of the command line is needed: without it, a test that names it fails.

As in ``test_mutants.py``: every docstring says which protection is taken out, and which test fails.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from aqm_db._cli import completion, output
from tests.cli import test_completion as of_completion, test_escaping as of_escaping
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.run_commands import set_plain_output

url = of_completion.url
place = of_escaping.place


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server of the user's."""
    with RunningServer(VALKEY_9) as running:
        yield running


@pytest.fixture
def mutant(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Takes a protection out."""
    set_plain_output(monkeypatch)
    with pytest.MonkeyPatch.context() as changes:
        yield changes


def is_noticed(mutant: pytest.MonkeyPatch, test: Callable[..., None], **arguments: Any) -> None:
    """Makes sure that a test fails with the mutant, and passes without it."""
    with pytest.raises(AssertionError):
        test(**arguments)
    mutant.undo()
    test(**arguments)


@pytest.mark.parametrize(
    "pattern", ["(?s:.*)", r"[A-Za-z0-9_:@+.-]+", r"[\w:@+][\w:@+.-]*", r"[ -~]+"]
)
def test_ids_that_a_shell_may_act_on(mutant: pytest.MonkeyPatch, url: str, pattern: str) -> None:
    """Harmless ids alone: test_harmless_ids_alone_are_offered."""
    mutant.setattr(completion, "_HARMLESS", re.compile(pattern))
    is_noticed(mutant, of_completion.test_harmless_ids_alone_are_offered, url=url)


def test_a_shell_that_acts_on_them(mutant: pytest.MonkeyPatch, url: str) -> None:
    """Shells that were tried alone: test_a_shell_that_acts_on_them."""
    mutant.setattr(completion, "_SHELLS", {"powershell"})
    is_noticed(mutant, of_completion.test_a_shell_that_acts_on_them, other="powershell", url=url)


def test_what_rich_lets_through(
    mutant: pytest.MonkeyPatch, place: of_escaping.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments that are escaped: test_the_demos_places."""
    mutant.setattr(output.PlainConsole, "render", Console.render)
    is_noticed(
        mutant,
        of_escaping.test_the_demos_places,
        place=place,
        monkeypatch=monkeypatch,
        keep=True,
    )


def test_lines_as_they_are(
    mutant: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lines that are escaped: test_what_is_written_as_it_is."""

    def unchanged(text: str, *, keep: str = "") -> str:
        return text

    mutant.setattr(output, "escape_text", unchanged)
    is_noticed(
        mutant,
        of_escaping.test_what_is_written_as_it_is,
        capsys=capsys,
        monkeypatch=monkeypatch,
    )
