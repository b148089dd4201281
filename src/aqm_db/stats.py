"""Reports over both databases, for a client's UI and its prefetch scheduler."""

from ._model.checks import check_kind
from ._model.tiers import bytes_of, needs_of
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
        return self._storage(await self._inventory.get_inventory())

    async def get_vault_report(self) -> VaultStats:
        """The vault's counters."""
        return await self._vault.get_stats()

    async def get_replenish_needs(self) -> dict[str, dict[str, int]]:
        """How many coins to fetch, by contact id and tier, until each cap is reached.

        Contacts who are STRANGERs are left out; 0 means that a tier is full.
        """
        return self._needs(await self._inventory.get_inventory())

    async def get_full_dashboard(self) -> Dashboard:
        """All reports, from one reading of each database."""
        inventory = await self._inventory.get_inventory()
        return Dashboard(
            vault=await self._vault.get_stats(),
            inventory_storage=self._storage(inventory),
            replenish_needs=self._needs(inventory),
            contacts=list(inventory.values()),
        )

    def _needs(self, inventory: dict[str, InventorySummary]) -> dict[str, dict[str, int]]:
        return needs_of(inventory.values(), self._inventory.budget_caps)

    def _storage(self, inventory: dict[str, InventorySummary]) -> StorageReport:
        per_contact = {contact_id: bytes_of(summary) for contact_id, summary in inventory.items()}
        total = sum(per_contact.values())
        budget = self._inventory.budget_bytes
        return StorageReport(
            total_bytes=total,
            per_contact=per_contact,
            budget_bytes=budget,
            utilization_pct=100 * total / budget,
        )
