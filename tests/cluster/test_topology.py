"""A cluster is asked for its topology once for all who wait; nobody waits beyond their deadline."""

import asyncio
from functools import partial

import pytest
import redis.asyncio

from aqm_db import AsyncSmartInventory, close_all
from aqm_db._io import request
from aqm_db._io.redispy import async_cluster
from aqm_db.errors import InventoryUnavailableError
from tests.cluster.test_redirects import Node, clustered
from tests.support.faces import ASYNC, FACES, Face
from tests.support.peers import listening_on_loopback
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
