"""The seam over redis-py's asynchronous cluster client: which node answers, and what if it moved.

redis-py knows the topology and keeps each node's connections. One owner lives in one slot, so
each call goes to one node, pipelined on the one connection that all owners share there.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, cast
from weakref import WeakKeyDictionary, finalize

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.exceptions import RedisClusterException, RedisError

from aqm_db import config
from aqm_db._io import answers
from aqm_db._io.confirming import Confirmation
from aqm_db._io.failures import ErrorReply, LinkFailure
from aqm_db._io.request import REPEATABLE_SECONDS, Request, ServerClock, make_late_failure
from aqm_db._io.seam import Command
from aqm_db._io.target import Cluster
from aqm_db.errors import UnavailableError

from . import private_parts
from .async_channel import CancelledAfterSending, Holds
from .async_closing import close_at_home
from .async_loops import Channels, Home
from .async_seam import AsyncSeam
from .async_sources import OwnSource, Source, connect_once
from .redirects import (
    ASKING,
    HOPS,
    Doubts,
    Redirect,
    choose_redirect,
    explain_unreachable,
    find_redirects,
    find_slot,
    is_down,
    list_first_slots,
    mark_moving,
)
from .url_options import make_with_options, parse_options


class ClusterSeam(AsyncSeam):
    """A :class:`~aqm_db._io.seam.Seam` over a cluster, for one owner.

    Args:
        cluster: a ``redis.asyncio.RedisCluster`` that returns bytes.
        tag: what the names of all the owner's keys begin with, hash tag and all.
        unavailable: what is raised when the cluster can't be reached.
        confirmation: what every change waits for.
        settle_timeout: how long a cancelled call finds out what it did, in ms.
    """

    def __init__(
        self,
        cluster: RedisCluster,
        tag: str,
        unavailable: type[UnavailableError],
        confirmation: Confirmation | None = None,
        settle_timeout: int = config.SETTLE_TIMEOUT,
    ) -> None:
        self._slot = find_slot(tag)
        channel = ClusterChannel(cluster, self._slot)
        super().__init__(channel, lambda: cluster.retry, unavailable, confirmation, settle_timeout)
        self._cluster = cluster
        self._place = channel.find_place
        # A name that is no key's: what the server says of it tells whether the slot is moving.
        self._probe = ("EXISTS", tag)

    @cached_property
    def _reading_seam(self) -> AsyncSeam:
        channel = ClusterChannel(self._cluster, self._slot, follows=True)
        return AsyncSeam(channel, self._get_retry, self._unavailable)

    async def read(self, *commands: Command) -> list[Any]:
        """See :class:`~aqm_db._io.seam.Seam`; a key that has moved already is read where it is."""
        return await self._reading_seam.read(*commands)

    def scan(self, pattern: str, within: str | None = None) -> AsyncIterator[list[bytes]]:
        """See :class:`~aqm_db._io.seam.Seam`; it waits while the slot is between two nodes."""
        after = (self._probe,)
        return answers.scan(self._look, self._begin_request, pattern, within, self._place, after)


class ClusterChannel:
    """The connection to whichever node has a slot.

    Args:
        cluster: a ``redis.asyncio.RedisCluster``.
        slot: the slot of every key that is asked for.
        follows: whether a command goes on to the node that a slot is moving to (ASK). A script
            must not: it reads rows that its KEYS don't name, and a row that is still on the old
            node would look as if it were lost.
    """

    def __init__(self, cluster: RedisCluster, slot: int, *, follows: bool = False) -> None:
        self._cluster = cluster
        self._slot = slot
        self._follows = follows
        self._nodes = get_nodes(cluster)
        # One node has the slot; of another one it is told when that answers.
        self.server_clock = ServerClock()

    def delay_closing(self) -> AbstractContextManager[None]:
        """See :meth:`~aqm_db._io.redispy.async_channel.Channel.delay_closing`."""
        return self._nodes.delay_closing()

    def add_settling(self, task: asyncio.Task[None]) -> None:
        """See :meth:`~aqm_db._io.redispy.async_channel.Channel.add_settling`."""
        self._nodes.add_settling(task)

    def hang_up(self, reason: str) -> None:
        """See :meth:`~aqm_db._io.redispy.async_channel.Channel.hang_up`; it's of every node's."""
        self._nodes.hang_up(reason)

    def is_of_parent(self) -> bool:
        """See :meth:`~aqm_db._io.redispy.async_loops.Channels.is_of_parent`."""
        return self._nodes.home.is_inherited

    def find_place(self) -> str | None:
        """The name of the node that has the slot, as far as it's known."""
        node = self._nodes.get_node(self._cluster, self._slot)
        return None if node is None else node.name

    async def request(self, commands: Sequence[Command], request: Request) -> list[Any]:
        """See :meth:`.Channel.request`; MOVED and ASK are taken care of."""
        replies = await self._ask_once(commands, request)
        for reply in replies:
            if isinstance(reply, ErrorReply):
                return await self._follow_all(commands, replies, request)
        return replies

    async def _follow_all(
        self, commands: Sequence[Command], replies: list[Any], request: Request
    ) -> list[Any]:
        for _ in range(HOPS):
            redirects = find_redirects(replies, self._cluster.nodes_manager.remap_host_port)
            # The others may have been executed, so whoever is cancelled now has to be settled.
            try:
                if not redirects:
                    break
                if not await self._follow(commands, replies, redirects, request):
                    break
            except asyncio.CancelledError as cancelled:
                raise CancelledAfterSending(*cancelled.args) from None
        return mark_moving(replies)

    async def aclose(self) -> None:
        """See :meth:`.Channel.aclose`; it closes every node's, for all owners."""
        await close_at_home(self._nodes.home, self._nodes)

    async def _ask_once(self, commands: Sequence[Command], request: Request) -> list[Any]:
        refusal = self._nodes.home.find_refusal()
        if refusal is not None:
            return [refusal] * len(commands)
        node = self._nodes.get_node(self._cluster, self._slot)
        if node is None:
            found = await self._nodes.find_node(self._cluster, self._slot, request)
            if not isinstance(found, ClusterNode):
                return [found] * len(commands)
            node = found
        return await self._nodes.request(node, commands, request)

    async def _follow(
        self,
        commands: Sequence[Command],
        replies: list[Any],
        redirects: Mapping[int, Redirect],
        request: Request,
    ) -> bool:
        """Asks the node that a redirection names, and puts its replies in their places.

        Returns:
            Whether a node was asked.
        """
        redirect = choose_redirect(redirects.values())
        if redirect.is_moved:
            await self._nodes.note_move(self._cluster, redirect)
            # What follows may be about what was sent on, as WAIT is.
            first = min(redirects)
            replies[first:] = await self._ask_once(commands[first:], request)
            return True
        node = self._cluster.nodes_manager.get_node(redirect.host, redirect.port)
        # A node that has no slot yet is in no topology.
        if not self._follows or node is None:
            return False
        asked = [part for place in redirects for part in (ASKING, commands[place])]
        others = (await self._nodes.request(node, asked, request))[1::2]
        for place, reply in zip(redirects, others, strict=True):
            replies[place] = reply
        return True


