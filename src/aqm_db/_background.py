"""Work that goes on beside a program, on anyio, and calls of what the client has given for it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from inspect import isawaitable
from typing import Any, TypeAlias, TypeVar, cast

from ._io.shielding import await_result
from ._model.defaults import Sleep
from .errors import InvalidArgumentError

Item = TypeVar("Item")
Subject: TypeAlias = tuple[str, str]
"""Whose, and what of theirs."""

_MOST_DOUBLINGS = 30
"""Keeps the numbers small; by then every sensible maximum is reached."""


def import_anyio(user: str) -> Any:
    """anyio, for a module that is nothing without it.

    Raises:
        ImportError: it isn't installed.
    """
    try:
        # The package doesn't promise to import it.
        import_module("anyio.to_thread")
        return import_module("anyio")
    except ImportError as error:
        raise ImportError(f"{user} needs anyio >= 4.9: pip install 'aqm-db[background]'") from error


@asynccontextmanager
async def run_beside(
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


class Bell:
    """What wakes who waits for it; rung again before that, it does no more."""

    def __init__(self) -> None:
        self._is_rung = False
        self._event: Any = None

    def ring(self) -> None:
        """Wakes who waits, or who comes next."""
        if not self._is_rung:
            self._is_rung = True
            if self._event is not None:
                self._event.set()

    async def wait(self) -> None:
        """Waits until it's rung."""
        if not self._is_rung:
            self._event = _anyio().Event()
            await self._event.wait()
        self._is_rung = False


def make_event() -> Any:
    """What several may wait for, an ``anyio.Event``."""
    return _anyio().Event()


def find_sleep() -> Sleep:
    """``anyio.sleep``.

    Raises:
        InvalidArgumentError: anyio isn't installed.
    """
    return cast("Sleep", _anyio().sleep)


async def share_out(
    items: AsyncGenerator[Item], workers: Sequence[Callable[[Item], Awaitable[None]]]
) -> None:
    """Has each item worked on by whichever worker is free, in no order; none is taken ahead.

    Args:
        items: what there is to do.
        workers: each has one item at a time; what one raises ends all, and comes out of it.

    Raises:
        InvalidArgumentError: anyio isn't installed.
    """
    anyio = _anyio()

    async def work_off(items_left: Any, work: Callable[[Item], Awaitable[None]]) -> None:
        async with items_left:
            async for item in items_left:
                await work(item)

    try:
        async with anyio.create_task_group() as group, aclosing(items):
            into, out_of = anyio.create_memory_object_stream(0)
            async with into, out_of:
                for work in workers:
                    group.start_soon(work_off, out_of.clone(), work)
                async for item in items:
                    await into.send(item)
    except BaseExceptionGroup as raised:
        first, *others = raised.exceptions
        if others:
            raise
        raise first from None


async def give_out(items: Iterable[Item]) -> AsyncGenerator[Item]:
    """Items for :func:`share_out` that are there already."""
    for item in items:
        yield item


def delay_cancellation() -> Any:
    """A scope in which a cancellation waits until it's over."""
    return _anyio().CancelScope(shield=True)


class Raised:
    """What stands for a function's answer if it raised.

    Attributes:
        error: what it raised.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error


async def call_client(
    function: Callable[..., Awaitable[Any] | Any], *arguments: object
) -> Any | Raised:
    """What a function of the client's own answers, be it plain or a coroutine function.

    It fails as it likes: only what it raises is caught.
    """
    try:
        answer = function(*arguments)
        return await await_result(answer) if isawaitable(answer) else answer
    except Exception as error:  # noqa: BLE001 - whatever it is, it's the client's own
        return Raised(error)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double with every failure, with jitter, so that clients don't come back at once.

    Attributes:
        first_ms: the pause after the first failure.
        most_ms: the longest pause.
        clock: milliseconds.
        random: a number from 0 up to 1.
    """

    first_ms: int
    most_ms: int
    clock: Callable[[], int]
    random: Callable[[], float]
    _failures: dict[Subject, tuple[int, int]] = field(default_factory=dict)

    def is_over(self, subject: Subject) -> bool:
        """Whether it's time to ask again."""
        _, until = self._failures.get(subject, (0, 0))
        return self.clock() >= until

    def add_failure(self, subject: Subject, began: int) -> None:
        """Makes the next pause: half of it for certain, and up to all of it.

        Args:
            subject: what failed.
            began: when it was tried, in ms.
        """
        count, _ = self._failures.get(subject, (0, 0))
        pause = min(self.first_ms * 2 ** min(count, _MOST_DOUBLINGS), self.most_ms)
        until = began + int(pause * (1 + self.random()) / 2)
        self._failures[subject] = (count + 1, until)

    def forget_failures(self, subject: Subject) -> None:
        """Ends the pause, and has the next one begin small."""
        self._failures.pop(subject, None)

    def forget_others(self, kept: Collection[str]) -> None:
        """Ends the pauses of everyone who is none of these."""
        for subject in [each for each in self._failures if each[0] not in kept]:
            self.forget_failures(subject)


def _anyio() -> Any:
    try:
        import anyio  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidArgumentError(
            "every", "to do this again and again needs anyio: pip install 'aqm-db[background]'"
        ) from error
    return anyio
