"""Replies that are lost, and requests that arrive late: running a call twice is running it once."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory
from aqm_db._model.tiers import PRIORITIES, TIERS
from aqm_db.errors import AQMDatabaseError, UnavailableError
from tests.conftest import INVENTORY_DB
from tests.faults.support.byte_cutter import ByteCutter, Cut
from tests.faults.support.clients_on_bad_links import ASYNC_PARTIES, DEFAULT, SYNC_PARTIES, Party
from tests.faults.support.cut_runs import Leap, ending_of
from tests.faults.support.fault_free_outcomes import REQUEST_ID, FaultFree
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import assert_link_is_clean
from tests.faults.support.late_selections import count_lost, select_late
from tests.faults.support.restored_database import read_content
from tests.faults.support.tried_calls import OPERATIONS, Operation, pair_over
from tests.faults.support.two_callers import ENCOUNTERS, Encounter, outline
from tests.support.backends import REDIS_6, VALKEY_9, RunningServer
from tests.support.peers import Cutter, listening_on_loopback, tell_time
from tests.support.samples import Clock, halves, snapshot, stock

pytestmark = pytest.mark.asyncio

over_servers = pytest.mark.parametrize(
    "real_server", [VALKEY_9, REDIS_6], indirect=True, ids=lambda backend: backend.name
)
over_parties = pytest.mark.parametrize(
    ("real_server", "party"),
    [
        *((VALKEY_9, party) for party in (*ASYNC_PARTIES, *SYNC_PARTIES)),
        (REDIS_6, DEFAULT),
    ],
    indirect=["real_server"],
    ids=lambda value: value.name,
)
over_operations = pytest.mark.parametrize("operation", OPERATIONS, ids=str)
over_encounters = pytest.mark.parametrize("encounter", ENCOUNTERS, ids=str)


@over_operations
@over_parties
async def test_a_reply_that_is_lost_any_number_of_times(
    real_server: RunningServer,
    direct: Redis,
    operation: Operation,
    party: Party,
    *,
    thorough: bool,
    tally: Tally,
    backoffs: list[float],
) -> None:
    """A call outlives as many lost replies as it has retries; one more, and it can't know."""
    right = await FaultFree.of(operation, direct)
    cutter = Cutter(real_server.socket_path)
    fewest = 1 if thorough else party.retries
    async with listening_on_loopback(cutter, None) as port, party.client(port) as client:
        vault, inventory = pair_over(client, REQUEST_ID, party.face)
        call = partial(operation.call, vault, inventory, right.subject)
        for losses in range(fewest, party.retries + 2):
            await right.begin()
            tell_time(client)
            cutter.losing = losses
            if losses > party.retries:
                with pytest.raises(UnavailableError) as caught:
                    await call()
                assert caught.value.outcome_unknown is True
            answer = await call()
            assert cutter.losing == 0
            assert answer == right.answer
            harm = right.harm(await read_content(direct))
            tally.add("reply lost", case=f"{operation} by {party}: {losses}", **harm)
            await assert_link_is_clean(client, inventory)


@over_encounters
@pytest.mark.parametrize(
    ("real_server", "party"),
    [(VALKEY_9, DEFAULT), (VALKEY_9, SYNC_PARTIES[0]), (REDIS_6, DEFAULT)],
    indirect=["real_server"],
    ids=lambda value: value.name,
)
async def test_another_client_acts_before_a_call_is_sent_again(
    real_server: RunningServer,
    direct: Redis,
    encounter: Encounter,
    party: Party,
    *,
    thorough: bool,
    tally: Tally,
    backoffs: list[float],
) -> None:
    """Each caller is told what it would be told if the first reply had not been lost."""
    cutter = Cutter(real_server.socket_path)
    losses_tried = range(1, party.retries + 1) if thorough else (1, party.retries)
    meetings = [(losses, turn) for losses in losses_tried for turn in {1, losses}]
    async with listening_on_loopback(cutter, None) as port, party.client(port) as client:
        for losses, turn in meetings:
            await direct.flushdb()
            subject = await encounter.prepare(*pair_over(direct))
            tell_time(client)
            cutter.losing = losses
            with real_server.sync_client(INVENTORY_DB) as other:
                meeting = Meeting(turn, partial(encounter.meet, other, subject))
                cutter.meanwhile = meeting
                call = encounter.call(*pair_over(client, REQUEST_ID, party.face), subject)
                assert await outlined(call) == encounter.told
            assert cutter.losing == 0
            assert meeting.went_well
            case = f"{encounter}: {losses} times, the other acts after {turn}"
            harm = await encounter.harm(direct)
            tally.add("reply lost while another acts", case=case, **harm)


