"""Each error that a server or a link can answer with, against each request of each call.

How long a call takes to fail is what its client's policy would have slept, and the silence that it
would have waited for: both are recorded, and pass at once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff, NoBackoff

from aqm_db import (
    AsyncGarbageCollector,
    AsyncSecureVault,
    AsyncSmartInventory,
    AsyncStorageReporter,
    config,
)
from aqm_db._io.confirming import UNCONFIRMED
from aqm_db._io.redispy.clients import make_seam
from aqm_db._operations import reservations
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    ConcurrencyError,
    InventoryUnavailableError,
    NotWritableError,
    UnavailableError,
)
from tests.conftest import INVENTORY_DB
from tests.faults.support.cancelled_callers import by_cancel, given_up, turns
from tests.faults.support.cut_runs import Leap
from tests.faults.support.fault_table import Tally
from tests.faults.support.furnished_database import Scene, library_client, unavailable_at
from tests.faults.support.invariants import assert_no_key_material, queued
from tests.faults.support.public_calls import CALLS, CAROL, objects_over
from tests.faults.support.refusing_server import Command
from tests.faults.support.tried_calls import CANARY
from tests.support.backends import RunningServer
from tests.support.faces import ASYNC, FACES, Face
from tests.support.peers import ScriptedServer, answer_select, listening, tell_time
from tests.support.samples import BOB

pytestmark = pytest.mark.asyncio

AT_ONCE: tuple[tuple[str, type[AQMDatabaseError]], ...] = (
    ("NOPERM this user has no permissions to run the 'evalsha' command", AccessDeniedError),
    ("NOAUTH Authentication required.", AccessDeniedError),
    ("WRONGPASS invalid username-password pair or user is disabled.", AccessDeniedError),
    ("ERR ACL failure in script: User default has no permissions", AccessDeniedError),
    ("ERR Error running script: @user_script:1: -NOPERM no", AccessDeniedError),
    (
        "ERR @user_script: 1: The user executing it can't access at least one of the keys",
        AccessDeniedError,
    ),
    ("OOM command not allowed when used memory > 'maxmemory'.", NotWritableError),
    ("MISCONF Redis is configured to save RDB snapshots", NotWritableError),
    ("NOREPLICAS Not enough good replicas to write.", NotWritableError),
    ("READONLY You can't write against a read only replica.", NotWritableError),
    ("ERR Error running script: -READONLY You can't write", NotWritableError),
    ("MOVED 3999 127.0.0.1:6381", ConcurrencyError),
    ("ASK 3999 127.0.0.1:6381", ConcurrencyError),
    ("CROSSSLOT Keys in request don't hash to the same slot", ConcurrencyError),
    (f"ERR unknown command 'X', with args beginning with: '{CANARY.decode()}'", AQMDatabaseError),
    (f"CUSTOM {CANARY.decode()}", AQMDatabaseError),
)
"""What another attempt wouldn't change, and what it raises."""
PASSING = (
    "LOADING Redis is loading the dataset in memory",
    "BUSY Redis is busy running a script.",
    "CLUSTERDOWN Hash slot not served",
    "MASTERDOWN Link with MASTER is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
)
"""What may be over by the next attempt."""
NAMES = [name for name in CALLS if name != "db.health"]
"""All calls but the one whose answer such errors are."""
BATCHES = {
    "vault.store_keys",
    "vault.restore_keys",
    "inventory.store_keys",
    "inventory.select_coins",
}
"""Calls of whose parts each has an outcome of its own."""
ENDING_A_LEASE = reservations.UNRESERVE.sha.encode()
"""A lease that can't be ended ends by itself: that's for the log only."""
T = TypeVar("T")
ATTEMPTS = 1 + config.REDIS_RETRY_ATTEMPTS
DELAYS = [config.REDIS_RETRY_DELAY] * config.REDIS_RETRY_ATTEMPTS


@pytest_asyncio.fixture(params=FACES, ids=str)
async def scene(
    request: pytest.FixtureRequest,
    real_server: RunningServer,
    direct: Redis,
    tmp_path: Path,
    *,
    thorough: bool,
) -> AsyncIterator[Scene]:
    """A furnished database behind a fake server, for the clients of each face."""
    face: Face = request.param
    async with Scene.of(face, real_server, direct, tmp_path, thorough=thorough) as scene:
        yield scene


def cases(
    scene: Scene, commands: list[Command], answers: Sequence[T], turns: Iterator[T]
) -> Iterator[tuple[Command, T]]:
    """Thoroughly, every answer to a call's first command and to its last, and some to the others.

    What an answer becomes doesn't depend on the face, so one of them gets them all. Otherwise each
    command gets one answer, in turns.
    """
    for command in commands:
        if not scene.thorough:
            yield command, next(turns)
            continue
        every = scene.face is ASYNC and command in (commands[0], commands[-1])
        for answer in answers if every else answers[::5]:
            yield command, answer


