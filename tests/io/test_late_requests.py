"""Requests that come too late, on either side of the wire, and calls whose caller is gone."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from aqm_db import AsyncSmartInventory, config, sync
from aqm_db._io import answers
from aqm_db._io.redispy.async_loops import Channels, get_channels
from aqm_db._io.redispy.async_settling import settle_in_time
from aqm_db._io.request import Request, ServerClock
from aqm_db._io.seam import Call, Command
from aqm_db._lua.loader import Code
from aqm_db._operations import contacts
from aqm_db.connection import close_all
from aqm_db.errors import AccessDeniedError, AQMDatabaseError, InventoryUnavailableError
from tests.conftest import INVENTORY_DB
from tests.io.test_sync_seam import Interruptible, interruptible, served
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.peers import Cutter, ScriptedServer, listening, tell_time
from tests.support.samples import BOB, stock
from tests.support.waiting import await_until

SHOWN = 1_800_000_000_000
CALL = Call(contacts.SET_PRIORITY, ("meta",), ("MATE",))
Step = list[Any] | InventoryUnavailableError


def make_request() -> Request:
    """A request that is sent now; the server's clock is known."""
    clock = ServerClock(lambda: 0.0)
    clock.note(SHOWN)
    return Request(clock, InventoryUnavailableError)


def answer_in_turn(*steps: Step) -> answers.Ask:
    """A server that gives these replies, one after another, or none."""
    left = iter(steps)

    async def ask(_: Sequence[Command], __: Request) -> list[Any]:
        step = next(left)
        if isinstance(step, InventoryUnavailableError):
            raise step
        return step

    return ask


LATE = [Code.UNKNOWN, SHOWN]
OK = [Code.OK, 0]
GONE = InventoryUnavailableError("nobody is there")


@pytest.mark.asyncio
async def test_what_was_carried_out_is_told_when_the_rest_can_not_be_asked_again() -> None:
    """Of a batch, some were too late; before they are begun anew, the line is cut."""
    ask = answer_in_turn([LATE, OK], GONE)
    assert await answers.run_all(ask, [CALL, CALL], make_request()) == [GONE, OK]
    with pytest.raises(InventoryUnavailableError):
        await answers.run_all(answer_in_turn([LATE, LATE], GONE), [CALL, CALL], make_request())


@pytest.mark.asyncio
async def test_a_batch_that_is_begun_anew() -> None:
    """The others keep their replies."""
    ask = answer_in_turn([OK, LATE], [[Code.OK, 1]])
    assert await answers.run_all(ask, [CALL, CALL], make_request()) == [OK, [Code.OK, 1]]


async def undo_nothing(calls: Sequence[Call]) -> list[Any]:
    """There is nothing to take back."""
    assert not calls
    return []


async def settle(request: Request, *replies: Any) -> AQMDatabaseError | None:
    """What becomes of calls that were deserted, and get these replies."""
    undos: list[Callable[[Any], None]] = [lambda _: None] * len(replies)
    calls = [CALL] * len(replies)
    return await answers.settle(answer_in_turn(list(replies)), calls, undos, request, undo_nothing)


@pytest.mark.asyncio
async def test_what_becomes_of_deserted_calls() -> None:
    """Nothing if all is known; of one that wasn't answered it's asked again; one is forgotten."""
    assert await settle(make_request(), OK, AQMDatabaseError("refused")) is None
    # By then its trace would be there still, so it was never carried out.
    assert await settle(make_request(), OK, [Code.UNKNOWN, SHOWN + 29_000]) is None
    forgotten = await settle(make_request(), OK, [Code.UNKNOWN, SHOWN + 31_000])
    assert str(forgotten) == "the server has forgotten the request"
    with pytest.raises(InventoryUnavailableError):
        await settle(make_request(), OK, GONE)


@pytest.mark.asyncio
async def test_a_line_that_was_heard_after_all_is_waited_for_anew(tmp_path: Path) -> None:
    """The watchdog was due, and in the loop's next turn there was a sign of life."""
    async with listening(ScriptedServer(lambda _: b""), tmp_path / "s"):
        client = Redis(unix_socket_path=str(tmp_path / "s"), protocol=2, socket_timeout=60)
        call = asyncio.ensure_future(AsyncSmartInventory(client).get_contact_meta(BOB))
        channel: Any = get_channels(client).get_channel()
        await await_until(lambda: _has_pending(channel))
        channel._stop_watching()
        channel._end_silence(60.0, channel._link, channel._link.heard_at - 1)
        assert channel.is_open()
        assert channel._watchdog is not None
        call.cancel()
        await asyncio.wait((call,))
        await client.aclose()
        channel.hang_up("the test is over")


