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

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Times a test and its fixtures."""
        self._begin()
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(trylast=True)
    def pytest_exception_interact(self) -> None:
        """Times what a test that failed has yet to tidy up; pytest itself has ended all timers."""
        self._begin()

    def pytest_unconfigure(self) -> None:
        """Closes what was opened."""
        os.close(self._stderr)

    def _begin(self) -> None:
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._stderr)


def heed_interrupts() -> None:
    """Lets this process, and those that it starts, end by Ctrl-C (SIGINT).

    In the background of a shell, in cron and in some CI it's ignored, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
