"""The servers behind a client: one, or a cluster's primaries, as far as they are known."""

from typing import Any, NamedTuple, cast

from redis import RedisCluster as SyncRedisCluster

from aqm_db._io.confirming import UNCONFIRMED
from aqm_db._io.seam import Seam
from aqm_db._model.keys import Keys
from aqm_db.errors import UnavailableError

from .clients import SyncStandIn, find_route, is_cluster, make_seam
from .retries import ASYNC_ONCE, ONCE

_ANYBODY = Keys("any")


class Server(NamedTuple):
    """A server that takes writes.

    Attributes:
        name: its host and port, or the path of its socket; or what sentinels call it.
        client: what it's asked through.
        seam: the same, for reading.
    """

    name: str
    client: object
    seam: Seam


def list_servers(client: object, unavailable: type[UnavailableError], user: str) -> list[Server]:
    """The servers that take writes, as far as is known; those of a cluster are asked once.

    Raises:
        TypeError: the client is of another kind.
        ValueError: the client decodes its responses.
    """
    # Whose keys it's about makes no difference to what one server is asked here.
    seam = make_seam(client, unavailable, user, _ANYBODY, confirming=UNCONFIRMED)
    bare = find_bare(client)
    if not is_cluster(client):
        return [Server(_name_server(client), bare, seam)]
    if isinstance(bare, SyncRedisCluster):
        from .sync_cluster import list_sync_primaries  # noqa: PLC0415 - most programs have none

        nodes = list_sync_primaries(bare, unavailable, ONCE)
        return [Server(name, node, asked) for name, (asked, node) in nodes.items()]
    from .async_cluster import list_primaries  # noqa: PLC0415 - the same

    primaries = list_primaries(bare, unavailable, ASYNC_ONCE)
    return [Server(name, bare, asked) for name, asked in primaries.items()]


async def read_topology(client: object, unavailable: type[UnavailableError]) -> None:
    """Asks a cluster where its slots are, each node once.

    Raises:
        UnavailableError: no node tells.
        AccessDeniedError: the cluster refuses the user.
    """
    if isinstance(client, SyncStandIn):
        from .sync_cluster import read_sync_topology  # noqa: PLC0415 - most programs have none

        read_sync_topology(cast("SyncRedisCluster", client.client), unavailable, ONCE)
    else:
        from . import async_cluster  # noqa: PLC0415 - the same

        await async_cluster.read_topology(cast("Any", client), unavailable, ASYNC_ONCE)


def list_nodes(client: object) -> list[str]:
    """The names of all nodes of a cluster that can be asked where its slots are."""
    return list(find_bare(client).nodes_manager.startup_nodes)


def find_bare(client: object) -> Any:
    """The client of redis-py, of either face."""
    return client.client if isinstance(client, SyncStandIn) else client


def _name_server(client: object) -> str:
    pool: Any = find_bare(client).connection_pool
    # Sentinels may not have told yet where it is.
    if getattr(pool, "master_address", "") is None:
        return str(pool.service_name)
    host, port = find_route(client).place
    return str(host) if find_route(client).host is None else f"{host}:{port}"
