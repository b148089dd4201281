"""Clients of a primary that sentinels watch; they close the connections to the sentinels, too."""

from typing import Any

import redis
from redis.asyncio import Redis, Sentinel
from redis.exceptions import NoPermissionError, RedisError

from aqm_db._io.target import Sentinels

from .replies import SentinelRefusalError
from .retries import ASYNC_ONCE, ONCE
from .url_options import make_with_options, parse_options


class _Sentinels(Sentinel):
    async def discover_master(self, service_name: str) -> Any:
        discover: Any = super().discover_master
        try:
            return await discover(service_name)
        except RedisError as error:
            raise _read_refusal(error) from None


class _SyncSentinels(redis.Sentinel):
    def discover_master(self, service_name: str) -> Any:
        discover: Any = super().discover_master
        try:
            return discover(service_name)
        except RedisError as error:
            raise _read_refusal(error) from None


class _Watched(Redis):
    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001
        try:
            await super().aclose(close_connection_pool)
        finally:
            pool: Any = self.connection_pool
            for sentinel in pool.sentinel_manager.sentinels:
                await sentinel.aclose()


class _WatchedSync(redis.Redis):
    def close(self) -> None:
        super().close()
        pool: Any = self.connection_pool
        for sentinel in pool.sentinel_manager.sentinels:
            sentinel.close()


def make_sentinel_client(target: Sentinels, options: dict[str, Any]) -> Redis:
    """An asynchronous client.

    Raises:
        InvalidArgumentError: the url has an option that can't be.
    """
    make: Any = _Sentinels
    sentinels = make(
        target.hosts,
        sentinel_kwargs=_make_asking_options(target, options) | {"retry": ASYNC_ONCE},
    )
    client: Redis = make_with_options(
        sentinels.master_for, target.name, _Watched, given=parse_options(target.url), **options
    )
    return client


def make_sync_sentinel_client(target: Sentinels, options: dict[str, Any]) -> redis.Redis:
    """A synchronous client.

    Raises:
        InvalidArgumentError: the url has an option that can't be.
    """
    make: Any = _SyncSentinels
    sentinels = make(
        target.hosts,
        sentinel_kwargs=_make_asking_options(target, options) | {"retry": ONCE},
    )
    client: redis.Redis = make_with_options(
        sentinels.master_for, target.name, _WatchedSync, given=parse_options(target.url), **options
    )
    return client


def _make_asking_options(target: Sentinels, options: dict[str, Any]) -> dict[str, Any]:
    """How sentinels are asked: once each, since there are others."""
    names = ("socket_timeout", "socket_connect_timeout", "maint_notifications_config")
    return target.credentials | {name: options[name] for name in names}


def _read_refusal(error: RedisError) -> RedisError:
    """What stands for an error of all sentinels, of which redis-py keeps no more than the text."""
    is_refused = isinstance(error, NoPermissionError) or "AuthenticationError" in str(error)
    return SentinelRefusalError() if is_refused else error
