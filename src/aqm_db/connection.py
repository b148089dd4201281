"""Clients with the settings of ``config``, their health, and their end."""

from . import _opening, config
from ._clients import AsyncClient, seam_over
from ._faces import ASYNC
from .errors import (
    AccessDeniedError,
    AQMDatabaseError,
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
    return await _opening.create_vault_client(ASYNC, host=host, port=port)


async def create_inventory_client(
    *, host: str = config.REDIS_HOST, port: int = config.REDIS_PORT
) -> AsyncClient:
    """Makes a client for the inventory's logical database (1), and pings it.

    Raises:
        InventoryUnavailableError: the server can't be reached.
        AccessDeniedError: the server wants a password; give ``connect`` a url with one.
    """
    return await _opening.create_inventory_client(ASYNC, host=host, port=port)


async def health_check(vault_client: AsyncClient, inventory_client: AsyncClient) -> HealthStatus:
    """Asks both databases how they are; one that doesn't answer is an answer, not an error.

    Returns:
        Whether each answers, its number of Redis keys (DBSIZE), and the seconds since the
        vault's server started.
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


async def close_all(vault_client: AsyncClient, inventory_client: AsyncClient) -> None:
    """Closes both clients. What is in flight is answered first."""
    for client, unavailable in (
        (vault_client, VaultUnavailableError),
        (inventory_client, InventoryUnavailableError),
    ):
        await seam_over(client, unavailable, "close_all").aclose()
        await client.aclose()


async def _probed(
    client: AsyncClient, unavailable: type[UnavailableError]
) -> tuple[int, float] | None:
    """The number of keys and the uptime in seconds; None if there's no access."""
    seam = seam_over(client, unavailable, "health_check")
    try:
        [count] = await seam.read(("DBSIZE",))
    except (UnavailableError, AccessDeniedError):
        return None
    try:
        [info] = await seam.read(("INFO", "server"))
    except AQMDatabaseError:
        # Its uptime is all that's missing: some servers don't tell, fakeredis is one.
        return count, 0.0
    lines = dict(line.partition(b":")[::2] for line in info.splitlines())
    return count, float(lines.get(b"uptime_in_seconds", b"0"))
