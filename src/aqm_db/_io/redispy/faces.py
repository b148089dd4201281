"""What differs between the two faces: their clients, and how they run what blocks."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.driver_info import DriverInfo
from redis.maint_notifications import MaintNotificationsConfig

from aqm_db import config
from aqm_db._io.shielding import finish, shield_task
from aqm_db._io.target import Cluster, Sentinels, Server, Target
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import EmbeddedServerError, InvalidArgumentError, VaultUnavailableError

from .clients import (
    AnyAsyncClient,
    AnySyncClient,
    AsyncClient,
    SyncStandIn,
    check_options,
    wrap_client,
)
from .embedded_connections import use_embedded
from .retries import FirmRetry
from .time_limits import Question, ask_in_tasks, ask_in_threads
from .url_options import make_with_options

T = TypeVar("T")

_DRIVER: Final = DriverInfo(lib_version=redis.__version__)
"""What clients tell the server of themselves; redis-py would look its version up for each."""


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

    def make_clients(
        self, target: Target, server: EmbeddedServer | None
    ) -> tuple[AsyncClient, AsyncClient]:
        """The vault's client and the inventory's.

        Args:
            target: what a url names.
            server: the embedded server, if the url names one.

        Raises:
            InvalidArgumentError: the url has an option that redis-py doesn't know, or one with a
                wrong value; or an extra is missing.
            VaultUnavailableError: a cluster can't be reached.
            AccessDeniedError: a cluster refuses the user.
        """
        databases = (config.REDIS_VAULT_DB, config.REDIS_INVENTORY_DB)
        if isinstance(target, Cluster | Sentinels):
            both = self.shape_client(self.make_client_of_several(target))
            return both, both
        if isinstance(target, Server):
            vault, inventory = (self._make_client_of_url(target.url, db) for db in databases)
        elif server is not None:
            vault, inventory = (self._make_client_of_embedded(server, db) for db in databases)
        else:
            vault, inventory = self._make_clients_in_memory(databases)
        return vault, inventory

    def make_client(self, db: int, **place: Any) -> AsyncClient:
        """A client of a server at a host and port, or at a unix socket."""
        return self.shape_client(self._make_plain_client(db, **place))

    @abstractmethod
    def make_client_of_several(self, target: Cluster | Sentinels) -> Any:
        """A client of a cluster, or of whichever server sentinels say.

        Raises:
            InvalidArgumentError: the url has an option that can't be.
            VaultUnavailableError: the cluster can't be reached.
            AccessDeniedError: the cluster refuses the user.
        """

    def make_options(self, attempts: int = config.REDIS_RETRY_ATTEMPTS) -> dict[str, Any]:
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
    def shape_client(self, client: Any) -> AsyncClient:
        """A client as what the asynchronous classes take."""

    @abstractmethod
    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Does some work to its end, whoever is cancelled meanwhile."""

    @abstractmethod
    async def run_blocking(self, work: Callable[[], T]) -> T:
        """Does what blocks, to its end: beside the event loop, where there is one."""

    @abstractmethod
    async def ask(self, questions: Sequence[Question[T]], seconds: float) -> list[T | None]:
        """The answers to questions that come in time; None in the places of others.

        Raises:
            Exception: what asking raised.
        """

    @abstractmethod
    async def open_server(self, directory: Path) -> EmbeddedServer:
        """Starts or joins an embedded server."""

    @abstractmethod
    async def close_server(self, server: EmbeddedServer) -> None:
        """Gives it back."""

    def _make_client_of_url(self, url: str, db: int) -> AsyncClient:
        client = make_with_options(
            self.client_class.from_url, url, given={}, db=db, **self.make_options()
        )
        check_options(client)
        return self.shape_client(client)

    def _make_plain_client(self, db: int, **place: Any) -> Any:
        return self.client_class(db=db, driver_info=_DRIVER, **place, **self.make_options())

    def _make_client_of_embedded(self, server: EmbeddedServer, db: int) -> AsyncClient:
        path = str(server.socket_path)
        client = self._make_plain_client(db, unix_socket_path=path)
        use_embedded(client, server)
        return self.shape_client(client)

    def _make_clients_in_memory(self, databases: Sequence[int]) -> Iterator[AsyncClient]:
        try:
            import fakeredis  # noqa: PLC0415 - an extra
        except ImportError as error:
            reason = "memory:// needs: pip install 'aqm-db[memory]'"
            raise InvalidArgumentError("url", reason) from error
        make: Any = getattr(fakeredis, self.fake_name)
        server = fakeredis.FakeServer()
        return (self.shape_client(make(server=server, db=db)) for db in databases)


class _AsyncFace(Face):
    client_class = Redis
    retry_class = AsyncRetry
    fake_name = "FakeAsyncRedis"

    def shape_client(self, client: AsyncClient) -> AsyncClient:
        return client

    def make_client_of_several(self, target: Cluster | Sentinels) -> AnyAsyncClient:
        options = self.make_options(config.REDIS_FAILOVER_ATTEMPTS)
        if isinstance(target, Cluster):
            from .async_cluster import make_cluster_client  # noqa: PLC0415 - most have none

            return make_cluster_client(target, options)
        from .sentinel import make_sentinel_client  # noqa: PLC0415 - the same

        client = make_sentinel_client(target, options)
        check_options(client)
        return client

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        await finish(work)

    async def run_blocking(self, work: Callable[[], T]) -> T:
        results: list[T] = []

        async def run() -> None:
            results.append(await asyncio.to_thread(work))

        await finish(run())
        return results[0]

    async def ask(self, questions: Sequence[Question[T]], seconds: float) -> list[T | None]:
        return await ask_in_tasks(questions, seconds)

    async def open_server(self, directory: Path) -> EmbeddedServer:
        opening = asyncio.create_task(asyncio.to_thread(EmbeddedServer.open, directory))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A caller who is gone leaves no server behind.
            with suppress(EmbeddedServerError), shield_task():
                await self.close_server(await opening)
            raise

    async def close_server(self, server: EmbeddedServer) -> None:
        await asyncio.to_thread(server.close)


class _SyncFace(Face):
    client_class = redis.Redis
    retry_class = FirmRetry
    fake_name = "FakeRedis"

    def shape_client(self, client: AnySyncClient) -> AsyncClient:
        return wrap_client(client, "connect")

    def make_client_of_several(self, target: Cluster | Sentinels) -> AnySyncClient:
        options = self.make_options(config.REDIS_FAILOVER_ATTEMPTS)
        if isinstance(target, Cluster):
            from .sync_cluster import make_sync_cluster_client  # noqa: PLC0415 - most have none

            return make_sync_cluster_client(target, options, VaultUnavailableError)
        from .sentinel import make_sync_sentinel_client  # noqa: PLC0415 - the same

        client = make_sync_sentinel_client(target, options)
        check_options(client)
        return client

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        await work

    async def run_blocking(self, work: Callable[[], T]) -> T:
        return work()

    async def ask(self, questions: Sequence[Question[T]], seconds: float) -> list[T | None]:
        return ask_in_threads(questions, seconds)

    async def open_server(self, directory: Path) -> EmbeddedServer:
        return EmbeddedServer.open(directory)

    async def close_server(self, server: EmbeddedServer) -> None:
        server.close()


ASYNC = _AsyncFace()
SYNC = _SyncFace()


def find_face(client: object) -> Face:
    """The face that a client was made for."""
    return SYNC if isinstance(client, SyncStandIn) else ASYNC
