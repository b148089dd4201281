"""One deadline for a whole call: whatever it waits for, it waits no longer than that."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from typing import Any

import pytest
import redis
import redis.asyncio
import uvloop
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

import aqm_db
from aqm_db import sync
from aqm_db._io import request
from aqm_db._io.redispy import async_channel, private_parts
from aqm_db._io.redispy.retries import limit_pauses
from aqm_db._io.request import REPEATABLE_SECONDS, Request, ServerClock
from aqm_db.errors import InventoryUnavailableError, UnavailableError
from tests.faults.support.fault_table import Tally
from tests.support.backends import REDIS_8, VALKEY_9, Backend, RunningServer
from tests.support.clusters import RunningCluster, RunningSentinels
from tests.support.faces import ASYNC, FACES, SYNC, Face, Threaded
from tests.support.peers import ScriptedServer, answer_select, listening_on_loopback, tell_time
from tests.support.samples import BOB, stock
from tests.support.waiting import await_until

pytestmark = pytest.mark.asyncio

LIMIT = 0.5
"""Seconds that a call may take, in these tests."""
PROMPT = 4.0
"""What it may take on a busy machine: less than a client's own limit of any stage."""
PATIENT = 60.0
"""A client's own limit of each stage: nobody waits for that."""
by_face = pytest.mark.parametrize("face", FACES, ids=str)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has calls take no longer than a moment."""
    monkeypatch.setattr(request, "REPEATABLE_SECONDS", LIMIT)


def make_client(face: Face, port: int) -> Any:
    """A client that is patient in all it does."""
    retry_class = AsyncRetry if face is ASYNC else Retry
    made: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "protocol": 2,
        "socket_timeout": PATIENT,
        "socket_connect_timeout": PATIENT,
        "retry": retry_class(ConstantBackoff(PATIENT), 5),
    }
    if face is ASYNC:
        return redis.asyncio.Redis(**made)
    return redis.Redis(**made)


@asynccontextmanager
async def client_of(face: Face, server: ScriptedServer) -> AsyncGenerator[Any]:
    """A patient client of a server that misbehaves; it has heard what the server's clock shows."""
    async with listening_on_loopback(server, None) as port:
        client = make_client(face, port)
        tell_time(client)
        try:
            yield client
        finally:
            await _close(client)


async def fail_in_time(call: Awaitable[object]) -> UnavailableError:
    """Why a call failed, which it does in time."""
    async with asyncio.timeout(PROMPT):
        with pytest.raises(UnavailableError) as caught:
            await call
    return caught.value


def answer_nothing(_: list[bytes]) -> bytes:
    """A server that is silent."""
    return b""


def hang_up(_: list[bytes]) -> None:
    """A server that is gone."""


def forget_scripts(command: list[bytes]) -> bytes:
    """A server that knows no script, and is silent when it's told one."""
    return b"-NOSCRIPT No matching script\r\n" if command[0] == b"EVALSHA" else b""


async def run_stage(
    face: Face, answer: Callable[[list[bytes]], bytes | None], greeting: bytes
) -> UnavailableError:
    """What a call ends with on such a server."""
    server = ScriptedServer(answer)
    server.greeting = greeting
    async with client_of(face, server) as client:
        return await fail_in_time(face.inventory(client).select_coin(BOB, "GOLD"))


STAGES = pytest.mark.parametrize(
    ("answer", "greeting", "outcome_unknown"),
    [
        (answer_nothing, b"", False),
        (answer_nothing, b"+OK\r\n", True),
        (hang_up, b"+OK\r\n", True),
        (forget_scripts, b"+OK\r\n", True),
    ],
    ids=["the handshake", "the reply", "a pause", "a script that is sent again"],
)


@pytest.mark.usefixtures("limit")
@by_face
@STAGES
async def test_each_stage_of_a_call_ends_with_it(
    face: Face,
    answer: Callable[[list[bytes]], bytes | None],
    greeting: bytes,
    tally: Tally,
    *,
    outcome_unknown: bool,
) -> None:
    """However patient its client is; and it's told whether the server may have executed it."""
    error = await run_stage(face, answer, greeting)
    assert error.outcome_unknown is outcome_unknown
    tally.add("a stage that never ends")


@pytest.mark.usefixtures("limit")
async def test_a_reply_that_does_not_come_on_uvloop() -> None:
    """The same."""

    def run() -> UnavailableError:
        return uvloop.run(run_stage(ASYNC, answer_nothing, b"+OK\r\n"))

    assert (await asyncio.to_thread(run)).outcome_unknown is True