@over_servers
@over_encounters
async def test_a_request_that_arrives_after_all(
    real_server: RunningServer,
    direct: Redis,
    encounter: Encounter,
    tally: Tally,
    leap: Leap,
    backoffs: list[float],
) -> None:
    """A network may deliver a request when it was sent again, answered, and others have acted."""
    subject = await encounter.prepare(*pair_over(direct))
    cutter = ByteCutter(real_server.socket_path)
    async with cutter.listening() as port, DEFAULT.client(port) as client:
        vault, inventory = pair_over(client, REQUEST_ID)
        await assert_link_is_clean(client, inventory)
        tell_time(client)
        cutter.arm(Cut("late", "request", 0))
        ending = await ending_of(encounter.call(vault, inventory, subject), cutter, leap)
        assert not isinstance(ending, Exception)
        with real_server.sync_client(INVENTORY_DB) as other:
            assert encounter.meet(other, subject)
        before = await snapshot(direct)
        assert await cutter.deliver() == 1
        assert await snapshot(direct) == before
        tally.add("request arrives late", case=encounter, **await encounter.harm(direct))


@over_servers
@pytest.mark.parametrize("stale", [0, 30], ids=["in one request", "in several"])
@pytest.mark.parametrize("name", ["select_coin", "select_coins"])
async def test_a_request_that_arrives_when_many_were_answered(
    real_server: RunningServer,
    direct: Redis,
    name: str,
    stale: int,
    tally: Tally,
    leap: Leap,
    backoffs: list[float],
) -> None:
    """Its claim stays, though it was sent again and answered: only so it takes nothing more."""
    contacts = [f"c{number}" for number in range(64)]
    clock = Clock()
    caps = {str(each): dict.fromkeys(map(str, TIERS), 100) for each in PRIORITIES}
    others = AsyncSmartInventory(direct, clock=clock, budget_caps=caps)
    for contact_id in contacts:
        await others.register_contact(contact_id, "BESTIE")
    ends = clock.now + 1
    for number in range(stale):
        await others.store_key("c0", f"{number}", "SILVER", *halves("SILVER"), expires_at=ends)
    for contact_id in contacts:
        await stock(others, contact_id, "SILVER", "first", "second")
    clock.advance(days=1)
    cutter = ByteCutter(real_server.socket_path)
    async with cutter.listening() as port, DEFAULT.client(port) as client:
        inventory = AsyncSmartInventory(client, clock=clock, budget_caps=caps)
        await assert_link_is_clean(client, inventory)
        tell_time(client)
        await select_late(inventory, name, "c0", cutter, leap)
        for contact_id in contacts[1:]:
            assert await inventory.select_coin(contact_id, "SILVER") is not None
        assert await cutter.deliver() == 1
    lost = await count_lost(others)
    tally.add("request arrives late, and its claim might be over", case=(name, stale), lost=lost)


class Meeting:
    """Lets another client act once, between two attempts.

    Args:
        turn: after which attempt.
        act: what it does; it returns whether that went as it must.

    Attributes:
        went_well: whether it did.
    """

    def __init__(self, turn: int, act: Callable[[], bool]) -> None:
        self.went_well = False
        self._turn = turn
        self._act = act

    def __call__(self) -> None:
        """Counts an attempt."""
        self._turn -= 1
        if self._turn == 0:
            self.went_well = self._act()


async def outlined(call: Awaitable[Any]) -> Any:
    """The outline of a call's answer or error."""
    try:
        return outline(await call)
    except AQMDatabaseError as error:
        return outline(error)
