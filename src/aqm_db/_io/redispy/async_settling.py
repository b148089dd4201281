"""What becomes of calls whose caller is gone: their outcome is found out, and taken back."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aqm_db import config
from aqm_db._io.request import Request
from aqm_db.errors import AQMDatabaseError, UnavailableError

_GRACE_SECONDS = 2.0
"""How long an answer may take that was asked for while the server still knew the request."""


async def settle_in_time(
    settle: Callable[[], Coroutine[Any, Any, AQMDatabaseError | None]],
    request: Request,
    seconds: float,
    give_up: Callable[[AQMDatabaseError], None],
) -> None:
    """Settles calls, again and again, until the server has forgotten them.

    Args:
        settle: does it once; it's tried again if it raises an UnavailableError, and returns what
            another attempt wouldn't change.
        request: that of the calls.
        seconds: how long it may go on after a cancellation.
        give_up: is told why it's given up.
    """
    time_left = _TimeLeft(request.count_left() + _GRACE_SECONDS, seconds)
    error: AQMDatabaseError | None = UnavailableError("nobody answered in time")
    while time_left.count() > 0:
        attempt = asyncio.create_task(settle())
        await time_left.wait_for(attempt)
        if not attempt.done():
            attempt.cancel()
            await asyncio.wait((attempt,))
        try:
            error = attempt.result()
            break
        except asyncio.CancelledError:
            continue
        except UnavailableError as failure:
            error = failure
            if request.is_over():
                # It won't be sent again.
                break
            pause = asyncio.create_task(asyncio.sleep(config.REDIS_RETRY_DELAY))
            await time_left.wait_for(pause)
            pause.cancel()
        except AQMDatabaseError as failure:
            error = failure
            break
    if error is not None:
        give_up(error)


class _TimeLeft:
    """How much time is left, and how much of it a cancellation leaves.

    An event loop that ends cancels all of its tasks, those that settle included; what they ask may
    be asked again. So a cancellation says no more than that there is little time left.
    """

    def __init__(self, seconds: float, after_cancellation: float) -> None:
        self._time = asyncio.get_running_loop().time
        self._last = self._time() + seconds
        self._after_cancellation = after_cancellation

    def count(self) -> float:
        """In seconds."""
        return self._last - self._time()

    async def wait_for(self, task: asyncio.Task[Any]) -> None:
        """Waits until a task is done, or no time is left."""
        while not task.done() and (left := self.count()) > 0:
            try:
                await asyncio.wait((task,), timeout=left)
            except asyncio.CancelledError:
                self._last = min(self._last, self._time() + self._after_cancellation)
