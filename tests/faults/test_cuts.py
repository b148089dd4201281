"""A line that is cut at any byte of a request or of its reply."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db._io.redispy.replies import pack_command
from aqm_db.errors import InventoryUnavailableError, UnavailableError
from tests.faults.support.byte_cutter import ByteCutter, Cut, Direction, How
from tests.faults.support.clients_on_bad_links import ASYNC_PARTIES, SYNC_PARTIES, Party
from tests.faults.support.cut_runs import Leap, Trial, ending_of
from tests.faults.support.deserted_calls import SELECT
from tests.faults.support.fault_free_outcomes import REQUEST_ID, FaultFree
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import assert_link_is_clean, assert_no_key_material
from tests.faults.support.restored_database import read_content
from tests.faults.support.tried_calls import OPERATIONS, Operation, pair_over
from tests.support.backends import REDIS_6, VALKEY_9, RunningServer
from tests.support.peers import tell_time

pytestmark = pytest.mark.asyncio

Steps = Mapping[How, int]
"""Every so many bytes are tried."""
# What a stall does to the library differs only by whether the reply is whole, so fewer are enough.
EVERY_BYTE: Steps = {"FIN": 1, "RST": 1, "stall": 5}
SLICE: Steps = {"FIN": 23, "RST": 41, "stall": 131}
THIN_SLICE: Steps = {"FIN": 97, "RST": 131, "stall": 307}


over_operations = pytest.mark.parametrize("operation", OPERATIONS, ids=str)
over_parties = pytest.mark.parametrize("party", ASYNC_PARTIES, ids=str)
over_sync_parties = pytest.mark.parametrize("party", SYNC_PARTIES, ids=str)


@over_operations
@over_parties
@pytest.mark.parametrize(
    ("real_server", "steps", "thorough_steps"),
    [(VALKEY_9, SLICE, EVERY_BYTE), (REDIS_6, THIN_SLICE, SLICE)],
    indirect=["real_server"],
    ids=[VALKEY_9.name, REDIS_6.name],
)
async def test_a_line_that_is_cut_at_any_byte(
    real_server: RunningServer,
    direct: Redis,
    party: Party,
    operation: Operation,
    steps: Steps,
    thorough_steps: Steps,
    *,
    thorough: bool,
    tally: Tally,
    leap: Leap,
    backoffs: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With retries the call succeeds once; without, it fails as it must, and can be asked again."""
    caplog.set_level("DEBUG")
    async with Trial.of(operation, party, real_server, direct, leap) as trial:
        for cut in trial.cuts(thorough_steps if thorough else steps):
            await trial.run(cut, tally)
    assert_no_key_material(trial.errors, caplog)


