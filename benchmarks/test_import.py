"""What a program's start pays for the library."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import names
from benchmarks.measuring.plan import Plan

MODULES = ("aqm_db", "redis.asyncio")
# All on one processor, since those of a machine may differ by more than the two imports do.
_PROGRAM = """
import os
from time import perf_counter
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
begin = perf_counter()
import {module}
print(perf_counter() - begin)
"""


def test_import(async_benchmark: AsyncBenchmark, plan: Plan, tmp_path: Path) -> None:
    """The library, and the client that it imports."""
    samples: dict[str, list[float]] = {module: [] for module in MODULES}
    for number in range(-1, plan.import_rounds):
        for module in MODULES:
            seconds = _seconds(module, tmp_path)
            if number >= 0:
                samples[module].append(seconds)
    for module in MODULES:
        async_benchmark.record(names.IMPORT, module, samples[module])


def _seconds(module: str, cache: Path) -> float:
    """The time that an import takes in a new process, with bytecode cached as pip leaves it."""
    program = [sys.executable, "-c", _PROGRAM.format(module=module)]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    run = subprocess.run(  # noqa: S603 - Python itself
        program, check=True, capture_output=True, env=environment
    )
    return float(run.stdout)
