"""Callers that are cancelled: no coin is lost, none goes out twice, and the link stays clean."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff, NoBackoff

from aqm_db import AsyncSecureVault, AsyncSmartInventory, close_all, config
from aqm_db._io.redispy.async_loops import get_channels
from aqm_db.errors import ContactNotRegisteredError, InventoryUnavailableError
from tests.faults.support.byte_cutter import ByteCutter, Cut, How
from tests.faults.support.cancelled_callers import (
    MOMENTS,
    Moment,
    Way,
    by_cancel,
    by_scope,
    by_timeout,
    cancelled_at,
    given_up,
    turns,
)
from tests.faults.support.clients_on_bad_links import DEFAULT
from tests.faults.support.cut_runs import Leap
from tests.faults.support.deserted_calls import Desertion, emptied
from tests.faults.support.fault_free_outcomes import FaultFree
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import (
    assert_link_is_clean,
    assert_no_key_material,
    kept,
    queued,
)
from tests.faults.support.thousand_callers import CALLERS, Crowd
from tests.faults.support.tried_calls import OPERATIONS, Operation, pair_over, stocked
from tests.support.backends import REDIS_6, VALKEY_9, RunningServer
from tests.support.peers import (
    Cutter,
    ScriptedServer,
    listening,
    listening_on_loopback,
    tell_time,
)
from tests.support.samples import BOB, Clock, snapshot, stock

pytestmark = pytest.mark.asyncio

over_servers = pytest.mark.parametrize(
    "real_server", [VALKEY_9, REDIS_6], indirect=True, ids=lambda backend: backend.name
)
over_operations = pytest.mark.parametrize("operation", OPERATIONS, ids=str)


@over_servers
@over_operations
@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_caller_that_is_cancelled_at_any_step(
    real_server: RunningServer,
    direct: Redis,
    operation: Operation,
    times: int,
    tally: Tally,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A call that was sent is carried out once, and a coin that nobody waits for is put back."""
    caplog.set_level("DEBUG")
    line = ByteCutter(real_server.socket_path)
    desertion = Desertion(operation, await FaultFree.of(operation, direct), direct, line)
    async with line.listening() as port, DEFAULT.client(port) as client:
        await assert_link_is_clean(client, pair_over(client)[1])
        for moment in MOMENTS:
            harm = await desertion.of(client, moment, times=times)
            case = f"{operation}, {times} times at {moment}"
            tally.add("cancelled on a connection that is there", case=case, **harm)
    assert set(desertion.endings) == {"gave up", "answered"}
    assert_no_key_material([], caplog)


@over_operations
@pytest.mark.parametrize("way", [by_timeout, by_scope])
async def test_a_deadline_or_a_scope_that_ends_at_any_step(
    real_server: RunningServer, direct: Redis, operation: Operation, way: Way, tally: Tally
) -> None:
    """``asyncio.timeout`` and the scopes of anyio cancel just as well."""
    line = ByteCutter(real_server.socket_path)
    desertion = Desertion(operation, await FaultFree.of(operation, direct), direct, line)
    async with line.listening() as port, DEFAULT.client(port) as client:
        await assert_link_is_clean(client, pair_over(client)[1])
        for moment in MOMENTS:
            harm = await desertion.of(client, moment, way)
            fault = "asyncio.timeout" if way is by_timeout else "scope of anyio cancelled"
            tally.add(fault, case=f"{operation} at {moment}", **harm)
    assert set(desertion.endings) == {"gave up", "answered"}


@over_operations
async def test_a_caller_that_is_cancelled_while_it_connects(
    real_server: RunningServer, direct: Redis, operation: Operation, *, thorough: bool, tally: Tally
) -> None:
    """A connection is made for all callers: one that goes away takes nothing from the others."""
    line = ByteCutter(real_server.socket_path)
    desertion = Desertion(operation, await FaultFree.of(operation, direct), direct, line)
    async with line.listening() as port:
        for number in range(0, 120, 1 if thorough else 17):
            async with DEFAULT.client(port) as client:
                harm = await desertion.of(client, Moment(None, number), times=1 + number % 2)
            case = f"{operation} after {number} turns"
            tally.add("cancelled while connecting", case=case, **harm)
    assert "gave up" in desertion.endings