@over_operations
@over_sync_parties
async def test_a_line_that_is_cut_under_a_synchronous_client(
    real_server: RunningServer,
    direct: Redis,
    party: Party,
    operation: Operation,
    *,
    thorough: bool,
    tally: Tally,
    backoffs: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same holds for the synchronous face; its callers are threads here."""
    caplog.set_level("DEBUG")
    step = 23 if thorough else 97
    async with Trial.of(operation, party, real_server, direct) as trial:
        for cut in trial.cuts({"FIN": step, "RST": step}):
            await trial.run(cut, tally)
    assert_no_key_material(trial.errors, caplog)


@over_operations
@over_sync_parties
async def test_a_silent_line_under_a_synchronous_client(
    real_server: RunningServer,
    direct: Redis,
    party: Party,
    operation: Operation,
    *,
    thorough: bool,
    tally: Tally,
    backoffs: list[float],
) -> None:
    """A synchronous client waits in real time, if only for a moment."""
    async with Trial.of(operation, party, real_server, direct, patience=0.1) as trial:
        cuts = trial.cuts({"stall": 61})
        for cut in cuts if thorough else cuts[-1:]:
            await trial.run(cut, tally)


@over_operations
@pytest.mark.parametrize("party", [*ASYNC_PARTIES, *SYNC_PARTIES], ids=str)
async def test_a_first_call_that_is_cut_while_it_finds_out_the_time(
    real_server: RunningServer,
    direct: Redis,
    party: Party,
    operation: Operation,
    tally: Tally,
    backoffs: list[float],
) -> None:
    """Nothing is executed before the server's time is known, so it's asked once more."""
    right = await FaultFree.of(operation, direct)
    cutter = ByteCutter(real_server.socket_path)
    ways: tuple[How, ...] = ("FIN", "RST")
    places: tuple[tuple[Direction, int], ...] = (
        *(("request", 0), ("request", 20)),
        *(("reply", 0), ("reply", 3)),
    )
    async with cutter.listening() as port:
        for cut in (Cut(how, *place) for how in ways for place in places):
            await right.begin()
            async with party.client(port) as client:
                vault, inventory = pair_over(client, REQUEST_ID, party.face)
                call = partial(operation.call, vault, inventory, right.subject)
                await assert_link_is_clean(client, inventory)
                cutter.arm(cut)
                ending = await ending_of(call(), cutter, None)
                if not party.retries:
                    assert isinstance(ending, UnavailableError)
                    assert await read_content(direct) == right.before
                    ending = await ending_of(call(), cutter, None)
                case = f"{operation} by {party}, {cut}: {ending!r}"
                assert ending == right.answer, case
                harm = right.harm(await read_content(direct))
                tally.add("first call of a client cut", case=case, **harm)


@over_parties
@pytest.mark.parametrize("how", ["FIN", "RST", "stall"])
async def test_connections_that_are_cut_from_their_start(
    real_server: RunningServer,
    direct: Redis,
    party: Party,
    how: How,
    *,
    thorough: bool,
    tally: Tally,
    leap: Leap,
    backoffs: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A call outlives as many connections as it has retries, at whatever byte each of them ends."""
    caplog.set_level("DEBUG")
    right = await FaultFree.of(SELECT, direct)
    cutter = ByteCutter(real_server.socket_path)
    errors: list[BaseException] = []
    step = {"FIN": 9, "RST": 13, "stall": 31}[how] if thorough else 149

    def selected(client: Any) -> Awaitable[Any]:
        return SELECT.call(*pair_over(client, REQUEST_ID), right.subject)

    async with cutter.listening() as port:

        async def survive(cut: Cut, losses: int) -> Exception | None:
            """Makes the call on new connections, until it succeeds; how it failed before."""
            await right.begin()
            cutter.arm(cut, losses)
            # All of them have to fit into the time for which a request may be repeated.
            async with party.client(port, patience=1.0) as client:
                tell_time(client)
                first = ending = await ending_of(selected(client), cutter, leap)
                if isinstance(first, Exception):
                    ending = await ending_of(selected(client), cutter, leap)
                case = f"{losses} times {cut}: {first!r}"
                assert ending == right.answer, case
                harm = right.harm(await read_content(direct))
                tally.add(f"connection cut by {how}: {party}", case=case, **harm)
                await assert_link_is_clean(client, pair_over(client)[1])
            return first if isinstance(first, Exception) else None

        greeting = await _lengths(cutter, party, port, lambda client: client.ping())
        greeting["request"] -= len(pack_command(("PING",)))
        greeting["reply"] -= len("+PONG\r\n")
        await right.begin()
        for direction, length in (await _lengths(cutter, party, port, selected)).items():
            for offset in range(0, length, step):
                cut = Cut(how, direction, offset)
                assert await survive(cut, party.retries) is None
                error = await survive(cut, party.retries + 1)
                assert type(error) is InventoryUnavailableError
                errors.append(error)
                if offset != greeting[direction]:
                    assert error.outcome_unknown is (offset > greeting[direction])
    assert_no_key_material(errors, caplog)


async def _lengths(
    cutter: ByteCutter, party: Party, port: int, call: Callable[[Any], Awaitable[object]]
) -> dict[Direction, int]:
    """How many bytes pass for the first call of a new client that knows its server's time."""
    cutter.arm(None)
    async with party.client(port) as client:
        tell_time(client)
        await call(client)
    return {"request": cutter.passed("request"), "reply": cutter.passed("reply")}
