"""The seam over redis-py's synchronous cluster client; see ``async_cluster.py``."""

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from redis import Redis, RedisCluster
from redis.cluster import ClusterNode
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from aqm_db import config
from aqm_db._io import answers
from aqm_db._io.confirming import Confirmation
from aqm_db._io.failures import ErrorReply, LinkFailure, make_error
from aqm_db._io.request import Request, ServerClock, make_late_failure
from aqm_db._io.seam import Command
from aqm_db._io.target import Cluster
from aqm_db.errors import UnavailableError

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
from .retries import AttemptError, clean_nothing, limit_pauses
from .sync_exchange import Exchange, ServerExchange
from .sync_seam import SyncSeam
from .sync_waiting import begin_beside
from .url_options import make_with_options, parse_options

T = TypeVar("T")


class ClusterSyncSeam(SyncSeam):
    """A :class:`~aqm_db._io.seam.Seam` over a cluster, for one owner and any number of threads.

    Args:
        cluster: a ``redis.RedisCluster`` that returns bytes.
        tag: what the names of all the owner's keys begin with, hash tag and all.
        unavailable: what is raised when the cluster can't be reached.
        confirmation: what every change waits for.
        settle_timeout: how long an interrupted call finds out what it did, in ms.
    """

    def __init__(
        self,
        cluster: RedisCluster,
        tag: str,
        unavailable: type[UnavailableError],
        confirmation: Confirmation | None = None,
        settle_timeout: int = config.SETTLE_TIMEOUT,
    ) -> None:
        slot = find_slot(tag)
        exchange = partial(ClusterExchange, cluster, slot, unavailable)
        super().__init__(exchange, unavailable, confirmation, settle_timeout)
        self._reading_seam = SyncSeam(partial(exchange, follows=True), unavailable)
        self._place = lambda: _find_primary(cluster, slot)
        self._probe = ("EXISTS", tag)

    async def read(self, *commands: Command) -> list[Any]:
        """See :class:`~aqm_db._io.redispy.async_cluster.ClusterSeam`."""
        return await self._reading_seam.read(*commands)

    def scan(self, pattern: str, within: str | None = None) -> AsyncIterator[list[bytes]]:
        """See :class:`~aqm_db._io.redispy.async_cluster.ClusterSeam`."""
        after = (self._probe,)
        return answers.scan(self._ask, self._begin_request, pattern, within, self._place, after)


