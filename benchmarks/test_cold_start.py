"""What whoever starts waits for: a command, and embedded databases; here, and in another commit."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

from aqm_db import sync
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import names
from benchmarks.measuring.plan import Plan
from benchmarks.measuring.sides import OURS

CONTACTS = 10
_GROUPS = (names.JOIN, names.START, names.BEGIN)
# Connects to the first one twice, since the first time it may import something.
_PROGRAM = """
import asyncio, json, sys
from time import perf_counter
import aqm_db

async def connect(directory):
    begin = perf_counter()
    async with aqm_db.connect(f"embedded://{directory}"):
        return perf_counter() - begin

async def main(first, *others):
    await connect(first)
    print(json.dumps([await connect(each) for each in (first, *others)]))

asyncio.run(main(*sys.argv[1:]))
"""


def test_cold_start(
    async_benchmark: AsyncBenchmark, plan: Plan, other_code: Path | None, tmp_path: Path
) -> None:
    """Each commit in turns, in processes of its own."""
    codes = {names.LIBRARY: OURS}
    if other_code is not None:
        codes[names.against(names.LIBRARY)] = other_code
    samples: dict[str, dict[str, list[float]]] = {
        group: {name: [] for name in codes} for group in (names.STATUS, *_GROUPS)
    }
    running, stopped = tmp_path / "running", tmp_path / "stopped"
    with sync.connect(f"embedded://{stopped}"), sync.connect(f"embedded://{running}") as db:
        for number in range(CONTACTS):
            db.inventory.register_contact(f"contact-{number}", "MATE")
    with sync.connect(f"embedded://{running}"):
        for number in range(-1, plan.import_rounds):
            order = list(codes) if number % 2 else list(reversed(codes))
            for name in order:
                environment = _environment(codes[name], tmp_path / "compiled")
                new = tmp_path / f"new-{number}-{order.index(name)}"
                found = _connect(environment, running, stopped, new)
                found[names.STATUS] = _show_status(environment, running)
                if number >= 0:
                    for group, seconds in found.items():
                        samples[group][name].append(seconds)
    for group, measured in samples.items():
        for name, series in measured.items():
            async_benchmark.record(group, name, series)


def _environment(code: Path, cache: Path) -> dict[str, str]:
    """That of a process, with bytecode cached as pip leaves it."""
    made = {**os.environ, "PYTHONPATH": str(code), "PYTHONPYCACHEPREFIX": str(cache)}
    made.pop("PYTHONDONTWRITEBYTECODE", None)
    return made


def _connect(environment: Mapping[str, str], *directories: Path) -> dict[str, float]:
    program = [sys.executable, "-c", _PROGRAM, *map(str, directories)]
    return dict(zip(_GROUPS, json.loads(_run(program, environment)), strict=True))


def _show_status(environment: Mapping[str, str], directory: Path) -> float:
    begin = perf_counter()
    _run(
        [sys.executable, "-m", "aqm_db", "status", "--url", f"embedded://{directory}"], environment
    )
    return perf_counter() - begin


def _run(program: list[str], environment: Mapping[str, str]) -> bytes:
    run = subprocess.run(  # noqa: S603 - Python itself
        program, check=True, capture_output=True, env=environment
    )
    return run.stdout
