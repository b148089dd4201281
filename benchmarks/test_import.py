"""What a program's start pays for the library."""

import subprocess
import sys

from benchmarks import names
from benchmarks.conftest import AsyncBenchmark
from benchmarks.plan import Plan

MODULES = ("aqm_db", "redis.asyncio")
_PROGRAM = """
from time import perf_counter
begin = perf_counter()
import {module}
print(perf_counter() - begin)
"""


def test_import(async_benchmark: AsyncBenchmark, plan: Plan) -> None:
    """The library, and the client that it imports."""
    samples: dict[str, list[float]] = {module: [] for module in MODULES}
    for number in range(-1, plan.import_rounds):
        for module in MODULES:
            seconds = _seconds(module)
            if number >= 0:
                samples[module].append(seconds)
    for module in MODULES:
        async_benchmark.record(names.IMPORT, module, samples[module])


def _seconds(module: str) -> float:
    """The time that an import takes in a new process."""
    program = [sys.executable, "-c", _PROGRAM.format(module=module)]
    run = subprocess.run(program, check=True, capture_output=True)  # noqa: S603 - Python itself
    return float(run.stdout)
