"""What differs between the two faces: their clients, and how they run what blocks."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, cast

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.maint_notifications import MaintNotificationsConfig

from aqm_db import config
from aqm_db._io.shielding import finish, sheltered
from aqm_db._io.target import Cluster, Sentinels
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import EmbeddedServerError, VaultUnavailableError

from .clients import AnySyncClient, AsyncClient, Blocking, blocking, check_options
from .retries import FirmRetry
from .url_options import made_with


class Face(ABC):
    """One face of the library.

    Attributes:
        client_class: the class of its clients.
        retry_class: the class of their retry policies.
        fake_name: what fakeredis calls its clients.
    """

    client_class: ClassVar[type[Any]]
    retry_class: ClassVar[type[Any]]
    fake_name: ClassVar[str]

    def client(self, db: int, **place: Any) -> AsyncClient:
        """A client of a server at a host and port, or at a unix socket."""
        return self.shaped(self.client_class(db=db, **place, **self.client_options()))

    def client_of_url(self, url: str, db: int) -> AsyncClient:
        """A client of the server at a url.

        Raises:
            InvalidArgumentError: the url has an option that redis-py doesn't know, or one with a
                wrong value.
        """
        client = made_with(
            self.client_class.from_url, url, given={}, db=db, **self.client_options()
        )
        check_options(client)
        return self.shaped(client)

    def client_in_memory(self, fakeredis: Any, server: Any, db: int) -> AsyncClient:
        """A client of a server of fakeredis."""
        return self.shaped(getattr(fakeredis, self.fake_name)(server=server, db=db))

    @abstractmethod
    def client_of_several(self, target: Cluster | Sentinels) -> AsyncClient:
        """A client of a cluster, or of whichever server sentinels say.

        Raises:
            InvalidArgumentError: as of :meth:`client_of_url`.
            VaultUnavailableError: the cluster can't be reached.
            AccessDeniedError: the cluster refuses the user.
        """

    def client_options(self, attempts: int = config.REDIS_RETRY_ATTEMPTS) -> dict[str, Any]:
        """What every client is made with."""
        return {
            "decode_responses": False,
            "socket_timeout": config.REDIS_SOCKET_TIMEOUT,
            "socket_connect_timeout": config.REDIS_SOCKET_TIMEOUT,
            "retry": self.retry_class(ConstantBackoff(config.REDIS_RETRY_DELAY), attempts),
            # A push message that is read late would be taken for the next command's answer.
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }

    @abstractmethod
    def shaped(self, client: Any) -> AsyncClient:
        """A client as what the asynchronous classes take."""

    @abstractmethod
    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Does some work to its end, whoever is cancelled meanwhile."""

    @abstractmethod
    async def open_server(self, directory: Path) -> EmbeddedServer:
        """Starts or joins an embedded server."""

    @abstractmethod
    async def close_server(self, server: EmbeddedServer) -> None:
        """Gives it back."""


class _AsyncFace(Face):
    client_class = Redis
    retry_class = AsyncRetry
    fake_name = "FakeAsyncRedis"

    def shaped(self, client: AsyncClient) -> AsyncClient:
        return client

    def client_of_several(self, target: Cluster | Sentinels) -> AsyncClient:
        options = self.client_options(config.REDIS_FAILOVER_ATTEMPTS)
        if isinstance(target, Cluster):
            from .async_cluster import client_of  # noqa: PLC0415 - most programs have none

            return self.shaped(cast("AsyncClient", client_of(target, options)))
        from .sentinel import client_of as watched_client  # noqa: PLC0415 - the same

        client = watched_client(target, options)
        check_options(client)
        return self.shaped(client)

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        await finish(work)

    async def open_server(self, directory: Path) -> EmbeddedServer:
        opening = asyncio.create_task(asyncio.to_thread(EmbeddedServer.open, directory))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A caller who is gone leaves no server behind.
            with suppress(EmbeddedServerError), sheltered():
                await self.close_server(await opening)
            raise

    async def close_server(self, server: EmbeddedServer) -> None:
        await asyncio.to_thread(server.close)


class _SyncFace(Face):
    client_class = redis.Redis
    retry_class = FirmRetry
    fake_name = "FakeRedis"

    def shaped(self, client: AnySyncClient) -> AsyncClient:
        return blocking(client, "connect")

    def client_of_several(self, target: Cluster | Sentinels) -> AsyncClient:
        options = self.client_options(config.REDIS_FAILOVER_ATTEMPTS)
        if isinstance(target, Cluster):
            from .sync_cluster import client_of  # noqa: PLC0415 - most programs have none

            return self.shaped(client_of(target, options, VaultUnavailableError))
        from .sentinel import sync_client_of  # noqa: PLC0415 - the same

        client = sync_client_of(target, options)
        check_options(client)
        return self.shaped(client)

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        await work

    async def open_server(self, directory: Path) -> EmbeddedServer:
        return EmbeddedServer.open(directory)

    async def close_server(self, server: EmbeddedServer) -> None:
        server.close()


ASYNC = _AsyncFace()
SYNC = _SyncFace()


def face_of(client: object) -> Face:
    """The face that a client was made for."""
    return SYNC if isinstance(client, Blocking) else ASYNC
