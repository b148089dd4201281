"""Coroutines run without an event loop: those that never suspend, as over a synchronous seam."""

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine from its beginning to its end.

    Returns:
        What the coroutine returns.

    Raises:
        RuntimeError: it waits for something that only an event loop could bring; it was closed.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} waits for an event loop, and none runs it")
