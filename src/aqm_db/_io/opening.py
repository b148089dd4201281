"""How clients and databases are opened, on either face."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from aqm_db import config
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import (
    InvalidArgumentError,
    InventoryUnavailableError,
    UnavailableError,
    VaultUnavailableError,
)

from .redispy.clients import AsyncClient, seams_over
from .redispy.faces import Face
from .seam import Seam
from .shielding import sheltered
from .target import Cluster, Embedded, Sentinels, Server, Target


class _Database(Protocol):
    async def aclose(self) -> None: ...


D = TypeVar("D", bound=_Database)
Check: TypeAlias = Callable[[Seam], Awaitable[None]]
"""Raises if a server isn't fit."""


async def create_vault_client(face: Face, *, host: str, port: int) -> AsyncClient:
    """Makes a client for the vault's logical database, and pings it."""
    client = face.client(config.REDIS_VAULT_DB, host=host, port=port)
    return await _pinged(client, VaultUnavailableError)


async def create_inventory_client(face: Face, *, host: str, port: int) -> AsyncClient:
    """Makes a client for the inventory's logical database, and pings it."""
    client = face.client(config.REDIS_INVENTORY_DB, host=host, port=port)
    return await _pinged(client, InventoryUnavailableError)


async def open_database(
    face: Face, target: Target, make: Callable[..., D], checks: Sequence[Check]
) -> D:
    """Opens what a url names, and pings it; what can't be reached, or isn't fit, is closed.

    Args:
        face: whose clients it is opened with.
        target: what to open.
        make: makes the database of the vault's client, the inventory's, and ``server``.
        checks: what each server has to pass that takes writes.
    """
    server = await face.open_server(target.directory) if isinstance(target, Embedded) else None
    vault_client, inventory_client = _clients(face, target, server)
    database = make(vault_client, inventory_client, server=server)
    try:
        # Where there's one logical database, both have one client.
        clients: dict[AsyncClient, type[UnavailableError]] = {vault_client: VaultUnavailableError}
        clients.setdefault(inventory_client, InventoryUnavailableError)
        for client, unavailable in clients.items():
            await _pinged(client, unavailable)
            for seam in await seams_over(client, unavailable, "connect") if checks else ():
                for check in checks:
                    await check(seam)
    except BaseException:
        await database.aclose()
        raise
    return database


async def _pinged(client: AsyncClient, unavailable: type[UnavailableError]) -> AsyncClient:
    """The client, once it has answered; a client that doesn't is closed."""
    try:
        for seam in await seams_over(client, unavailable, "connect"):
            await seam.read(("PING",))
    except BaseException:
        with sheltered():
            await client.aclose()
        raise
    return client


def _clients(
    face: Face, target: Target, server: EmbeddedServer | None
) -> tuple[AsyncClient, AsyncClient]:
    """The vault's client and the inventory's.

    Raises:
        InvalidArgumentError: the url has an option that isn't known, or an extra is missing.
    """
    databases = (config.REDIS_VAULT_DB, config.REDIS_INVENTORY_DB)
    if isinstance(target, Cluster | Sentinels):
        both = face.client_of_several(target)
        return both, both
    if isinstance(target, Server):
        vault, inventory = (face.client_of_url(target.url, db) for db in databases)
    elif server is not None:
        path = str(server.socket_path)
        vault, inventory = (face.client(db, unix_socket_path=path) for db in databases)
    else:
        memory = _fakeredis()
        fake = memory.FakeServer()
        vault, inventory = (face.client_in_memory(memory, fake, db) for db in databases)
    return vault, inventory


def _fakeredis() -> Any:
    try:
        import fakeredis  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidArgumentError(
            "url", "memory:// needs: pip install 'aqm-db[memory]'"
        ) from error
    return fakeredis
