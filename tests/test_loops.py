"""Clients that outlive an event loop, and event loops that run tasks in a way of their own."""

import asyncio
import sys
from collections.abc import Iterator

import pytest
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncSecureVault
from aqm_db.errors import VaultUnavailableError
from tests.backends import VALKEY_9, RunningServer


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server that the test may spoil."""
    with RunningServer(VALKEY_9) as running:
        yield running
        running.kill()


def test_silence_ends_a_call_on_the_second_loop_too(server: RunningServer) -> None:
    """The timer that watched the first loop's connection isn't waited for any more."""
    client = server.client(0, retry=Retry(NoBackoff(), 0), socket_timeout=0.5)
    vault = AsyncSecureVault(client)

    async def ask() -> bool:
        return await vault.exists("k")

    async def ask_who_is_silent() -> None:
        await ask()
        server.freeze()
        async with asyncio.timeout(60):
            await ask()

    assert asyncio.run(ask()) is False
    with pytest.raises(VaultUnavailableError) as caught:
        asyncio.run(ask_who_is_silent())
    assert caught.value.outcome_unknown is True


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_a_server_that_was_away_is_found_again_by_eager_tasks(server: RunningServer) -> None:
    """A connection that is refused at once is tried anew by the next call."""
    factory = getattr(asyncio, "eager_task_factory", None)

    async def ask() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        client = server.client(0, retry=Retry(NoBackoff(), 0))
        vault = AsyncSecureVault(client)
        server.kill()
        server.socket_path.unlink()
        with pytest.raises(VaultUnavailableError):
            await vault.exists("k")
        await asyncio.to_thread(server.restart)
        assert await vault.exists("k") is False
        await client.aclose()

    asyncio.run(ask())
