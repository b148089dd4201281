"""Nothing hangs: a test that takes too long ends, and Ctrl-C ends what it is sent to."""

import faulthandler
import os
import signal
from collections.abc import Generator

import pytest

SECONDS = {False: 120.0, True: 3600.0}
"""What a test may take, fixtures included, on a busy machine: by whether it tries everything."""


class Patience:
    """Ends the process when a test takes too long, after the stacks of all threads were printed.

    With pytest-xdist it's a worker that ends: the test has failed, and another worker goes on. What
    the test had started is left behind. A softer end would wait for the threads that hang.

    Args:
        seconds: what a test may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # While a test runs, its own is captured.
        self._stderr = os.dup(2)
        # Written where Python itself hangs, too; and then the signal ends the process. The timer
        # of pytest's own takes a thread for each test, and is off as soon as one has failed.
        faulthandler.register(signal.SIGALRM, self._stderr, all_threads=True, chain=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Times a test and its fixtures."""
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def pytest_enter_pdb(self) -> None:
        """Gives whoever debugs all the time that they need."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def pytest_unconfigure(self) -> None:
        """Leaves the signal as it was."""
        faulthandler.unregister(signal.SIGALRM)
        os.close(self._stderr)


def heed_interrupts() -> None:
    """Lets this process, and those that it starts, end by Ctrl-C (SIGINT).

    In the background of a shell, in cron and in some CI it's ignored, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
