"""Many calls in few round trips, each with an outcome of its own."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import TypeVar

from aqm_db._io.seam import Call, Reply, Seam, Undo
from aqm_db.errors import AQMDatabaseError

from .outcome import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

AT_ONCE = 500
"""Calls in one round trip: whoever else asks meanwhile waits for no more than these."""


async def run_batch(
    seam: Seam,
    items: Sequence[Item],
    prepare: Callable[[Item], Call],
    finish: Callable[[Item, Reply | AQMDatabaseError], Result],
    undo: Callable[[Item], Undo] | None = None,
    proceed: Callable[[Item, Reply | AQMDatabaseError], Call | None] | None = None,
) -> list[Result | AQMDatabaseError]:
    """Runs one call for each item.

    Args:
        seam: where.
        items: what the calls are about.
        prepare: an item's call; it raises what is wrong with the item.
        finish: an item's result; it raises what the reply stands for.
        undo: what takes an item's call back, should the caller be cancelled.
        proceed: the call that goes on where an item's call stopped, by its reply; None if it has
            come to its end.

    Returns:
        For each item its result, or the error that a single call would have raised.
    """
    outcomes: dict[int, Result | AQMDatabaseError] = {}
    calls: dict[int, Call] = {}
    for position, item in enumerate(items):
        try:
            calls[position] = prepare(item)
        except AQMDatabaseError as error:
            outcomes[position] = error
    if undo is None:
        replies = await _run_in_portions(seam, list(calls.values()))
    else:
        # All that a cancelled caller took is taken back at once.
        undos = [undo(items[position]) for position in calls]
        replies = await seam.run_all(list(calls.values()), undos)
        while proceed is not None and (
            following := _list_following(items, calls, replies, proceed)
        ):
            # With the others, whose requests get the same answers: a cancelled caller's are all
            # taken back.
            calls |= following
            replies = await seam.run_all(list(calls.values()), undos)
    for position, reply in zip(calls, replies, strict=True):
        try:
            outcomes[position] = finish(items[position], reply)
        except AQMDatabaseError as error:
            outcomes[position] = error
    return [outcomes[position] for position in range(len(items))]


def _list_following(
    items: Sequence[Item],
    calls: Mapping[int, Call],
    replies: Sequence[Reply | AQMDatabaseError],
    proceed: Callable[[Item, Reply | AQMDatabaseError], Call | None],
) -> dict[int, Call]:
    """The calls that go on where others stopped, by their places."""
    following: dict[int, Call] = {}
    for position, reply in zip(calls, replies, strict=True):
        call = proceed(items[position], reply)
        if call is not None:
            following[position] = call
    return following


async def _run_in_portions(seam: Seam, calls: Sequence[Call]) -> list[Reply | AQMDatabaseError]:
    replies: list[Reply | AQMDatabaseError] = []
    with Progress("batch") as progress:
        for first in range(0, len(calls), AT_ONCE):
            sent = calls[first : first + AT_ONCE]
            try:
                replies += await seam.run_all(sent)
            except AQMDatabaseError as error:
                if not replies:
                    raise
                # What was done already has to be told; the rest would fare no better, and isn't
                # sent.
                replies += [error] * len(sent)
                unsent = copy(error)
                unsent.outcome_unknown = False
                replies += [unsent] * (len(calls) - len(replies))
                break
            progress.add(replies[first:], lambda _: 1)
    return replies
