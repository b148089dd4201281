"""Both faces behind one: a synchronous object whose methods can be awaited like an async one's.

Each call runs in a thread of its own, so that the tests of concurrency are about threads there.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from aqm_db import (
    AsyncClientDatabase,
    AsyncGarbageCollector,
    AsyncSecureVault,
    AsyncSmartInventory,
    AsyncStorageReporter,
    sync,
)


class Threaded:
    """A synchronous object of the library, to be awaited."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.wrapped, name)
        if not callable(value) or name.startswith("_"):
            return value
        if name == "use_key":
            return _entered(value)
        if name == "contact_pages":
            return _iterated(value)
        return _called(value)


def _called(method: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(method, *args, **kwargs)

    return call


def _entered(method: Callable[..., Any]) -> Callable[..., Any]:
    @asynccontextmanager
    async def enter(*args: Any) -> AsyncGenerator[Any]:
        manager = method(*args)
        value = await asyncio.to_thread(manager.__enter__)
        try:
            yield value
        except BaseException as error:
            kind, traceback = type(error), error.__traceback__
            if not await asyncio.to_thread(manager.__exit__, kind, error, traceback):
                raise
        else:
            await asyncio.to_thread(manager.__exit__, None, None, None)

    return enter


def _iterated(method: Callable[..., Any]) -> Callable[..., AsyncIterator[Any]]:
    async def iterate() -> AsyncIterator[Any]:
        values, end = method(), object()
        while (value := await asyncio.to_thread(next, values, end)) is not end:
            yield value

    return iterate


@dataclass(frozen=True)
class Face:
    """How to make each object; all of them look asynchronous."""

    name: str
    vault: Callable[..., AsyncSecureVault]
    inventory: Callable[..., AsyncSmartInventory]
    gc: Callable[..., AsyncGarbageCollector]
    reporter: Callable[..., AsyncStorageReporter]
    database: Callable[..., AsyncClientDatabase]

    def __str__(self) -> str:
        return self.name


def _threaded(make: Callable[..., Any]) -> Callable[..., Any]:
    def made(*args: Any, **kwargs: Any) -> Any:
        bare = [cast("Any", arg).wrapped if isinstance(arg, Threaded) else arg for arg in args]
        return Threaded(make(*bare, **kwargs))

    return made


ASYNC = Face(
    "aio",
    AsyncSecureVault,
    AsyncSmartInventory,
    AsyncGarbageCollector,
    AsyncStorageReporter,
    AsyncClientDatabase,
)
SYNC = Face(
    "sync",
    _threaded(sync.SecureVault),
    _threaded(sync.SmartInventory),
    _threaded(sync.GarbageCollector),
    _threaded(sync.StorageReporter),
    _threaded(sync.ClientDatabase),
)
FACES = (ASYNC, SYNC)