class ClusterExchange(Exchange):
    """The requests of one call, to whichever node has a slot.

    Args:
        cluster: a ``redis.RedisCluster``.
        slot: the slot of every key that is asked for.
        unavailable: what is raised when the cluster can't be reached.
        patience: as of :class:`~aqm_db._io.redispy.sync_exchange.Exchange`.
        follows: as of :class:`~aqm_db._io.redispy.async_cluster.ClusterChannel`.
    """

    def __init__(
        self,
        cluster: RedisCluster,
        slot: int,
        unavailable: type[UnavailableError],
        *,
        patience: float | None = None,
        follows: bool = False,
    ) -> None:
        super().__init__(unavailable, patience=patience)
        # Much of redis-py's cluster client has no annotations.
        self._cluster: Any = cluster
        self._slot = slot
        self._follows = follows
        self._topology = _get_topology(cluster)

    def hang_up(self) -> None:
        """See :class:`~aqm_db._io.redispy.sync_exchange.Exchange`."""
        for node in self._cluster.get_nodes():
            pool: Any = self._cluster.get_redis_connection(node).connection_pool
            pool.disconnect(inuse_connections=False)

    def _answer(self, commands: Sequence[Command], request: Request) -> list[Any]:
        send = partial(self._route, commands, request)
        return self._repeat(lambda: self._cluster.retry, send, request)

    def _route(self, commands: Sequence[Command], request: Request) -> list[Any]:
        """One attempt; MOVED and ASK are taken care of."""
        replies = self._ask_once(commands, request)
        for _ in range(HOPS):
            redirects = find_redirects(replies, self._cluster.nodes_manager.remap_host_port)
            if not redirects or not self._follow(commands, replies, redirects, request):
                break
        return mark_moving(replies)

    def _ask_once(self, commands: Sequence[Command], request: Request) -> list[Any]:
        if self._topology.is_doubtful(self._slot):
            refusal = self._topology.refresh(request)
            if refusal is not None:
                return [refusal] * len(commands)
        try:
            node = self._cluster.nodes_manager.get_node_from_slot(self._slot)
        except RedisClusterException as error:
            self._topology.doubts.is_stale = True
            return [explain_unreachable(error)] * len(commands)
        return self._ask_node(node, commands, request)

    def _follow(
        self,
        commands: Sequence[Command],
        replies: list[Any],
        redirects: Mapping[int, Redirect],
        request: Request,
    ) -> bool:
        """See :class:`~aqm_db._io.redispy.async_cluster.ClusterChannel`."""
        redirect = choose_redirect(redirects.values())
        node = self._cluster.get_node(redirect.host, redirect.port)
        if redirect.is_moved:
            if node is None:
                self._topology.doubts.is_stale = True
            else:
                self._cluster.nodes_manager.move_slot(redirect.make_moved_error())
            # What follows may be about what was sent on, as WAIT is.
            first = min(redirects)
            replies[first:] = self._ask_once(commands[first:], request)
            return True
        # A node that has no slot yet is in no topology.
        if not self._follows or node is None:
            return False
        asked = [part for place in redirects for part in (ASKING, commands[place])]
        others = self._ask_node(node, asked, request)[1::2]
        for place, reply in zip(redirects, others, strict=True):
            replies[place] = reply
        return True

    def _ask_node(
        self, node: ClusterNode, commands: Sequence[Command], request: Request
    ) -> list[Any]:
        """Asks a node; one that doesn't answer may have been replaced."""
        pool = self._cluster.get_redis_connection(node).connection_pool
        replies = self._ask_pool(pool, commands, request)
        if any(map(is_down, replies)):
            self._topology.doubts.note_lost(node.name)
        return replies


def make_sync_cluster_client(
    target: Cluster, options: dict[str, Any], unavailable: type[UnavailableError]
) -> RedisCluster:
    """A client of a cluster, which has been asked for its topology.

    Args:
        target: the cluster.
        options: what the client is made with.
        unavailable: what is raised when no node can be reached.

    Raises:
        InvalidArgumentError: the url has an option that can't be.
        UnavailableError: no node can be reached.
        AccessDeniedError: the password is wrong, or the user may not ask for the topology.
    """
    node: Any = ClusterNode
    given = parse_options(target.url)

    def make() -> RedisCluster:
        return make_with_options(
            RedisCluster,
            given=given,
            # It asks the nodes at once, and what they say is no fault of the url's.
            refusals=(TypeError, ValueError),
            startup_nodes=[node(host, port) for host, port in target.hosts],
            require_full_coverage=False,
            **options,
        )

    return _ask_topology(make, options["retry"], unavailable)


def _ask_topology(ask: Callable[[], T], policy: Retry, unavailable: type[UnavailableError]) -> T:
    """What comes of asking for the topology, for no longer than for anything else."""
    request = Request(ServerClock(), unavailable)

    def attempt() -> T:
        asking = begin_beside(ask)
        try:
            return asking.result(request.count_left())
        except TimeoutError:
            raise AttemptError(make_late_failure(sent=False)) from None
        except (RedisError, RedisClusterException) as error:
            reply = explain_unreachable(error)
        if isinstance(reply, ErrorReply):
            raise make_error(reply, "CLUSTER SLOTS")
        raise AttemptError(reply)

    def is_due(_: Exception) -> bool:
        return not request.is_over()

    try:
        return limit_pauses(policy, request).call_with_retry(attempt, clean_nothing, is_due)
    except AttemptError as failed:
        raise failed.failure.make_error(unavailable, sent=False) from None


def read_sync_topology(
    cluster: RedisCluster, unavailable: type[UnavailableError], policy: Retry
) -> None:
    """See :func:`~aqm_db._io.redispy.async_cluster.read_topology`."""
    _ask_topology(cluster.nodes_manager.initialize, policy, unavailable)