class Nodes(Holds):
    """One channel to each node of a cluster, for all owners.

    Attributes:
        home: where the cluster's client can be used: it serves one event loop.
        doubts: what the topology may be wrong about.
    """

    def __init__(self) -> None:
        super().__init__()
        self.doubts = Doubts(is_stale=True)
        self._refreshing: asyncio.Task[ErrorReply | LinkFailure | None] | None = None
        self.home = Home(self._move_in)
        self._channels: dict[str, Channels] = {}

    def get_node(self, cluster: RedisCluster, slot: int) -> ClusterNode | None:
        """The node that has a slot; None while that isn't known."""
        nodes = cluster.nodes_manager.slots_cache.get(slot)
        return nodes[0] if nodes and not self.doubts.concern(nodes) else None

    async def find_node(
        self, cluster: RedisCluster, slot: int, request: Request
    ) -> ClusterNode | ErrorReply | LinkFailure:
        """The node that has a slot, as the cluster says now, or why there is none."""
        refusal = await self.refresh(cluster, request)
        if refusal is not None:
            return refusal
        nodes = cluster.nodes_manager.slots_cache.get(slot)
        if not nodes:
            self.doubts.is_stale = True
            return LinkFailure("no node has the slot", sent=False)
        return nodes[0]

    async def refresh(
        self, cluster: RedisCluster, request: Request
    ) -> ErrorReply | LinkFailure | None:
        """Asks for the topology (CLUSTER SLOTS), once for all that wait for it.

        Returns:
            Why it couldn't, or not in time for a request.
        """
        # An eager task may be over before it's known here, so it can't be what forgets itself.
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(cluster))
        return await self.wait_for(self._refreshing, request)

    async def _refresh(self, cluster: RedisCluster) -> ErrorReply | LinkFailure | None:
        manager = cluster.nodes_manager
        is_known = bool(manager.nodes_cache)
        try:
            # Longer than that nobody waits for it.
            async with asyncio.timeout(REPEATABLE_SECONDS):
                await cluster.initialize()
                if is_known:
                    lost = self.doubts.find_last()
                    await manager.initialize(last_failed_node_name=lost)
        except TimeoutError:
            return make_late_failure(sent=False)
        except (RedisError, RedisClusterException) as error:
            return explain_unreachable(error)
        self.doubts.forget()
        for name in self._channels.keys() - manager.nodes_cache.keys():
            # Nobody waits for a node that is gone, and may be silent.
            self._delay_closing_for(asyncio.create_task(self._channels.pop(name).aclose()))
        return None

    async def request(
        self, node: ClusterNode, commands: Sequence[Command], request: Request
    ) -> list[Any]:
        """Sends commands to a node; one that doesn't answer may have been replaced."""
        replies = await self.get_channel(node).request(commands, request)
        for reply in replies:
            if is_down(reply):
                self.doubts.note_lost(node.name)
        return replies

    async def note_move(self, cluster: RedisCluster, redirect: Redirect) -> None:
        """Takes note of a slot's new node."""
        if cluster.nodes_manager.get_node(redirect.host, redirect.port) is None:
            self.doubts.is_stale = True
        else:
            await cluster.nodes_manager.move_slot(redirect.make_moved_error())

    def get_channel(self, node: ClusterNode) -> Channels:
        """The channel to a node."""
        channel = self._channels.get(node.name)
        if channel is None:
            channel = self._channels[node.name] = Channels(_make_source(node))
        return channel

    def hang_up(self, reason: str) -> None:
        """Ends the connections to all nodes."""
        for channels in tuple(self._channels.values()):
            channels.hang_up(reason)

    def hang_up_unclosed(self) -> None:
        """Ends what was left open when the cluster's client was dropped."""
        for channels in tuple(self._channels.values()):
            channels.hang_up_unclosed()

    async def aclose(self) -> None:
        """Waits for all calls, and what is taken back of cancelled ones; then hangs up."""
        # A caller that was cancelled just now says in its next turn what there is to take back.
        await asyncio.sleep(0)
        self._hurry_settling()
        while self._holds:
            await asyncio.wait(self._holds)
            await asyncio.sleep(0)
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait((self._refreshing,))
        while self._channels:
            _, channel = self._channels.popitem()
            await channel.aclose()
        # Whoever closes the cluster client has to open it again before it's used.
        self.doubts.is_stale = True

    def _move_in(self) -> None:
        """What was under way on an event loop that is closed never ends."""
        self._holds.clear()
        self._refreshing = None
        self.doubts.is_stale = True


