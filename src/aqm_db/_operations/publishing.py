"""Private halves whose public halves still have to be published."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aqm_db._io.seam import Argument, Call, Reply
from aqm_db._lua.loader import Code, Script
from aqm_db._model.checks import check_blob, check_count, check_id, check_items
from aqm_db._model.rows import Row, parse_number
from aqm_db.errors import AQMDatabaseError, CorruptEntryError
from aqm_db.types import CoinCategory, NewKey

from . import Scope
from .batch import ROWS_AT_ONCE, run_batch, split
from .outcome import Progress, check_reply
from .private_halves import build_store, read_store

PUBLISHED = Script("vault/published")

_log = logging.getLogger("aqm_db.vault")
_FIELDS = ("status", "coin_category", "coin_version", "created_at", "public_key", "signature")


@dataclass(frozen=True, slots=True)
class FreshCoin:
    """Both halves of a coin that was just minted.

    Attributes:
        private: the private half, encrypted; its id, tier and version are those of the coin.
        public_key: the public half.
        signature: the owner's signature over it.
    """

    private: NewKey
    public_key: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PublicHalf:
    """What is to be published of a coin.

    Attributes:
        key_id: the coin's id.
        coin_category: its tier.
        coin_version: what kind of key it is.
        public_key: the key to encrypt for.
        signature: the owner's signature.
        expires_at: until when it may be encrypted for, in ms since the epoch; the private half is
            kept for longer, so that what was encrypted then can be read when it's delivered.
    """

    key_id: str
    coin_category: CoinCategory
    coin_version: str
    public_key: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    expires_at: int


async def store_fresh(
    scope: Scope, coins: Sequence[FreshCoin], most: int
) -> list[bool | AQMDatabaseError]:
    """Stores coins, each with its public half in one step.

    Args:
        scope: whose they are.
        coins: what was minted, all of one tier.
        most: active keys of this tier; a coin beyond them isn't stored.

    Returns:
        For each coin True; False if there are enough; or an error.
    """

    def build(coin: FreshCoin) -> Call:
        check_blob("public_key", coin.public_key)
        check_blob("signature", coin.signature)
        minted = (coin.public_key, coin.signature, most, scope.keys.vault_prefix)
        return build_store(scope, coin.private, minted)

    def read(coin: FreshCoin, reply: Reply | AQMDatabaseError) -> bool:
        if isinstance(reply, list) and reply[0] == Code.BUDGET:
            return False
        return read_store(coin.private, reply)

    return await run_batch(scope.seam, coins, build, read)


async def list_pending(scope: Scope, limit: int, life_ms: int) -> list[PublicHalf]:
    """Lists public halves to be published, oldest first; one whose private half is gone leaves.

    Args:
        scope: whose they are.
        limit: how many at most.
        life_ms: for how long a public half may be encrypted for; one that is over is left out.

    Raises:
        InvalidArgumentError: the limit is no whole number from 1 up.
    """
    check_count("limit", limit, 1)
    now = await scope.ask_time()
    found: list[PublicHalf] = []
    # Where to go on: by score and id, since others take coins off meanwhile, and places move.
    start: Argument = "-inf"
    passed: list[bytes] = []
    while len(found) < limit:
        page = await _read_page(scope, start, passed, min(limit - len(found), ROWS_AT_ONCE))
        known = set(passed)
        left = {key_id: score for key_id, score in page if key_id not in known}
        if not left:
            break
        halves = await _read_halves(scope, list(left), life_ms)
        good = [half for half in halves.values() if isinstance(half, PublicHalf)]
        found += [half for half in good if half.expires_at > now]
        # One that lives again is met once more.
        await _take_off(scope, [key_id for key_id, half in halves.items() if half is None], "dead")
        for key_id in [key_id for key_id in left if halves[key_id] is not None]:
            if left[key_id] != start:
                start, passed = left[key_id], []
            passed.append(key_id)
    return found[:limit]


async def take_off_published(scope: Scope, key_ids: Sequence[str]) -> int:
    """Takes coins off the list; returns how many of them were on it.

    Raises:
        InvalidArgumentError: the ids aren't a sequence of ids; nothing was changed.
    """
    check_items("key_ids", key_ids, str)
    for position, key_id in enumerate(key_ids):
        check_id(f"key_ids[{position}]", key_id)
    return await _take_off(scope, [key_id.encode() for key_id in key_ids], "published")


async def list_published(scope: Scope, key_ids: Sequence[str]) -> dict[str, int | None]:
    """Of some private halves those whose public halves nobody has to publish any more.

    Returns:
        By id when it was marked as published, in ms since the epoch; None where nobody has marked
        it: it was never on the list.
    """
    found: dict[str, int | None] = {}
    for portion in split(key_ids, ROWS_AT_ONCE):
        rows = [scope.keys.vault(key_id) for key_id in portion]
        replies = await scope.seam.read(
            *(("HMGET", row, "status", "published_at") for row in rows),
            *(("HEXISTS", row, "public_key") for row in rows),
        )
        for key_id, fields, is_listed in zip(
            portion, replies[: len(rows)], replies[len(rows) :], strict=True
        ):
            if isinstance(fields, AQMDatabaseError) or fields[0] != b"ACTIVE" or is_listed:
                # It's malformed, gone by now, or still to be published.
                continue
            found[key_id] = None if fields[1] is None else parse_number(fields[1])
    return found


async def _take_off(scope: Scope, key_ids: Sequence[bytes], reason: str) -> int:
    with Progress("mark_published") as progress:
        for portion in split(key_ids, ROWS_AT_ONCE):
            replies = await scope.seam.run_all(
                [
                    Call(
                        PUBLISHED,
                        (_row_of(scope, key_id), scope.keys.vault_unpublished),
                        (key_id, reason, scope.read_clock()),
                    )
                    for key_id in portion
                ]
            )
            progress.add(replies)
            for reply in replies:
                check_reply(reply)
    return progress.count


async def _read_page(
    scope: Scope, start: Argument, passed: Sequence[bytes], count: int
) -> list[tuple[bytes, Argument]]:
    """Ids on the list and their scores, from a score on, of which some were passed."""
    if not passed:
        return await _read_range(scope, start, 0, count)
    # Where nobody else takes any off, the last that was passed is where it was.
    page = await _read_range(scope, start, len(passed) - 1, count + 1)
    if page and page[0][0] == passed[-1]:
        return page
    return await _read_range(scope, start, 0, count + len(passed))


async def _read_range(
    scope: Scope, start: Argument, skipped: int, count: int
) -> list[tuple[bytes, Argument]]:
    """Ids on the list and their scores, from a score on (ZRANGE)."""
    key = scope.keys.vault_unpublished
    limits = ("BYSCORE", "LIMIT", skipped, count, "WITHSCORES")
    [page] = await scope.seam.read(("ZRANGE", key, start, "+inf", *limits))
    if isinstance(page, AQMDatabaseError):
        raise page
    # RESP3 has pairs, RESP2 a flat list.
    pairs = page if page and isinstance(page[0], list) else zip(page[::2], page[1::2], strict=True)
    return [(key_id, score) for key_id, score in pairs]


async def _read_halves(
    scope: Scope, key_ids: Sequence[bytes], life_ms: int
) -> dict[bytes, PublicHalf | CorruptEntryError | None]:
    """Public halves by their ids: what is wrong with one, and None if its private half is gone.

    Malformed ones are logged, unless they have left the list by now: those are published.
    """
    rows = await scope.seam.read(
        *(("HMGET", _row_of(scope, key_id), *_FIELDS) for key_id in key_ids)
    )
    halves: dict[bytes, PublicHalf | CorruptEntryError | None] = {}
    for key_id, row in zip(key_ids, rows, strict=True):
        try:
            halves[key_id] = _read_half(key_id, row, life_ms)
        except CorruptEntryError as error:
            halves[key_id] = error
    doubtful = [key_id for key_id, half in halves.items() if isinstance(half, CorruptEntryError)]
    scores = await scope.seam.read(
        *(("ZSCORE", scope.keys.vault_unpublished, key_id) for key_id in doubtful)
    )
    for key_id, score in zip(doubtful, scores, strict=True):
        if score is not None:
            _log.warning("corrupt_entry", extra={"key_id": key_id.decode()})
    return halves


def _row_of(scope: Scope, key_id: bytes) -> str:
    return scope.keys.vault(key_id.decode("utf-8", "replace"))


def _read_half(key_id: bytes, fields: Any, life_ms: int) -> PublicHalf | None:
    """A row's public half; None if the private half is gone."""
    if isinstance(fields, AQMDatabaseError):
        raise fields
    if fields[0] != b"ACTIVE":
        return None
    named = zip((name.encode() for name in _FIELDS), fields, strict=True)
    row = Row("unpublished coin", {name: value for name, value in named if value is not None})
    return PublicHalf(
        key_id=key_id.decode(),
        coin_category=row.category(),
        coin_version=row.text("coin_version"),
        public_key=row.blob("public_key"),
        signature=row.blob("signature"),
        expires_at=row.integer("created_at") + life_ms,
    )
