"""Shelter from the cancel scopes of anyio, for what has to be finished all the same.

A task that is cancelled by asyncio may wait for something else then, and is cancelled once. A scope
of anyio's cancels in each turn of the event loop, until the task leaves it: whoever waits in it is
cancelled again at once, and whoever holds out against that keeps the processor busy.
"""

import asyncio
import sys
from contextlib import AbstractContextManager, nullcontext


def sheltered() -> AbstractContextManager[object]:
    """A scope that no other scope cancels; asyncio's own cancellation comes through."""
    # Nobody has a scope who hasn't imported it.
    anyio = sys.modules.get("anyio")
    if anyio is None or not _is_in_task():
        return nullcontext()
    scope: AbstractContextManager[object] = anyio.CancelScope(shield=True)
    return scope


def _is_in_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        # The synchronous face, without an event loop.
        return False
