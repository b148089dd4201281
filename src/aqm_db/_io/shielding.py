"""Shelter from cancellations that are meant for others, or come too often.

A task that is cancelled by asyncio may wait for something else then, and is cancelled once. A scope
of anyio's cancels in each turn of the event loop, until the task leaves it: whoever waits in it is
cancelled again at once, and whoever holds out against that keeps the processor busy.
"""

import asyncio
import sys
from collections.abc import Awaitable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

T = TypeVar("T")


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
