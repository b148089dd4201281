"""A provider's program: a process of its own that cares for all owners, round after round.

It has the idle scheduling class, where there is one, as such a program should where there are fewer
cores than programs.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from aqm_db import connect

OWNER = "provider"
"""Whose database knows how far a round is."""
_LONG = 3600.0
"""Seconds that an owner who was cared for is passed over, in the same round."""


class Provider:
    """The process, which does nothing while it's paused.

    Args:
        process: the process.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def pause(self) -> None:
        """Stops it where it is."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Has it go on."""
        os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def provider(url: str) -> Generator[Provider]:
    """Runs one until the block ends; it has begun, and is paused."""
    program = [sys.executable, "-m", "benchmarks.measuring.provider", url]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:  # noqa: S603 - this very file
        assert process.stdout is not None
        process.stdout.readline()
        running = Provider(process)
        running.pause()
        try:
            yield running
        finally:
            process.kill()


async def run_rounds(url: str) -> None:
    """Runs rounds for ever, one as soon as another is over."""
    async with connect(url, owner=OWNER) as database:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        client = database.resources.clients[1]
        while True:
            await database.maintain_owners(every=_LONG)
            # The next one is due at once, and finds the turns of this one.
            await client.hincrby(database.inventory.keys.round, "began", -int(_LONG * 1000))


if __name__ == "__main__":
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    asyncio.run(run_rounds(sys.argv[1]))