class _NodeSource:
    """A node's own connections, which the cluster client closes."""

    def __init__(self, node: ClusterNode) -> None:
        self._node = node

    async def acquire(self) -> AbstractConnection:
        connection = self._node.acquire_connection()
        try:
            with connect_once(connection):
                await self._node.disconnect_if_needed(connection)
                # redis-py gives it no annotation.
                await cast("Any", connection).connect()
        except BaseException:
            self._node.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        self._node.release(cast("Connection", connection))

    def is_exhausted(self) -> bool:
        # A node of redis-py's doesn't say.
        return False

    async def drop_idle(self) -> None:
        """See :class:`~aqm_db._io.redispy.async_sources.Source`; redis-py keeps them to itself."""

    def make_own(self) -> OwnSource:
        """See :class:`~aqm_db._io.redispy.async_sources.Source`."""
        return _make_own_source(self._node)


def _make_source(node: ClusterNode) -> Source:
    if private_parts.TAKE_OF_NODE.find(node) is None:
        return _make_own_source(node)
    return _NodeSource(node)


def _make_own_source(node: ClusterNode) -> OwnSource:
    return OwnSource(lambda: node.connection_class(**node.connection_kwargs))


_ANY_SLOT = 0

_nodes: WeakKeyDictionary[RedisCluster, Nodes] = WeakKeyDictionary()


