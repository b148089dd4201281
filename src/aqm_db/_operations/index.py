"""Walks over indexes: what an owner has, without a look at what others have."""

from collections.abc import AsyncIterator
from typing import Any

from aqm_db._io.seam import SCAN_COUNT
from aqm_db.errors import AQMDatabaseError

from . import Scope


async def walk_index(scope: Scope, name: str) -> AsyncIterator[list[tuple[bytes, float]]]:
    """Walks over a sorted set by its scores, page by page.

    A page begins at the score where the last one ended, so that it doesn't matter which server has
    given that: ZSCAN's cursor is worth nothing to another process. What comes or goes meanwhile may
    be missed, and what is there throughout is found, unless its score is lowered, which no call
    does. Members may come twice.

    Raises:
        CorruptEntryError: it has the wrong type.
    """
    least, most = "-inf", SCAN_COUNT
    while True:
        [reply] = await scope.seam.read(
            ("ZRANGEBYSCORE", name, least, "+inf", "WITHSCORES", "LIMIT", 0, most)
        )
        if isinstance(reply, AQMDatabaseError):
            raise reply
        page = _read_page(reply)
        yield page
        if len(page) < most:
            return
        last = repr(page[-1][1])
        # A page that is full of one score is asked for once more, and more of it.
        least, most = (last, 2 * most) if last == least else (last, SCAN_COUNT)


def _read_page(reply: list[Any]) -> list[tuple[bytes, float]]:
    """Members and their scores, which come in pairs (RESP3) or one after the other (RESP2)."""
    is_paired = bool(reply) and isinstance(reply[0], list)
    pairs = reply if is_paired else zip(reply[::2], reply[1::2], strict=True)
    return [(member, float(score)) for member, score in pairs]
