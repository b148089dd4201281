"""``connect``: everything that a program needs of one database, opened and closed together."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from . import config
from ._io.confirming import check_confirming
from ._io.fsync import check_fsync
from ._io.gate import Gates
from ._io.opening import Check, open_database, read_url
from ._io.redispy.clients import AnyAsyncClient, make_seam
from ._io.redispy.faces import ASYNC, Face
from ._io.resources import Resources
from ._io.target import Cluster, Embedded, Memory
from ._model.checks import (
    check_caps,
    check_clock,
    check_count,
    check_flag,
    check_id,
    check_seconds,
)
from ._model.defaults import Sleep, new_request_id, now_ms
from ._model.keys import Keys, owner_of
from ._operations import Scope
from ._operations.layout import check_layout
from ._operations.outcome import Progress
from ._operations.owners import scan_owners
from ._operations.rounds import read_progress
from ._operations.safety import check_safety
from .connection import health_check
from .embedded import EmbeddedServer
from .errors import (
    InvalidArgumentError,
)
from .gc import AsyncGarbageCollector
from .inventory import AsyncSmartInventory
from .stats import AsyncStorageReporter
from .types import HealthStatus, MaintenanceProgress
from .vault import AsyncSecureVault

if TYPE_CHECKING:
    from .doctor import Diagnosis
    from .integrity import IntegrityReport


class AsyncClientDatabase:
    """A vault and an inventory, with what belongs to them; :func:`connect` makes one.

    Args:
        vault_client: of the vault's database; it's closed with this object.
        inventory_client: of the inventory's; it may be the same client.
        server: the embedded server that both talk to; it's given back with this object.
        resources: what another database has, in the place of these; nothing is closed then.
        owner: as of :func:`connect`, like all that follow.
        budget_caps: coins per contact, by priority and tier.
        budget_bytes: payload bytes of all cached coins together.
        clock: milliseconds since the epoch, for tests, an int each time; None for the server's own
            clock (TIME).
        request_ids: a fresh id for every call.
        confirm_replicas: how many replicas must have a change before a call returns.
        confirm_timeout: how long they are waited for, in ms.
        confirm_fsync: whether a change must be on the disks.
        settle_timeout: how long a call whose caller is gone may take, in ms.

    Raises:
        TypeError: a client is of the wrong kind.
        ValueError: a client decodes its responses.
        InvalidIdentifierError: the owner is no valid id.
        InvalidArgumentError: another argument has the wrong type or value.

    Attributes:
        vault: the owner's private halves.
        inventory: contacts' public halves.
        gc: the inventory's garbage collector.
        reporter: reports over both.
        resources: what it shares with the databases of other owners, for this package.
        gates: the way of all of its calls, for this package.
    """

    def __init__(
        self,
        vault_client: AnyAsyncClient,
        inventory_client: AnyAsyncClient,
        *,
        server: EmbeddedServer | None = None,
        resources: Resources | None = None,
        owner: str | None = None,
        budget_caps: Mapping[str, Mapping[str, int]] = config.BUDGET_CAPS,
        budget_bytes: int = config.INV_MAX_STORAGE_BYTES,
        clock: Callable[[], int] | None = None,
        request_ids: Callable[[], str] = new_request_id,
        confirm_replicas: int = 0,
        confirm_timeout: int = config.CONFIRM_TIMEOUT,
        confirm_fsync: bool = False,
        settle_timeout: int = config.SETTLE_TIMEOUT,
    ) -> None:
        keys = Keys(owner)
        own_server = server if resources is None else resources.server
        self._confirming = check_confirming(
            confirm_replicas,
            confirm_timeout,
            confirm_fsync,
            settle_timeout,
            is_embedded=own_server is not None,
        )
        self._is_borrowed = resources is not None
        self.resources: Resources = resources or Resources(vault_client, inventory_client, server)
        self.gates: Gates = self.resources.open_gates(type(self).__name__, keys, self._confirming)
        self.vault: AsyncSecureVault = AsyncSecureVault(
            self.gates.vault, owner=owner, clock=clock, request_ids=request_ids
        )
        self.inventory: AsyncSmartInventory = AsyncSmartInventory(
            self.gates.inventory,
            owner=owner,
            budget_caps=budget_caps,
            budget_bytes=budget_bytes,
            clock=clock,
            request_ids=request_ids,
        )
        self.gc: AsyncGarbageCollector = AsyncGarbageCollector(self.inventory, self.gates.inventory)
        self.reporter: AsyncStorageReporter = AsyncStorageReporter(self.vault, self.inventory)

    async def health(self) -> HealthStatus:
        """Whether both databases answer, and what they hold: within two seconds.

        See :func:`~aqm_db.health_check`.
        """
        if self.resources.is_closed:
            return HealthStatus(
                vault_connected=False,
                inventory_connected=False,
                vault_key_count=0,
                inventory_key_count=0,
                uptime_seconds=0.0,
            )
        return await health_check(*self.resources.clients)

    def for_owner(self, owner: str) -> "AsyncClientDatabase":
        """The database of another owner, over the same clients and their connections.

        It costs no I/O and no connection, so a server of many users can make one for each call.
        Closing it closes nothing: what ``connect`` opened is closed with the database that
        ``connect`` gave.

        Args:
            owner: whose data it is.

        Returns:
            A database with the same caps, clock, request ids and metrics.

        Raises:
            InvalidIdentifierError: the owner is no valid id.
            VaultUnavailableError: the database was closed.
        """
        return self._open_owner(check_id("owner", owner))

    async def iter_owners(self) -> AsyncIterator[str]:
        """The owners that have any data here, each once, in no order; data without one isn't told.

        It walks the whole database (SCAN), on a cluster each primary's, and again if a slot was
        moved meanwhile: for background use. Where a replica takes over, it goes on there. An owner
        that comes or goes meanwhile may be missed, and so may one whose slot is moved twice.
        One of whom no more than claims is left, for 30 seconds, isn't named.

        Raises:
            VaultUnavailableError: a server can't be reached.
            InventoryUnavailableError: the same, between the first database and the second.
            AccessDeniedError: the user may not walk the database.
        """
        seen: set[str] = set()
        for client, unavailable in self.resources.list_databases():
            async for page in scan_owners(client, unavailable, "iter_owners"):
                found = {owner for key in page if (owner := owner_of(key)) is not None}
                for owner in sorted(found - seen):
                    yield owner
                seen |= found

    async def delete_owner(self, owner: str) -> int:
        """Deletes all that is kept of an owner, tombstones included (UNLINK).

        It costs what the owner has, whatever others have. Claims end by themselves within 30
        seconds, and are no part of it. It may be called again, after a failure for example. What
        the owner's programs store meanwhile may stay. It's confirmed as other changes are, also
        what an earlier call deleted.

        Args:
            owner: whose data it is.

        Returns:
            How many Redis keys were deleted.

        Raises:
            InvalidIdentifierError: the owner is no valid id.
            VaultUnavailableError: the server can't be reached.
            InventoryUnavailableError: the same, between the first database and the second.
            AccessDeniedError: the user may not read the owner's keys, or delete.
            NotWritableError: the server takes no writes now.
            ConcurrencyError: the owner's slot is being moved.
            CorruptEntryError: an index has the wrong type, so that nobody knows what it listed;
                it's left, and so is what would have been deleted after it.
        """
        from ._model.kinds import DATABASES  # noqa: PLC0415 - few programs delete owners
        from ._operations.deletion import delete_all  # noqa: PLC0415

        keys = Keys(check_id("owner", owner))
        confirming = self._confirming
        with Progress("delete_owner") as progress:
            found = self.resources.list_databases()
            for place, (client, unavailable) in enumerate(found):
                seam = make_seam(client, unavailable, "delete_owner", keys, confirming=confirming)
                scope = Scope(seam, keys, None, new_request_id, confirming)
                # Where there's one logical database, it has both.
                await delete_all(seam, scope, DATABASES[place :: len(found)], progress)
                if confirming.is_wanted:
                    await seam.delete(keys.confirm)
                    # What marks that goes, too; unconfirmed, since it's gone in a second anyway.
                    await seam.read(("UNLINK", keys.confirm))
        return progress.count

    def maintenance(
        self,
        *,
        all_owners: bool = False,
        every: float = 3600.0,
        inactive_days: int = config.INV_GC_INACTIVE_DAYS,
        max_age_days: int = config.VAULT_PURGE_MAX_AGE_DAYS,
        report: Callable[[MaintenanceProgress], Awaitable[object] | object] | None = None,
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
        within a minute. An owner's needs no walk (SCAN); data without an owner that something else
        wrote is walked over by the first one.

        For whoever provides a database for many owners, a round goes through all of them, as
        :meth:`maintain_owners` says.

        Args:
            all_owners: whether it's cared for all owners, and not for this database's own alone.
            every: seconds from one round to the next, give or take a tenth.
            inactive_days: days as of ``gc.garbage_collect``.
            max_age_days: days as of ``vault.purge_expired``.
            report: as of :meth:`maintain_owners`, for all owners.
            sleep: waits for some seconds; None is ``anyio.sleep``.
            uniform: a random number between two.

        Raises:
            InvalidArgumentError: a number is out of range, ``all_owners`` isn't a bool, ``report``
                can't be called, or anyio isn't installed (the extra ``background``).
        """
        from .maintenance import (  # noqa: PLC0415 - most programs have none
            AllOwnersRounds,
            Care,
            Maintenance,
            OwnRounds,
            Rounds,
            Site,
        )

        self.resources.check_open()
        care = Care(inactive_days, max_age_days)
        rounds: Rounds
        if check_flag("all_owners", all_owners):
            rounds = AllOwnersRounds(
                Site(self, self.resources, self._open_owner), care, report=report
            )
        else:
            rounds = OwnRounds(
                self.vault,
                self.gc,
                self.inventory.scope,
                holder=self.inventory.request_ids(),
                care=care,
                server=self.resources.server,
            )
        return Maintenance(rounds, every=every, uniform=uniform).running(sleep)

    async def maintain_owners(
        self,
        *,
        every: float = 3600.0,
        inactive_days: int = config.INV_GC_INACTIVE_DAYS,
        max_age_days: int = config.VAULT_PURGE_MAX_AGE_DAYS,
        report: Callable[[MaintenanceProgress], Awaitable[object] | object] | None = None,
        sleep: Sleep | None = None,
    ) -> bool:
        """Runs one round of maintenance over all owners, and over data without one if it has none.

        It walks the database once (SCAN), on a cluster each primary's, and looks at each owner;
        whoever has garbage or old private halves is cared for, a few owners at a time, with pauses
        in which the server is others'. Programs may share the work that have the same ``owner``,
        or none: their database keeps how far the round is. A round that was stopped is
        gone on with by whoever comes next: who was cared for is passed over, and so is who has
        :meth:`maintenance` of their own. An owner who can't be cared for is logged, and stops
        no other. :meth:`get_maintenance_progress` tells how far a round is.

        Args:
            every: seconds that are between the beginnings of two rounds, but for a tenth.
            inactive_days: days as of ``gc.garbage_collect``.
            max_age_days: days as of ``vault.purge_expired``.
            report: told how far the round is, every 100 owners or so; a plain function or a
                coroutine function. What it raises is logged.
            sleep: waits for some seconds; None is ``anyio.sleep``.

        Returns:
            Whether a round was due, or under way.

        Raises:
            InvalidArgumentError: a number is out of range, ``report`` can't be called, or anyio
                isn't installed (the extra ``background``).
            UnavailableError: a server can't be reached; who is on others was cared for.
            AccessDeniedError: the user may not walk the database.
            NotWritableError: the server takes no writes now.
        """
        from ._background import find_sleep  # noqa: PLC0415 - most programs never call it
        from .maintenance import AllOwnersRounds, Care, Site  # noqa: PLC0415 - the same

        self.resources.check_open()
        rounds = AllOwnersRounds(
            Site(self, self.resources, self._open_owner),
            Care(inactive_days, max_age_days),
            report=report,
        )
        return await rounds.run_if_due(check_seconds("every", every), sleep or find_sleep())

    async def get_maintenance_progress(self) -> MaintenanceProgress | None:
        """How far the last round of maintenance over all owners is; None if there was none.

        The database that began it knows: its own owner's, if it has one.

        Raises:
            InventoryUnavailableError: the server can't be reached.
            AccessDeniedError: the user may not read it.
            CorruptEntryError: what is stored of it is malformed.
        """
        return await read_progress(self.inventory.scope)

    async def doctor(self) -> "Diagnosis":
        """Looks for what could lose keys or give them away, and for what the user may not do.

        It changes nothing. Whether a server is supported still is asked of ``clock``, or of this
        machine's. What the server refuses to tell is a warning among the findings; a
        command that the user may not run leaves a line in the server's ``ACL LOG``.

        Returns:
            The findings, each with its severity and its remedy.

        Raises:
            VaultUnavailableError: the vault's server can't be reached.
            InventoryUnavailableError: the inventory's server can't be reached.
            EmbeddedServerError: the directory of an embedded database can't be read any more.
        """
        from .doctor import examine  # noqa: PLC0415 - most programs never call it

        return await examine(
            *self.resources.clients,
            self.inventory.keys,
            self._confirming,
            self.resources.server,
            self.inventory.clock or now_ms,
        )

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
        """Closes everything that ``connect`` opened; calling it again does nothing.

        Calls that are in flight are answered first. Later ones raise VaultUnavailableError or
        InventoryUnavailableError, those of the databases that :meth:`for_owner` gave too; closing
        one of these closes nothing.

        Raises:
            EmbeddedServerError: the disk of an embedded database is full, or fails, and what was
                acknowledged isn't in its file. Everything is closed, and the server goes on with
                it in its memory: open the database, and close it again, once there's room.
        """
        if not self._is_borrowed:
            await self.resources.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _open_owner(self, owner: str | None) -> "AsyncClientDatabase":
        confirming = self._confirming
        other = AsyncClientDatabase(
            *self.resources.clients,
            resources=self.resources,
            owner=owner,
            budget_caps=self.inventory.budget_caps,
            budget_bytes=self.inventory.budget_bytes,
            clock=self.inventory.clock,
            request_ids=self.inventory.request_ids,
            confirm_replicas=confirming.replicas,
            confirm_timeout=confirming.timeout,
            confirm_fsync=confirming.fsync,
            settle_timeout=confirming.settle_timeout,
        )
        for layer in self.gates.layers:
            other.gates.add_layer(layer)
        return other


