"""Clients of a primary that sentinels watch; they close the connections to the sentinels, too."""

from collections.abc import Mapping
from typing import Any, cast

import redis
from redis.asyncio import Redis, Sentinel
from redis.exceptions import (
    AuthenticationError,
    ConnectionError as RedisConnectionError,
    NoPermissionError,
    RedisError,
    TimeoutError as RedisTimeoutError,
)

from aqm_db import config
from aqm_db._io.target import Sentinels

from .replies import SentinelRefusalError, UnknownNameError
from .retries import ASYNC_ONCE, ONCE
from .url_options import make_with_options, parse_options

_REFUSALS = (AuthenticationError, NoPermissionError)
_FAILURES = (RedisConnectionError, RedisTimeoutError, NoPermissionError)


class _Search:
    """What sentinels say of the servers of a name, one after the other.

    Args:
        sentinels: redis-py's, of either face.
        name: what they call the servers.

    Attributes:
        address: where the primary is; None as long as none of them has told one that is up.
    """

    def __init__(self, sentinels: Any, name: str) -> None:
        self.address: tuple[str, int] | None = None
        self._sentinels = sentinels
        self._name = name
        self._answers = 0
        self._refusals = 0

    def read_answer(self, sentinel: object, watched: Mapping[str, Any]) -> None:
        """Takes note of the servers that a sentinel watches; the next search begins with it."""
        self._answers += 1
        state = watched.get(self._name)
        if state is None:
            return
        self._sentinels.is_known = True
        if self._sentinels.check_master_state(state, self._name):
            others = (each for each in self._sentinels.sentinels if each is not sentinel)
            self._sentinels.sentinels = [sentinel, *others]
            self.address = state["ip"], state["port"]

    def note_failure(self, error: RedisError) -> None:
        """Takes note of a sentinel that doesn't answer, or refuses the user."""
        self._refusals += isinstance(error, _REFUSALS)

    def find_address(self) -> tuple[str, int]:
        """Where the primary is.

        Raises:
            RedisError: no sentinel has told.
        """
        if self.address is not None:
            return self.address
        if self._refusals and not self._answers:
            raise SentinelRefusalError
        if self._answers and not self._sentinels.is_known:
            raise UnknownNameError(f"the sentinels know no servers of the name {self._name!r}")
        if not self._answers:
            raise RedisConnectionError("no sentinel answers")
        # Their primary is down, or they were set up anew: one may be named soon.
        raise RedisConnectionError(f"the sentinels name no primary of {self._name!r} that is up")


class _Sentinels(Sentinel):
    is_known = False
    """Whether any of them has ever known the name."""

    async def discover_master(self, service_name: str) -> Any:
        search = _Search(self, service_name)
        for sentinel in tuple(self.sentinels):
            try:
                watched = await cast("Any", sentinel).sentinel_masters()
            except _FAILURES as error:
                search.note_failure(error)
                continue
            search.read_answer(sentinel, watched)
            if search.address is not None:
                break
        return search.find_address()


class _SyncSentinels(redis.Sentinel):
    is_known = False
    """See :class:`_Sentinels`."""

    def discover_master(self, service_name: str) -> Any:
        search = _Search(self, service_name)
        for sentinel in tuple(self.sentinels):
            try:
                watched = cast("Any", sentinel).sentinel_masters()
            except _FAILURES as error:
                search.note_failure(error)
                continue
            search.read_answer(sentinel, watched)
            if search.address is not None:
                break
        return search.find_address()


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
    """How sentinels are asked: once each, and not for long, since there are others."""
    return target.credentials | {
        "socket_timeout": config.SENTINEL_TIMEOUT,
        "socket_connect_timeout": config.SENTINEL_TIMEOUT,
        "maint_notifications_config": options["maint_notifications_config"],
    }
