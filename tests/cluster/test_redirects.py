"""Clusters that misbehave: nodes whose every answer is told by a script."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from aqm_db import AsyncSmartInventory
from aqm_db._io.request import REPEATABLE_SECONDS
from aqm_db._operations import stock
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    ConcurrencyError,
    InventoryUnavailableError,
)
from tests.support.faces import ASYNC, SYNC, Face
from tests.support.peers import ScriptedServer, answer_select, listening_on_loopback
from tests.support.samples import BOB

pytestmark = pytest.mark.asyncio
SLOT = key_slot(b"aqm:{alice}:")
COIN = (b"k1", b"GOLD", b"p", b"s", b"1800000000000", None, b"1800000000000")
RELEASED = b"*2\r\n:0\r\n:1\r\n"


class Node(ScriptedServer):
    """A node of a cluster of one or two; what it says of scripts is the test's.

    Attributes:
        slots: what the nodes say of the topology: first slot, last slot, port;
            0 is the port of the first node.
        when_asked: runs when it's asked for the topology.
    """

    def __init__(self, answer: Callable[[list[bytes]], bytes | None]) -> None:
        super().__init__(self._answered)
        self.slots: list[tuple[int, int, int]] = [(0, 16383, 0)]
        self.when_asked: Callable[[], object] = lambda: None
        self._scripted = answer

    def _answered(self, command: list[bytes]) -> bytes | None:
        match command[0]:
            case b"CLUSTER":
                self.when_asked()
                return b"*%d\r\n" % len(self.slots) + b"".join(
                    b"*3\r\n:%d\r\n:%d\r\n*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$1\r\n0\r\n" % place
                    for place in self.slots
                )
            case b"COMMAND":
                return b"*0\r\n"
            case _:
                return self._scripted(command)

    def scripts(self) -> list[bytes]:
        """The digests of the scripts that it was sent, in order."""
        return [request[1] for request in self.requests if request[0] == b"EVALSHA"]


@asynccontextmanager
async def clustered(
    face: Face, *nodes: Node, retries: int = 2, **options: Any
) -> AsyncGenerator[tuple[AsyncSmartInventory, list[int]]]:
    """An inventory on nodes of which the first has all slots, and their ports."""
    async with (
        listening_on_loopback(nodes[0], None) as first,
        listening_on_loopback(nodes[-1], None) as last,
    ):
        for node in nodes:
            node.slots = [(start, end, port or first) for start, end, port in node.slots]
        if face is ASYNC:
            client: Any = redis.asyncio.RedisCluster(
                host="127.0.0.1",
                port=first,
                require_full_coverage=False,
                protocol=2,
            )
        else:
            client = await asyncio.to_thread(
                redis.RedisCluster,
                host="127.0.0.1",
                port=first,
                require_full_coverage=False,
                protocol=2,
            )
        client.retry = (AsyncRetry if face is ASYNC else Retry)(NoBackoff(), retries)
        try:
            yield face.inventory(client, owner="alice", **options), [first, last]
        finally:
            if face is ASYNC:
                await client.aclose()
            else:
                client.close()


async def test_a_slot_that_moves_before_a_change_is_confirmed(face: Face) -> None:
    """The change was made; whether it's confirmed can't be found out."""

    def answer(command: list[bytes]) -> bytes:
        tail = {b"SET": b"-TRYAGAIN Multiple keys request\r\n", b"WAIT": b":1\r\n"}
        return tail[command[0]] if command[0] in tail else answer_select(command, *COIN)

    async with clustered(face, Node(answer), confirm_replicas=1) as (inventory, _):
        with pytest.raises(InventoryUnavailableError, match="the slot is being moved") as caught:
            await inventory.select_coin(BOB, "GOLD")
    assert caught.value.outcome_unknown is True


async def test_a_node_that_does_not_take_a_new_token(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The reply counts; an asynchronous node's connections aren't given back between calls."""

    def refuse(_: object) -> None:
        raise AuthenticationError("invalid username-password pair")

    node = Node(lambda command: answer_select(command, *COIN))
    async with clustered(SYNC, node) as (inventory, _):
        monkeypatch.setattr(redis.Connection, "re_auth", refuse)
        for _ in range(2):
            assert await inventory.select_coin(BOB, "GOLD") is not None
    assert {record.msg for record in caplog.records} == {"login_not_renewed"}


