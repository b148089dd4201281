"""Callers that give up: at any step of the event loop, by every way that there is."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import anyio

from tests.faults.support.byte_cutter import ByteCutter, Direction

Way = Callable[[Awaitable[Any]], tuple["asyncio.Task[Any]", Callable[[], object]]]
"""Starts a call; returns its task, and what makes its caller give up, once or again and again."""


@dataclass(frozen=True)
class Moment:
    """When a caller gives up.

    Attributes:
        after: what has passed by then: nothing, the request, the reply, or the answer.
        turns: of the event loop, since.
    """

    after: Direction | Literal["answer"] | None
    turns: int = 0

    async def come(self, task: "asyncio.Task[Any]", line: ByteCutter) -> None:
        """Returns when it has come, or the call has ended."""
        while not task.done() and self.after is not None:
            if self.after != "answer" and line.passed(self.after):
                break
            await asyncio.sleep(0)
        await turns(self.turns)


MOMENTS = (
    *(Moment(None, number) for number in range(5)),
    *(Moment("request", number) for number in range(5)),
    *(Moment("reply", number) for number in range(8)),
    Moment("answer"),
)
"""Every step of a call on a connection that is there already."""


async def turns(number: int) -> None:
    """Lets everyone else go on for some turns of the event loop."""
    for _ in range(number):
        await asyncio.sleep(0)


async def cancelled_at(step: int, times: int, call: Awaitable[Any]) -> Any:
    """Runs a call, cancels it after some turns of the event loop, and returns how it ended."""
    task, cancel = by_cancel(call)
    await turns(step)
    return await given_up(task, cancel, times)


async def given_up(task: "asyncio.Task[Any]", give_up: Callable[[], object], times: int) -> Any:
    """Makes a caller give up, turn after turn; its answer or how else it ended."""
    for _ in range(times):
        give_up()
        await asyncio.sleep(0)
    await asyncio.wait((task,))
    return asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()


def by_cancel(call: Awaitable[Any]) -> tuple["asyncio.Task[Any]", Callable[[], object]]:
    """A task that is cancelled."""
    task = asyncio.ensure_future(call)
    return task, task.cancel


def by_timeout(call: Awaitable[Any]) -> tuple["asyncio.Task[Any]", Callable[[], object]]:
    """An ``asyncio.timeout`` whose time has come, or that had none; a TimeoutError then."""
    loop = asyncio.get_running_loop()
    deadlines: list[asyncio.Timeout] = []
    expired = False

    async def limited() -> Any:
        async with asyncio.timeout(0 if expired else None) as deadline:
            deadlines.append(deadline)
            return await call

    def expire() -> None:
        nonlocal expired
        if deadlines and not expired and not task.done():
            deadlines[0].reschedule(loop.time())
        expired = True

    task = asyncio.ensure_future(limited())
    return task, expire


def by_scope(call: Awaitable[Any]) -> tuple["asyncio.Task[Any]", Callable[[], object]]:
    """A cancel scope of anyio, which cancels again in every turn."""
    scope = anyio.CancelScope()

    async def scoped() -> Any:
        with scope:
            return await call
        return asyncio.CancelledError()

    return asyncio.ensure_future(scoped()), scope.cancel
