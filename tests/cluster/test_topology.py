"""A cluster is asked for its topology once for all who wait; nobody waits beyond their deadline."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from aqm_db import AsyncClientDatabase, AsyncSmartInventory, close_all, sync
from aqm_db._io import request
from aqm_db._io.redispy import async_cluster
from aqm_db._io.redispy.redirects import Doubts
from aqm_db.errors import InventoryUnavailableError, UnavailableError
from tests.cluster.test_redirects import Node, clustered
from tests.support.faces import ASYNC, FACES, Face
from tests.support.peers import ScriptedServer, encode_reply, listening_on_loopback
from tests.support.samples import BOB

pytestmark = pytest.mark.asyncio
by_face = pytest.mark.parametrize("face", FACES, ids=str)

DOWN = b"-CLUSTERDOWN The cluster is down\r\n"
LIMIT = 0.5
PROMPT = 4.0
"""What a call may take on a busy machine; a refresh of six callers, one by one, takes longer."""


class Lost(Node):
    """A node that is asked for the topology in vain.

    Attributes:
        asked: how often it was.
        is_down: whether it says of all else that another one may have its slots.
    """

    def __init__(self) -> None:
        super().__init__(self._send_away)
        self.asked = 0
        self.is_down = False
        self._writers: dict[object, asyncio.StreamWriter] = {}
        self._owed: list[tuple[asyncio.StreamWriter, bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See :class:`~tests.support.peers.ScriptedServer`."""
        self._writers[asyncio.current_task()] = writer
        await super().serve(reader, writer)

    def come_back(self) -> None:
        """Says what it was asked for, and answers from now on."""
        self.is_down = False
        for writer, reply in self._owed:
            writer.write(reply)

    def _answered(self, command: list[bytes]) -> bytes | None:
        reply = super()._answered(command)
        if not self.is_down or command[0] != b"CLUSTER" or reply is None:
            return reply
        self.asked += 1
        self._owed.append((self._writers[asyncio.current_task()], reply))
        return b""

    def _send_away(self, _: list[bytes]) -> bytes:
        return DOWN if self.is_down else b"*0\r\n"


def say(said: bytes, _: list[bytes]) -> bytes:
    """Says the same whatever it's asked."""
    return said


async def lose_node(inventory: AsyncSmartInventory, node: Lost) -> None:
    """Has the client know the topology first, and find out then that it has changed."""
    assert await inventory.get_contact_meta(BOB) is None
    node.is_down = True


