"""Requests that come again when the server has forgotten them, and clocks that step meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncSmartInventory, close_all, config
from aqm_db._io.request import REPEATABLE_SECONDS
from aqm_db._lua.loader import Code
from aqm_db._model.defaults import now_ms
from aqm_db.errors import InventoryUnavailableError, UnavailableError
from tests.conftest import INVENTORY_DB
from tests.faults.support.byte_cutter import ByteCutter
from tests.faults.support.cancelled_callers import turns
from tests.faults.support.clients_on_bad_links import DEFAULT, SYNC_PARTIES, Party
from tests.faults.support.cut_runs import Leap
from tests.faults.support.fault_free_outcomes import REQUEST_ID
from tests.faults.support.fault_table import Tally
from tests.faults.support.furnished_database import library_client
from tests.faults.support.late_selections import count_lost, select_late
from tests.faults.support.tried_calls import pair_over
from tests.faults.support.two_callers import ENCOUNTERS, Encounter, outline
from tests.support.backends import REDIS_8, VALKEY_9
from tests.support.faces import FACES, Face
from tests.support.peers import (
    Cutter,
    ScriptedServer,
    encode_reply,
    listening,
    listening_on_loopback,
    tell_time,
)
from tests.support.samples import BOB, stock
from tests.support.stepped_clocks import SteppedServer

pytestmark = pytest.mark.asyncio


@pytest.fixture(params=[VALKEY_9, REDIS_8], ids=lambda backend: backend.name)
def server(request: pytest.FixtureRequest) -> Iterator[SteppedServer]:
    """One whose clock can be set."""
    with SteppedServer(request.param) as running:
        yield running


@pytest_asyncio.fixture
async def direct(server: SteppedServer) -> AsyncGenerator[Redis]:
    """A client of it, on a link that is whole."""
    async with server.client(INVENTORY_DB) as client:
        yield client


@pytest.mark.parametrize("is_known", [True, False], ids=["registered", "unknown"])
async def test_a_first_sending_that_comes_after_the_caller_has_gone(
    direct: Redis, *, is_known: bool
) -> None:
    """It takes nothing: where calls wait for a replica, its repetition may overtake it."""
    others = AsyncSmartInventory(direct)
    assert not await others.has_keys_for(BOB)
    if is_known:
        await others.register_contact(BOB, "BESTIE")
    tell_time(direct)
    inventory = AsyncSmartInventory(direct, request_ids=lambda: "once")
    selecting = asyncio.ensure_future(inventory.select_coin(BOB, "GOLD"))
    await turns(1)
    selecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await selecting
    # Somebody else puts back what they had been given.
    if not is_known:
        await others.register_contact(BOB, "BESTIE")
    await stock(others, BOB, "GOLD", "g1")
    assert await inventory.select_coin(BOB, "GOLD") is None
    assert (await others.get_inventory(BOB)).gold_count == 1


@pytest.mark.parametrize("name", ["select_coin", "select_coins"])
async def test_a_first_sending_whose_date_is_right_again(
    server: SteppedServer, direct: Redis, name: str, tally: Tally, leap: Leap, backoffs: list[float]
) -> None:
    """The clock was behind when it was begun anew; its claim stays, though many were answered."""
    contacts = [f"c{number}" for number in range(64)]
    others = AsyncSmartInventory(direct)
    for contact_id in contacts:
        await others.register_contact(contact_id, "BESTIE")
        await stock(others, contact_id, "SILVER", "first", "second")
    cutter = ByteCutter(server.socket_path)
    async with cutter.listening() as port, DEFAULT.client(port) as client:
        inventory = AsyncSmartInventory(client)
        assert await inventory.has_keys_for("c0")
        tell_time(client)
        assert await inventory.select_coin("c1", "SILVER") is not None
        server.step(-3)
        await select_late(inventory, name, "c0", cutter, leap)
        for contact_id in contacts[2:]:
            assert await inventory.select_coin(contact_id, "SILVER") is not None
        server.step(3)
        assert await cutter.deliver() == 1
    lost = await count_lost(others)
    tally.add("request arrives late, and its claim might be over", case=name, lost=lost)


@pytest.mark.parametrize("encounter", ENCOUNTERS, ids=str)
@pytest.mark.parametrize("party", [DEFAULT, SYNC_PARTIES[0]], ids=str)
async def test_others_act_before_a_repeat_that_outlives_its_trace(
    server: SteppedServer,
    direct: Redis,
    encounter: Encounter,
    party: Party,
    tally: Tally,
    backoffs: list[float],
) -> None:
    """What they did stays as it is; the caller is told the truth, or that nobody knows it."""
    subject = await encounter.prepare(*pair_over(direct))
    cutter = Cutter(server.socket_path)
    went_well: list[bool] = []
    async with listening_on_loopback(cutter, None) as port, party.client(port) as client:
        tell_time(client)
        with server.sync_client(INVENTORY_DB) as other:

            def meet() -> None:
                went_well.append(encounter.meet(other, subject))
                server.step(config.INV_CLAIM_TTL_SECONDS + 1)

            cutter.losing, cutter.meanwhile = 1, meet
            call = encounter.call(*pair_over(client, REQUEST_ID, party.face), subject)
            told = await _told(call)
    assert went_well == [True]
    assert told in {encounter.told, "outcome unknown"}
    harm = await encounter.harm(direct)
    tally.add("the server forgets a request, others act", case=encounter, **harm)


@pytest.mark.parametrize("face", FACES, ids=str)
async def test_a_clock_that_never_stops_stepping(face: Face, tmp_path: Path) -> None:
    """It's given up, and nothing was executed."""
    hours = count()

    def answer(command: list[bytes]) -> bytes:
        return encode_reply([Code.UNKNOWN, command[3], now_ms() + 3_600_000 * next(hours)])

    server = ScriptedServer(answer)
    async with listening(server, tmp_path / "s"), library_client(face, tmp_path / "s") as client:
        tell_time(client)
        with pytest.raises(InventoryUnavailableError, match="clock steps") as caught:
            await face.inventory(client).select_coin(BOB, "GOLD")
        assert caught.value.outcome_unknown is False
        outcomes = await face.inventory(client).select_coins([BOB, "carol"], "GOLD")
    for outcome in outcomes.values():
        assert isinstance(outcome, InventoryUnavailableError)
        assert outcome.outcome_unknown is False
    assert len(server.requests) == 4 + 4 * 2


