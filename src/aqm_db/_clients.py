"""Which clients each face takes, and the seam over each."""

from typing import TypeAlias, TypeVar, cast

import redis
from redis.asyncio import Redis, SSLConnection

from ._async_seam import AsyncSeam
from ._seam import ProbingSeam
from .errors import UnavailableError

AsyncClient: TypeAlias = Redis
C = TypeVar("C", redis.Redis, Redis)


class Blocking:
    """A synchronous client in the place of an asynchronous one."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    async def aclose(self) -> None:
        """Closes the client; it never suspends."""
        self.client.close()


def blocking(client: redis.Redis, user: str) -> AsyncClient:
    """What stands for a synchronous client where an asynchronous one is asked for.

    It is the synchronous face's only: callers can't pass it, so no annotation speaks of it.

    Args:
        client: a ``redis.Redis`` that returns bytes.
        user: the synchronous class or function that the client was passed to.

    Raises:
        TypeError: the client is of another kind.
        ValueError: the client decodes its responses.
    """
    return cast("AsyncClient", Blocking(_checked(client, redis.Redis, user)))


def blocked(client: AsyncClient) -> redis.Redis:
    """The client that :func:`blocking` was given."""
    return cast("Blocking", client).client


class Route:
    """How a client reaches its server.

    Attributes:
        place: the host and the port, or the path of a unix socket.
        host: the host; None for a unix socket.
        is_encrypted: whether it speaks TLS.
        is_in_memory: whether the server is fakeredis, in this process.
        sends_password: whether the client has one, or asks a provider for one.
    """

    def __init__(self, client: redis.Redis | Redis) -> None:
        pool = client.connection_pool
        options = pool.connection_kwargs
        kind = pool.connection_class
        path = options.get("path")
        self.host: str | None = None if path else options.get("host", "localhost")
        self.place: tuple[object, ...] = (path or self.host, options.get("port", 6379))
        self.is_encrypted: bool = issubclass(kind, redis.SSLConnection | SSLConnection)
        self.is_in_memory: bool = kind.__module__.partition(".")[0] == "fakeredis"
        self.sends_password: bool = bool(
            options.get("password") or options.get("credential_provider")
        )


def route_of(client: object) -> Route:
    """How a client, or what :func:`blocking` made of one, reaches its server."""
    return Route(client.client if isinstance(client, Blocking) else cast("Redis", client))


def seam_over(client: object, unavailable: type[UnavailableError], user: str) -> ProbingSeam:
    """The seam over a client.

    Args:
        client: a ``redis.asyncio.Redis`` that returns bytes, or what :func:`blocking` made.
        unavailable: what is raised when the server can't be reached.
        user: the asynchronous class or function that the client was passed to.

    Raises:
        TypeError: the client is of another kind.
        ValueError: the client decodes its responses.
    """
    if isinstance(client, Blocking):
        from ._sync_seam import SyncSeam  # noqa: PLC0415 - the synchronous face's

        return SyncSeam(client.client, unavailable)
    return AsyncSeam(_checked(client, Redis, user), unavailable)


def _checked(client: object, wanted: type[C], user: str) -> C:
    if not isinstance(client, wanted):
        name = "redis.Redis" if wanted is redis.Redis else "redis.asyncio.Redis"
        raise TypeError(f"client: {user} takes a {name}{_instead(client, user)}")
    if client.connection_pool.connection_kwargs.get("decode_responses"):
        raise ValueError("client: must be made with decode_responses=False, since keys are bytes")
    return client


def _instead(client: object, user: str) -> str:
    """What is wrong with a client, and who takes it."""
    if isinstance(client, redis.Redis):
        return f"; for a redis.Redis there is {user.removeprefix('Async')} in aqm_db.sync"
    if isinstance(client, Redis):
        name = f"Async{user}" if user[0].isupper() else user
        return f"; for a redis.asyncio.Redis there is {name} in aqm_db"
    return f", not {type(client).__name__}"
