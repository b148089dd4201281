"""All owners of a database, as a round of maintenance comes to them."""

from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple, Protocol, TypeAlias

from aqm_db._io.confirming import UNCONFIRMED
from aqm_db._io.gate import Gates
from aqm_db._io.resources import Resources
from aqm_db._io.seam import Seam
from aqm_db._model.keys import INDEXES_PATTERN, Keys, indexed_owner_of
from aqm_db._operations import Scope
from aqm_db._operations.owners import Share, scan_shares
from aqm_db.gc import AsyncGarbageCollector
from aqm_db.inventory import AsyncSmartInventory
from aqm_db.vault import AsyncSecureVault

from ._care import Care, Removed, care_for_server

Layer: TypeAlias = Callable[[Seam], Seam]
"""What calls go through."""


class Parts(Protocol):
    """The database of one owner."""

    @property
    def vault(self) -> AsyncSecureVault:
        """What is purged."""
        ...

    @property
    def inventory(self) -> AsyncSmartInventory:
        """What is collected from."""
        ...

    @property
    def gc(self) -> AsyncGarbageCollector:
        """What collects garbage."""
        ...

    @property
    def gates(self) -> Gates:
        """The way of all of its calls."""
        ...


class Place(NamedTuple):
    """An owner, and where they were found.

    Attributes:
        owner: who it is; None for data without one.
        share: what is lost if their data can't be reached.
    """

    owner: str | None
    share: Share


class Site:
    """A database that many owners share.

    Args:
        own: the provider's own.
        resources: what it shares with those of all owners.
        open_owner: opens the database of an owner, or the one without.
    """

    def __init__(
        self, own: Parts, resources: Resources, open_owner: Callable[[str | None], Parts]
    ) -> None:
        self._own = own
        self._resources = resources
        self._open_owner = open_owner

    def open_own(self) -> Scope:
        """The provider's own inventory."""
        _, inventory = self._open(self._own.inventory.keys)
        return inventory

    def open_owner(self, owner: str | None, layer: Layer) -> tuple[Scope, Scope]:
        """An owner's vault and inventory.

        Args:
            owner: who it is; None for data without one.
            layer: what calls go through, besides what they always do.
        """
        return self._open(Keys(owner), layer)

    async def find_owners(self, layer: Layer) -> AsyncGenerator[Place]:
        """All owners, some of them twice: where the contacts are, and where the private halves are.

        Data without an owner is found where the provider's own database is the one without.

        Args:
            layer: what each server is asked through.

        Raises:
            UnavailableError: a server couldn't be reached; who is on others comes before.
            AccessDeniedError: the user may not walk.
        """
        if not self._own.inventory.keys.prefix:
            yield Place(None, Share(self._own.gates.inventory))
        for client, unavailable in self._resources.list_databases():
            pages = scan_shares(client, unavailable, "maintenance", INDEXES_PATTERN, layer)
            async for share, page in pages:
                for owner in dict.fromkeys(map(indexed_owner_of, page)):
                    # A client that was closed meanwhile would connect again.
                    self._resources.check_open()
                    if owner is not None and share.error is None:
                        yield Place(owner, share)

    async def care_for(self, owner: str | None, care: Care, layer: Layer) -> Removed:
        """Does for an owner what there is to do.

        Args:
            owner: who it is; None for data without one.
            care: what that is.
            layer: what calls go through, besides what they always do.
        """
        database = self._open_owner(owner)
        database.gates.add_layer(layer)
        return await care.care_for(database.vault, database.gc, database.inventory.scope)

    async def care_for_server(self) -> bool:
        """The same for an embedded server, which all owners are on."""
        return await care_for_server(self._resources.server, self._own.gates.inventory)

    def _open(self, keys: Keys, *more: Layer) -> tuple[Scope, Scope]:
        """An owner's vault and inventory, over what confirms no change.

        What is lost of a turn does no harm, and confirming it may take seconds for each owner.
        """
        gates = self._resources.open_gates("maintenance", keys, UNCONFIRMED)
        for layer in (*self._own.gates.layers, *more):
            gates.add_layer(layer)
        own = self._own.inventory
        vault, inventory = (
            Scope(seam, keys, own.clock, own.request_ids, UNCONFIRMED)
            for seam in (gates.vault, gates.inventory)
        )
        return vault, inventory
