"""Shelter from cancellations that are meant for others, or come too often.

A task that is cancelled by asyncio may wait for something else then, and is cancelled once. A scope
of anyio's cancels in each turn of the event loop, until the task leaves it: whoever waits in it is
cancelled again at once, and whoever holds out against that keeps the processor busy.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from math import inf
from typing import Any, TypeVar

T = TypeVar("T")
_going_on: set[asyncio.Task[None]] = set()
"""An event loop keeps no task that nobody else keeps."""


def shield_task() -> AbstractContextManager[object]:
    """A scope that no other scope cancels; asyncio's own cancellation comes through."""
    # Nobody has a scope who hasn't imported it.
    anyio = sys.modules.get("anyio")
    if anyio is None or not _is_in_task():
        return nullcontext()
    scope: AbstractContextManager[object] = anyio.CancelScope(shield=True)
    return scope


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Does some work to its end; a cancellation that comes meanwhile goes on after that."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with shield_task():
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


async def await_end(task: asyncio.Task[None], seconds: float) -> bool:
    """Waits for the end of a task, whatever else is cancelled meanwhile.

    Args:
        task: what it waits for.
        seconds: for how many.

    Returns:
        Whether it has ended.
    """
    last = asyncio.get_running_loop().time() + seconds
    with shield_task():
        while not task.done() and (left := last - asyncio.get_running_loop().time()) > 0:
            with suppress(asyncio.CancelledError):
                await asyncio.wait((task,), timeout=left)
    return task.done()


async def finish_after(
    error: BaseException, steps: Iterable[Callable[[], Awaitable[None]]], seconds: float
) -> bool:
    """Does what an error asks for, before it goes on.

    After a cancellation it's done in the background, and waited for: a caller is cancelled more
    than once. After anything else, such as an interrupt of the synchronous face, it's done at once.

    Args:
        error: why.
        steps: what is to be done; one that is cancelled is done again.
        seconds: for how many it's waited for; how long it goes on when the event loop ends.

    Returns:
        Whether it's done; otherwise it goes on.
    """
    if not isinstance(error, asyncio.CancelledError):
        for step in steps:
            await step()
        return True
    task = asyncio.create_task(_run_steps(steps, seconds))
    _going_on.add(task)
    task.add_done_callback(_going_on.discard)
    return await await_end(task, seconds)


async def _run_steps(steps: Iterable[Callable[[], Awaitable[None]]], seconds: float) -> None:
    time = asyncio.get_running_loop().time
    last = inf
    for step in steps:
        is_done = False
        while not is_done and time() < last:
            try:
                await step()
                is_done = True
            except asyncio.CancelledError:
                # An event loop that ends cancels all of its tasks: there is little time left.
                last = min(last, time() + seconds)


async def await_result(call: Awaitable[T]) -> T:
    """What comes of a call to the client's own code.

    Raises:
        RuntimeError: it ended in a cancellation that wasn't the caller's: of a task that it had
            waited for, say.
    """
    try:
        return await call
    except asyncio.CancelledError as error:
        task: Any = asyncio.current_task()
        if task.cancelling():
            raise
        raise RuntimeError("it was cancelled, and nobody had cancelled its caller") from error


def _is_in_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        # The synchronous face, without an event loop.
        return False
