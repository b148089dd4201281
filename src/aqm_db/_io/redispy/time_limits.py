"""Several servers asked at once, of which those count that answer in time."""

import asyncio
import os
from collections.abc import Collection, Coroutine, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from aqm_db._io.driving import drive
from aqm_db._io.shielding import shield_task

from .sync_waiting import begin_beside

T = TypeVar("T")


class Question(NamedTuple, Generic[T]):
    """What a server is asked.

    Attributes:
        work: asks it.
        client: through which it's asked, if it's what is asked through it each time; else None.
    """

    work: Coroutine[Any, Any, T]
    client: object = None


async def ask_in_tasks(questions: Sequence[Question[T]], seconds: float) -> list[T | None]:
    """The answers that come in time; None in the places of others, which are given up.

    Raises:
        Exception: what asking raised.
    """
    tasks = [asyncio.ensure_future(question.work) for question in questions]
    if not tasks:
        return []
    try:
        _, late = await asyncio.wait(tasks, timeout=seconds)
    except asyncio.CancelledError:
        await _cancel(tasks)
        raise
    await _cancel(late)
    return [None if task.cancelled() else task.result() for task in tasks]


def ask_in_threads(questions: Sequence[Question[T]], seconds: float) -> list[T | None]:
    """The same on the synchronous face, where who waits can't be stopped: they go on unheard.

    Through a client that waits already nobody asks again, so that a silent server keeps one thread
    waiting, however often it's asked: what comes of that is the answer to all.
    """
    asked = [_begin(question) for question in questions]
    wait(asked, timeout=seconds)
    return [future.result() if future.done() else None for future in asked]


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels tasks, and waits until they have given back what they have."""
    for task in tasks:
        task.cancel()
    if tasks:
        with shield_task():
            await asyncio.wait(tasks)


def _begin(question: Question[T]) -> Future[T]:
    """Asks beside, unless somebody does so."""
    under_way = _under_way.get(question.client) if question.client is not None else None
    if under_way is not None and not under_way.done():
        question.work.close()
        return under_way
    asking = begin_beside(partial(drive, question.work))
    if question.client is not None:
        _under_way[question.client] = asking
    return asking


_under_way: WeakKeyDictionary[object, Future[Any]] = WeakKeyDictionary()

# The threads of the parent's don't go on in a process that is forked.
with suppress(AttributeError):
    os.register_at_fork(after_in_child=_under_way.clear)
