"""Each protection of connections is needed: without it, a test that names it fails.

As in test_mutants, every docstring says which protection is taken out, and which test then fails.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from aqm_db._io.redispy import async_sources, private_parts
from aqm_db._io.redispy.async_loops import Channels
from aqm_db._io.redispy.async_sources import PooledSource
from tests.faults.support.mutants import is_noticed_as
from tests.io import test_async_sources as of_pools, test_private_parts as of_foreign_parts
from tests.support.backends import Servers

pytestmark = pytest.mark.asyncio

NOTICED = (AssertionError, AttributeError, RedisError, ResourceWarning, pytest.fail.Exception)
"""How a test fails that notices a mutant."""


def never(*_: object) -> bool:
    """Does nothing, and says no."""
    return False


def always(*_: object) -> bool:
    """Says yes."""
    return True


async def is_noticed(mutant: pytest.MonkeyPatch, test: Callable[[], Awaitable[None]]) -> None:
    """Makes sure that a test fails with a mutant, and passes without it."""
    await is_noticed_as(NOTICED, mutant, test)


async def test_an_idle_link_that_keeps_the_last_connection(servers: Servers) -> None:
    """The user's own commands: test_an_idle_link_starves_nobody."""
    with pytest.MonkeyPatch.context() as mutant:
        mutant.setattr(PooledSource, "is_exhausted", never)
        await is_noticed(
            mutant, lambda: of_pools.test_an_idle_link_starves_nobody(servers, ConnectionPool)
        )


async def test_a_blocking_pool_that_is_not_waited_for(servers: Servers) -> None:
    """A blocking pool's wait: test_a_blocking_pool_whose_wait_is_over."""

    class NoPool:
        pass

    with pytest.MonkeyPatch.context() as mutant:
        mutant.setattr(async_sources, "BlockingConnectionPool", NoPool)
        await is_noticed(mutant, lambda: of_pools.test_a_blocking_pool_whose_wait_is_over(servers))


async def test_a_dropped_client_that_keeps_its_connection() -> None:
    """Dropped clients: test_clients_that_are_dropped."""
    with pytest.MonkeyPatch.context() as mutant:
        mutant.setattr(Channels, "hang_up_unclosed", never)
        await is_noticed(mutant, of_pools.test_clients_that_are_dropped)


async def test_a_transport_that_is_taken_unseen(servers: Servers) -> None:
    """What a transport must have: test_a_transport_that_is_none."""

    async def test() -> None:
        with pytest.MonkeyPatch.context() as patched:
            transport: Any = of_foreign_parts.NoTransport()
            await of_foreign_parts.test_a_transport_that_is_none(servers, patched, transport)

    with pytest.MonkeyPatch.context() as mutant:
        mutant.setattr(private_parts, "_has_methods", always)
        await is_noticed(mutant, test)
