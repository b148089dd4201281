"""Which clients each face takes, and the seam over each."""

from collections.abc import Mapping, Sequence
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, TypeAlias, TypeGuard, cast

import redis
from redis.asyncio import Redis, RedisCluster, SSLConnection

from aqm_db._io.confirming import UNCONFIRMED, Confirmation, Confirming
from aqm_db._io.gate import Gate
from aqm_db._io.seam import ClientSeam, Seam
from aqm_db._model.keys import Keys
from aqm_db.errors import InvalidArgumentError, UnavailableError

from .async_closing import close_at_home
from .async_loops import get_channels
from .async_seam import AsyncSeam
from .url_options import make_with_options

AsyncClient: TypeAlias = Redis
AnyAsyncClient: TypeAlias = Redis | RedisCluster
SyncClient: TypeAlias = redis.Redis
AnySyncClient: TypeAlias = redis.Redis | redis.RedisCluster


_NO_OWNER = Keys()


class SyncStandIn:
    """A synchronous client in the place of an asynchronous one; two of one client are the same."""

    def __init__(self, client: AnySyncClient) -> None:
        self.client = client

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SyncStandIn) and other.client is self.client

    def __hash__(self) -> int:
        return id(self.client)

    async def aclose(self) -> None:
        """Closes the client; it never suspends."""
        self.client.close()


def wrap_client(client: AnySyncClient, user: str) -> AsyncClient:
    """What stands for a synchronous client where an asynchronous one is asked for.

    It is the synchronous face's only: callers can't pass it, so no annotation speaks of it.

    Args:
        client: a ``redis.Redis`` or ``redis.RedisCluster`` that returns bytes.
        user: the synchronous class or function that the client was passed to.

    Raises:
        TypeError: the client is of another kind.
        ValueError: the client decodes its responses.
    """
    return cast("AsyncClient", SyncStandIn(_check_client(client, _SYNC, user)))


def wrap_client_or_seam(client: AnySyncClient | Seam, user: str) -> AsyncClient | Seam:
    """The same where a seam is taken too, which stays as it is."""
    return client if is_seam(client) else wrap_client(cast("AnySyncClient", client), user)


def unwrap_client(client: AsyncClient) -> SyncClient:
    """The client that :func:`wrap_client` was given."""
    return cast("SyncClient", cast("SyncStandIn", client).client)


class Route:
    """How a client reaches its server.

    Attributes:
        place: the host and the port, or the path of a unix socket.
        host: the host; None for a unix socket.
        is_encrypted: whether it speaks TLS.
        is_in_memory: whether the server is fakeredis, in this process.
        sends_password: whether the client has one, or asks a provider for one.
    """

    def __init__(self, client: AnySyncClient | AnyAsyncClient) -> None:
        options = _get_options(client)
        connection_class = _find_connection_class(client)
        path = options.get("path")
        host, port = _find_address(client)
        self.host: str | None = None if path else host
        self.place: tuple[object, ...] = (path or host, port)
        self.is_encrypted: bool = issubclass(connection_class, redis.SSLConnection | SSLConnection)
        self.is_in_memory: bool = connection_class.__module__.partition(".")[0] == "fakeredis"
        self.sends_password: bool = bool(
            options.get("password") or options.get("credential_provider")
        )


def find_route(client: object) -> Route:
    """How a client, or what :func:`wrap_client` made of one, reaches its server."""
    return Route(client.client if isinstance(client, SyncStandIn) else cast("Redis", client))


def make_seam(
    client: object,
    unavailable: type[UnavailableError],
    user: str,
    keys: Keys = _NO_OWNER,
    *,
    confirming: Confirming,
) -> ClientSeam:
    """The seam over a client.

    Args:
        client: a ``redis.asyncio.Redis`` or ``RedisCluster`` that returns bytes, or what
            :func:`wrap_client` made.
        unavailable: what is raised when the server can't be reached.
        user: the asynchronous class or function that the client was passed to.
        keys: the names of all keys that are asked for.
        confirming: what has to have each change.

    Raises:
        TypeError: the client is of another kind.
        ValueError: the client decodes its responses.
        InvalidArgumentError: it's a cluster's, and the keys are of no owner.
    """
    confirmation = Confirmation(confirming, keys.confirm) if confirming.is_wanted else None
    # The other face, and clusters, cost nothing to a program that has none.
    if isinstance(client, SyncStandIn):
        if isinstance(client.client, redis.RedisCluster):
            from .sync_cluster import ClusterSyncSeam  # noqa: PLC0415

            tag = _find_tag(keys)
            return ClusterSyncSeam(
                client.client, tag, unavailable, confirmation, confirming.settle_timeout
            )
        from .sync_exchange import choose_exchange, find_server_clock  # noqa: PLC0415
        from .sync_seam import SyncSeam  # noqa: PLC0415

        exchange = partial(choose_exchange(client.client), client.client, unavailable)
        return SyncSeam(
            exchange,
            unavailable,
            confirmation,
            confirming.settle_timeout,
            find_server_clock(client.client),
        )
    checked = _check_client(client, _ASYNC, user)
    if isinstance(checked, RedisCluster):
        from .async_cluster import ClusterSeam  # noqa: PLC0415

        tag = _find_tag(keys)
        return ClusterSeam(checked, tag, unavailable, confirmation, confirming.settle_timeout)
    return AsyncSeam(
        get_channels(checked),
        checked.get_retry,
        unavailable,
        confirmation,
        confirming.settle_timeout,
    )


