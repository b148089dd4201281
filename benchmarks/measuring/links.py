"""The library and redis.asyncio's default client, over the same server."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from aqm_db import AsyncSecureVault, AsyncSmartInventory, config, connect
from benchmarks.measuring.stock import CLOCK

_POOL = 8192
"""Connections: never a limit. The default of 100 makes the 101st caller fail."""


@dataclass(frozen=True, slots=True)
class Link:
    """Clients of one server.

    Attributes:
        path: the server's socket, or that of a proxy before it.
        vault: the library's vault.
        inventory: the library's inventory.
        vault_client: redis.asyncio's default client of the vault's database.
        inventory_client: the same of the inventory's.
    """

    path: Path
    vault: AsyncSecureVault
    inventory: AsyncSmartInventory
    vault_client: Redis
    inventory_client: Redis

    async def settle(self) -> None:
        """Waits until the server has rewritten its append-only file, if it had to."""
        while True:
            state = await self.inventory_client.info("persistence")
            if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def linked(path: Path) -> AsyncGenerator[Link]:
    """Opens clients, and closes them."""
    async with (
        connect(f"unix://{path}", clock=CLOCK) as database,
        default_client(path, config.REDIS_VAULT_DB) as vault_client,
        default_client(path, config.REDIS_INVENTORY_DB) as inventory_client,
    ):
        yield Link(path, database.vault, database.inventory, vault_client, inventory_client)


def default_client(path: Path, database: int) -> Redis:
    """redis.asyncio's client as it comes, with a pool that is large enough."""
    return Redis(unix_socket_path=str(path), db=database, max_connections=_POOL)
