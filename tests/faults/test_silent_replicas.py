"""Callers that give up while a replica is silent: what they were given doesn't wait for it."""

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from aqm_db import AsyncSmartInventory, close_all
from aqm_db.errors import InventoryUnavailableError
from tests.api.test_confirming_together import (
    CALLERS,
    CAPS,
    COINS,
    PATIENT,
    is_blocked,
    list_left,
    ready_client,
)
from tests.faults.support.cancelled_callers import turns
from tests.faults.support.fault_table import Tally
from tests.support.backends import REDIS_8, VALKEY_9
from tests.support.clusters import Node, RunningPrimary
from tests.support.samples import BOB
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio

FAULT = "cancelled while a replica is silent"


@pytest.fixture(scope="module", params=[VALKEY_9, REDIS_8], ids=lambda backend: backend.name)
def servers(request: pytest.FixtureRequest) -> Iterator[RunningPrimary]:
    """A primary and its replica."""
    with RunningPrimary(request.param, replicas=1) as running:
        yield running


@pytest.mark.parametrize("share", [1, 3])
async def test_callers_that_are_cancelled_while_a_replica_is_silent(
    servers: RunningPrimary, tally: Tally, share: int, *, thorough: bool
) -> None:
    """Every one, or every third, at different steps; the others get their coins in the end."""
    primary, replica = servers.nodes
    for moment in (None, *range(0, 24, 1 if thorough else 5)):
        primary.client.flushall()
        async with ready_client(servers) as client:
            inventory = AsyncSmartInventory(client, settle_timeout=50, **CAPS, **PATIENT)
            replica.freeze()
            tasks = [
                asyncio.create_task(inventory.select_coin(BOB, "GOLD")) for _ in range(CALLERS)
            ]
            await turns(moment or 0)
            if moment is None:
                await asyncio.to_thread(eventually, lambda: is_blocked(primary))
            gone, there = tasks[::share], [] if share == 1 else [*tasks[1::3], *tasks[2::3]]
            for task in gone:
                task.cancel()
            await asyncio.wait(gone)
            # Nobody is told anything yet, so every coin is one of those who are there.
            is_back = partial(_has, primary, CALLERS - len(there))
            await asyncio.to_thread(eventually, is_back)
            replica.thaw()
            results = await asyncio.gather(*there, return_exceptions=True)
            await close_all(client, client)
        got = [each.key_id for each in results if each and not isinstance(each, BaseException)]
        doubt = sum(isinstance(each, InventoryUnavailableError) for each in results)
        left = list_left(primary)
        tally.add(
            FAULT,
            runs=len(gone),
            lost=max(len(set(COINS) - {*got, *left}) - doubt, 0),
            duplicated=len(got) + len(left) - len({*got, *left}),
            wrong=len(results) - len(got) - doubt + int(left != sorted(left)),
            case=f"every {share}. after {moment} turns",
        )


def _has(primary: Node, count: int) -> bool:
    """Whether a server has so many coins."""
    return len(list_left(primary)) >= count