def list_sync_primaries(
    cluster: RedisCluster, unavailable: type[UnavailableError], policy: Retry
) -> dict[str, tuple[SyncSeam, Redis]]:
    """The same as of the asynchronous face, with each node's client."""
    primaries: list[ClusterNode] = cast("Any", cluster).get_primaries()
    clients = {node.name: cluster.get_redis_connection(node) for node in primaries}
    return {
        name: (SyncSeam(partial(_NodeExchange, client, policy, unavailable), unavailable), client)
        for name, client in clients.items()
    }


class _NodeExchange(ServerExchange):
    """Requests to one node, whoever has its slots.

    Args:
        client: the node's.
        policy: the cluster client's: that of a node's client tries once.
        unavailable: as of :class:`~aqm_db._io.redispy.sync_exchange.Exchange`.
    """

    def __init__(self, client: Redis, policy: Retry, unavailable: type[UnavailableError]) -> None:
        super().__init__(client, unavailable)
        self._policy = policy

    def _answer(self, commands: Sequence[Command], request: Request) -> list[Any]:
        send = partial(self._ask_pool, self._pool, commands, request)
        return self._repeat(lambda: self._policy, send, request)


def make_sync_share_seams(
    cluster: RedisCluster, unavailable: type[UnavailableError]
) -> list[SyncSeam]:
    """See :func:`~aqm_db._io.redispy.async_cluster.make_share_seams`.

    Raises:
        UnavailableError: no node tells the topology.
        AccessDeniedError: the user may not ask for it.
    """
    read_sync_topology(cluster, unavailable, cluster.retry)
    return [
        SyncSeam(partial(ClusterExchange, cluster, slot, unavailable), unavailable)
        for slot in list_first_slots(cluster.nodes_manager.slots_cache)
    ]


def _find_primary(cluster: RedisCluster, slot: int) -> str | None:
    nodes = cluster.nodes_manager.slots_cache.get(slot)
    return nodes[0].name if nodes else None


class _Topology:
    """What a cluster's client knows of its nodes, which all threads ask for together.

    What one call finds out the next one knows: it may have no time left to ask itself.

    Args:
        cluster: the client.

    Attributes:
        doubts: what may be wrong of it.
    """

    def __init__(self, cluster: RedisCluster) -> None:
        self.doubts = Doubts(is_stale=False)
        # Not the client itself, which would be kept alive by what is kept for as long as it is.
        self._manager = cluster.nodes_manager
        self._joining = Lock()
        self._refreshing: Future[ErrorReply | LinkFailure | None] | None = None

    def is_doubtful(self, slot: int) -> bool:
        """Whether it has to be asked for before a slot's node is."""
        return self.doubts.concern(self._manager.slots_cache.get(slot))

    def refresh(self, request: Request) -> ErrorReply | LinkFailure | None:
        """Asks for it (CLUSTER SLOTS), once for all that wait for it.

        Args:
            request: what it's for; it isn't waited for once that's over.

        Returns:
            Why it couldn't, or not in time.
        """
        with self._joining:
            if self._refreshing is None or self._refreshing.done():
                # Beside them: whoever is interrupted, or can wait no longer, leaves it to others.
                self._refreshing = begin_beside(self._ask)
            refreshing = self._refreshing
        try:
            refusal = refreshing.result(request.count_left())
        except TimeoutError:
            return make_late_failure(sent=False)
        return refusal.copy() if isinstance(refusal, LinkFailure) else refusal

    def _ask(self) -> ErrorReply | LinkFailure | None:
        try:
            self._manager.initialize(last_failed_node_name=self.doubts.find_last())
        except (RedisError, RedisClusterException) as error:
            return explain_unreachable(error)
        self.doubts.forget()
        return None


def _get_topology(cluster: RedisCluster) -> _Topology:
    topology = _topologies.get(cluster)
    if topology is None:
        # Another thread's may be the first.
        topology = _topologies.setdefault(cluster, _Topology(cluster))
    return topology


_topologies: WeakKeyDictionary[RedisCluster, _Topology] = WeakKeyDictionary()

# A process that is forked has none of the threads; where it isn't there, nothing forks.
with suppress(AttributeError):
    os.register_at_fork(after_in_child=_topologies.clear)