@pytest.mark.usefixtures("limit")
@by_face
async def test_a_batch_of_which_a_part_is_answered(face: Face) -> None:
    """Each caller is told what is known of theirs."""

    def answer_one(command: list[bytes]) -> bytes:
        return answer_select(command) if b"bob" in command[4] else b""

    async with client_of(face, ScriptedServer(answer_one)) as client:
        async with asyncio.timeout(PROMPT):
            outcomes = await face.inventory(client).select_coins([BOB, "carol"], "BRONZE")
    assert outcomes[BOB] is None
    assert isinstance(outcomes["carol"], InventoryUnavailableError)
    assert outcomes["carol"].outcome_unknown is True


@pytest.mark.usefixtures("limit")
async def test_calls_that_share_a_silent_link() -> None:
    """Each has its own deadline: that of the first ends nobody else's."""
    server = ScriptedServer(answer_nothing)
    async with client_of(ASYNC, server) as client:
        inventory = ASYNC.inventory(client)
        first = asyncio.create_task(fail_in_time(inventory.select_coin(BOB, "GOLD")))
        while not server.requests:
            await asyncio.sleep(0)
        begun = time.monotonic()
        while time.monotonic() < begun + LIMIT / 5:
            await asyncio.sleep(0)
        second = asyncio.create_task(fail_in_time(inventory.select_coin(BOB, "GOLD")))
        await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
        assert first.done()
        assert not second.done()
        for task in (first, second):
            assert (await task).outcome_unknown is True


@pytest.mark.usefixtures("limit")
@by_face
async def test_a_pool_that_has_no_connection_left(face: Face) -> None:
    """It's waited for, and no longer than that."""
    server = ScriptedServer(lambda _: b"*0\r\n")
    async with listening_on_loopback(server, None) as port:
        options: dict[str, Any] = {"max_connections": 1, "timeout": PATIENT}
        module: Any = redis.asyncio if face is ASYNC else redis
        pool = module.BlockingConnectionPool(port=port, protocol=2, **options)
        client = module.Redis.from_pool(pool)
        if face is ASYNC:
            taken = await pool.get_connection()
        else:
            taken = await asyncio.to_thread(pool.get_connection)
        inventory = face.inventory(client)
        error = await fail_in_time(inventory.get_contact_meta(BOB))
        assert error.outcome_unknown is False
        if face is ASYNC:
            await pool.release(taken)
        else:
            pool.release(taken)
        assert await inventory.get_contact_meta(BOB) is None
        await _close(client)


@pytest.mark.usefixtures("limit")
async def test_a_connection_that_comes_too_late() -> None:
    """A thread doesn't wait for it; the pool has it back when it has come to its end."""
    server = ScriptedServer(lambda _: b"*0\r\n")
    server.greeting = b""
    async with listening_on_loopback(server, None) as port:
        options: dict[str, Any] = {"port": port, "protocol": 2, "max_connections": 1}
        client = redis.Redis(**options, socket_timeout=2 * LIMIT, retry=Retry(NoBackoff(), 0))
        inventory = SYNC.inventory(client)
        assert (await fail_in_time(inventory.get_contact_meta(BOB))).outcome_unknown is False
        server.greeting = b"+OK\r\n"

        async def is_there() -> bool:
            with suppress(InventoryUnavailableError):
                return await inventory.get_contact_meta(BOB) is None
            return False

        await await_until(is_there)
        client.close()


