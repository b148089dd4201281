"""Clients with the settings of ``config``, their health, and their end."""

from . import config
from ._io import opening
from ._io.health import examine_health
from ._io.redispy.clients import AnyAsyncClient, AsyncClient
from ._io.redispy.faces import ASYNC, find_face
from ._io.resources import close_clients
from .errors import (
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

    It takes two seconds at most, whatever is silent.

    Returns:
        Whether each answers, its number of Redis keys (DBSIZE), and the seconds since the
        vault's server started: of a cluster the keys of all its primaries, which the vault and
        the inventory share, and the seconds since the last of them started. A cluster of which
        one doesn't answer isn't connected; the numbers are those of the others.
    """
    clients: dict[AnyAsyncClient, type[UnavailableError]] = {vault_client: VaultUnavailableError}
    clients.setdefault(inventory_client, InventoryUnavailableError)
    found = await examine_health(clients, "health_check")
    vault, inventory = found[0], found[-1]
    return HealthStatus(
        vault_connected=not vault.unreachable,
        inventory_connected=not inventory.unreachable,
        vault_key_count=vault.key_count,
        inventory_key_count=inventory.key_count,
        uptime_seconds=vault.uptime_seconds,
        unreachable=tuple(dict.fromkeys([*vault.unreachable, *inventory.unreachable])),
    )


async def close_all(vault_client: AnyAsyncClient, inventory_client: AnyAsyncClient) -> None:
    """Closes both clients. What is in flight is answered first."""
    await find_face(vault_client).finish(close_clients(vault_client, inventory_client))
