"""Work that a cancellation has to wait for, and that it doesn't stop."""

import asyncio

import pytest

from aqm_db._io.shielding import finish_after

pytestmark = pytest.mark.asyncio


async def test_after_an_error_it_is_done_at_once() -> None:
    """There is no cancellation to be sheltered from."""
    done: list[int] = []

    async def step() -> None:
        done.append(1)

    assert await finish_after(KeyboardInterrupt(), [step, step], 0)
    assert done == [1, 1]


async def test_a_step_that_is_cancelled_is_done_again() -> None:
    """An event loop that ends cancels all tasks, this one included."""
    begun = asyncio.Event()
    done: list[int] = []

    async def step() -> None:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        done.append(1)

    finishing = asyncio.create_task(finish_after(asyncio.CancelledError(), [step, step], 60))
    await begun.wait()
    for task in asyncio.all_tasks() - {asyncio.current_task(), finishing}:
        task.cancel()
    assert await finishing
    assert done == [1, 1]


async def test_what_takes_too_long_goes_on() -> None:
    """Whoever waits for it waits no longer; a cancellation ends it after the same time again."""
    go_on = asyncio.Event()
    done: list[int] = []

    async def step() -> None:
        await go_on.wait()
        done.append(1)

    others = asyncio.all_tasks()
    assert not await finish_after(asyncio.CancelledError(), [step, step], 0)
    [working] = asyncio.all_tasks() - others
    assert done == []
    await asyncio.sleep(0)
    working.cancel()
    go_on.set()
    await asyncio.wait((working,))
    assert done == []