class Connecting:
    """A database on its way: ``await`` it, or enter it with ``async with``."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"{name!r} belongs to the database, which isn't open yet: use "
                "'async with connect(...) as db', or 'db = await connect(...)'"
            )

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
    clock: Callable[[], int] | None = None,
    request_ids: Callable[[], str] = new_request_id,
    confirm_replicas: int = 0,
    confirm_timeout: int = config.CONFIRM_TIMEOUT,
    confirm_fsync: bool = False,
    settle_timeout: int = config.SETTLE_TIMEOUT,
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
            - ``redis+cluster://host:port,host:port``: a cluster of yours, the vault and the
              inventory of an owner in one slot;
            - ``redis+sentinel://host:port,host:port/name``: whichever server is the primary, as
              these sentinels say, the vault and the inventory in database 0; sentinels that want
              a password get ``?sentinel_password=...`` (and ``&sentinel_username=...``);
            - ``rediss+cluster``, ``rediss+sentinel``: the same with TLS, but sentinels are asked
              without it;
            - None: ``$AQM_DB_URL``, or ``embedded://``.
        owner: whose data it is, if several share a database; a cluster needs one.
        budget_caps: coins per contact, by priority and tier.
        budget_bytes: payload bytes of all cached coins together; see the inventory's ``store_key``.
        clock: milliseconds since the epoch, for tests, an int each time; None for the server's own
            clock (TIME), by which private halves and claims end all the same.
        request_ids: a fresh id for every call, of ASCII letters, digits, ``-`` and ``_``.
        confirm_replicas: how many replicas must have a change before a call returns (WAIT). One
            that isn't confirmed raises VaultUnavailableError or InventoryUnavailableError, and
            its outcome is unknown: a coin that was to be handed out stays claimed.
        confirm_timeout: how long they are waited for, in ms, from when the change is sent. Changes
            of callers at the same time wait together; those that come meanwhile wait next.
        confirm_fsync: whether a change must be on the disks before a call returns (WAITAOF), the
            server's own and those of ``confirm_replicas`` replicas. It takes an append-only file,
            and ``appendfsync always`` (CONFIG GET tells), or Redis 8.0, where with everysec each
            call waits for up to two seconds, so give it as long: Valkey, and Redis before, say
            too early that the disk has it, also replicas that write theirs so. An embedded server
            is set to always, until it ends. One of yours is refused, and where the setting is
            changed later, each change raises, and its outcome is unknown.
        settle_timeout: how long a call whose caller is gone may take to find out what it did, and
            to take it back, in ms (1 to 4,000). After that it goes on in the background, for as
            long as the server knows the call, which is 30 seconds.
        allow_unsafe: whether to open a server that deletes keys to make room (an eviction policy
            and a memory limit), or a replica.

    Raises:
        InvalidArgumentError: an argument has the wrong type or value, or the server can't do what
            it says.
        UnsafeServerError: the server deletes keys to make room, or is a replica; or a primary of
            the cluster is so.
        EmbeddedServerError: the embedded server can't be started or joined.
        SchemaVersionError: a later version of this library has written the owner's data.
        VaultUnavailableError: the server can't be reached, or the owner's primary in a cluster; or
            the sentinels don't know the name.
        InventoryUnavailableError: the same, between the first database and the second.
        AccessDeniedError: the name or the password is wrong, or the sentinels'; or the user may not
            enter the database, or do what opening it takes.
    """
    target = read_url(url)
    if owner is not None:
        check_id("owner", owner)
    elif isinstance(target, Cluster):
        raise InvalidArgumentError("owner", "a cluster needs one: its name decides on the node")
    check_caps("budget_caps", budget_caps)
    check_count("budget_bytes", budget_bytes, 1)
    check_confirming(confirm_replicas, confirm_timeout, confirm_fsync, settle_timeout)
    if isinstance(target, Memory) and confirm_replicas:
        raise InvalidArgumentError("confirm_replicas", "memory:// has none")
    check_flag("allow_unsafe", allow_unsafe)
    make = partial(
        AsyncClientDatabase,
        owner=owner,
        budget_caps=budget_caps,
        budget_bytes=budget_bytes,
        clock=check_clock(clock),
        request_ids=request_ids,
        confirm_replicas=confirm_replicas,
        confirm_timeout=confirm_timeout,
        confirm_fsync=confirm_fsync,
        settle_timeout=settle_timeout,
    )
    checks: list[Check] = (
        [] if allow_unsafe else [partial(check_safety, is_shared=owner is not None)]
    )
    if confirm_fsync:
        checks.append(partial(check_fsync, is_embedded=isinstance(target, Embedded)))
    keys = Keys(owner)
    check_own = partial(check_layout, keys=keys)
    return Connecting(lambda face: open_database(face, target, make, keys, check_own, checks))


def directory_of(url: str | None) -> Path | None:
    """The directory of the embedded database that a url names; None if it names another kind.

    Raises:
        InvalidArgumentError: the url is malformed.
    """
    target = read_url(url)
    return target.directory if isinstance(target, Embedded) else None
