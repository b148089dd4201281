"""The demo's story on a terminal."""

import asyncio
import os
import re
import subprocess
import sys
import time
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from aqm_db import demo
from aqm_db._cli.commands.demo_story import open_temporary_homes
from aqm_db._cli.views.demo_view import View


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that whoever runs the tests has set decides on width and colours."""
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "AQM_DB_URL"):
        monkeypatch.delenv(name, raising=False)


def show_story(console: Console) -> str:
    """The whole story, as a console of a terminal shows it."""

    async def main() -> None:
        async with open_temporary_homes() as homes:
            await demo.tell(homes.alice, homes.bob, View(console))

    asyncio.run(main())
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def make_terminal(**options: Any) -> Console:
    """A terminal of 80 columns that knows all colours."""
    return Console(
        file=StringIO(), force_terminal=True, color_system="truecolor", width=80, **options
    )


def test_tiers_have_colours() -> None:
    """Each its own."""
    text = show_story(make_terminal())
    assert "\x1b[1;33mGOLD" in text
    assert "\x1b[38;5;248mSILVER" in text
    assert "\x1b[38;5;166mBRONZE" in text


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR, there is bold text, and no colour."""
    monkeypatch.setenv("NO_COLOR", "1")
    codes = set(re.findall("\x1b\\[([\\d;]*)m", show_story(make_terminal())))
    assert codes == {"0", "1", "2"}


def test_no_box_drawing_where_it_cannot_be_shown() -> None:
    """Whatever isn't ASCII would end the demo on a console that has nothing else."""
    script = "from aqm_db.cli import main; main()"
    process = subprocess.run(
        [sys.executable, "-c", script, "demo"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        encoding="ascii",
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")


def test_slow_selects_are_shown_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may be slow: that's no failure."""
    ticks = iter(range(1000))
    clock = SimpleNamespace(time=time.time, perf_counter=lambda: next(ticks) * 0.005)
    monkeypatch.setattr(demo, "time", clock)
    text = show_story(make_terminal())
    assert "\x1b[31m    5.00 ms" in text
    assert "p50 5.00 ms, max 5.00 ms (promised: under 2 ms)" in text
