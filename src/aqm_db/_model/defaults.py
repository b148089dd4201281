"""Where time and ids come from unless a constructor is given something else."""

import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

DAY_MS: Final = 86_400_000
_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
Sleep: TypeAlias = Callable[[float], Awaitable[object]]
"""Waits for some seconds; ``anyio.sleep``, unless a test decides when time passes."""


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def read_elapsed() -> float:
    """Seconds on a clock that never steps, and counts suspension.

    That is CLOCK_BOOTTIME on Linux, and CLOCK_MONOTONIC elsewhere; Windows counts it in any case.
    """
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


def read_elapsed_ms() -> int:
    """The same in milliseconds."""
    return int(read_elapsed() * 1000)


def new_request_id() -> str:
    """96 random bits as 16 characters: what makes a call that is sent twice run once."""
    return urlsafe_b64encode(os.urandom(12)).decode()
