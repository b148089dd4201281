"""Reports over both databases, for a client's UI and its prefetch scheduler."""

from collections.abc import AsyncIterator, Iterable

from ._model.checks import check_kind
from ._model.tiers import bytes_of, needs_of
from ._operations.contacts import leave_out_stale, summarize_pages
from .inventory import AsyncSmartInventory
from .types import Dashboard, InventorySummary, StorageReport, VaultStats
from .vault import AsyncSecureVault


class AsyncStorageReporter:
    """Storage use, stock and what is missing.

    Args:
        vault: the owner's private halves.
        inventory: contacts' public halves.

    Raises:
        TypeError: an argument is of the wrong kind.

    Its methods raise what the methods of these raise.
    """

    def __init__(self, vault: AsyncSecureVault, inventory: AsyncSmartInventory) -> None:
        check_kind("vault", vault, AsyncSecureVault)
        check_kind("inventory", inventory, AsyncSmartInventory)
        self._vault = vault
        self._inventory = inventory

    async def get_storage_usage(self) -> StorageReport:
        """Payload bytes of cached coins, against the inventory's budget."""
        per_contact: dict[str, int] = {}
        async for page in self._read_pages():
            per_contact |= _weigh(page)
        return self._compare(per_contact)

    async def get_vault_report(self) -> VaultStats:
        """The vault's counters."""
        return await self._vault.get_stats()

    async def get_replenish_needs(self) -> dict[str, dict[str, int]]:
        """How many coins to fetch, by contact id and tier, until each cap is reached.

        Contacts who are STRANGERs are left out; 0 means that a tier is full. Stale coins are
        missing, though they take room until they are gone.
        """
        needs: dict[str, dict[str, int]] = {}
        async for page in self._read_pages():
            needs |= await self._find_needs(page)
        return needs

    async def get_full_dashboard(self) -> Dashboard:
        """All reports, from one reading of each database."""
        contacts: list[InventorySummary] = []
        per_contact: dict[str, int] = {}
        needs: dict[str, dict[str, int]] = {}
        async for page in self._read_pages():
            contacts += page
            per_contact |= _weigh(page)
            needs |= await self._find_needs(page)
        return Dashboard(
            vault=await self._vault.get_stats(),
            inventory_storage=self._compare(per_contact),
            replenish_needs=needs,
            contacts=contacts,
        )

    def _read_pages(self) -> AsyncIterator[list[InventorySummary]]:
        return summarize_pages(self._inventory.scope)

    async def _find_needs(self, page: list[InventorySummary]) -> dict[str, dict[str, int]]:
        """What is missing to the caps of some contacts."""
        usable = await leave_out_stale(self._inventory.scope, page)
        return needs_of(usable, self._inventory.budget_caps)

    def _compare(self, per_contact: dict[str, int]) -> StorageReport:
        """What contacts take, and the budget."""
        total = sum(per_contact.values())
        budget = self._inventory.budget_bytes
        return StorageReport(
            total_bytes=total,
            per_contact=per_contact,
            budget_bytes=budget,
            utilization_pct=100 * total / budget,
        )


def _weigh(summaries: Iterable[InventorySummary]) -> dict[str, int]:
    """What the coins of some contacts take."""
    return {summary.contact_id: bytes_of(summary) for summary in summaries}