@over_operations
@pytest.mark.parametrize("how", ["FIN", "RST", "stall"])
async def test_a_caller_that_is_cancelled_while_the_line_is_cut(
    real_server: RunningServer,
    direct: Redis,
    operation: Operation,
    how: How,
    tally: Tally,
    leap: Leap,
    backoffs: list[float],
) -> None:
    """What a cancelled call did is found out, and taken back, on another connection."""
    line = ByteCutter(real_server.socket_path)
    desertion = Desertion(operation, await FaultFree.of(operation, direct), direct, line)
    async with line.listening() as port, DEFAULT.client(port) as client:
        await assert_link_is_clean(client, pair_over(client)[1])
        # The last of the moments is behind the answer.
        for moment in MOMENTS[:-1]:
            cuts = [Cut(how, "reply", 0), Cut(how, "reply", 3)]
            if moment.after in {None, "request"}:
                cuts.append(Cut(how, "request", 20))
            for cut in cuts:
                harm = await desertion.of(client, moment, cut=cut, leap=leap)
                case = f"{operation} at {moment}, {cut}"
                tally.add(f"cancelled, and the line cut by {how}", case=case, **harm)


@over_operations
async def test_a_cancelled_request_that_arrives_after_all(
    real_server: RunningServer,
    direct: Redis,
    operation: Operation,
    tally: Tally,
    leap: Leap,
    backoffs: list[float],
) -> None:
    """A network may deliver a request when what it did has been taken back already."""
    line = ByteCutter(real_server.socket_path)
    desertion = Desertion(operation, await FaultFree.of(operation, direct), direct, line)
    async with line.listening() as port, DEFAULT.client(port) as client:
        await assert_link_is_clean(client, pair_over(client)[1])
        cut = Cut("late", "request", 0)
        for turn in range(5):
            harm = await desertion.of(client, Moment("request", turn), cut=cut, leap=leap)
            before = await snapshot(direct)
            assert await line.deliver() == 1
            assert await snapshot(direct) == before
            case = f"{operation} after {turn} turns"
            tally.add("cancelled, and the request arrives late", case=case, **harm)


# Crowds ------------------------------------------------------------------------------------


@over_servers
@pytest.mark.parametrize("way", [by_cancel, by_timeout, by_scope])
async def test_a_crowd_of_which_a_part_is_cancelled(
    real_server: RunningServer, direct: Redis, way: Way, *, thorough: bool, tally: Tally
) -> None:
    """Of many callers, a part gives up at different steps; every key is accounted for."""
    # The line takes some turns of the event loop, so that answers don't come before they are due.
    line = ByteCutter(real_server.socket_path)
    fault = f"cancelled in a crowd of {CALLERS:,}"
    for offset in range(10 if thorough else 1):
        await direct.flushdb()
        async with line.listening() as port, DEFAULT.client(port) as client:
            crowd = Crowd(client)
            await crowd.gather()
            callers = (_caller(crowd, way, number, offset) for number in range(CALLERS))
            gave_up = sum(await asyncio.gather(*callers))
            await assert_link_is_clean(client, pair_over(client)[1])
        assert gave_up
        lost, duplicated = crowd.coins.balance(await queued(direct))
        wrong = crowd.coins.wrong()
        tally.add(fault, runs=gave_up, lost=lost, duplicated=duplicated, wrong=wrong)
        lost, duplicated = crowd.halves.balance(await kept(direct))
        tally.add(fault, runs=0, lost=lost, duplicated=duplicated)


