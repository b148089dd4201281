"""The README runs as it is written."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent.parent / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
SOURCE = README.parent / "src/aqm_db"
LOGGED = re.compile(r'_log(?:ger)?\.(?:log\(logging\.)?(\w+)[(,]\s*"(\w+)"')
WARNED = re.compile(r'\b_warn\("(\w+)"')


def program(text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program whose database is in a directory, every warning an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        env={**os.environ, "AQM_DB_URL": f"embedded://{directory}/db"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("example", EXAMPLES[:2], ids=["aio", "sync"])
def test_the_first_examples_run(example: str, tmp_path: Path) -> None:
    """What a newcomer copies works on an embedded database, without a warning, and once more."""
    assert "connect()" in example
    for _ in range(2):
        finished = program(example, tmp_path)
        assert finished.returncode == 0, finished.stderr
        assert finished.stderr == ""


def test_the_example_of_coins_at_hand_runs(tmp_path: Path) -> None:
    """It hands out as many coins as it stored, and leaves none behind."""
    example = next(example for example in EXAMPLES if "prefetch(" in example)
    for _ in range(2):
        finished = program(example, tmp_path)
        assert (finished.returncode, finished.stderr) == (0, "")
        assert finished.stdout.count("SILVER") == 3


def test_the_guide_runs(tmp_path: Path) -> None:
    """Coins are minted, published, claimed, verified and cached; a message is sent and read."""
    guide = next(example for example in EXAMPLES if "AsyncReplenisher" in example)
    for _ in range(2):
        finished = program(guide, tmp_path)
        assert (finished.returncode, finished.stderr) == (0, "")
        assert finished.stdout == "Hi Bob, it's Alice.\n"


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_compiles(example: str) -> None:
    """Fragments are Python too."""
    compile(example, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_commands_are_near_the_top() -> None:
    """Both commands stand within the first 60 lines, and .ci/run finds exactly these."""
    lines = README.read_text("utf-8").splitlines()
    start = lines.index("<!-- ci -->")
    commands = lines[start + 2 : start + 4]
    assert lines[start + 4] == "```"
    assert start + 4 < 60
    assert commands[0].endswith("/aqm-db demo")
    assert commands[1].endswith("/nox")


def test_the_events_are_those_that_are_logged() -> None:
    """Each level has one row, which names every event that is logged at it, once."""
    readme = README.read_text("utf-8")
    rows = re.findall(r"^\| (debug|info|warning|error) \| (.*) \|$", readme, re.MULTILINE)
    listed = [(level, event) for level, row in rows for event in re.findall(r"`(\w+)`", row)]
    source = "\n".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    logged = {(level.lower(), event) for level, event in LOGGED.findall(source)}
    logged |= {("warning", event) for event in WARNED.findall(source)}
    assert [level for level, _ in rows] == ["error", "warning", "info", "debug"]
    assert len(set(listed)) == len(listed)
    assert set(listed) == logged
