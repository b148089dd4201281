"""Where a task is done: a server or a cluster, and an owner's database on it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase, connect
from benchmarks.measuring import names
from benchmarks.measuring.loops import Call, frozen_heap
from benchmarks.measuring.stock import CLOCK

PLENTY: Final = 10**12
"""Bytes of coins: never a limit."""
Figures: TypeAlias = Mapping[str, float]
"""What was measured once, by what it is."""
_CLUSTER: Final = "redis+cluster://"
_SLOW_US: Final = 1000
"""Commands that take less are none of the longest."""
_TICK: Final = 0.001


@dataclass(frozen=True, slots=True)
class Place:
    """A database, and the server's own client.

    Attributes:
        owner: whose database it is.
        database: the database.
        server: the default client of the server; None for a cluster.
    """

    owner: str
    database: AsyncClientDatabase
    server: Redis | None

    @property
    def client(self) -> Redis:
        """The default client of the server, which is none of a cluster."""
        assert self.server is not None, "this isn't done on clusters"
        return self.server

    async def clear(self) -> None:
        """Removes everything from the server, which isn't still at it when this returns."""
        client: Any = self.client
        await client.execute_command("FLUSHALL", "SYNC")

    async def longest(self, call: Call) -> Figures:
        """What a call takes: in all, of the server in one go, and of the loop in one go.

        Returns:
            Seconds, by :data:`names.TIME`, :data:`names.SCRIPT` and :data:`names.STALL`.
        """
        await self.client.config_set("slowlog-log-slower-than", _SLOW_US)
        await self.client.config_set("slowlog-max-len", 100_000)
        await self.client.slowlog_reset()
        with frozen_heap():
            seconds, stall = await _watched(call)
        slow: list[dict[str, Any]] = await self.client.slowlog_get(-1)
        # Emptying the log may take long, too.
        own = [each["duration"] for each in slow if not each["command"].startswith(b"SLOWLOG")]
        longest = max(own, default=0)
        return {names.TIME: seconds, names.LONGEST: longest / 1e6, names.STALL: stall}


@asynccontextmanager
async def opened(url: str, owner: str) -> AsyncGenerator[Place]:
    """A place, until the block ends."""
    if url.startswith(_CLUSTER):
        async with connect(url, owner=owner, budget_bytes=PLENTY, clock=CLOCK) as database:
            yield Place(owner, database, None)
        return
    async with Redis.from_url(url) as client:
        database = AsyncClientDatabase(
            client, client, owner=owner, budget_bytes=PLENTY, clock=CLOCK
        )
        yield Place(owner, database, client)


async def _watched(call: Call) -> tuple[float, float]:
    """Seconds that a call takes, and those that the loop stood still meanwhile."""
    longest, over = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        while not over.is_set():
            begin = perf_counter()
            await asyncio.sleep(_TICK)
            longest = max(longest, perf_counter() - begin - _TICK)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    begin = perf_counter()
    await call()
    seconds = perf_counter() - begin
    over.set()
    await watching
    return seconds, longest
