"""What a command imports, and what becomes of its arguments."""

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from aqm_db import cli, sync
from aqm_db._cli.app import app
from tests.support.run_commands import run_command

SPARED = (
    # Help, bars, and what draws anew.
    "typer.rich_utils",
    "rich.progress",
    "rich.live",
    # Other commands, and what they are for.
    *(
        f"aqm_db._cli.commands.{name}"
        for name in ("backup", "bench", "chat_demo", "cleaning", "contacts", "demo", "health")
    ),
    *(
        f"aqm_db.{name}"
        for name in (
            "coins",
            "demo",
            "doctor",
            "integrity",
            "maintenance",
            "metrics",
            "replenisher",
        )
    ),
    "anyio",
    # Other kinds of servers.
    "fakeredis",
    *(f"aqm_db._io.redispy.{name}" for name in ("async_cluster", "sentinel", "sync_cluster")),
    # A host's name is checked with it.
    "encodings.idna",
)
PROGRAM = """
import sys
from aqm_db.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code
found = {each for each in SPARED for name in sys.modules if f"{name}.".startswith(f"{each}.")}
assert not found, found
assert "aqm_db._cli.commands.status" in sys.modules
"""
AT_THE_END = """
import atexit, gc, sys
atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 10_000))
from aqm_db.cli import main
sys.argv = ["aqm-db", "--version"]
main()
"""


def run_program(program: str, *arguments: str) -> str:
    """What a program writes, in a process of its own."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_status_imports_what_it_uses_alone(tmp_path: Path) -> None:
    """Nothing of other commands and servers; a third of its time went into that."""
    url = f"embedded://{tmp_path}/db"
    with sync.connect(url):
        written = run_program(f"SPARED = {SPARED!r}\n{PROGRAM}", "status", "--url", url)
    assert "No contacts." in written


def test_modules_are_not_looked_through_for_garbage_at_the_end() -> None:
    """They are no garbage; what a long command leaves is looked for all the same."""
    assert run_program(AT_THE_END).splitlines()[-1] == "True True"


def test_young_objects_are_looked_through_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules are made of many."""
    before = gc.get_threshold()
    gc.set_threshold(1_000)
    monkeypatch.setattr(sys, "argv", ["aqm-db", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    assert gc.get_threshold()[0] > 10_000
    gc.set_threshold(*before)


def test_all_commands_are_known_by_their_names() -> None:
    """In the order in which the help lists them; one that's asked for twice is made once."""
    commands: Any = get_command(app)
    names = list(commands.commands)
    assert (names[0], names[-1], len(commands.commands)) == ("status", "chat-demo", 15)
    assert [commands.commands[name].name for name in names] == names
    assert commands.commands["import"] is commands.commands["import"]
    assert commands.commands.get("stats") is None


@pytest.mark.parametrize("seconds", ["0", "x"])
def test_what_is_no_text_is_converted(seconds: str) -> None:
    """Options whose values can be wrong are checked as ever."""
    result = run_command("status", "--every", seconds, "--url", "memory://")
    assert (result.code, result.out) == (2, "")
    assert "--every" in result.err


def test_what_is_converted_is_used() -> None:
    """A number, for one."""
    assert run_command("status", "--every", "0.5", "--url", "memory://").code == 0


def test_a_text_that_is_no_utf_8_is_one_line() -> None:
    """A shell hands on any bytes."""
    result = run_command("status", "--owner", "\udcff", "--url", "memory://")
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
