"""Coins at hand: what becomes of them when programs, callers, links, servers and clocks fail."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory, close_all
from aqm_db.errors import (
    ContactNotRegisteredError,
    InventoryUnavailableError,
    UnavailableError,
)
from aqm_db.prefetcher import AsyncPrefetcher
from aqm_db.types import NewCoin
from tests.conftest import INVENTORY_DB
from tests.faults.support.byte_cutter import ByteCutter, Cut, How
from tests.faults.support.cancelled_callers import (
    Way,
    by_cancel,
    by_scope,
    by_timeout,
    given_up,
    turns,
)
from tests.faults.support.clients_on_bad_links import DEFAULT
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import queued
from tests.faults.support.tried_calls import HALVES
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.clusters import RunningPrimary
from tests.support.samples import BOB, MATE
from tests.support.stepped_clocks import DAY_SECONDS, SteppedServer

pytestmark = pytest.mark.asyncio

AHEAD = 3
CAPS = {
    priority: {"GOLD": 0, "SILVER": 200, "BRONZE": 200}
    for priority in ("BESTIE", "MATE", "STRANGER")
}
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")

PROGRAM = """
import asyncio, os, sys
from redis.asyncio import Redis
from aqm_db import AsyncSmartInventory

async def call(at_hand, contact_id):
    while True:
        coin = await at_hand.select_coin(contact_id, "BRONZE")
        os.write(1, f"{coin and coin.key_id}\\n".encode())
        await asyncio.sleep(0)

async def main():
    client = Redis(unix_socket_path=sys.argv[1], db=int(sys.argv[2]))
    inventory = AsyncSmartInventory(client)
    async with inventory.prefetch(ahead=3) as at_hand:
        await asyncio.gather(*(call(at_hand, name) for name in sys.argv[3:]))

asyncio.run(main())
"""
"""A caller for each contact, who says which coin each call was given."""


async def stocked(client: Redis, count: int = 12, **options: Any) -> AsyncSmartInventory:
    """An inventory in an empty database, with so many coins of one contact."""
    await client.flushdb()
    inventory = AsyncSmartInventory(client, budget_caps=CAPS, **options)
    await stock(inventory, BOB, count)
    return inventory


async def stock(inventory: AsyncSmartInventory, contact_id: str, count: int) -> None:
    """Registers a contact with so many coins."""
    await inventory.register_contact(contact_id, "BESTIE")
    names = named(contact_id, count)
    await inventory.store_keys([NewCoin(contact_id, name, "BRONZE", *HALVES) for name in names])


def named(contact_id: str, count: int) -> list[str]:
    """The ids of a contact's coins, in order."""
    return [f"{contact_id} {number:03}" for number in range(count)]


def weigh(stored: Sequence[str], got: Sequence[str], left: Sequence[str]) -> dict[str, int]:
    """What is lost, and what is there twice, of some coins."""
    everything = [*got, *left]
    return {
        "lost": len(set(stored) - set(everything)),
        "duplicated": len(everything) - len(set(everything)),
    }


async def until(condition: Callable[[], object]) -> None:
    """Lets the event loop turn until something holds."""
    while not condition():
        await asyncio.sleep(0)


async def filled(at_hand: AsyncPrefetcher, count: int) -> None:
    """Waits until so many coins are at hand."""
    await until(lambda: at_hand.read_counts().at_hand["BRONZE"] == count)


async def take(at_hand: AsyncPrefetcher, got: list[str], contact_id: str = BOB) -> bool:
    """Takes one coin; whether there was one."""
    coin = await at_hand.select_coin(contact_id, "BRONZE")
    if coin is not None:
        got.append(coin.key_id)
    return coin is not None


