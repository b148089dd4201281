"""``nox -s soak``: half a year of three people, within minutes."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.soak.director import DayError, Director
from tests.soak.plan import plan_days
from tests.soak.report import make_report


def main() -> int:
    """Lets days pass until they are over, or one doesn't add up.

    Returns:
        1 if one didn't, or something grows without bound.
    """
    parser = argparse.ArgumentParser(prog="nox -s soak --", description=__doc__)
    parser.add_argument("--days", type=int, default=182, help="how many; half a year by default")
    parser.add_argument("--seed", type=int, default=1, help="decides who meets with what, and when")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aqm-") as root:
        return asyncio.run(live(Path(root), arguments.days, Random(arguments.seed)))  # noqa: S311 - lives that can be lived again


async def live(root: Path, days: int, random: Random) -> int:
    """The same, in a directory."""
    began = time.monotonic()
    passed, faults = 0, list[str]()
    async with Director.open(root, random) as director:
        try:
            for day in plan_days(days, random):
                await director.live_through(day)
                passed = day.number
        except DayError as error:
            faults.append(str(error))
        faults += director.find_growth()
        report = make_report(director, passed)
    took = f"{passed} days in {time.monotonic() - began:.0f} seconds"
    sys.stdout.write("\n".join([report, *faults, took, ""]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
