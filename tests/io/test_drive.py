"""Coroutines run to their end without an event loop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import pytest

from aqm_db._io.driving import drive
from aqm_db._sync_support import drive_block, drive_iterator


async def answer(value: int) -> int:
    """A coroutine that never suspends, and awaits another that doesn't."""
    return value if value == 0 else await answer(value - 1)


def test_a_result() -> None:
    """The coroutine's result is returned."""
    assert drive(answer(3)) == 0


def test_an_error() -> None:
    """The coroutine's error is raised."""

    async def fail() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError):
        drive(fail())


def test_a_coroutine_that_suspends() -> None:
    """It is told by name, and closed."""
    closed: list[bool] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(True)

    with pytest.raises(RuntimeError, match=r"wait .* waits for an event loop"):
        drive(wait())
    assert closed == [True]


def test_in_a_running_loop() -> None:
    """A running event loop changes nothing."""

    async def main() -> int:
        return drive(answer(3))

    assert asyncio.run(main()) == 0


@asynccontextmanager
async def block(log: list[str], *, swallows: bool) -> AsyncGenerator[str]:
    """A block that tells how it ended, and may swallow a KeyError."""
    try:
        yield "value"
    except KeyError:
        log.append("failed")
        if not swallows:
            raise
    else:
        log.append("done")


def test_a_block_that_ends() -> None:
    """The manager's value is given, and its exit runs."""
    log: list[str] = []
    with drive_block(block(log, swallows=False)) as value:
        assert value == "value"
    assert log == ["done"]


@pytest.mark.parametrize("swallows", [False, True])
def test_a_block_that_fails(*, swallows: bool) -> None:
    """The manager decides what becomes of an error."""
    log: list[str] = []
    with (
        nullcontext() if swallows else pytest.raises(KeyError),
        drive_block(block(log, swallows=swallows)),
    ):
        raise KeyError("k")
    assert log == ["failed"]


async def count(end: int) -> AsyncIterator[int]:
    """An asynchronous generator that never suspends."""
    for number in range(end):
        yield number


def test_an_iterator() -> None:
    """All items come, in order, and one may stop early."""
    assert list(drive_iterator(count(3))) == [0, 1, 2]
    assert next(drive_iterator(count(3))) == 0
