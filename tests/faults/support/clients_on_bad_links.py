"""Clients that are on a bad link: with redis-py's default retries, with none, and the library's."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
from redis.backoff import NoBackoff

from aqm_db import config
from aqm_db._io.redispy import faces
from aqm_db._io.redispy.clients import unwrap_client
from tests.conftest import INVENTORY_DB
from tests.support.faces import ASYNC, SYNC, Face


@dataclass(frozen=True)
class Party:
    """A kind of client.

    Attributes:
        name: what it's called in test ids and in the table.
        face: whose clients these are.
        retries: how often a call is sent again.
        make: makes one, of a server on a port of this machine.
    """

    name: str
    face: Face
    retries: int
    make: Callable[[int], Any]

    def __str__(self) -> str:
        return self.name

    @asynccontextmanager
    async def client(self, port: int, patience: float | None = None) -> AsyncGenerator[Any]:
        """A client, open until the block ends.

        Args:
            port: where the server listens.
            patience: seconds to wait for an answer, unless it's the party's own.
        """
        client = self.make(port)
        if patience is not None:
            client.connection_pool.connection_kwargs["socket_timeout"] = patience
        try:
            yield client
        finally:
            if self.face is ASYNC:
                await client.aclose()
            else:
                client.close()


HOST = "127.0.0.1"
DEFAULT = Party(
    "default retries",
    ASYNC,
    10,
    lambda port: redis.asyncio.Redis(host=HOST, port=port, db=INVENTORY_DB),
)
NO_RETRIES = Party(
    "no retries",
    ASYNC,
    0,
    lambda port: redis.asyncio.Redis(
        host=HOST, port=port, db=INVENTORY_DB, retry=redis.asyncio.retry.Retry(NoBackoff(), 0)
    ),
)
LIBRARY = Party(
    "the library's client",
    ASYNC,
    config.REDIS_RETRY_ATTEMPTS,
    lambda port: faces.ASYNC.make_client(INVENTORY_DB, host=HOST, port=port),
)
ASYNC_PARTIES = (DEFAULT, NO_RETRIES, LIBRARY)
SYNC_PARTIES = (
    Party(
        "default retries, sync",
        SYNC,
        10,
        lambda port: redis.Redis(host=HOST, port=port, db=INVENTORY_DB),
    ),
    Party(
        "no retries, sync",
        SYNC,
        0,
        lambda port: redis.Redis(
            host=HOST, port=port, db=INVENTORY_DB, retry=redis.retry.Retry(NoBackoff(), 0)
        ),
    ),
    Party(
        "the library's client, sync",
        SYNC,
        config.REDIS_RETRY_ATTEMPTS,
        lambda port: unwrap_client(faces.SYNC.make_client(INVENTORY_DB, host=HOST, port=port)),
    ),
)
