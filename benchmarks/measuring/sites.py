"""Clusters and single servers on loopback, with owners of the same names on each."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TypeAlias

from redis.crc import key_slot

from aqm_db import AsyncClientDatabase, connect
from aqm_db._model.keys import Keys
from benchmarks.measuring import checks
from benchmarks.measuring.loops import Call, Variant, closed_loop
from benchmarks.measuring.stock import CLOCK, all_of, new_coins, storing
from tests.support.backends import VALKEY_9, Backend
from tests.support.clusters import Node, RunningCluster, RunningPrimary

PARTS = 6
"""Owners are spread over as many parts of the slots: evenly over 1, 2, 3 or 6 primaries."""
_SLOTS = 16_384
_MICRO = 1e6


Servers: TypeAlias = RunningCluster | RunningPrimary


@dataclass(frozen=True, slots=True)
class Site:
    """Servers, and a client of theirs.

    Attributes:
        name: what they are called in tables.
        nodes: all of them.
        database: the database of some owner.
        owners: those who are measured.
    """

    name: str
    nodes: Sequence[Node]
    database: AsyncClientDatabase
    owners: Sequence[str]

    async def settle(self) -> None:
        """These servers write nothing to a disk, so they are at rest when they have answered."""

    def select(self) -> Variant:
        """select_coin, by each owner in turns."""
        return Variant(self.name, self._stocked, checks.entries)

    async def cpu(self, calls: int, callers: int) -> dict[str, float]:
        """What a select_coin takes of the cores, in us: the client, and the servers together."""
        ready = await self._stocked(calls)
        client, servers = time.process_time(), self._worked()
        await closed_loop(ready, callers)
        client, servers = time.process_time() - client, self._worked() - servers
        return {"client_us": client / calls * _MICRO, "servers_us": servers / calls * _MICRO}

    def _worked(self) -> float:
        """Seconds of CPU that the servers have taken."""
        told: list[dict[str, float]] = [node.client.info("cpu") for node in self.nodes]
        return sum(each["used_cpu_user"] + each["used_cpu_sys"] for each in told)

    async def _stocked(self, count: int) -> list[Call]:
        inventories = [self.database.for_owner(owner).inventory for owner in self.owners]
        shares = [await new_coins(each, count // len(inventories)) for each in inventories]
        turns = [
            (inventory, coin)
            for coins in zip(*shares, strict=True)
            for inventory, coin in zip(inventories, coins, strict=True)
        ]
        with CLOCK.an_hour_ago():
            await all_of([storing(*turn) for turn in turns])
        return [
            partial(inventory.select_coin, coin.contact_id, "GOLD") for inventory, coin in turns
        ]


@asynccontextmanager
async def sites(places: Mapping[str, Servers], owners: int) -> AsyncGenerator[list[Site]]:
    """Sites by their names, with a number of owners on each."""
    chosen = spread(owners)
    async with AsyncExitStack() as stack:
        found: list[Site] = []
        for name, servers in places.items():
            opening = connect(servers.url, owner=chosen[0], clock=CLOCK)
            database = await stack.enter_async_context(opening)
            found.append(Site(name, servers.nodes, database, chosen))
        yield found


def cluster_of(
    primaries: int, backend: Backend = VALKEY_9, *, with_replicas: bool = False
) -> RunningCluster:
    """A running cluster."""
    return RunningCluster(backend, primaries=primaries, with_replicas=with_replicas)


def single(backend: Backend = VALKEY_9, *, with_replica: bool = False) -> RunningPrimary:
    """A server that is no cluster's, otherwise with the options of those that are."""
    return RunningPrimary(backend, replicas=int(with_replica))


def spread(owners: int) -> list[str]:
    """Owners, the same number in each part of the slots, in turns."""
    parts: list[list[str]] = [[] for _ in range(PARTS)]
    each = -(-owners // PARTS)
    for number in count():
        owner = f"owner-{number}"
        part = parts[key_slot(Keys(owner).prefix.encode()) * PARTS // _SLOTS]
        if len(part) < each:
            part.append(owner)
        if all(len(part) == each for part in parts):
            break
    return [owner for turn in zip(*parts, strict=True) for owner in turn]