@by_face
async def test_a_silent_cluster_delays_nobody_twice(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six callers ask once, and fail together, at their own deadline."""
    node = Lost()
    async with clustered(face, node) as (inventory, _):
        await lose_node(inventory, node)
        monkeypatch.setattr(request, "REPEATABLE_SECONDS", LIMIT)
        calls = (inventory.get_contact_meta(BOB) for _ in range(6))
        async with asyncio.timeout(PROMPT):
            errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [InventoryUnavailableError] * 6
    assert node.asked == 1


@by_face
async def test_what_one_call_finds_out_the_next_one_knows(face: Face) -> None:
    """Which may be its only chance: the first had no time left to ask."""
    first, last = (Node(partial(say, said)) for said in (DOWN, b"*0\r\n"))
    async with clustered(face, first, last, retries=0) as (inventory, ports):
        with pytest.raises(InventoryUnavailableError):
            await inventory.get_contact_meta(BOB)
        first.slots = [(0, 16383, ports[-1])]
        assert await inventory.get_contact_meta(BOB) is None


async def test_a_client_that_is_closed_unused() -> None:
    """There is nothing to wait for."""
    client = redis.asyncio.RedisCluster(host="127.0.0.1", port=1)
    AsyncSmartInventory(client, owner="alice")
    async with asyncio.timeout(PROMPT):
        await close_all(client, client)


async def test_a_refresh_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes later asks anew, though a client may wait for a node for ever."""
    node = Lost()
    async with clustered(ASYNC, node) as (inventory, _):
        await lose_node(inventory, node)
        for module in (request, async_cluster):
            monkeypatch.setattr(module, "REPEATABLE_SECONDS", LIMIT)
        # The second may still join what the first began.
        for _ in range(3):
            with pytest.raises(InventoryUnavailableError):
                await inventory.get_contact_meta(BOB)
        assert node.asked > 1
        node.come_back()


@by_face
async def test_whoever_can_wait_no_longer_leaves_it_to_the_others(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refresh goes on, and they are answered by what it finds."""
    node = Lost()
    async with clustered(face, node) as (inventory, _):
        await lose_node(inventory, node)
        patient = asyncio.ensure_future(inventory.get_contact_meta(BOB))
        while not node.asked:
            await asyncio.sleep(0)
        monkeypatch.setattr(request, "REPEATABLE_SECONDS", LIMIT)
        with pytest.raises(InventoryUnavailableError) as caught:
            await inventory.get_contact_meta(BOB)
        assert caught.value.outcome_unknown is False
        assert not patient.done()
        assert node.asked == 1
        node.come_back()
        assert await patient is None


async def test_whoever_is_cancelled_leaves_it_to_the_others() -> None:
    """The same; and a client that is closed meanwhile has it end."""
    node = Lost()
    async with clustered(ASYNC, node) as (inventory, _):
        await lose_node(inventory, node)
        calls = [asyncio.ensure_future(inventory.get_contact_meta(BOB)) for _ in range(3)]
        while not node.asked:
            await asyncio.sleep(0)
        calls[0].cancel()
        await asyncio.wait(calls[:1])
        assert calls[0].cancelled()
        node.come_back()
        assert await asyncio.gather(*calls[1:]) == [None, None]
    assert node.asked == 1


async def test_a_refresh_that_is_cancelled_is_begun_anew() -> None:
    """As by an event loop that ends, while what settles a call goes on."""
    node = Lost()
    async with clustered(ASYNC, node) as (inventory, _):
        await lose_node(inventory, node)
        call = asyncio.ensure_future(inventory.get_contact_meta(BOB))
        while not node.asked:
            await asyncio.sleep(0)
        for task in asyncio.all_tasks():
            if "Nodes._refresh" in repr(task.get_coro()):
                task.cancel()
        while node.asked == 1:
            await asyncio.sleep(0)
        node.come_back()
        assert await call is None


async def test_a_refresh_that_nobody_waits_for_ends_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes no longer than the time that any call has; the next call asks again."""
    monkeypatch.setattr(async_cluster, "REPEATABLE_SECONDS", LIMIT)
    node = Lost()
    async with clustered(ASYNC, node, retries=1) as (inventory, _):
        await lose_node(inventory, node)
        async with asyncio.timeout(PROMPT):
            with pytest.raises(InventoryUnavailableError, match="nobody answered"):
                await inventory.get_contact_meta(BOB)
        node.come_back()
        assert await inventory.get_contact_meta(BOB) is None


async def test_a_client_that_is_closed_while_it_asks() -> None:
    """Its caller is gone, and nothing is left of what it asked."""
    node = Lost()
    async with listening_on_loopback(node, None) as port:
        node.slots = [(0, 16383, port)]
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=port, protocol=2)
        inventory = AsyncSmartInventory(client, owner="alice")
        await lose_node(inventory, node)
        call = asyncio.ensure_future(inventory.get_contact_meta(BOB))
        while not node.asked:
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait((call,))
        await close_all(client, client)
        left = [task.get_coro() for task in asyncio.all_tasks()]
    assert not [coroutine for coroutine in left if "refresh" in repr(coroutine)]


class Told(Node):
    """A node of a cluster of three, whose primary of the upper half is gone.

    Args:
        ports: of the node that is gone, of its replica, and of the third one.
        port: its own.
        knows: whether it has noticed that the replica took over.
    """

    def __init__(self, ports: Sequence[int], port: int, *, knows: bool) -> None:
        super().__init__(self._walk)
        gone, replica, other = ports
        half = 8192
        lower, upper = (0, half - 1, other), (half, 2 * half - 1, replica if knows else gone)
        self.slots = [lower, upper]
        self._replicas = {gone: replica}
        self._owner, (first, last, _) = (b"carol", upper) if port == replica else (b"dave", lower)
        self._line = b"id :%d myself,master - 0 0 1 connected %d-%d\n" % (port, first, last)

    def _answered(self, command: list[bytes]) -> bytes | None:
        if command[:2] == [b"CLUSTER", b"NODES"]:
            return encode_reply(self._line)
        if command[0] != b"CLUSTER":
            return super()._answered(command)
        told = [
            [first, last, *([b"127.0.0.1", each, b"%d" % each] for each in self._list_nodes(port))]
            for first, last, port in self.slots
        ]
        return encode_reply(told)

    def _list_nodes(self, primary: int) -> list[int]:
        replica = self._replicas.get(primary)
        return [primary] if replica is None else [primary, replica]

    def _walk(self, command: list[bytes]) -> bytes:
        found = [b"0", [b"aqm:{%b}:inv:v1:epoch" % self._owner]]
        return encode_reply(found if command[0] == b"SCAN" else b"")


@asynccontextmanager
async def halfway_through_a_failover(
    face: Face,
) -> AsyncGenerator[Callable[[], Awaitable[set[str]]]]:
    """Finds all owners of a cluster of which one node tells the old topology, and one the new."""
    async with listening_on_loopback(Lost(), None) as gone:
        pass
    others = [ScriptedServer(lambda _: None) for _ in range(2)]
    async with (
        listening_on_loopback(others[0], None) as replica,
        listening_on_loopback(others[1], None) as other,
    ):
        ports = (gone, replica, other)
        for peer, port in zip(others, ports[1:], strict=True):
            peer.answer = Told(ports, port, knows=port == replica).answer
        options: Any = {"host": "127.0.0.1", "port": other, "protocol": 2}
        options["require_full_coverage"] = False
        if face is ASYNC:
            client = redis.asyncio.RedisCluster(**options, retry=AsyncRetry(NoBackoff(), 100))
            async with AsyncClientDatabase(client, client, owner="admin") as database:

                async def find() -> set[str]:
                    return {owner async for owner in database.iter_owners()}

                yield find
        else:
            made = partial(redis.RedisCluster, **options, retry=Retry(NoBackoff(), 100))
            sync_client = await asyncio.to_thread(made)
            with sync.ClientDatabase(sync_client, sync_client, owner="admin") as sync_database:
                yield lambda: asyncio.to_thread(lambda: set(sync_database.iter_owners()))


@by_face
async def test_a_node_that_has_not_noticed_a_failover(face: Face) -> None:
    """Others are asked until one has: the walk over all owners goes on at the replica."""
    async with halfway_through_a_failover(face) as find:
        assert await find() == {"carol", "dave"}


def note_nothing(_: Doubts, __: str) -> None:
    """What would be known of a node that is lost."""


@by_face
async def test_the_topology_has_to_be_asked_for_anew(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever doesn't note that a node is lost asks it for ever."""
    monkeypatch.setattr(Doubts, "note_lost", note_nothing)
    async with halfway_through_a_failover(face) as find:
        # Who knows is asked first now and then.
        for _ in range(40):
            try:
                await find()
            except UnavailableError:
                return
    raise AssertionError("the mutant wasn't noticed")
