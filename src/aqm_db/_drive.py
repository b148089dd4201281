"""Runs coroutines that never suspend: over blocking I/O, an event loop has nothing to do."""

from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
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


@contextmanager
def entered(manager: AbstractAsyncContextManager[T]) -> Generator[T]:
    """Enters an asynchronous context manager like a synchronous one."""
    value = drive(manager.__aenter__())
    try:
        yield value
    except BaseException as error:
        if not drive(manager.__aexit__(type(error), error, error.__traceback__)):
            raise
    else:
        drive(manager.__aexit__(None, None, None))


def iterated(source: AsyncIterator[T]) -> Iterator[T]:
    """Iterates an asynchronous iterator like a synchronous one."""
    while True:
        try:
            item = drive(_next(source))
        except StopAsyncIteration:
            return
        yield item


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)
