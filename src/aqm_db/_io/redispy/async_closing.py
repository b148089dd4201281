"""How things are closed on the event loop that they belong to: from another one, or when it ends.

``asyncio.run`` and ``asyncio.Runner`` cancel all tasks, wait for them, and close every
asynchronous generator then. So there is one generator for each loop, which closes what is left.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

from redis.exceptions import RedisError


class Closing(Protocol):
    """What can be closed."""

    async def aclose(self) -> None:
        """Closes it; again, it does nothing."""
        ...


class Owned(Protocol):
    """What belongs to the event loop that uses it first, in the process that made it.

    Attributes:
        loop: the event loop; None if it belongs to none yet.
        is_inherited: whether it belongs to the process which forked this one.
    """

    loop: asyncio.AbstractEventLoop | None
    is_inherited: bool


async def close_with_loop(closing: Closing) -> None:
    """Has something closed when the running event loop ends; it isn't kept alive until then."""
    loop = asyncio.get_running_loop()
    watch = _watches.get(loop)
    if watch is None:
        watch = _watches[loop] = _Watch()
        await anext(watch.waiting)
    watch.parts.add(closing)


async def close_at_home(home: Owned, client: Closing) -> None:
    """Closes a client where its connections are.

    On another event loop that's done as soon as it runs; and in a process that was forked it's the
    parent's to do.
    """
    if home.is_inherited:
        return
    loop = home.loop
    if loop is None or loop.is_closed() or loop is asyncio.get_running_loop():
        await _close(client)
    else:
        close_there(loop, client)


def close_there(loop: asyncio.AbstractEventLoop, closing: Closing) -> None:
    """Closes something on an event loop, as soon as that runs."""
    # It may be closed at any time.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_close_soon, closing)


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


def _close_soon(closing: Closing) -> None:
    loop = asyncio.get_running_loop()
    # In order: a client is closed when its calls have ended.
    before = [task for task in _closings if task.get_loop() is loop]
    task = loop.create_task(_close_after(before, closing))
    _closings.add(task)
    task.add_done_callback(_closings.discard)


async def _close_after(before: Sequence[asyncio.Task[None]], closing: Closing) -> None:
    if before:
        await asyncio.wait(before)
    await _close(closing)


async def _close(closing: Closing) -> None:
    # A peer that doesn't take leave in time (TLS): it's closed all the same.
    with suppress(RedisError):
        await closing.aclose()


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()
_closings: set[asyncio.Task[None]] = set()