@pytest.mark.parametrize("seconds", [3.0, 0.0])
async def test_a_policy_of_which_nothing_is_known(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pauses are as long as it says; others end with their request."""
    policy = Retry(ConstantBackoff(3.0), 1)
    call = Request(ServerClock(lambda: 0.0), InventoryUnavailableError)
    call.end = 0.0
    waited: list[float] = []
    monkeypatch.setattr("redis.retry.sleep", waited.append)
    if seconds:
        gone = private_parts.BACKOFF._replace(name="gone")
        monkeypatch.setattr(private_parts, "BACKOFF", gone)

    def fail() -> None:
        raise RedisConnectionError

    with pytest.raises(RedisConnectionError):
        limit_pauses(policy, call).call_with_retry(fail, lambda _: None)
    assert waited == [seconds] * bool(seconds)


async def test_what_nobody_waits_for_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that isn't there within the time that any call has is given up."""
    monkeypatch.setattr(async_channel, "REPEATABLE_SECONDS", LIMIT)
    server = ScriptedServer(answer_nothing)
    server.greeting = b""
    async with listening_on_loopback(server, None) as port:
        client = redis.asyncio.Redis(
            port=port, protocol=2, socket_timeout=PATIENT, retry=AsyncRetry(NoBackoff(), 0)
        )
        error = await fail_in_time(ASYNC.inventory(client).select_coin(BOB, "GOLD"))
        assert error.outcome_unknown is False
        await client.aclose()


@by_face
async def test_a_client_that_sleeps_while_it_connects(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a laptop does: when it wakes up, nothing is sent any more."""
    read_clock, passed = time.clock_gettime, [0.0]

    def read_late_clock(clock: int) -> float:
        return read_clock(clock) + passed[0]

    monkeypatch.setattr(time, "clock_gettime", read_late_clock)

    class Sleepy(ScriptedServer):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            passed[0] += REPEATABLE_SECONDS
            await super().serve(reader, writer)

    server = Sleepy(answer_nothing)
    async with client_of(face, server) as client:
        error = await fail_in_time(face.inventory(client).select_coin(BOB, "GOLD"))
    assert error.outcome_unknown is False
    assert server.requests == []


@pytest.mark.usefixtures("limit")
@by_face
@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
async def test_several_servers_that_never_greet(face: Face, kind: str) -> None:
    """One after another is asked, and all of them have no longer than one call may take."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hosts = ",".join([f"127.0.0.1:{port}"] * 3)
        name = "/aqm" if kind == "sentinel" else ""
        error = await fail_in_time(_connect(face, f"redis+{kind}://{hosts}{name}"))
    assert error.outcome_unknown is False


@pytest.fixture(params=[VALKEY_9, REDIS_8], ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Which kind of server."""
    value = request.param
    assert isinstance(value, Backend)
    return value


Running = RunningServer | RunningCluster | RunningSentinels


@pytest.fixture(params=["a server", "a cluster", "sentinels"])
def running(request: pytest.FixtureRequest, backend: Backend) -> Iterator[Running]:
    """One server, or several."""
    with ExitStack() as stack:
        if request.param == "a cluster":
            yield stack.enter_context(RunningCluster(backend, with_replicas=False))
        elif request.param == "sentinels":
            yield stack.enter_context(RunningSentinels(backend))
        else:
            yield stack.enter_context(RunningServer(backend))


@by_face
async def test_servers_that_are_dark_for_a_while(
    face: Face, running: Running, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six callers are told so in time, all at once; nobody's call takes a coin for another's."""
    database = await _connect(face, _find_url(running))
    owners = [database.for_owner(f"owner-{number}") for number in range(6)]
    inventories = [_view(face, owner.inventory) for owner in owners]
    for inventory in inventories:
        await inventory.register_contact(BOB, "MATE")
        await stock(inventory, BOB, "BRONZE", "b1", "b2")
    monkeypatch.setattr(request, "REPEATABLE_SECONDS", LIMIT)
    dark = _list_processes(running)
    for node in dark:
        node.freeze()
    calls = (inventory.select_coin(BOB, "BRONZE") for inventory in inventories)
    errors = await asyncio.gather(*map(fail_in_time, calls))
    for node in dark:
        node.thaw()
    monkeypatch.setattr(request, "REPEATABLE_SECONDS", REPEATABLE_SECONDS)
    for inventory, error in zip(inventories, errors, strict=True):
        left = await inventory.list_coins(BOB)
        tally.add(
            "servers that are dark",
            lost=sum(not error.outcome_unknown for _ in range(2 - len(left))),
            duplicated=max(1 - len(left), 0),
            case=(face, running),
        )
        coin = await inventory.select_coin(BOB, "BRONZE")
        assert coin is not None
        assert coin.key_id == left[0].key_id
    if face is ASYNC:
        await database.aclose()
    else:
        database.close()


def _view(face: Face, part: Any) -> Any:
    """A part of a database, to be awaited."""
    return part if face is ASYNC else Threaded(part)


def _find_url(running: Running) -> str:
    if isinstance(running, RunningServer):
        return f"unix://{running.socket_path}"
    return running.url


def _list_processes(running: Running) -> list[Any]:
    if isinstance(running, RunningSentinels):
        return [*running.servers, *running.sentinels]
    return list(running.nodes) if isinstance(running, RunningCluster) else [running]


async def _connect(face: Face, url: str) -> Any:
    if face is ASYNC:
        return await aqm_db.connect(url, owner="alice")
    return await asyncio.to_thread(sync.connect, url, owner="alice")


async def _close(client: Any) -> None:
    if isinstance(client, redis.asyncio.Redis):
        await client.aclose()
    else:
        with closing(client):
            pass
