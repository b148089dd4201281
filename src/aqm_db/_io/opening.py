"""How clients and databases are opened, on either face."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeAlias, TypeVar

from aqm_db import config
from aqm_db._model.keys import Keys
from aqm_db.errors import InventoryUnavailableError, UnavailableError, VaultUnavailableError

from .confirming import UNCONFIRMED
from .redispy.clients import AsyncClient, is_cluster, make_seam
from .redispy.faces import Face
from .redispy.servers import list_servers
from .redispy.time_limits import Question
from .redispy.url_options import parse_options
from .seam import Seam
from .shielding import shield_task
from .target import Cluster, Embedded, Sentinels, Target, read_target


class _Database(Protocol):
    async def aclose(self) -> None: ...


D = TypeVar("D", bound=_Database)
Check: TypeAlias = Callable[[Seam], Awaitable[None]]
"""Raises if a server isn't fit."""


def read_url(url: str | None) -> Target:
    """What a url names; without one, ``$AQM_DB_URL`` or the user's own embedded database.

    Raises:
        InvalidArgumentError: the url is malformed, or of a scheme that isn't known.
    """
    target = read_target(url)
    if isinstance(target, Cluster | Sentinels):
        # Some of its mistakes are those of options. With one server, its client finds all of them.
        parse_options(target.url)
    return target


async def create_vault_client(face: Face, *, host: str, port: int) -> AsyncClient:
    """Makes a client for the vault's logical database, and pings it."""
    client = face.make_client(config.REDIS_VAULT_DB, host=host, port=port)
    return await _ping_client(client, VaultUnavailableError)


async def create_inventory_client(face: Face, *, host: str, port: int) -> AsyncClient:
    """Makes a client for the inventory's logical database, and pings it."""
    client = face.make_client(config.REDIS_INVENTORY_DB, host=host, port=port)
    return await _ping_client(client, InventoryUnavailableError)


async def open_database(
    face: Face,
    target: Target,
    make: Callable[..., D],
    keys: Keys,
    check_own: Check,
    checks: Sequence[Check],
) -> D:
    """Opens what a url names, and pings it; what can't be reached, or isn't fit, is closed.

    Of a cluster it's the owner's primary that has to be reached. The others are checked, too, if
    they answer in time.

    Args:
        face: whose clients it is opened with.
        target: what to open.
        make: makes the database of the vault's client, the inventory's, and ``server``.
        keys: the names of the owner's keys.
        check_own: asks whether the owner's server answers, and what it has of the owner is fit.
        checks: what each server has to pass that takes writes.
    """
    server = await face.open_server(target.directory) if isinstance(target, Embedded) else None
    vault_client, inventory_client = face.make_clients(target, server)
    database = make(vault_client, inventory_client, server=server)
    try:
        # Where there's one logical database, both have one client.
        clients: dict[AsyncClient, type[UnavailableError]] = {vault_client: VaultUnavailableError}
        clients.setdefault(inventory_client, InventoryUnavailableError)
        for client, unavailable in clients.items():
            seam = make_seam(client, unavailable, "connect", keys, confirming=UNCONFIRMED)
            await _check(seam, [check_own, *checks])
            if is_cluster(client):
                await _check_others(face, client, unavailable, checks)
    except BaseException:
        await database.aclose()
        raise
    return database


async def _check(seam: Seam, checks: Sequence[Check]) -> None:
    for check in checks:
        await check(seam)


async def _check_others(
    face: Face,
    client: AsyncClient,
    unavailable: type[UnavailableError],
    checks: Sequence[Check],
) -> None:
    """Checks all primaries of a cluster; the owner's has passed, so one of others may be silent."""

    async def check(seam: Seam) -> None:
        with suppress(UnavailableError):
            await _check(seam, checks)

    servers = list_servers(client, unavailable, "connect") if checks else ()
    questions = [Question(check(server.seam)) for server in servers]
    await face.ask(questions, config.HEALTH_TIMEOUT)


async def _ping_client(client: AsyncClient, unavailable: type[UnavailableError]) -> AsyncClient:
    """The client, once it has answered; a client that doesn't is closed."""
    try:
        seam = make_seam(client, unavailable, "connect", confirming=UNCONFIRMED)
        await seam.read(("PING",))
    except BaseException:
        with shield_task():
            await client.aclose()
        raise
    return client