def take_seam(
    client: object,
    unavailable: type[UnavailableError],
    user: str,
    keys: Keys,
    confirming: Confirming,
) -> tuple[Seam, Confirming]:
    """The seam over a client, or one that somebody made, and what it confirms as far as is known.

    Raises:
        TypeError: as of :func:`make_seam`.
        ValueError: the same.
        InvalidArgumentError: the same; or changes are to be confirmed by somebody's own seam.
    """
    if isinstance(client, Gate):
        return client, client.confirming
    if not is_seam(client):
        return make_seam(client, unavailable, user, keys, confirming=confirming), confirming
    if confirming.is_wanted:
        raise InvalidArgumentError(
            "confirm_replicas", "and confirm_fsync are for clients: a seam confirms by itself"
        )
    return client, confirming


def is_seam(client: object) -> TypeGuard[Seam]:
    """Whether it's a seam: an object, not a class, whose methods are coroutine functions."""
    if isinstance(client, type) or not isinstance(client, Seam):
        return False
    return iscoroutinefunction(client.run) and iscoroutinefunction(client.read)


async def make_share_seams(
    client: object, unavailable: type[UnavailableError], user: str
) -> Sequence[ClientSeam]:
    """A seam over each share of the keys: the only server, or what each primary of a cluster has.

    A primary may be replaced meanwhile. They are for reading: nothing confirms a change.

    Raises:
        TypeError: the client is of another kind.
        ValueError: the client decodes its responses.
        UnavailableError: the cluster can't be reached.
        AccessDeniedError: the cluster refuses the user.
    """
    if isinstance(client, SyncStandIn) and isinstance(client.client, redis.RedisCluster):
        from .sync_cluster import make_sync_share_seams  # noqa: PLC0415

        return make_sync_share_seams(client.client, unavailable)
    if isinstance(client, RedisCluster):
        from .async_cluster import make_share_seams as make_them  # noqa: PLC0415

        return await make_them(_check_client(client, _ASYNC, user), unavailable)
    return [make_seam(client, unavailable, user, confirming=UNCONFIRMED)]


async def close_client(client: AnyAsyncClient) -> None:
    """Closes a client, or what :func:`wrap_client` made of one, where its connections are."""
    if isinstance(client, SyncStandIn):
        await client.aclose()
    elif isinstance(client, RedisCluster):
        from .async_cluster import get_nodes  # noqa: PLC0415 - most programs have none

        await close_at_home(get_nodes(client).home, client)
    else:
        await close_at_home(get_channels(client), client)


def is_cluster(client: object) -> bool:
    """Whether a client, or what :func:`wrap_client` made of one, is a cluster's."""
    return isinstance(client.client if isinstance(client, SyncStandIn) else client, _CLUSTERS)


_SYNC = (redis.Redis, redis.RedisCluster)
_ASYNC = (Redis, RedisCluster)
_CLUSTERS = (redis.RedisCluster, RedisCluster)


def check_options(client: AnySyncClient | AnyAsyncClient) -> None:
    """Makes a connection, and doesn't open it: it refuses options that it doesn't know.

    Args:
        client: of one server, or of one that sentinels name.

    Raises:
        InvalidArgumentError: it doesn't know one, or one has a wrong value.
    """
    options = _get_options(client)
    if options.get("decode_responses"):
        raise InvalidArgumentError("url", "has an option that isn't allowed: decode_responses")
    make_with_options(_find_connection_class(client), given=options)


def _find_tag(keys: Keys) -> str:
    """What the names of an owner's keys begin with: their hash tag decides on the slot."""
    if not keys.prefix:
        raise InvalidArgumentError("owner", "a cluster needs one: its name decides on the node")
    return keys.prefix


def _check_client(client: object, wanted: tuple[type[Any], ...], user: str) -> Any:
    if not isinstance(client, wanted):
        name = "redis.Redis" if wanted is _SYNC else "redis.asyncio.Redis"
        raise TypeError(f"client: {user} takes a {name}{_explain_mistake(client, user)}")
    if _get_options(client).get("decode_responses"):
        raise ValueError("client: must be made with decode_responses=False, since keys are bytes")
    return client


def _get_options(client: Any) -> Mapping[str, Any]:
    """What a client makes connections with."""
    if isinstance(client, RedisCluster):
        return cast("Mapping[str, Any]", client.connection_kwargs)
    if isinstance(client, redis.RedisCluster):
        return cast("Mapping[str, Any]", client.nodes_manager.connection_kwargs)
    return cast("Mapping[str, Any]", client.connection_pool.connection_kwargs)


def _find_address(client: Any) -> tuple[str, int]:
    """Where a client's server is, or one of its servers."""
    if isinstance(client, _CLUSTERS):
        manager: Any = client.nodes_manager
        node = next(iter(manager.startup_nodes.values()))
        return node.host, node.port
    # Sentinels have told it by then.
    found = getattr(client.connection_pool, "master_address", None)
    options = _get_options(client)
    return found or (options.get("host", "localhost"), options.get("port", 6379))


def _find_connection_class(client: Any) -> type:
    if isinstance(client, _CLUSTERS):
        options = _get_options(client)
        default = redis.SSLConnection if options.get("ssl") else redis.Connection
        return cast("type", options.get("connection_class", default))
    return cast("type", client.connection_pool.connection_class)


def _explain_mistake(client: object, user: str) -> str:
    """What is wrong with a client, and who takes it."""
    if isinstance(client, _SYNC):
        return f"; for a redis.Redis there is {user.removeprefix('Async')} in aqm_db.sync"
    if isinstance(client, _ASYNC):
        name = f"Async{user}" if user[0].isupper() else user
        return f"; for a redis.asyncio.Redis there is {name} in aqm_db"
    return f", not {type(client).__name__}"
