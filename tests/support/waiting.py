"""Waiting for servers, which get on at their own pace."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from redis.exceptions import RedisError

_SECONDS: Final = 60.0


def eventually(condition: Callable[[], object]) -> None:
    """Waits until something is so; a server that doesn't answer isn't so far."""
    end = time.monotonic() + _SECONDS
    while True:
        with suppress(RedisError):
            if condition():
                return
        assert time.monotonic() < end, "it doesn't come to pass"
        time.sleep(0.02)


async def await_until(condition: Callable[[], Awaitable[object]]) -> None:
    """The same on an event loop, which goes on meanwhile."""
    end = time.monotonic() + _SECONDS
    while not await condition():
        assert time.monotonic() < end, "it doesn't come to pass"
        await asyncio.sleep(0.02)
