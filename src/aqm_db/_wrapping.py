"""What the synchronous classes have in common."""

from typing import Any, Generic, TypeVar

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
    if not isinstance(value, kind):
        raise TypeError(f"{argument}: must be a {kind.__name__}, not {type(value).__name__}")
    return value._async  # noqa: SLF001 - its own class's
