"""What the synchronous face is made of: it drives coroutines that never suspend."""

from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Generic, TypeVar

from ._io.driving import drive
from ._model.checks import check_kind

T = TypeVar("T")
A = TypeVar("A")
W = TypeVar("W", bound="Wrapper[Any]")


@contextmanager
def drive_block(manager: AbstractAsyncContextManager[T]) -> Generator[T]:
    """Enters an asynchronous context manager like a synchronous one."""
    value = drive(manager.__aenter__())
    try:
        yield value
    except BaseException as error:
        if not drive(manager.__aexit__(type(error), error, error.__traceback__)):
            raise
    else:
        drive(manager.__aexit__(None, None, None))


def drive_iterator(source: AsyncIterator[T]) -> Iterator[T]:
    """Iterates an asynchronous iterator like a synchronous one."""
    while True:
        try:
            item = drive(_next(source))
        except StopAsyncIteration:
            return
        yield item


class Wrapper(Generic[A]):
    """A synchronous object over an asynchronous one, whose coroutines it drives.

    Attributes:
        asynchronous: that one; for other parts of this package.
    """

    def __init__(self, asynchronous: A) -> None:
        self.asynchronous: A = asynchronous


def wrap(kind: type[W], asynchronous: object) -> W:
    """A synchronous object over an asynchronous one that exists already."""
    made = kind.__new__(kind)
    Wrapper.__init__(made, asynchronous)
    return made


def unwrap(argument: str, value: Wrapper[A], kind: type[Wrapper[A]]) -> A:
    """The asynchronous object under a synchronous one that was passed.

    Raises:
        TypeError: something else was passed.
    """
    check_kind(argument, value, kind)
    return value.asynchronous


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)
