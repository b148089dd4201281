"""The invariants: what callers were told, against what the database holds."""

import asyncio
import traceback
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSecureVault, AsyncSmartInventory
from aqm_db.errors import AQMDatabaseError, UnavailableError
from tests.faults.support.tried_calls import CANARY


class Ledger:
    """What the callers of one database were told, coin by coin.

    The rule: stored = delivered + remaining + claimed + reported as outcome unknown.

    Attributes:
        stored: ids whose store has returned.
        doubtful: ids whose store has reported that its outcome is unknown.
        delivered: ids that were handed out, in order.
        dropped: ids that were removed on purpose.
        returning: ids of delivered coins whose release was cut off: they may be back.
        unknown: how many takes have reported that their outcome is unknown, or were cut off.
        errors: everything that was raised.
    """

    def __init__(self) -> None:
        self.stored: set[str] = set()
        self.doubtful: set[str] = set()
        self.delivered: list[str] = []
        self.dropped: set[str] = set()
        self.returning: Counter[str] = Counter()
        self.unknown = 0
        self.errors: list[BaseException] = []

    def refused(self, error: BaseException) -> bool:
        """Notes an error; returns whether the call's outcome is unknown."""
        self.errors.append(error)
        return isinstance(error, UnavailableError) and error.outcome_unknown

    def balance(self, remaining: Iterable[str]) -> tuple[int, int]:
        """How many coins are lost, and how many are there twice, given those that remain."""
        remaining = set(remaining)
        missing = self.stored - set(self.delivered) - remaining - self.dropped
        twice = sum(
            max(number - 1 - self.returning[key_id], 0)
            for key_id, number in Counter(self.delivered).items()
        )
        both = len((remaining & set(self.delivered)) - set(self.returning))
        never_stored = (remaining | set(self.delivered)) - self.stored - self.doubtful
        return max(len(missing) - self.unknown, 0), twice + both + len(never_stored)

    def wrong(self) -> int:
        """How many errors are none of the library's."""
        return sum(not isinstance(error, AQMDatabaseError) for error in self.errors)


async def queued(client: Redis) -> list[str]:
    """The ids of all coins that can be handed out, after checking each index against its rows."""
    found: list[str] = []
    rows = set(await names(client, "inv:v1:key:*"))
    for index in await names(client, "inv:v1:idx:*"):
        contact = index.split(":")[3]
        for key_id in await members(client, index):
            rows.remove(f"inv:v1:key:{contact}:{key_id}")
            found.append(key_id)
    assert not rows, f"rows that no index lists: {sorted(rows)}"
    return found


async def kept(client: Redis) -> list[str]:
    """The ids of all active private halves, after checking the counters against a recount."""
    vault = AsyncSecureVault(client)
    ids = await vault.get_all_active_ids()
    counted = await vault.count_active()
    for tier, number in counted.items():
        assert number == len(await vault.get_all_active_ids(tier)), f"the counter of {tier}"
    assert sorted(ids) == sorted(await members(client, "vault:v1:expiry"))
    await _assert_ends_agree(client)
    return ids


async def _assert_ends_agree(client: Redis) -> None:
    """Private halves end when their index says so, by the server's clock."""
    listed: Any = await client.zrange("vault:v1:expiry", 0, -1, withscores=True)
    pipeline = client.pipeline()
    pipeline.time()
    for key_id, _ in listed:
        pipeline.pttl(b"vault:v1:key:" + key_id)
    (seconds, microseconds), *left = await pipeline.execute()
    now = seconds * 1000 + microseconds / 1000
    for (key_id, end), ms in zip(listed, left, strict=True):
        # The server reads its clock more than once.
        assert abs(now + ms - end) < 1000, f"{key_id!r} ends {now + ms - end:.0f} ms later"


async def names(client: Redis, pattern: str) -> list[str]:
    """The names of keys, in an order that doesn't change as the server's table grows."""
    found: list[Any] = await client.keys(pattern)
    return sorted(key.decode() for key in found)


async def members(client: Redis, index: str) -> list[str]:
    """The ids in an index, in its order."""
    found: list[Any] = await client.zrange(index, 0, -1)
    return [member.decode() for member in found]


async def assert_link_is_clean(client: Any, inventory: AsyncSmartInventory) -> None:
    """The next answers belong to their questions, on every connection of a client."""
    words = [f"echo {number}".encode() for number in range(3)]
    pipeline = client.pipeline(transaction=False)
    for word in words:
        pipeline.echo(word)
    if isinstance(client, Redis):
        # Calls share one connection, which the client's own commands don't use.
        assert await inventory.scope.seam.read(*(("ECHO", word) for word in words)) == words
        assert await pipeline.execute() == words
    else:
        assert await asyncio.to_thread(pipeline.execute) == words
    assert await inventory.get_contact_meta("nobody at all") is None


def assert_no_key_material(errors: Iterable[BaseException], log: pytest.LogCaptureFixture) -> None:
    """No error and no log record holds the canary."""
    texts = [log.text, *(repr(record.__dict__) for record in log.records)]
    for error in errors:
        texts += [str(error), repr(error), *traceback.format_exception(error)]
    assert not any(CANARY.decode() in text for text in texts)