async def test_a_batch_of_which_a_part_was_executed(face: Face) -> None:
    """Each part has its own outcome: what can't be done now stops no other."""

    def answer(command: list[bytes]) -> bytes:
        return (
            answer_select(command)
            if b"carol" in command[4]
            else b"-TRYAGAIN Multiple keys request\r\n"
        )

    async with clustered(face, Node(answer)) as (inventory, _):
        outcomes = await inventory.select_coins([BOB, "carol"], "GOLD")
    assert outcomes["carol"] is None
    assert isinstance(outcomes[BOB], ConcurrencyError)


@pytest.mark.parametrize(
    "said",
    ["TRYAGAIN x", "ASK {slot} 127.0.0.1:{port}", "ASK {slot} :{port}", "non local key"],
)
async def test_a_slot_that_stays_on_its_way(face: Face, said: str) -> None:
    """Each time that it's asked for, until the retries are over; nothing was executed."""
    node = Node(lambda _: f"-{text}\r\n".encode())
    async with clustered(face, node) as (inventory, [port, _]):
        text = said.format(slot=SLOT, port=port)
        if said == "non local key":
            text = "ERR Script attempted to access a non local key in a cluster node"
        with pytest.raises(ConcurrencyError, match="the slot is being moved"):
            await inventory.select_coin(BOB, "GOLD")
    assert node.scripts() == [stock.SELECT.sha.encode()] * 3


async def test_nodes_that_disagree(face: Face) -> None:
    """A redirection to and fro ends, and is tried again later."""
    node = Node(lambda _: b"-MOVED %d 127.0.0.1:%d\r\n" % (SLOT, port))
    async with clustered(face, node) as (inventory, [port, _]):
        with pytest.raises(ConcurrencyError):
            await inventory.select_coin(BOB, "GOLD")
    assert len(node.scripts()) == 3 * 6


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
async def test_a_slot_that_moved_to_an_unknown_node(face: Face, host: str) -> None:
    """The topology is asked for anew, and each part of a batch goes where it belongs."""
    new = Node(answer_select)

    def answer(command: list[bytes]) -> bytes:
        if b"carol" in command[4]:
            return answer_select(command)
        for node in (old, new):
            node.slots = [(0, 16383, ports[1])]
        return f"-MOVED {SLOT} {host}:{ports[1]}\r\n".encode()

    old = Node(answer)
    async with clustered(face, old, new) as (inventory, ports):
        assert await inventory.select_coins(["carol", BOB, "dave"], "GOLD") == {
            "carol": None,
            BOB: None,
            "dave": None,
        }
        assert await inventory.select_coin(BOB, "GOLD") is None
    assert len(new.scripts()) == 3
    assert len(old.scripts()) == 3


async def test_a_slot_that_nobody_has(face: Face) -> None:
    """It's asked for again, until the retries are over."""
    node = Node(answer_select)
    node.slots = [(0, 0, 0)]
    async with clustered(face, node) as (inventory, _):
        with pytest.raises(InventoryUnavailableError) as caught:
            await inventory.select_coin(BOB, "GOLD")
        assert not caught.value.outcome_unknown
        assert node.scripts() == []


async def test_a_cluster_that_does_not_tell_its_topology() -> None:
    """The user's permissions are named, not the nodes."""
    denied = ScriptedServer(lambda _: b"-NOPERM User has no permissions to run the command\r\n")
    async with listening_on_loopback(denied, None) as port:
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=port)
        with pytest.raises(AccessDeniedError):
            await AsyncSmartInventory(client, owner="alice").select_coin(BOB, "GOLD")
        await client.aclose()


async def test_a_call_that_is_cancelled_on_its_way_to_another_node() -> None:
    """A part of it was executed: its coin is put back."""
    tasks: list[asyncio.Task[Any]] = []
    new = Node(lambda command: RELEASED if command[1] == RELEASE else answer_select(command, *COIN))
    moved: list[bytes] = []

    def answer(command: list[bytes]) -> bytes:
        if command[1] == RELEASE:
            return RELEASED
        if b"carol" in command[4] or moved:
            return answer_select(command, *COIN)
        moved.append(command[1])
        old.when_asked = tasks[0].cancel
        return b"-MOVED %d 127.0.0.1:1\r\n" % SLOT

    old = Node(answer)
    async with clustered(ASYNC, old, new) as (inventory, _):
        call = inventory.select_coins(["carol", BOB], "GOLD")
        tasks.append(asyncio.create_task(call))
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
    assert old.scripts().count(RELEASE) == 2


