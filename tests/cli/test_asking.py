"""What deletes asks first, and whoever doesn't say yes keeps everything."""

import pytest

from tests.support.backends import RunningServer
from tests.support.run_commands import NOBODY_TO_ASK, allow_answers, read_content, run_command

DELETIONS = pytest.mark.parametrize(
    ("command", "deletion"),
    [
        (["set-priority", "bob", "MATE"], "As a MATE, 'bob' loses 5 coins."),
        (
            ["gc"],
            "This deletes 11 coins (20,900 B); contacts that become STRANGERs: 2.",
        ),
        (["purge"], "This deletes all private halves that are older than 30 days."),
        (["forget", "bob"], "This deletes contact 'bob' and 7 coins."),
    ],
    ids=["set-priority", "gc", "purge", "forget"],
)


@DELETIONS
def test_without_anybody_to_ask(
    server: RunningServer, old_url: str, command: list[str], deletion: str
) -> None:
    """What isn't a terminal can't say yes: nothing is deleted, and --yes is named."""
    before = read_content(server)
    ran = run_command(*command, "--url", old_url)
    assert (ran.code, ran.out, ran.err) == (2, "", f"aqm-db: {deletion}{NOBODY_TO_ASK}")
    assert read_content(server) == before


@DELETIONS
@pytest.mark.parametrize("answer", ["n\n", "\n", ""], ids=["no", "nothing", "end"])
def test_no(
    server: RunningServer,
    old_url: str,
    command: list[str],
    deletion: str,
    answer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever doesn't say yes keeps everything; the question isn't among what machines read."""
    allow_answers(monkeypatch)
    before = read_content(server)
    ran = run_command(*command, "--url", old_url, "--json", answer=answer)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"{deletion} Go on? [y/N] Nothing was changed.\n"
    assert read_content(server) == before


def test_yes(old_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on."""
    allow_answers(monkeypatch)
    ran = run_command("forget", "bob", "--url", old_url, answer="y\n")
    assert (ran.code, ran.out) == (0, "bob is forgotten; 7 coins dropped.\n")