@over_servers
@pytest.mark.parametrize("kind", ["one by one", "many at once"])
async def test_what_cancelled_callers_give_back_keeps_its_order(
    real_server: RunningServer, direct: Redis, kind: str, tally: Tally
) -> None:
    """Whoever gives up, in whatever order: the coins are in the queue as they were stored."""
    stored = [f"s{number}" for number in range(6)]
    contact_ids = [BOB, "carol"]
    line = ByteCutter(real_server.socket_path)
    gave_up = 0
    for step in range(20):
        await direct.flushdb()
        async with line.listening() as port, DEFAULT.client(port) as client:
            inventory = AsyncSmartInventory(client)
            for contact_id in contact_ids:
                await inventory.register_contact(contact_id, "MATE")
                await stock(inventory, contact_id, "SILVER", *stored)
            tasks = [
                asyncio.ensure_future(
                    inventory.select_coin(BOB, "SILVER")
                    if kind == "one by one"
                    else inventory.select_coins(contact_ids, "SILVER")
                )
                for _ in range(4)
            ]
            await turns(step)
            # What one of the four got keeps its place open for none of the others.
            for task in (tasks[2], tasks[0], tasks[3]):
                task.cancel()
            await asyncio.wait(tasks)
            gave_up += sum(task.cancelled() for task in tasks)
            gone = sum(not task.cancelled() for task in tasks)
            for contact_id in contact_ids if kind == "many at once" else [BOB]:
                left = [coin.key_id for coin in await inventory.list_coins(contact_id)]
                tally.add(
                    "order of what cancelled callers give back",
                    lost=len(stored) - gone - len(left),
                    wrong=int(left != sorted(left)),
                    case=f"{kind} after {step} turns: {left}",
                )
    assert gave_up


async def _caller(crowd: Crowd, way: Way, number: int, offset: int) -> bool:
    """One of a crowd, of whom every third gives up; returns whether this one did."""
    if (number + offset) % 3:
        await crowd.act(number)
        return False
    task, give_up = way(crowd.act(number))
    await turns((number * 7 + offset) % 15)
    ending = await given_up(task, give_up, 1 + number % 3)
    return ending is not None


# Edges -------------------------------------------------------------------------------------


async def test_a_call_that_was_not_sent_is_dropped(tmp_path: Path) -> None:
    """Cancelling a caller that still waits for a connection waits for nothing."""
    client = Redis(unix_socket_path=str(tmp_path / "nobody"), retry=Retry(NoBackoff(), 1_000_000))
    result = await cancelled_at(5, 1, AsyncSmartInventory(client).select_coin(BOB, "GOLD"))
    assert isinstance(result, asyncio.CancelledError)
    await client.aclose()