RELEASE = stock.RELEASE.sha.encode()


async def test_a_request_is_not_repeated_when_its_claim_is_gone(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However patient the client's own policy is: it would take a second coin."""
    read_clock, passed = time.clock_gettime, [0.0]

    def read_late_clock(clock: int) -> float:
        return read_clock(clock) + passed[0]

    monkeypatch.setattr(time, "clock_gettime", read_late_clock)

    def answer(_: list[bytes]) -> bytes:
        passed[0] += REPEATABLE_SECONDS
        return b"-LOADING\r\n"

    node = Node(answer)
    async with clustered(face, node, retries=-1) as (inventory, _):
        with pytest.raises(InventoryUnavailableError):
            await inventory.select_coin(BOB, "GOLD")
    assert len(node.scripts()) == 1


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({b"WAIT": b":0\r\n"}, InventoryUnavailableError),
        ({b"WAIT": b"-NOPERM no permissions\r\n"}, AccessDeniedError),
        ({b"WAIT": b":2\r\n", b"SET": b"-NOPERM no permissions\r\n"}, AccessDeniedError),
    ],
)
async def test_a_change_that_is_not_confirmed(
    face: Face, said: dict[bytes, bytes], error: type[AQMDatabaseError]
) -> None:
    """The caller is told, and gets no coin."""

    def answer(command: list[bytes]) -> bytes:
        told = {b"SET": b"+OK\r\n"} | said
        return told[command[0]] if command[0] in told else answer_select(command, *COIN)

    node = Node(answer)
    async with clustered(face, node, confirm_replicas=2, confirm_timeout=70) as (inventory, _):
        with pytest.raises(error):
            await inventory.select_coin(BOB, "GOLD")
    commands = [request for request in node.requests if request[0] in {b"SET", b"WAIT"}]
    # A first request can't say when it was sent, and is sent once more, since it changes nothing.
    assert commands == [
        [b"SET", b"aqm:{alice}:inv:v1:confirm", b"", b"PX", b"1000"],
        [b"WAIT", b"2", b"70"],
    ]


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        (b"*2\r\n:0\r\n:1\r\n", InventoryUnavailableError, "disk didn't confirm the change"),
        (b"*2\r\n:1\r\n:0\r\n", InventoryUnavailableError, r"0 of 1 .* \(confirm_replicas\)"),
        (b"-ERR unknown command\r\n", InventoryUnavailableError, "nothing confirmed the change"),
        (b"-NOPERM no permissions\r\n", AccessDeniedError, "WAITAOF"),
    ],
)
async def test_a_change_that_no_disk_confirms(
    face: Face, said: bytes, error: type[AQMDatabaseError], words: str
) -> None:
    """The same, where it has to be on the disks."""
    told = {b"SET": b"+OK\r\n", b"WAIT": b":0\r\n", b"WAITAOF": said, b"CONFIG": b"*0\r\n"}
    node = Node(
        lambda command: told[command[0]] if command[0] in told else answer_select(command, *COIN)
    )
    options: dict[str, Any] = {"confirm_timeout": 70, "confirm_fsync": True}
    async with clustered(face, node, confirm_replicas=1, **options) as (inventory, _):
        with pytest.raises(error, match=words):
            await inventory.select_coin(BOB, "GOLD")
    tried, *waits = [request for request in node.requests if request[0].startswith(b"WAIT")]
    assert tried == [b"WAITAOF", b"0", b"0", b"1"]
    # Who may not wait changes nothing.
    made = 0 if error is AccessDeniedError else 1
    assert waits == made * [[b"WAIT", b"1", b"50"], [b"WAITAOF", b"1", b"1", b"70"]]
    assert any(request[0].startswith(b"EVAL") for request in node.requests) == (made > 0)


async def test_what_is_refused_needs_no_confirmation(face: Face) -> None:
    """The refusal is what the caller is told."""

    def answer(command: list[bytes]) -> bytes:
        return b":0\r\n" if command[0] == b"WAIT" else b"-NOPERM no permissions\r\n"

    async with clustered(face, Node(answer), confirm_replicas=1) as (inventory, _):
        with pytest.raises(AccessDeniedError, match="inv_select"):
            await inventory.select_coin(BOB, "GOLD")