def get_nodes(cluster: RedisCluster) -> Nodes:
    """The cluster client's nodes: one set, whatever number of owners it serves."""
    nodes = _nodes.get(cluster)
    if nodes is None:
        nodes = _nodes[cluster] = Nodes()
        # As of any other client: see get_channels.
        finalize(cluster, nodes.hang_up_unclosed).atexit = False
    return nodes


def make_cluster_client(target: Cluster, options: dict[str, Any]) -> RedisCluster:
    """A client of a cluster, which isn't connected yet.

    Raises:
        InvalidArgumentError: the url has an option that can't be.
    """
    return make_with_options(
        RedisCluster,
        given=parse_options(target.url),
        startup_nodes=[ClusterNode(host, port) for host, port in target.hosts],
        require_full_coverage=False,
        **options,
    )


async def make_share_seams(
    cluster: RedisCluster, unavailable: type[UnavailableError]
) -> list[AsyncSeam]:
    """A seam over each primary's share of the slots, whichever node has it by then.

    Raises:
        UnavailableError: no node tells the topology.
        AccessDeniedError: the user may not ask for it.
    """
    await read_topology(cluster, unavailable, cluster.retry)
    return [
        AsyncSeam(ClusterChannel(cluster, slot), lambda: cluster.retry, unavailable)
        for slot in list_first_slots(cluster.nodes_manager.slots_cache)
    ]


async def read_topology(
    cluster: RedisCluster, unavailable: type[UnavailableError], policy: Retry
) -> None:
    """Asks for the topology; a node that doesn't tell is no obstacle.

    Raises:
        UnavailableError: no node tells it.
        AccessDeniedError: the user may not ask for it.
    """
    await AsyncSeam(_TopologyChannel(cluster, _ANY_SLOT), lambda: policy, unavailable).read(
        ("CLUSTER", "SLOTS")
    )


def list_primaries(
    cluster: RedisCluster, unavailable: type[UnavailableError], policy: Retry
) -> dict[str, AsyncSeam]:
    """A seam over each primary that is known, by their names."""
    return {
        node.name: AsyncSeam(_NodeChannel(cluster, node), lambda: policy, unavailable)
        for node in cluster.get_primaries()
    }


class _TopologyChannel(ClusterChannel):
    """What asks for the topology, and for nothing else."""

    async def _ask_once(self, commands: Sequence[Command], request: Request) -> list[Any]:
        refusal: ErrorReply | LinkFailure | None = self._nodes.home.find_refusal()
        if refusal is None:
            refusal = await self._nodes.refresh(self._cluster, request)
        return [refusal] * len(commands)


class _NodeChannel(ClusterChannel):
    """The connection to one node, whoever has its slots.

    Args:
        cluster: a ``redis.asyncio.RedisCluster``.
        node: the node.
    """

    def __init__(self, cluster: RedisCluster, node: ClusterNode) -> None:
        super().__init__(cluster, _ANY_SLOT)
        self._node = node

    async def _ask_once(self, commands: Sequence[Command], request: Request) -> list[Any]:
        refusal = self._nodes.home.find_refusal()
        if refusal is not None:
            return [refusal] * len(commands)
        return await self._nodes.get_channel(self._node).request(commands, request)
