"""Coins at hand, while another server takes over: of a cluster, and behind sentinels."""

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest

from aqm_db import AsyncPrefetcher, connect
from aqm_db.types import NewCoin
from tests.cluster.support.load import CAPS, HALVES
from tests.faults.support.fault_table import Tally
from tests.support.backends import Backend
from tests.support.clusters import Node, RunningCluster, RunningSentinels
from tests.support.samples import BOB
from tests.support.waiting import eventually

pytestmark = [pytest.mark.asyncio, pytest.mark.thorough]

ALICE = "aqm:{alice}:"
AHEAD = 3
COINS = [f"k{number:02}" for number in range(12)]


@pytest.fixture(params=["a cluster", "sentinels"])
def servers(
    request: pytest.FixtureRequest, backend: Backend
) -> Iterator[RunningCluster | RunningSentinels]:
    """A primary and its replica, which takes over by itself."""
    kind = RunningCluster if request.param == "a cluster" else RunningSentinels
    with kind(backend) as running:
        yield running


async def test_a_primary_is_killed(
    servers: RunningCluster | RunningSentinels, tally: Tally
) -> None:
    """What is at hand is handed out meanwhile; the rest comes from the replica, each coin once."""
    got: list[str] = []
    async with connect(servers.url, owner="alice", budget_caps=CAPS) as db:
        await db.inventory.register_contact(BOB, "BESTIE")
        stored = await db.inventory.store_keys(
            [NewCoin(BOB, key_id, "BRONZE", *HALVES) for key_id in COINS]
        )
        assert stored == [True] * len(COINS)
        async with db.inventory.prefetch(ahead=AHEAD, contacts=[BOB], tiers=["BRONZE"]) as at_hand:
            while at_hand.read_counts().at_hand["BRONZE"] < AHEAD:
                await asyncio.sleep(0)
            victim = await asyncio.to_thread(find_primary, servers)
            await asyncio.to_thread(eventually, victim.is_replicated)
            victim.kill()
            got += [take_at_once(at_hand) for _ in range(AHEAD)]
            while len(got) < 7:
                coin = await at_hand.select_coin(BOB, "BRONZE")
                assert coin is not None
                got.append(coin.key_id)
        left = [coin.key_id for coin in await db.inventory.list_coins(BOB)]
    tally.add(
        "a primary killed under coins at hand",
        case=type(servers).__name__,
        lost=len(set(COINS) - {*got, *left}),
        duplicated=len(got) + len(left) - len({*got, *left}),
    )
    assert (got, left) == (COINS[:7], COINS[7:])


def take_at_once(at_hand: AsyncPrefetcher) -> str:
    """A coin that is handed out without I/O."""
    with closing(at_hand.select_coin(BOB, "BRONZE")) as call:
        with pytest.raises(StopIteration) as stopped:
            call.send(None)
        key_id: str = stopped.value.value.key_id
        return key_id


def find_primary(servers: RunningCluster | RunningSentinels) -> Node:
    """Where Alice's data is."""
    if isinstance(servers, RunningSentinels):
        return servers.primary()
    return servers.primary_of(ALICE)
