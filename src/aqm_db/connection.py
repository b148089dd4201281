"""Clients with the settings of ``config``, their health, and their end."""

from typing import NamedTuple

from . import config
from ._io import opening
from ._io.facts import read_facts
from ._io.redispy.clients import AnyAsyncClient, AsyncClient, make_seams
from ._io.redispy.faces import ASYNC, find_face
from ._io.resources import close_clients
from .errors import (
    AccessDeniedError,
    InventoryUnavailableError,
    UnavailableError,
    VaultUnavailableError,
)
from .types import HealthStatus


async def create_vault_client(
    *, host: str = config.REDIS_HOST, port: int = config.REDIS_PORT
) -> AsyncClient:
    """Makes a client for the vault's logical database (0), and pings it.

    Raises:
        VaultUnavailableError: the server can't be reached.
        AccessDeniedError: the server wants a password; give ``connect`` a url with one.
    """
    return await opening.create_vault_client(ASYNC, host=host, port=port)


async def create_inventory_client(
    *, host: str = config.REDIS_HOST, port: int = config.REDIS_PORT
) -> AsyncClient:
    """Makes a client for the inventory's logical database (1), and pings it.

    Raises:
        InventoryUnavailableError: the server can't be reached.
        AccessDeniedError: the server wants a password; give ``connect`` a url with one.
    """
    return await opening.create_inventory_client(ASYNC, host=host, port=port)


async def health_check(
    vault_client: AnyAsyncClient, inventory_client: AnyAsyncClient
) -> HealthStatus:
    """Asks both databases how they are; one that doesn't answer is an answer, not an error.

    Returns:
        Whether each answers, its number of Redis keys (DBSIZE), and the seconds since the
        vault's server started: of a cluster the keys of all its primaries, which the vault and
        the inventory share, and the seconds since the last of them started.
    """
    vault = await _examine_health(vault_client, VaultUnavailableError)
    inventory = await _examine_health(inventory_client, InventoryUnavailableError)
    return HealthStatus(
        vault_connected=vault is not None,
        inventory_connected=inventory is not None,
        vault_key_count=vault.key_count if vault else 0,
        inventory_key_count=inventory.key_count if inventory else 0,
        uptime_seconds=vault.uptime_seconds if vault else 0.0,
    )


async def close_all(vault_client: AnyAsyncClient, inventory_client: AnyAsyncClient) -> None:
    """Closes both clients. What is in flight is answered first."""
    await find_face(vault_client).finish(close_clients(vault_client, inventory_client))


class _Health(NamedTuple):
    """The number of a database's keys, and for how long all of its servers have been running."""

    key_count: int
    uptime_seconds: float


async def _examine_health(
    client: AnyAsyncClient, unavailable: type[UnavailableError]
) -> _Health | None:
    """How a database is; None if there's no access."""
    key_count = 0
    uptimes: list[float] = []
    try:
        for seam in await make_seams(client, unavailable, "health_check"):
            [count] = await seam.read(("DBSIZE",))
            key_count += count
            # Its uptime is all that's missing where INFO is: some don't tell, fakeredis is one.
            uptimes.append((await read_facts(seam, "server")).uptime_seconds or 0)
    except (UnavailableError, AccessDeniedError):
        return None
    return _Health(key_count, min(uptimes))