async def test_a_cancelled_call_without_server_ends(
    real_server: RunningServer,
    direct: Redis,
    backoffs: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where what a cancelled call did can't be found out, the log says so, and it ends."""
    await stocked(*pair_over(direct))
    cutter = Cutter(real_server.socket_path)
    async with listening_on_loopback(cutter, None) as port, DEFAULT.client(port) as client:
        inventory = AsyncSmartInventory(client, settle_timeout=100)
        await assert_link_is_clean(client, inventory)
        tell_time(client)
        task = asyncio.ensure_future(inventory.select_coin(BOB, "GOLD"))
        cutter.losing = 1_000_000
        cutter.meanwhile = task.cancel
        with pytest.raises(asyncio.CancelledError):
            await task
        [delayed] = _records(caplog, "settling_delayed")
        assert delayed["operation"] == "inv_select"
        assert not _records(caplog, "outcome_unknown")
        # It goes on in the background, but closing the client leaves it no more time.
        await close_all(client, client)
    assert cutter.losing < 1_000_000 - 1
    [unknown] = _records(caplog, "outcome_unknown")
    assert unknown["operation"] == "inv_select"
    assert unknown["error"] == InventoryUnavailableError.__name__


async def test_a_cancelled_call_is_settled_in_the_background(
    real_server: RunningServer,
    direct: Redis,
    backoffs: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that answers later gets the coin back, though nobody waits for it any more."""
    await stocked(*pair_over(direct))
    cutter = Cutter(real_server.socket_path)
    async with listening_on_loopback(cutter, None) as port, DEFAULT.client(port) as client:
        inventory = AsyncSmartInventory(client, clock=Clock(), settle_timeout=100)
        await assert_link_is_clean(client, inventory)
        tell_time(client)
        task = asyncio.ensure_future(inventory.select_coin(BOB, "GOLD"))
        cutter.losing = 1_000_000
        cutter.meanwhile = task.cancel
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await queued(direct) == ["b2", "b3"]
        cutter.losing = 0
        await emptied(get_channels(client).get_channel()._holds)
        assert await queued(direct) == ["b1", "b2", "b3"]
    assert len(_records(caplog, "settling_delayed")) == 1
    assert not _records(caplog, "outcome_unknown")


async def test_a_cancelled_call_is_not_asked_again_when_its_claim_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leap: Leap, caplog: pytest.LogCaptureFixture
) -> None:
    """It would take a second coin, and put that one back; the log says what became of the first."""
    tasks: list[asyncio.Task[Any]] = []

    async def give_up(_: float) -> None:
        leap(config.INV_CLAIM_TTL_SECONDS)
        tasks[0].cancel()
        await asyncio.sleep(0)

    monkeypatch.setattr("redis.asyncio.retry.sleep", give_up)
    server = ScriptedServer(lambda _: None)
    async with listening(server, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"), protocol=2, retry=Retry(ConstantBackoff(1), 5)
        )
        tell_time(client)
        tasks += [asyncio.ensure_future(AsyncSmartInventory(client).select_coin(BOB, "GOLD"))]
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        await close_all(client, client)
    assert len(server.requests) == 1
    [unknown] = _records(caplog, "outcome_unknown")
    assert unknown["operation"] == "inv_select"


async def test_a_scope_that_ends_lets_the_processor_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scope of anyio's cancels in every turn of the loop, but not whoever takes a coin back."""
    waits: list[object] = []
    wait = asyncio.wait

    async def counted(tasks: Any, **options: Any) -> Any:
        waits.append(tasks)
        return await wait(tasks, **options)

    with RunningServer(VALKEY_9) as server:
        client = server.client(0, retry=Retry(NoBackoff(), 0))
        inventory = AsyncSmartInventory(client, settle_timeout=100)
        await inventory.register_contact(BOB, "MATE")
        server.freeze()
        task, cancel = by_scope(inventory.select_coin(BOB, "GOLD"))
        await turns(2)
        monkeypatch.setattr("asyncio.wait", counted)
        cancel()
        await turns(100)
        assert not task.done()
        monkeypatch.undo()
        server.kill()
        await wait((task,))
        assert isinstance(task.result(), asyncio.CancelledError)
        # One for what is settled, and one for the first attempt at it.
        assert len(waits) == 2
        await close_all(client, client)


def _records(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """What was logged of an event."""
    return [record.__dict__ for record in caplog.records if record.msg == event]


async def test_a_cancelled_call_that_fails_needs_no_undo(direct: Redis) -> None:
    """Nothing is taken back where nothing was done."""
    inventory = AsyncSmartInventory(direct)
    await inventory.has_keys_for(BOB)
    for step in range(10):
        result = await cancelled_at(step, 1, inventory.select_coin("nobody", "GOLD"))
        assert isinstance(result, asyncio.CancelledError | ContactNotRegisteredError)


async def test_more_than_the_socket_takes_at_once(
    direct: Redis, real_server: RunningServer
) -> None:
    """Writes that fill the socket's buffer wait for it, and callers may be cancelled meanwhile."""
    vault = AsyncSecureVault(direct)
    blob = bytes(60_000)
    tasks = [
        asyncio.ensure_future(vault.store_key(f"k{number}", "GOLD", blob, b"i", b"t"))
        for number in range(200)
    ]
    await asyncio.sleep(0)
    for task in tasks[::4]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results.count(True) >= 150
    assert len(await vault.get_all_active_ids()) == await vault.count_active("GOLD")
