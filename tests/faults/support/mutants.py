"""Protections taken out of the library, for the length of a test."""

import gc
import hashlib
import re
import warnings
from collections.abc import Awaitable, Callable

import pytest

from aqm_db._lua.loader import Script
from tests.faults.support.cancelled_callers import turns


def without(
    monkeypatch: pytest.MonkeyPatch, script: Script, pattern: str, replacement: str
) -> None:
    """Replaces what a pattern matches in a script's text, shared parts included.

    A pattern that matches nothing fails the test: the script was changed, and the mutant wasn't.
    """
    mutated, times = re.subn(pattern, replacement, script.source)
    assert times, f"{script.name} has no {pattern!r}"
    assert mutated != script.source
    monkeypatch.setitem(vars(script), "source", mutated)
    sha = hashlib.sha1(mutated.encode(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(vars(script), "sha", sha)


async def is_noticed_as(
    failures: tuple[type[BaseException], ...],
    mutant: pytest.MonkeyPatch,
    test: Callable[[], Awaitable[object]],
) -> None:
    """Makes sure that a test fails with a mutant, and passes without it, connections and all.

    Args:
        failures: how a test fails that notices a mutant.
        mutant: what takes the protection out.
        test: the test.
    """
    with pytest.raises(failures):
        await test()
    mutant.undo()
    with warnings.catch_warnings():
        # Of what the test left open when it failed.
        warnings.simplefilter("ignore", ResourceWarning)
        await turns(20)
        gc.collect()
    await test()
