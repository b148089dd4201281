"""Work that goes on beside a program until a block ends, on anyio's task group."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from .errors import InvalidArgumentError

Sleep: TypeAlias = Callable[[float], Awaitable[object]]
"""Waits for some seconds; ``anyio.sleep``, unless a test decides when time passes."""


@asynccontextmanager
async def beside(
    work: Callable[[Sleep], Awaitable[None]], sleep: Sleep | None
) -> AsyncGenerator[None]:
    """Runs ``work`` until the block ends, and then cancels it and waits for its end.

    Args:
        work: never ends by itself; what it raises ends the block, and comes out of it.
        sleep: what it waits with; None is ``anyio.sleep``.

    Raises:
        InvalidArgumentError: anyio isn't installed.
    """
    anyio = _anyio()
    failures: list[BaseException] = []
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(work, sleep or anyio.sleep)
            try:
                yield
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001
                # Raised below, as itself and in no group; a cancellation is the group's own.
                failures.append(error)
            group.cancel_scope.cancel()
    except BaseExceptionGroup as raised:
        failures += raised.exceptions
    if len(failures) > 1:
        raise BaseExceptionGroup("the block failed, and what ran beside it", failures)
    for failure in failures:
        raise failure


def shielded() -> Any:
    """A scope in which a cancellation waits until it's over."""
    return _anyio().CancelScope(shield=True)


def _anyio() -> Any:
    try:
        import anyio  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidArgumentError(
            "every", "to do this again and again needs anyio: pip install 'aqm-db[background]'"
        ) from error
    return anyio
