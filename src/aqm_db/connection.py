"""Clients with the settings of ``config``, their health, and their end."""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.maint_notifications import MaintNotificationsConfig

from . import config
from ._async_seam import AsyncClient, AsyncSeam
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
    client = Redis(host=host, port=port, db=config.REDIS_VAULT_DB, **client_options())
    return await pinged(client, VaultUnavailableError)


async def create_inventory_client(
    *, host: str = config.REDIS_HOST, port: int = config.REDIS_PORT
) -> AsyncClient:
    """Makes a client for the inventory's logical database (1), and pings it.

    Raises:
        InventoryUnavailableError: the server can't be reached.
        AccessDeniedError: the server wants a password; give ``connect`` a url with one.
    """
    client = Redis(host=host, port=port, db=config.REDIS_INVENTORY_DB, **client_options())
    return await pinged(client, InventoryUnavailableError)


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
    """Closes both clients, after what is in flight was answered."""
    for client, unavailable in (
        (vault_client, VaultUnavailableError),
        (inventory_client, InventoryUnavailableError),
    ):
        await AsyncSeam(client, unavailable, "close_all").aclose()
        await client.aclose()


def client_options() -> dict[str, Any]:
    """What every client that this library makes is made with."""
    return {
        "decode_responses": False,
        "socket_timeout": config.REDIS_SOCKET_TIMEOUT,
        "socket_connect_timeout": config.REDIS_SOCKET_TIMEOUT,
        "retry": Retry(ConstantBackoff(config.REDIS_RETRY_DELAY), config.REDIS_RETRY_ATTEMPTS),
        # A push message that is read late would be taken for the next command's answer.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


async def pinged(client: AsyncClient, unavailable: type[UnavailableError]) -> AsyncClient:
    """The client, once it has answered; a client that doesn't is closed."""
    try:
        await AsyncSeam(client, unavailable, "connect").read(("PING",))
    except BaseException:
        await client.aclose()
        raise
    return client


async def _probed(
    client: AsyncClient, unavailable: type[UnavailableError]
) -> tuple[int, float] | None:
    """The number of keys and the uptime in seconds; None if there's no access."""
    seam = AsyncSeam(client, unavailable, "health_check")
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