async def test_a_refusal_is_raised_at_once(
    scene: Scene,
    tally: Tally,
    backoffs: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An answer that another attempt wouldn't change isn't asked for twice, nor quoted."""
    turns_of_answers = cycle(AT_ONCE)
    for name in NAMES:
        commands = await scene.commands(name)
        usual = (await scene.call(name, lambda _: False)).kinds()
        for command, (line, expected) in cases(scene, commands, AT_ONCE, turns_of_answers):
            ending = await scene.call(name, command.__eq__, f"-{line}\r\n".encode())
            case = f"{name}, {command[:4]!r} is answered {line!r}: {ending.errors}"
            due = usual if command[1] == ENDING_A_LEASE else {expected}
            wrong = ending.kinds() - usual != due - usual or not due <= ending.kinds()
            tally.add("server refuses", wrong=int(wrong), case=case)
            assert scene.server.refused() == 1, case
            assert not (ending.changed and command == commands[0] and name not in BATCHES), case
    assert not backoffs
    assert all(error.__cause__ is None for error in scene.errors)
    assert_no_key_material(scene.errors, caplog)


async def test_a_server_that_can_not_work_now_is_asked_again(
    scene: Scene, tally: Tally, backoffs: list[float]
) -> None:
    """After the client's retries the call fails, and says whether anything was executed."""
    turns_of_answers = cycle(PASSING)
    for name in NAMES:
        commands = await scene.commands(name)
        usual = (await scene.call(name, lambda _: False)).kinds()
        for command, line in cases(scene, commands, PASSING, turns_of_answers):
            backoffs.clear()
            ending = await scene.call(name, command.__eq__, f"-{line}\r\n".encode())
            case = f"{name}, {command[:4]!r} is answered {line!r}: {ending.errors}"
            due = usual if command[1] == ENDING_A_LEASE else {unavailable_at(command)}
            wrong = ending.kinds() - usual != due - usual
            tally.add("server can't work now", wrong=int(wrong), case=case)
            assert ending.is_honest(), case
            assert scene.server.refused() == ATTEMPTS, case
            assert backoffs == DELAYS, case


async def test_a_server_that_hangs_up_leaves_the_outcome_unknown(
    scene: Scene, tally: Tally, backoffs: list[float]
) -> None:
    """A server that hangs up on a request may have executed it."""
    for name in NAMES:
        usual = (await scene.call(name, lambda _: False)).kinds()
        for command in await scene.commands(name):
            backoffs.clear()
            ending = await scene.call(name, command.__eq__, None)
            case = f"{name}, {command[:4]!r}: {ending.errors}"
            due = set() if command[1] == ENDING_A_LEASE else {unavailable_at(command)}
            wrong = ending.kinds() - usual != due
            tally.add("server hangs up", wrong=int(wrong), case=case)
            assert ending.outcomes_unknown() == ({True} if due else set()), case
            assert scene.server.refused() == ATTEMPTS, case
            assert backoffs == DELAYS, case


@pytest.mark.parametrize("scene", [ASYNC], indirect=True, ids=str)
async def test_a_silent_server_is_given_up(
    scene: Scene, tally: Tally, leap: Leap, backoffs: list[float]
) -> None:
    """A server that says nothing takes as long to fail as its client waits, each time."""
    silences = 0

    async def wait(call: Awaitable[Any]) -> Any:
        nonlocal silences
        task = asyncio.ensure_future(call)
        while not task.done():
            if silences < scene.server.refused():
                # What came before the silence is read first.
                await turns(20)
                silences += 1
                leap(config.REDIS_SOCKET_TIMEOUT)
            await asyncio.sleep(0)
        return await task

    for name in NAMES:
        usual = (await scene.call(name, lambda _: False)).kinds()
        for command in await scene.commands(name):
            silences = 0
            backoffs.clear()
            ending = await scene.call(name, command.__eq__, b"", wait)
            case = f"{name}, {command[:4]!r}: {ending.errors}"
            due = set() if command[1] == ENDING_A_LEASE else {unavailable_at(command)}
            wrong = ending.kinds() - usual != due
            tally.add("server is silent", wrong=int(wrong), case=case)
            assert ending.outcomes_unknown() == ({True} if due else set()), case
            assert silences == ATTEMPTS, case
            assert backoffs == DELAYS, case


async def test_a_server_that_knows_no_script_is_not_asked_for_ever(
    scene: Scene, tally: Tally, backoffs: list[float]
) -> None:
    """A script that was sent in full and still isn't known is refused."""
    for name in NAMES:
        usual = (await scene.call(name, lambda _: False)).kinds()
        scripts = sum(command[0] == b"EVALSHA" for command in scene.server.requests)
        ending = await scene.call(name, lambda command: command[0][:4] == b"EVAL", b"-NOSCRIPT\r\n")
        wrong = ending.kinds() != ({AQMDatabaseError} if scripts else usual)
        tally.add("server knows no script", wrong=int(wrong), case=f"{name}: {ending.errors}")
        assert scene.server.refused() <= 2 * scripts, name
    assert not backoffs


@pytest.mark.parametrize(
    ("greeting", "expected", "attempts"),
    [
        (None, UnavailableError, ATTEMPTS),
        (b"-ERR max number of clients reached\r\n", UnavailableError, ATTEMPTS),
        (b"-LOADING Redis is loading the dataset in memory\r\n", UnavailableError, ATTEMPTS),
        (b"-WRONGPASS invalid username-password pair\r\n", AccessDeniedError, 1),
        (b"-NOAUTH Authentication required.\r\n", AccessDeniedError, 1),
    ],
    ids=["hangs up", "is full", "loads", "wrong password", "no password"],
)
async def test_a_client_that_is_not_let_in(
    scene: Scene,
    greeting: bytes | None,
    expected: type[AQMDatabaseError],
    attempts: int,
    tally: Tally,
    backoffs: list[float],
) -> None:
    """Nothing is executed for it; a wrong password isn't tried again."""
    scene.server.greeting = greeting
    for name in NAMES:
        backoffs.clear()
        scene.server.clients = 0
        ending = await scene.call(name, lambda _: False)
        case = f"{name}: {ending.errors}"
        wrong = not all(issubclass(kind, expected) for kind in ending.kinds())
        tally.add("client isn't let in", wrong=int(wrong), case=case)
        assert ending.errors, case
        assert ending.outcomes_unknown() <= {False}, case
        assert not ending.changed, case
        assert not scene.server.requests, case
        assert scene.server.clients == attempts, case
        assert backoffs == DELAYS[: attempts - 1], case


async def test_no_server(scene: Scene, tmp_path: Path, tally: Tally, backoffs: list[float]) -> None:
    """Where nobody listens, nothing was executed."""
    scene.path = tmp_path / "nobody"
    for name in NAMES:
        backoffs.clear()
        ending = await scene.call(name, lambda _: False)
        case = f"{name}: {ending.errors}"
        wrong = not all(issubclass(kind, UnavailableError) for kind in ending.kinds())
        tally.add("no server", wrong=int(wrong), case=case)
        assert ending.raised, case
        assert ending.outcomes_unknown() == {False}, case
        assert not ending.changed, case
        assert backoffs == DELAYS, case


async def test_a_part_of_a_batch_that_the_server_can_not_do_stops_no_other(
    scene: Scene, tally: Tally, backoffs: list[float]
) -> None:
    """Each part has its own outcome, so that nobody takes for undone what was done."""
    for name in BATCHES:
        usual = (await scene.call(name, lambda _: False)).errors
        for command in await scene.commands(name):
            ending = await scene.call(name, command.__eq__, b"-BUSY Redis is busy\r\n")
            [told] = [each for each in ending.errors if isinstance(each, UnavailableError)]
            tally.add("server can't do a part", wrong=int(ending.raised), case=f"{name}: {told}")
            assert told.outcome_unknown is False
            assert len(ending.errors) <= len(usual) + 1


@pytest.mark.parametrize("scene", [ASYNC], indirect=True, ids=str)
async def test_a_batch_of_which_a_part_was_done_is_taken_back_as_a_whole(
    scene: Scene, direct: Redis, tally: Tally
) -> None:
    """A caller who is cancelled while the rest is waited for leaves nothing behind."""
    coins = await queued(direct)
    refused = b"inv:v1:meta:" + CAROL.encode()
    scene.server.arm(lambda command: refused in command, b"-BUSY Redis is busy\r\n")
    async with Redis(
        unix_socket_path=str(scene.path),
        db=INVENTORY_DB,
        protocol=2,
        retry=Retry(ConstantBackoff(3600), 1),
    ) as client:
        inventory = objects_over(client, name="again").inventory
        task, cancel = by_cancel(inventory.select_coins([BOB, CAROL], "BRONZE"))
        while not scene.server.refused():
            await asyncio.sleep(0)
        await turns(20)
        assert not task.done()
        scene.server.arm(lambda _: False, None)
        ending = await given_up(task, cancel, 1)
    assert isinstance(ending, asyncio.CancelledError)
    left = await queued(direct)
    lost = len(set(coins) - set(left))
    tally.add("server can't do a part", lost=lost, duplicated=int(not lost and left != coins))


async def test_a_part_that_was_done_before_the_server_went_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that nothing was executed, though the last attempt could not be sent."""
    server = ScriptedServer(
        lambda command: (
            answer_select(command) if len(server.requests) == 1 else b"-BUSY Redis is busy\r\n"
        )
    )
    async with listening(server, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"), protocol=2, retry=Retry(NoBackoff(), 1)
        )
        inventory = AsyncSmartInventory(client)

        async def go_away(_: object) -> None:
            await client.connection_pool.disconnect()
            server.greeting = None

        monkeypatch.setattr("aqm_db._io.redispy.async_seam._clean_nothing", go_away)
        with pytest.raises(InventoryUnavailableError) as caught:
            await inventory.select_coins(["bob", "carol"], "GOLD")
        assert caught.value.outcome_unknown is True
        assert len(server.requests) == 2
        await client.aclose()


async def test_a_batch_and_a_call_that_wait_for_the_same_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused to both is counted for each of them, though one gives up before the other."""
    waiting, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def wait(_: float) -> None:
        waiting.release()
        await go_on.wait()

    monkeypatch.setattr("redis.asyncio.retry.sleep", wait)
    client = Redis(unix_socket_path=str(tmp_path / "nobody"), retry=Retry(ConstantBackoff(3600), 1))
    inventory = AsyncSmartInventory(client)
    batch = asyncio.ensure_future(inventory.select_coins([BOB, CAROL], "GOLD"))
    call = asyncio.ensure_future(inventory.select_coin(BOB, "GOLD"))
    for _ in (batch, call):
        await waiting.acquire()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go_on.set()
    with pytest.raises(InventoryUnavailableError) as caught:
        await batch
    assert caught.value.outcome_unknown is False
    await client.aclose()


@pytest.mark.parametrize("face", FACES, ids=str)
@pytest.mark.parametrize(
    ("refused", "outcome_unknown"), [(b"EVALSHA", False), (b"SET", True), (b"WAIT", True)]
)
async def test_a_change_whose_confirmation_the_server_can_not_give_now(
    tmp_path: Path, face: Face, refused: bytes, *, outcome_unknown: bool, backoffs: list[float]
) -> None:
    """It is in doubt once it was carried out."""
    replies = {b"EVALSHA": b"*2\r\n:0\r\n:1\r\n", b"SET": b"+OK\r\n", b"WAIT": b":1\r\n"}
    replies[refused] = b"-LOADING Redis is loading the dataset in memory\r\n"
    server = ScriptedServer(lambda command: replies[command[0]])
    async with listening(server, tmp_path / "s"), library_client(face, tmp_path / "s") as client:
        tell_time(client)
        inventory = face.inventory(client, confirm_replicas=1)
        with pytest.raises(InventoryUnavailableError) as caught:
            await inventory.register_contact(BOB, "MATE")
    assert caught.value.outcome_unknown is outcome_unknown
    assert len(server.requests) == 3 * ATTEMPTS


async def test_a_batch_whose_script_was_forgotten_and_can_not_be_sent(
    scene: Scene, direct: Redis, tally: Tally, backoffs: list[float]
) -> None:
    """Its parts are told apart: no more than one of them was sent in full."""
    for name in BATCHES:
        usual = (await scene.call(name, lambda _: False)).errors
        await direct.script_flush()
        ending = await scene.call(name, lambda command: command[0] == b"EVAL", None)
        tally.add("server hangs up", wrong=int(ending.kinds() == set(map(type, usual))), case=name)
        assert not ending.raised
        assert not ending.changed
        assert ending.outcomes_unknown() == {True}


async def test_permissions_that_are_asked_for_of_a_busy_server(tmp_path: Path) -> None:
    """What is denied is told all at once, or not at all."""
    replies = {b"PING": b"+PONG\r\n", b"ECHO": b"-BUSY Redis is busy\r\n"}
    server = ScriptedServer(lambda command: replies[command[0]])
    async with listening(server, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"), protocol=2, retry=Retry(NoBackoff(), 0)
        )
        seam = make_seam(client, InventoryUnavailableError, "test", confirming=UNCONFIRMED)
        with pytest.raises(InventoryUnavailableError) as caught:
            await seam.probe(("PING",), ("ECHO", "x"))
        assert caught.value.outcome_unknown is False
        await client.aclose()


async def test_every_call_is_tried() -> None:
    """The table of calls is complete."""
    kinds = {
        "vault": AsyncSecureVault,
        "inventory": AsyncSmartInventory,
        "gc": AsyncGarbageCollector,
        "reporter": AsyncStorageReporter,
    }
    methods = {
        f"{name}.{method}"
        for name, kind in kinds.items()
        for method, value in vars(kind).items()
        if not (method.startswith("_") or isinstance(value, property))
    }
    # What goes on beside a program has tests of its own.
    methods -= {"inventory.prefetch"}
    calls = {name.partition("(")[0] for name in CALLS}
    assert {name for name in calls if not name.startswith("db.")} == methods
