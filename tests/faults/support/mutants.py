"""Protections taken out of the library, for the length of a test."""

import hashlib
import re

import pytest

from aqm_db._lua.loader import Script


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
