"""Clients with the settings of ``config``, their health, and their end."""

from . import config
from ._io import opening
from ._io.facts import facts_of, number_in
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
    vault = await _probed(vault_client, VaultUnavailableError)
    inventory = await _probed(inventory_client, InventoryUnavailableError)
    return HealthStatus(
        vault_connected=vault is not None,
        inventory_connected=inventory is not None,
        vault_key_count=vault[0] if vault else 0,
        inventory_key_count=inventory[0] if inventory else 0,
        uptime_seconds=vault[1] if vault else 0.0,
    )


async def close_all(vault_client: AnyAsyncClient, inventory_client: AnyAsyncClient) -> None:
    """Closes both clients. What is in flight is answered first."""
    await find_face(vault_client).finish(close_clients(vault_client, inventory_client))


async def _probed(
    client: AnyAsyncClient, unavailable: type[UnavailableError]
) -> tuple[int, float] | None:
    """The number of keys and the uptime in seconds; None if there's no access."""
    count = 0
    uptimes: list[float] = []
    try:
        for seam in await make_seams(client, unavailable, "health_check"):
            [keys] = await seam.read(("DBSIZE",))
            count += keys
            # Its uptime is all that's missing where INFO is: some don't tell, fakeredis is one.
            uptimes.append(number_in(await facts_of(seam, "server"), "uptime_in_seconds"))
    except (UnavailableError, AccessDeniedError):
        return None
    return count, min(uptimes)
