"""What the synchronous classes have in common."""

from typing import Any, Generic, TypeVar

from ._validate import check_kind

A = TypeVar("A")
W = TypeVar("W", bound="Wrapper[Any]")


class Wrapper(Generic[A]):
    """A synchronous object over an asynchronous one, whose coroutines it drives."""

    def __init__(self, asynchronous: A) -> None:
        self._async = asynchronous


def over(kind: type[W], asynchronous: object) -> W:
    """A synchronous object over an asynchronous one that exists already."""
    made = kind.__new__(kind)
    Wrapper.__init__(made, asynchronous)
    return made


def within(argument: str, value: Wrapper[A], kind: type[Wrapper[A]]) -> A:
    """The asynchronous object under a synchronous one that was passed.

    Raises:
        TypeError: something else was passed.
    """
    check_kind(argument, value, kind)
    return value._async  # noqa: SLF001 - its own class's
