"""Connections to an embedded server, which start it again where it has died."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from redis.asyncio import Redis, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from aqm_db import config
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import EmbeddedServerError

from .replies import may_pass
from .retries import ONCE, clean_nothing


class EmbeddedConnection(UnixDomainSocketConnection):
    """A connection of the asynchronous face.

    Args:
        server: the embedded server.
        options: as of the class that this is made of.
    """

    def __init__(self, *, server: EmbeddedServer, **options: Any) -> None:
        super().__init__(**options)
        self._revival = _Revival(server, self.socket_connect_timeout)

    async def connect(self) -> None:
        """Connects; if it can't, once more when the server is there again."""
        try:
            await self._connect_once()
        except RedisConnectionError as error:
            if not may_pass(error):
                raise
            await self._revival.run_beside()
            await self._connect_once()

    async def _connect_once(self) -> None:
        self.path = self._revival.find_socket()
        # redis-py gives it no annotation.
        await super().connect()  # type: ignore[no-untyped-call]


class SyncEmbeddedConnection(redis.UnixDomainSocketConnection):
    """A connection of the synchronous face.

    Args:
        server: the embedded server.
        options: as of the class that this is made of.
    """

    def __init__(self, *, server: EmbeddedServer, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._revival = _Revival(server, self.socket_connect_timeout)

    def connect(self) -> None:
        """Connects; if it can't, once more when the server is there again."""
        # Its policy goes round both, since a server may die again in between.
        policy, self.retry = self.retry, ONCE
        try:
            policy.call_with_retry(self._connect_somehow, clean_nothing, may_pass)
        finally:
            self.retry = policy

    def _connect_somehow(self) -> None:
        try:
            self._connect_once()
        except RedisConnectionError as error:
            if not may_pass(error):
                raise
            self._revival.run()
            self._connect_once()

    def _connect_once(self) -> None:
        self.path = self._revival.find_socket()
        # redis-py gives it no annotation.
        super().connect()  # type: ignore[no-untyped-call]


def use_embedded(client: Any, server: EmbeddedServer) -> None:
    """Has a client that isn't connected yet start its server again where that has died."""
    pool = client.connection_pool
    is_async = isinstance(client, Redis)
    pool.connection_class = EmbeddedConnection if is_async else SyncEmbeddedConnection
    pool.connection_kwargs["server"] = server


class _Revival:
    """How a connection has its server started again.

    Args:
        server: the embedded server.
        seconds: how long it may take; None if connecting may take forever.
    """

    def __init__(self, server: EmbeddedServer, seconds: float | None) -> None:
        self._server = server
        self._seconds = config.REDIS_SOCKET_TIMEOUT if seconds is None else seconds

    def find_socket(self) -> str:
        """The path to connect to; another process may have started the server elsewhere."""
        return str(self._server.socket_path)

    def run(self) -> None:
        """Starts the server again, if it has died.

        Raises:
            RedisConnectionError: it doesn't start, or nobody has it open any more.
        """
        try:
            self._server.revive(timeout=self._seconds)
        except EmbeddedServerError as error:
            raise RedisConnectionError(str(error)) from error

    async def run_beside(self) -> None:
        """The same, while the event loop goes on."""
        # A thread of its own: all those of the event loop's pool may wait for what this is for.
        thread = ThreadPoolExecutor(1)
        try:
            await asyncio.get_running_loop().run_in_executor(thread, self.run)
        finally:
            thread.shutdown(wait=False)
