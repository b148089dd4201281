"""The demo: a step that fails makes it fail."""

from collections.abc import Callable

import pytest

from aqm_db import AsyncGarbageCollector, AsyncSecureVault, AsyncSmartInventory, coins, demo
from tests.support.broken_steps import (
    alter_nothing,
    burn_nothing,
    collect_nothing,
    find_another_secret,
    find_nothing,
    refuse_coin,
)
from tests.support.run_commands import run_command


@pytest.mark.parametrize(
    ("owner", "name", "broken", "complaint"),
    [
        (coins, "verify", refuse_coin, "the signature doesn't match"),
        (
            coins,
            "decapsulate",
            find_another_secret,
            "the message for bob-gold-1 isn't as it was sent",
        ),
        (
            AsyncSmartInventory,
            "select_coin",
            find_nothing,
            "message 1: expected a GOLD coin, got none",
        ),
        (AsyncSecureVault, "burn_key", burn_nothing, "the key after message 1: expected None"),
        (
            demo,
            "_alter_message",
            alter_nothing,
            "a forgery: expected ForgedMessageError, but it was read",
        ),
        (AsyncGarbageCollector, "dry_run", collect_nothing, "garbage: expected (1, 3)"),
    ],
    ids=["verify", "decapsulate", "select", "burn", "forgery", "gc"],
)
def test_a_broken_step_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    broken: Callable[..., object],
    complaint: str,
) -> None:
    """Exit code 1, and one line that says what was expected."""
    monkeypatch.setattr(owner, name, broken)
    code, out, err = run_command("demo")
    assert code == 2
    assert err.startswith(f"aqm-db: {complaint}")
    assert err.count("\n") == 1
    assert "7. What is stored now" not in out
    assert "Nothing is left" not in out


def test_secrets_have_no_repr() -> None:
    """A traceback or a log that shows one shows no message and no password."""
    home = demo.Home("redis://:secret@localhost", "alice", "a server")
    message = demo.Message("key", b"secret", b"secret", b"secret")
    assert "secret" not in f"{home!r} {message!r}"
