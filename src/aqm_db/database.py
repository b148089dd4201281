"""``connect``: everything that a program needs of one database, opened and closed together."""

import random
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from . import config
from ._background import Sleep
from ._clients import AsyncClient, seam_over
from ._defaults import new_request_id, now_ms
from ._faces import ASYNC, Face, face_of
from ._opening import open_database
from ._target import target_of
from ._validate import check_caps, check_count, check_flag, check_id
from .connection import close_all, health_check
from .embedded import EmbeddedServer
from .errors import InventoryUnavailableError
from .gc import AsyncGarbageCollector
from .inventory import AsyncSmartInventory
from .stats import AsyncStorageReporter
from .types import HealthStatus
from .vault import AsyncSecureVault

if TYPE_CHECKING:
    from .doctor import Diagnosis
    from .integrity import IntegrityReport


class AsyncClientDatabase:
    """A vault and an inventory, with what belongs to them; :func:`connect` makes one.

    Attributes:
        vault: the owner's private halves.
        inventory: contacts' public halves.
        gc: the inventory's garbage collector.
        reporter: reports over both.
    """

    def __init__(
        self,
        vault_client: AsyncClient,
        inventory_client: AsyncClient,
        *,
        server: EmbeddedServer | None = None,
        owner: str | None = None,
        budget_caps: Mapping[str, Mapping[str, int]] = config.BUDGET_CAPS,
        budget_bytes: int = config.INV_MAX_STORAGE_BYTES,
        clock: Callable[[], int] = now_ms,
        request_ids: Callable[[], str] = new_request_id,
    ) -> None:
        self._clients = (vault_client, inventory_client)
        self._server = server
        self._request_ids = request_ids
        self.vault: AsyncSecureVault = AsyncSecureVault(
            vault_client, owner=owner, clock=clock, request_ids=request_ids
        )
        self.inventory: AsyncSmartInventory = AsyncSmartInventory(
            inventory_client,
            owner=owner,
            budget_caps=budget_caps,
            budget_bytes=budget_bytes,
            clock=clock,
            request_ids=request_ids,
        )
        self.gc: AsyncGarbageCollector = AsyncGarbageCollector(self.inventory, inventory_client)
        self.reporter: AsyncStorageReporter = AsyncStorageReporter(self.vault, self.inventory)

    async def health(self) -> HealthStatus:
        """Whether both databases answer, and what they hold."""
        return await health_check(*self._clients)

    def maintenance(
        self,
        *,
        every: float = 3600.0,
        inactive_days: int = config.INV_GC_INACTIVE_DAYS,
        max_age_days: int = config.VAULT_PURGE_MAX_AGE_DAYS,
        sleep: Sleep | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> AbstractAsyncContextManager[None]:
        """Cares for the database in the background, until the block ends.

        ::

            async with connect() as db, db.maintenance():
                ...

        A round collects garbage, purges old private halves, and has an embedded server rewrite
        its append-only file, so that what was burned leaves the disk. Of all programs on one
        database, one runs it, once in the interval. A round that fails is logged and tried again
        within a minute.

        Args:
            every: seconds from one round to the next, give or take a tenth.
            inactive_days: days as of ``gc.garbage_collect``.
            max_age_days: days as of ``vault.purge_expired``.
            sleep: waits for some seconds; None is ``anyio.sleep``.
            uniform: a random number between two.

        Raises:
            InvalidArgumentError: a number is out of range, or anyio isn't installed (the extra
                ``background``).
        """
        from .maintenance import Maintenance  # noqa: PLC0415 - most programs have none

        return Maintenance(
            self.vault,
            self.gc,
            seam_over(self._clients[1], InventoryUnavailableError, "maintenance"),
            lease=self.inventory.keys.maintenance,
            holder=self._request_ids(),
            every=every,
            inactive_days=inactive_days,
            max_age_days=max_age_days,
            rewrites=self._server is not None,
            uniform=uniform,
        ).running(sleep)

    async def doctor(self) -> "Diagnosis":
        """Looks for what could lose keys or give them away, and for what the user may not do.

        It changes nothing. What the server refuses to tell is a warning among the findings; a
        command that the user may not run leaves a line in the server's ``ACL LOG``.

        Returns:
            The findings, each with its severity and its remedy.

        Raises:
            VaultUnavailableError: the vault's server can't be reached.
            InventoryUnavailableError: the inventory's server can't be reached.
        """
        from .doctor import examine  # noqa: PLC0415 - most programs never call it

        return await examine(*self._clients, self.inventory.keys)

    async def check(self, *, repair: bool = False) -> "IntegrityReport":
        """Finds what doesn't fit: counters, lost rows and entries, malformed or foreign keys.

        It walks both databases (SCAN), and others may work meanwhile. See
        :mod:`aqm_db.integrity` for what is checked, and how it is mended.

        Args:
            repair: whether to mend what can be mended; no key that could be used is lost.

        Raises:
            InvalidArgumentError: ``repair`` isn't a bool.
            UnavailableError: a database can't be reached.
            AccessDeniedError: the server forbids a command or a key.
            NotWritableError: the server takes no writes now.
        """
        from .integrity import AsyncIntegrityChecker  # noqa: PLC0415 - few programs need it

        return await AsyncIntegrityChecker(self.vault, self.inventory).check(repair=repair)

    async def aclose(self) -> None:
        """Closes everything that ``connect`` opened; calling it again does nothing."""
        await close_all(*self._clients)
        if self._server is not None:
            await face_of(self._clients[0]).close_server(self._server)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class Connecting:
    """A database on its way: ``await`` it, or enter it with ``async with``."""

    def __init__(self, opening: Callable[[Face], Coroutine[Any, Any, AsyncClientDatabase]]) -> None:
        self._opening = opening
        self._database: AsyncClientDatabase | None = None

    def __await__(self) -> Generator[Any, Any, AsyncClientDatabase]:
        return self.open(ASYNC).__await__()

    async def __aenter__(self) -> AsyncClientDatabase:
        self._database = await self.open(ASYNC)
        return self._database

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._database is not None:
            await self._database.aclose()

    async def open(self, face: Face) -> AsyncClientDatabase:
        """Opens it with the clients of one face."""
        return await self._opening(face)


def connect(
    url: str | None = None,
    *,
    owner: str | None = None,
    budget_caps: Mapping[str, Mapping[str, int]] = config.BUDGET_CAPS,
    budget_bytes: int = config.INV_MAX_STORAGE_BYTES,
    clock: Callable[[], int] = now_ms,
    request_ids: Callable[[], str] = new_request_id,
    allow_unsafe: bool = False,
) -> Connecting:
    """Opens a database.

    ::

        async with connect() as db:
            coin = await db.inventory.select_coin("bob", "GOLD")

        db = await connect("redis://localhost")
        ...
        await db.aclose()

    Args:
        url: what to open:

            - ``embedded:///path``: a private, durable Valkey server in that directory, which is
              started, or joined if it runs; ``embedded://``: in the user's data directory;
            - ``memory://``: fakeredis in this process, gone when it's closed: for tests;
            - ``redis://``, ``rediss://``, ``unix://``: a server of yours, the vault in database
              0 and the inventory in 1;
            - None: ``$AQM_DB_URL``, or ``embedded://``.
        owner: whose data it is, if several share a database.
        budget_caps: coins per contact, by priority and tier.
        budget_bytes: payload bytes of all cached coins together; see the inventory's ``store_key``.
        clock: milliseconds since the epoch.
        request_ids: a fresh id for every call, of ASCII letters, digits, ``-`` and ``_``.
        allow_unsafe: whether to open a server that deletes keys to make room (an eviction policy
            and a memory limit), or a replica.

    Raises:
        InvalidArgumentError: an argument has the wrong type or value.
        UnsafeServerError: the server deletes keys to make room, or is a replica.
        EmbeddedServerError: the embedded server can't be started or joined.
        VaultUnavailableError: the server can't be reached.
        InventoryUnavailableError: the same, between the first database and the second.
        AccessDeniedError: the password is wrong.
    """
    target = target_of(url)
    if owner is not None:
        check_id("owner", owner)
    check_caps("budget_caps", budget_caps)
    check_count("budget_bytes", budget_bytes, 1)
    check_flag("allow_unsafe", allow_unsafe)
    make = partial(
        AsyncClientDatabase,
        owner=owner,
        budget_caps=budget_caps,
        budget_bytes=budget_bytes,
        clock=clock,
        request_ids=request_ids,
    )
    return Connecting(lambda face: open_database(face, target, make, allow_unsafe=allow_unsafe))
