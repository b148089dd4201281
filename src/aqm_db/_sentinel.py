"""Clients of a primary that sentinels watch; they close the connections to the sentinels, too."""

from typing import Any

import redis
from redis.asyncio import Redis, Sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from ._target import Sentinels


class _Watched(Redis):
    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001
        await super().aclose(close_connection_pool)
        pool: Any = self.connection_pool
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


class _WatchedSync(redis.Redis):
    def close(self) -> None:
        super().close()
        pool: Any = self.connection_pool
        for sentinel in pool.sentinel_manager.sentinels:
            sentinel.close()


def client_of(target: Sentinels, options: dict[str, Any]) -> Redis:
    """An asynchronous client."""
    make: Any = Sentinel
    sentinels = make(
        target.hosts,
        sentinel_kwargs=_asking(options) | {"retry": AsyncRetry(NoBackoff(), 0)},
    )
    client: Redis = sentinels.master_for(target.name, _Watched, **target.options, **options)
    return client


def sync_client_of(target: Sentinels, options: dict[str, Any]) -> redis.Redis:
    """A synchronous client."""
    make: Any = redis.Sentinel
    sentinels = make(
        target.hosts,
        sentinel_kwargs=_asking(options) | {"retry": Retry(NoBackoff(), 0)},
    )
    client: redis.Redis = sentinels.master_for(
        target.name, _WatchedSync, **target.options, **options
    )
    return client


def _asking(options: dict[str, Any]) -> dict[str, Any]:
    """How sentinels are asked: once each, since there are others."""
    names = ("socket_timeout", "socket_connect_timeout", "maint_notifications_config")
    return {name: options[name] for name in names}
