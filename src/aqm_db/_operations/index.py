"""Walks over indexes: what an owner has, without a look at what others have."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from aqm_db._io.seam import SCAN_COUNT
from aqm_db._model.keys import parse_ids
from aqm_db.errors import AQMDatabaseError

from . import Scope
from .batch import split

Member = TypeVar("Member")

_INDEXES_AT_ONCE = 20
"""Indexes that are read in one round trip: most are short, and all pages together stay small."""


async def walk_index(
    scope: Scope, name: str, least: str = "-inf"
) -> AsyncIterator[list[tuple[bytes, float]]]:
    """Walks over a sorted set by its scores, page by page.

    A page begins at the score where the last one ended, so that it doesn't matter which server has
    given that: ZSCAN's cursor is worth nothing to another process. What comes or goes meanwhile may
    be missed, and what is there throughout is found, unless its score is lowered, which no call
    does. Members may come twice.

    Args:
        scope: whose it is.
        name: the index.
        least: the score to begin at.

    Raises:
        CorruptEntryError: it has the wrong type.
    """
    most = SCAN_COUNT
    while True:
        [reply] = await scope.seam.read(_list_command(name, least, most))
        if isinstance(reply, AQMDatabaseError):
            raise reply
        page = _read_page(reply)
        yield page
        if len(page) < most:
            return
        last = repr(page[-1][1])
        # A page that is full of one score is asked for once more, and more of it.
        least, most = (last, 2 * most) if last == least else (last, SCAN_COUNT)


async def walk_ids(scope: Scope, name: str) -> AsyncIterator[list[str]]:
    """The same of the ids that an index lists, page by page, without what is none.

    Raises:
        CorruptEntryError: it has the wrong type.
    """
    async for entries in walk_index(scope, name):
        yield parse_ids(member for member, _ in entries)


async def walk_indexes(
    scope: Scope, names: Sequence[str]
) -> AsyncIterator[tuple[str, list[tuple[bytes, float]]]]:
    """Walks over many of them in few round trips: pages, each with the name of its index.

    What has the wrong type is passed over.
    """
    for some in split(names, _INDEXES_AT_ONCE):
        commands = [_list_command(name, "-inf", SCAN_COUNT) for name in some]
        replies = await scope.seam.read(*commands)
        for name, reply in zip(some, replies, strict=True):
            page = [] if isinstance(reply, AQMDatabaseError) else _read_page(reply)
            if page:
                yield name, page
            if len(page) == SCAN_COUNT:
                async for further in walk_index(scope, name, repr(page[-1][1])):
                    yield name, further


async def walk_names(scope: Scope, name: str) -> AsyncIterator[list[bytes]]:
    """Walks over a sorted set whose scores are all the same, page by page, by its members' names.

    Raises:
        CorruptEntryError: it has the wrong type.
    """
    least: bytes = b"-"
    while True:
        [page] = await scope.seam.read(("ZRANGEBYLEX", name, least, "+", "LIMIT", 0, SCAN_COUNT))
        if isinstance(page, AQMDatabaseError):
            raise page
        yield page
        if len(page) < SCAN_COUNT:
            return
        least = b"(" + page[-1]


async def each_once(pages: AsyncIterator[Sequence[Member]]) -> AsyncIterator[list[Member]]:
    """The pages of a walk, which may come by something twice, with each once."""
    seen: set[Member] = set()
    async for page in pages:
        new = [each for each in dict.fromkeys(page) if each not in seen]
        seen.update(new)
        yield new


def _list_command(name: str, least: str, most: int) -> tuple[str | int, ...]:
    return ("ZRANGEBYSCORE", name, least, "+inf", "WITHSCORES", "LIMIT", 0, most)


def _read_page(reply: list[Any]) -> list[tuple[bytes, float]]:
    """Members and their scores, which come in pairs (RESP3) or one after the other (RESP2)."""
    is_paired = bool(reply) and isinstance(reply[0], list)
    pairs = reply if is_paired else zip(reply[::2], reply[1::2], strict=True)
    return [(member, float(score)) for member, score in pairs]