@pytest.mark.parametrize("number", range(3))
async def test_the_program_is_killed(
    direct: Redis, valkey: RunningServer, number: int, tally: Tally
) -> None:
    """At most so many of each contact are used up as were to be at hand, and one on its way."""
    inventory = await stocked(direct, 150)
    await stock(inventory, MATE, 150)
    connected = len(await direct.client_list())
    arguments = (str(valkey.socket_path), str(INVENTORY_DB), BOB, MATE)
    got: list[str] = []
    with subprocess.Popen(  # noqa: ASYNC220 - it's killed
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        for line in program.stdout:
            got.append(line.rstrip("\n"))
            if len(got) == 20 + 17 * number:
                program.kill()
    # What is on its way to the server when the program dies is executed all the same.
    while len(await direct.client_list()) > connected:
        pass
    left = await queued(direct)
    for contact_id in (BOB, MATE):
        # It may be killed before it says what it has got: two for each of the two callers.
        mine = [name for name in got if name.startswith(contact_id)]
        there = [name for name in left if name.startswith(contact_id)]
        harm = weigh(named(contact_id, 150), mine, there)
        harm["lost"] = max(harm["lost"] - AHEAD - 1, 0)
        tally.add("kill -9 of a program with coins at hand", case=contact_id, **harm)
    assert [name for name in got if name.startswith(BOB)] == sorted(
        name for name in got if name.startswith(BOB)
    )


@pytest.mark.parametrize("way", [by_cancel, by_timeout, by_scope])
@pytest.mark.parametrize("times", [1, 4])
async def test_a_program_that_is_cancelled_at_any_step(
    direct: Redis, valkey: RunningServer, way: Way, times: int, tally: Tally, *, thorough: bool
) -> None:
    """Entering, refilling, missing, handing out, giving back: each coin is got, or in its place."""
    line = ByteCutter(valkey.socket_path)
    for moment in range(0, 160, 1 if thorough else 7):
        await stocked(direct)
        got: list[str] = []

        async def use(inventory: AsyncSmartInventory, got: list[str]) -> None:
            async with inventory.prefetch(ahead=AHEAD) as at_hand:
                for number in range(7):
                    await take(at_hand, got)
                    await turns(number)

        async with line.listening() as port, DEFAULT.client(port) as client:
            inventory = AsyncSmartInventory(client, budget_caps=CAPS)
            await inventory.get_contact_meta(BOB)
            task, give_up = way(use(inventory, got))
            await turns(moment)
            await given_up(task, give_up, times)
        left = await queued(direct)
        assert left == sorted(left)
        harm = weigh(named(BOB, 12), got, left)
        tally.add("cancelled with coins at hand", case=f"after {moment} turns", **harm)


async def test_callers_that_are_cancelled_at_any_step(direct: Redis, tally: Tally) -> None:
    """Of four callers on what may be empty, one gives up: nothing of it is lost."""
    for moment in range(24):
        inventory = await stocked(direct)
        got: list[str] = []
        async with inventory.prefetch(ahead=AHEAD) as at_hand:
            calls = [asyncio.create_task(take(at_hand, got)) for _ in range(4)]
            await turns(moment)
            calls[0].cancel()
            await asyncio.wait(calls)
            await take(at_hand, got)
        left = await queued(direct)
        assert left == sorted(left)
        harm = weigh(named(BOB, 12), got, left)
        tally.add("a caller cancelled beside others, with coins at hand", case=moment, **harm)


async def test_two_programs_on_one_contact(
    direct: Redis, valkey: RunningServer, tally: Tally
) -> None:
    """Each has some at hand, and no coin goes to both, to the last one."""
    await stocked(direct, 40)
    got: list[str] = []

    async def use() -> None:
        async with valkey.client(INVENTORY_DB) as client:
            inventory = AsyncSmartInventory(client, budget_caps=CAPS)
            async with inventory.prefetch(ahead=AHEAD) as at_hand:
                for number in range(15):
                    await take(at_hand, got)
                    await turns(number % 5)

    await asyncio.gather(use(), use())
    left = await queued(direct)
    assert left == sorted(left)
    tally.add("two programs with coins at hand", **weigh(named(BOB, 40), got, left))


@pytest.mark.parametrize("again", [False, True])
async def test_a_contact_who_is_forgotten_at_any_step(
    direct: Redis, valkey: RunningServer, tally: Tally, *, again: bool
) -> None:
    """By another program: nothing of theirs comes back, to whoever is registered by that id."""
    for moment in range(0, 40, 3):
        inventory = await stocked(direct)
        async with valkey.client(INVENTORY_DB) as client:
            other = AsyncSmartInventory(client, budget_caps=CAPS)

            async def use(inventory: AsyncSmartInventory) -> None:
                got: list[str] = []
                async with inventory.prefetch(ahead=AHEAD) as at_hand:
                    for number in range(9):
                        await take(at_hand, got)
                        await turns(number)

            task = asyncio.create_task(use(inventory))
            await turns(moment)
            await other.forget_contact(BOB)
            if again:
                await other.register_contact(BOB, "BESTIE")
                await other.store_key(BOB, "new", "BRONZE", *HALVES)
            [ended] = await asyncio.gather(task, return_exceptions=True)
        left = await queued(direct)
        tally.add(
            "a contact forgotten with coins at hand",
            lost=0,
            duplicated=len(set(left) - {"new"}),
            wrong=int(ended is not None and not isinstance(ended, ContactNotRegisteredError)),
            case=moment,
        )


@pytest.mark.usefixtures("backoffs")
@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("times", [1, 3])
async def test_replies_that_are_lost(
    direct: Redis, valkey: RunningServer, how: How, times: int, tally: Tally
) -> None:
    """Of refills, of misses, and of what goes back: the same request is answered again."""
    line = ByteCutter(valkey.socket_path)
    for offset in (0, 1, 40, 200, 500):
        await stocked(direct)
        got: list[str] = []
        async with line.listening() as port, DEFAULT.client(port) as client:
            inventory = AsyncSmartInventory(client, budget_caps=CAPS)
            async with inventory.prefetch(ahead=AHEAD, contacts=[BOB], tiers=["BRONZE"]) as at_hand:
                line.arm(Cut(how, "reply", offset), times)
                for _ in range(3):
                    await take(at_hand, got)
                await filled(at_hand, AHEAD)
                line.arm(Cut(how, "reply", offset), times)
                await take(at_hand, got)
                await filled(at_hand, AHEAD)
                # What goes back is asked for again, too.
                line.arm(Cut(how, "reply", offset), times)
            line.arm(None)
        left = await queued(direct)
        assert (got, left) == (sorted(got), sorted(left))
        harm = weigh(named(BOB, 12), got, left)
        tally.add("replies lost, with coins at hand", case=f"{how} at {offset}", **harm)


async def test_the_server_is_killed(tally: Tally, caplog: pytest.LogCaptureFixture) -> None:
    """What is at hand is handed out meanwhile, and nothing of it comes back to be handed out."""
    with RunningServer(VALKEY_9, *DURABLE) as server:
        async with server.client(INVENTORY_DB) as client:
            inventory = await stocked(client)
            got: list[str] = []
            async with inventory.prefetch(ahead=AHEAD, contacts=[BOB], tiers=["BRONZE"]) as at_hand:
                await filled(at_hand, AHEAD)
                await asyncio.to_thread(server.kill)
                for _ in range(AHEAD):
                    call = at_hand.select_coin(BOB, "BRONZE")
                    with pytest.raises(StopIteration) as stopped:
                        call.send(None)
                    got.append(stopped.value.value.key_id)
                await asyncio.to_thread(server.restart)
                while len(got) < 7:
                    await take(at_hand, got)
            left = await queued(client)
            assert (got, left) == (sorted(got), sorted(left))
            harm = weigh(named(BOB, 12), got, left)
            tally.add("a server killed under coins at hand (always)", **harm)
            assert "coins_not_returned" not in caplog.messages


@pytest.mark.usefixtures("backoffs")
async def test_the_server_is_gone_for_good(tally: Tally, caplog: pytest.LogCaptureFixture) -> None:
    """The next miss says so, the end logs how many are used up, and nothing hangs."""
    with RunningServer(VALKEY_9, *DURABLE) as server:
        async with server.client(INVENTORY_DB) as client:
            inventory = await stocked(client)
            got: list[str] = []
            async with inventory.prefetch(ahead=AHEAD, contacts=[BOB], tiers=["BRONZE"]) as at_hand:
                await filled(at_hand, AHEAD)
                await asyncio.to_thread(server.kill)
                await take(at_hand, got)
                with pytest.raises(UnavailableError):
                    await at_hand.select_coin(BOB, "SILVER")
            [record] = [each for each in caplog.records if each.message == "coins_not_returned"]
            held = record.__dict__["count"]
            await asyncio.to_thread(server.restart)
            harm = weigh(named(BOB, 12), got, await queued(client))
            harm["lost"] -= held
            assert held == AHEAD - 1
            tally.add("a server that is gone at the end of coins at hand", **harm)


@pytest.mark.parametrize("days", [1, 31, -1, -31])
async def test_the_server_s_clock_is_set(days: int, tally: Tally) -> None:
    """And set right again: what is at hand is handed out once, or is back."""
    with SteppedServer(VALKEY_9) as server:
        async with server.client(INVENTORY_DB) as client:
            inventory = await stocked(client)
            got: list[str] = []
            async with inventory.prefetch(ahead=AHEAD, contacts=[BOB], tiers=["BRONZE"]) as at_hand:
                await filled(at_hand, AHEAD)
                await asyncio.to_thread(server.step, days * DAY_SECONDS)
                for _ in range(AHEAD + 1):
                    # One call may be told so, as any whose server's clock is set under it.
                    with suppress(UnavailableError):
                        await take(at_hand, got)
                await asyncio.to_thread(server.step, -days * DAY_SECONDS)
            left = await queued(client)
            assert left == sorted(left)
            harm = weigh(named(BOB, 12), got, left)
            tally.add("the server's clock set under coins at hand", case=days, **harm)


async def test_a_silent_replica(tally: Tally) -> None:
    """Nothing is at hand that isn't confirmed; what nobody confirms is used up, and no more."""
    with RunningPrimary(VALKEY_9, replicas=1) as servers:
        _, replica = servers.nodes
        client = Redis(port=servers.nodes[0].port, db=INVENTORY_DB)
        inventory = await stocked(client, confirm_replicas=1, confirm_timeout=300)
        got: list[str] = []
        async with inventory.prefetch(ahead=AHEAD, contacts=[BOB], tiers=["BRONZE"]) as at_hand:
            await filled(at_hand, AHEAD)
            replica.freeze()
            await take(at_hand, got)
            await take(at_hand, got)
            while len(await queued(client)) == 12 - AHEAD:
                pass
            assert at_hand.read_counts().at_hand["BRONZE"] <= 1
            await take(at_hand, got)
            with pytest.raises(InventoryUnavailableError) as raised:
                await take(at_hand, got)
            assert raised.value.outcome_unknown
            replica.thaw()
            while len(got) < 5:
                # As long as it's busy with what it was sent.
                with suppress(InventoryUnavailableError):
                    await take(at_hand, got)
        left = await queued(client)
        harm = weigh(named(BOB, 12), got, left)
        # A refill of two coins at most, one that is tried again, and the misses that were told.
        assert harm["lost"] <= AHEAD + 3
        tally.note("a silent replica, with coins at hand", lost=0, duplicated=harm["duplicated"])
        assert harm["duplicated"] == 0
        await close_all(client, client)
