"""When calls arrive: a process of its own that writes a byte at each due time.

The event loop sleeps until then, as it does when messages come over a network; its own timers
would round to whole milliseconds, and a loop that spins instead takes a core from the server.
"""

import os
import struct
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter, sleep

_START = struct.Struct("d")
_LEAD = 0.01
"""Seconds before the first arrival, for the loop to get ready."""


@contextmanager
def arrivals(rate: float, count: int) -> Generator[tuple[int, float]]:
    """A descriptor that a byte comes from for each arrival, and when the first one is due."""
    program = [sys.executable, __file__, str(rate), str(count)]
    with subprocess.Popen(  # noqa: S603 - this very file
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        [begin] = _START.unpack(os.read(descriptor, _START.size))
        yield descriptor, begin


def _write(descriptor: int, rate: float, count: int) -> None:
    # This clock (CLOCK_MONOTONIC) is the same in every process.
    begin = perf_counter() + _LEAD
    os.write(descriptor, _START.pack(begin))
    written = 0
    while written < count:
        early = begin + written / rate - perf_counter()
        if early > 0:
            sleep(early)
        else:
            due = min(int(-early * rate) + 1, count - written)
            os.write(descriptor, bytes(due))
            written += due


if __name__ == "__main__":
    _write(sys.stdout.fileno(), float(sys.argv[1]), int(sys.argv[2]))
    # Ending takes a while of a core, too: only once nobody measures any more.
    sys.stdin.read()
