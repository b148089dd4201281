"""What is done at the end of an event loop, once all of its tasks have ended.

``asyncio.run`` and ``asyncio.Runner`` cancel all tasks, wait for them, and close every
asynchronous generator then. So there is one generator for each loop, which closes what is left.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet


class Closing(Protocol):
    """What can be closed."""

    async def aclose(self) -> None:
        """Closes it; again, it does nothing."""
        ...


async def close_with_loop(closing: Closing) -> None:
    """Has something closed when the running event loop ends; it isn't kept alive until then."""
    loop = asyncio.get_running_loop()
    watch = _watches.get(loop)
    if watch is None:
        watch = _watches[loop] = _Watch()
        await anext(watch.waiting)
    watch.parts.add(closing)


class _Watch:
    def __init__(self) -> None:
        self.parts: WeakSet[Closing] = WeakSet()
        self.waiting = _wait(self.parts)


async def _wait(parts: WeakSet[Closing]) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        for closing in tuple(parts):
            await closing.aclose()


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()