@pytest.mark.asyncio
async def test_a_line_that_owes_nothing_any_more_is_not_watched(tmp_path: Path) -> None:
    """The watchdog was due, and in the loop's next turn the reply came."""
    async with listening(ScriptedServer(lambda _: b"*0\r\n"), tmp_path / "s"):
        client = Redis(unix_socket_path=str(tmp_path / "s"), protocol=2, socket_timeout=60)
        assert await AsyncSmartInventory(client).get_contact_meta(BOB) is None
        channel: Any = get_channels(client).get_channel()
        channel._stop_watching()
        channel._end_silence(60.0, channel._link, channel._link.heard_at - 1)
        assert channel.is_open()
        assert channel._watchdog is None
        await close_all(client, client)


async def _has_pending(channel: Any) -> bool:
    return bool(channel._pending)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [VALKEY_9], ids=lambda backend: backend.name)
async def test_what_settles_is_cancelled_before_its_first_step(
    own_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by an event loop that ends: it's begun anew, and the coin is back."""
    client = own_server.client(INVENTORY_DB)
    inventory = AsyncSmartInventory(client)
    await inventory.register_contact(BOB, "MATE")
    await stock(inventory, BOB, "BRONZE", "b1")
    add, cancelled = Channels.add_settling, list[object]()

    def add_and_cancel(channels: Channels, task: asyncio.Task[None]) -> None:
        add(channels, task)
        if not cancelled:
            task.cancel()
            cancelled.append(task)

    monkeypatch.setattr(Channels, "add_settling", add_and_cancel)
    call = asyncio.ensure_future(inventory.select_coin(BOB, "BRONZE"))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait((call,))
    assert cancelled
    assert [coin.key_id for coin in await inventory.list_coins(BOB)] == ["b1"]
    await client.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [VALKEY_9], ids=lambda backend: backend.name)
async def test_settling_goes_on_after_a_failure(
    own_server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A client without retries finds out what it did all the same, while the server knows it."""
    monkeypatch.setattr(config, "REDIS_RETRY_DELAY", 0)
    cutter = Cutter(own_server.socket_path)
    async with (
        own_server.client(INVENTORY_DB) as direct,
        listening(cutter, tmp_path / "c"),
        Redis(
            unix_socket_path=str(tmp_path / "c"),
            db=INVENTORY_DB,
            protocol=2,
            retry=AsyncRetry(NoBackoff(), 0),
        ) as client,
    ):
        inventory = AsyncSmartInventory(direct)
        await inventory.register_contact(BOB, "MATE")
        await stock(inventory, BOB, "BRONZE", "b1")
        tell_time(client)
        call = asyncio.ensure_future(AsyncSmartInventory(client).select_coin(BOB, "BRONZE"))
        cutter.losing, cutter.meanwhile = 3, call.cancel
        await asyncio.wait((call,))
        assert call.cancelled()
        assert cutter.losing == 0
        assert [coin.key_id for coin in await inventory.list_coins(BOB)] == ["b1"]


@pytest.mark.asyncio
async def test_settling_ends_where_the_server_refuses() -> None:
    """Another attempt would be refused as well."""
    refusal, told = AccessDeniedError("no"), list[AQMDatabaseError]()

    async def be_refused() -> None:
        raise refusal

    await settle_in_time(be_refused, make_request(), 1.0, told.append)
    assert told == [refusal]


def test_a_thread_does_not_ask_again_when_connecting_took_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been sent once may be forgotten by the time that the next connection stands."""
    server = ScriptedServer(lambda _: None)
    read_clock, late = time.clock_gettime, [0.0]

    def read_late_clock(clock: int) -> float:
        return read_clock(clock) + late[0]

    monkeypatch.setattr(time, "clock_gettime", read_late_clock)

    class Slow(redis.UnixDomainSocketConnection):
        """It takes half a minute to connect, the second time."""

        def connect(self) -> None:
            base: Any = super()
            base.connect()
            late[0] += 25.0 * len(server.requests)

    options: Any = {"connection_class": Slow, "path": str(tmp_path / "s"), "protocol": 2}
    pool = redis.ConnectionPool(retry=Retry(NoBackoff(), 3), **options)
    with served(server, tmp_path / "s"), redis.Redis.from_pool(pool) as client:
        tell_time(client)
        with pytest.raises(InventoryUnavailableError) as caught:
            sync.SmartInventory(client).select_coin(BOB, "GOLD")
        assert caught.value.outcome_unknown
    assert len(server.requests) == 1


def test_a_thread_that_is_interrupted_waits_no_longer_than_it_was_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server is silent, and its socket has no timeout."""
    server = ScriptedServer(lambda _: b"")
    with (
        served(server, tmp_path / "s") as path,
        interruptible(path, protocol=2, socket_timeout=None) as client,
        caplog.at_level(logging.WARNING),
    ):
        tell_time(client)
        monkeypatch.setattr(Interruptible, "reading", 1)
        with pytest.raises(KeyboardInterrupt):
            sync.SmartInventory(client, settle_timeout=20).select_coin(BOB, "GOLD")
    assert [record.msg for record in caplog.records] == ["outcome_unknown"]
