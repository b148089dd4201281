"""The client's own functions, which fail as they like: only what they raise is caught."""

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from ._shelter import result_of


class Raised:
    """What stands for a function's answer if it raised.

    Attributes:
        error: what it raised.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error


async def answer_of(
    function: Callable[..., Awaitable[Any] | Any], *arguments: object
) -> Any | Raised:
    """What a function of the client's own answers, be it plain or a coroutine function."""
    try:
        answer = function(*arguments)
        return await result_of(answer) if isawaitable(answer) else answer
    except Exception as error:  # noqa: BLE001 - whatever it is, it's the client's own
        return Raised(error)
