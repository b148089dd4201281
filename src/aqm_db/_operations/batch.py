"""Many calls in few round trips, each with an outcome of its own."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from copy import copy
from typing import Generic, NamedTuple, TypeVar

from aqm_db._io.answers import warn_of_delay, warn_of_unknown
from aqm_db._io.seam import Call, Reply, Seam, Undo
from aqm_db._io.shielding import finish_after
from aqm_db._lua.loader import Code
from aqm_db.errors import AQMDatabaseError

from .outcome import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

AT_ONCE = 200
"""Calls in one round trip: whoever else asks meanwhile waits for no more than these."""
ROWS_AT_ONCE = 100
"""The same of whole rows, with a key in each: whoever else uses the event loop waits a little."""


def split(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    """Portions of some items, in order, of so many at most."""
    return (items[first : first + most] for first in range(0, len(items), most))


async def run_to_end(seam: Seam, call: Call) -> Reply:
    """Runs one call, again as long as it says that there is more of it to do."""
    while is_unfinished(reply := await seam.run(call)):
        pass
    return reply


def is_unfinished(reply: Reply | AQMDatabaseError) -> bool:
    """Whether a call has to be run again, since it has done no more than a part."""
    return isinstance(reply, list) and reply[:1] == [Code.UNFINISHED]


class TakeBack(NamedTuple, Generic[Item, Result]):
    """How what a cancelled caller's calls did is taken back.

    Attributes:
        undo: the same for an item's call that is in flight, by its reply.
        build: the call that does it, by the result; there is nothing to take back where that's
            None.
        timeout: how long the caller may take to see to it, in ms.
    """

    undo: Callable[[Item], Undo]
    build: Callable[[Result], Call]
    timeout: int


async def run_batch(
    seam: Seam,
    items: Sequence[Item],
    prepare: Callable[[Item], Call],
    finish: Callable[[Item, Reply | AQMDatabaseError], Result],
    take_back: TakeBack[Item, Result] | None = None,
    proceed: Callable[[Item, Reply], Call | None] | None = None,
) -> list[Result | AQMDatabaseError]:
    """Runs one call for each item, a portion at a time.

    Args:
        seam: where.
        items: what the calls are about.
        prepare: an item's call; it raises what is wrong with the item.
        finish: an item's result; it raises what the reply stands for.
        take_back: what becomes of all that was done if the caller is cancelled; without it, it
            stays, and the log tells of it.
        proceed: the call that goes on where an item's call wasn't finished, by its reply, or None
            if the reply is the last one; without it, it's the same call.

    Returns:
        For each item its result, or the error that a single call would have raised.
    """
    with Progress("batch") as progress:
        batch = _Batch(seam, prepare, finish, take_back, proceed, [], progress)
        try:
            return await run_portions(items, batch.run)
        except AQMDatabaseError:
            raise
        except BaseException as error:
            await batch.withdraw(error)
            raise


async def run_portions(
    items: Sequence[Item],
    run: Callable[[Sequence[Item]], Awaitable[list[Result | AQMDatabaseError]]],
) -> list[Result | AQMDatabaseError]:
    """Runs something for some items after the other.

    Args:
        items: all of them.
        run: gives the outcomes of a portion; what it raises ends it, and is the outcome of all that
            are left, unless there is nothing to tell of any.
    """
    outcomes: list[Result | AQMDatabaseError] = []
    for portion in split(items, AT_ONCE):
        try:
            outcomes += await run(portion)
        except AQMDatabaseError as error:
            if not outcomes:
                raise
            # What was done already has to be told; the rest would fare no better, and isn't sent.
            outcomes += [error] * len(portion)
            unsent = copy(error)
            unsent.outcome_unknown = False
            outcomes += [unsent] * (len(items) - len(outcomes))
            break
    return outcomes


class _Batch(NamedTuple, Generic[Item, Result]):
    """What :func:`run_batch` was given, what may have to be taken back, and what won't be."""

    seam: Seam
    prepare: Callable[[Item], Call]
    finish: Callable[[Item, Reply | AQMDatabaseError], Result]
    take_back: TakeBack[Item, Result] | None
    proceed: Callable[[Item, Reply], Call | None] | None
    taken: list[Result]
    progress: Progress

    async def run(self, items: Sequence[Item]) -> list[Result | AQMDatabaseError]:
        """Runs a portion."""
        outcomes: dict[int, Result | AQMDatabaseError] = {}
        calls: dict[int, Call] = {}
        for position, item in enumerate(items):
            try:
                calls[position] = self.prepare(item)
            except AQMDatabaseError as error:
                outcomes[position] = error
        waiting, is_begun = list(calls), False
        while waiting:
            undos = self.take_back and [self.take_back.undo(items[place]) for place in waiting]
            try:
                replies = await self.seam.run_all([calls[place] for place in waiting], undos)
            except AQMDatabaseError as error:
                if not is_begun:
                    raise
                # The others have come to their end.
                replies = [error] * len(waiting)
            is_begun = True
            if self.take_back is None:
                self.progress.add(replies, lambda _: 1)
            answers, waiting = list(zip(waiting, replies, strict=True)), []
            for position, reply in answers:
                following = self._find_following(items[position], calls[position], reply)
                if following is None:
                    outcomes[position] = self._finish(items[position], reply)
                else:
                    calls[position] = following
                    waiting.append(position)
        return [outcomes[position] for position in range(len(items))]

    async def withdraw(self, error: BaseException) -> None:
        """Takes back what was done before an error."""
        if self.take_back is None or not self.taken:
            return
        build = self.take_back.build
        steps = (_make_step(self.seam, build, portion) for portion in split(self.taken, AT_ONCE))
        if not await finish_after(error, steps, self.take_back.timeout / 1000):
            warn_of_delay([build(self.taken[0])])

    def _find_following(
        self, item: Item, call: Call, reply: Reply | AQMDatabaseError
    ) -> Call | None:
        """The call that goes on where another one stopped; None if it has come to its end."""
        if isinstance(reply, AQMDatabaseError) or not is_unfinished(reply):
            return None
        return call if self.proceed is None else self.proceed(item, reply)

    def _finish(self, item: Item, reply: Reply | AQMDatabaseError) -> Result | AQMDatabaseError:
        try:
            result = self.finish(item, reply)
        except AQMDatabaseError as error:
            return error
        if self.take_back is not None and result is not None:
            self.taken.append(result)
        return result


def _make_step(
    seam: Seam, build: Callable[[Result], Call], taken: Sequence[Result]
) -> Callable[[], Awaitable[None]]:
    """What takes a portion back; it's the same calls, however often it's done."""
    calls = [build(result) for result in taken]

    async def run() -> None:
        try:
            replies = await seam.run_all(calls)
        except AQMDatabaseError as error:
            replies = [error]
        for reply in replies:
            if isinstance(reply, AQMDatabaseError):
                warn_of_unknown(calls, reply)
                break

    return run