@pytest.mark.parametrize("face", FACES, ids=str)
@pytest.mark.parametrize(("seconds", "times"), [(REPEATABLE_SECONDS, 1), (1.0, 4)])
async def test_a_client_that_slept_before_it_asks_again(
    face: Face, seconds: float, times: int, tmp_path: Path, leap: Leap, backoffs: list[float]
) -> None:
    """Nothing is sent when the server may have forgotten it, however many retries are left."""

    def hang_up(_: list[bytes]) -> None:
        leap(seconds)

    server = ScriptedServer(hang_up)
    async with listening(server, tmp_path / "s"), library_client(face, tmp_path / "s") as client:
        tell_time(client)
        with pytest.raises(InventoryUnavailableError) as caught:
            await face.inventory(client).select_coin(BOB, "GOLD")
    assert caught.value.outcome_unknown is True
    assert server.requests == times * server.requests[:1]


@pytest.mark.parametrize("socket_timeout", [None, 60.0])
async def test_a_cancelled_call_ends_in_time(
    tmp_path: Path, socket_timeout: float | None, leap: Leap, tally: Tally
) -> None:
    """Its limit is its own, however long its client waits for a silent server."""
    server = ScriptedServer(lambda _: b"")
    async with listening(server, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"),
            protocol=2,
            socket_timeout=socket_timeout,
            retry=Retry(NoBackoff(), 3),
        )
        tell_time(client)
        task = asyncio.ensure_future(AsyncSmartInventory(client).select_coin(BOB, "GOLD"))
        while not server.requests:
            await asyncio.sleep(0)
        task.cancel()
        await turns(20)
        in_time = [task.done()]
        leap(config.SETTLE_TIMEOUT / 1000)
        await turns(20)
        in_time.append(task.done())
        leap(2 * config.INV_CLAIM_TTL_SECONDS)
        await asyncio.wait((task,))
        await close_all(client, client)
    assert in_time == [False, True]
    assert task.cancelled()
    tally.add("cancelled before a silent server")


async def _told(call: Awaitable[Any]) -> Any:
    """The outline of an answer or an error; what nobody knows by name."""
    try:
        return outline(await call)
    except UnavailableError as error:
        return "outcome unknown" if error.outcome_unknown else type(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        return outline(error)
