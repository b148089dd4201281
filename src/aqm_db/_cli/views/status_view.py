"""What was in a database at one time, as ``aqm-db status`` shows it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aqm_db._model.tiers import TIERS, counts_of
from aqm_db.types import Dashboard, InventorySummary

from .tables import amounts, bar, budget, cell, stock, table_of

STALE_DAYS: Final = 7
"""How close to its end a coin is worth a mention."""
_NONE: Final[Mapping[str, int]] = {"GOLD": 0, "SILVER": 0, "BRONZE": 0}


@dataclass(frozen=True, slots=True)
class Reading:
    """What was in a database at one time.

    Attributes:
        dashboard: the library's own reports.
        stale: coins that are stale within :data:`STALE_DAYS`, by contact and tier.
        caps: coins per contact, by priority and tier.
    """

    dashboard: Dashboard
    stale: Mapping[str, Mapping[str, int]]
    caps: Mapping[str, Mapping[str, int]]

    def contacts(self) -> list[InventorySummary]:
        """All contacts in the order of their ids."""
        return sorted(self.dashboard["contacts"], key=lambda summary: summary.contact_id)

    def to_fetch(self, contact_id: str) -> Mapping[str, int]:
        """What a contact lacks to its caps."""
        return self.dashboard["replenish_needs"].get(contact_id, _NONE)

    def soon_stale(self, contact_id: str) -> Mapping[str, int]:
        """What a contact is about to lose."""
        return self.stale.get(contact_id, _NONE)


def as_json(reading: Reading) -> dict[str, Any]:
    """For machines."""
    vault, storage = reading.dashboard["vault"], reading.dashboard["inventory_storage"]
    return {
        "vault": {
            "active": {
                "GOLD": vault.active_gold,
                "SILVER": vault.active_silver,
                "BRONZE": vault.active_bronze,
            },
            "burned": vault.total_burned,
            "expired": vault.total_expired,
        },
        "storage": {
            "bytes": storage.total_bytes,
            "budget_bytes": storage.budget_bytes,
            "percent": round(storage.utilization_pct, 1),
        },
        "stale_within_days": STALE_DAYS,
        "contacts": [
            {
                "contact_id": summary.contact_id,
                "priority": summary.priority,
                "stock": counts_of(summary),
                "caps": dict(reading.caps[summary.priority]),
                "to_fetch": dict(reading.to_fetch(summary.contact_id)),
                "stale": dict(reading.soon_stale(summary.contact_id)),
            }
            for summary in reading.contacts()
        ],
    }


def as_text(reading: Reading) -> RenderableType:
    """For people."""
    vault, storage = reading.dashboard["vault"], reading.dashboard["inventory_storage"]
    heads = Table.grid(padding=(0, 2, 0, 0))
    active = {
        "GOLD": vault.active_gold,
        "SILVER": vault.active_silver,
        "BRONZE": vault.active_bronze,
    }
    heads.add_row(
        "vault",
        f"{amounts(active)} active; {vault.total_burned} burned, {vault.total_expired} expired",
    )
    style = "green" if storage.total_bytes <= storage.budget_bytes else "red"
    used = bar(storage.total_bytes, storage.budget_bytes, 20, style)
    heads.add_row("storage", used + Text(f" {budget(storage)}"))
    if not reading.contacts():
        return Group(heads, "", Text("No contacts."))
    return Group(heads, "", _stocks(reading), "", _totals(reading))


def _stocks(reading: Reading) -> Table:
    stocks = table_of("contact", "priority", "GOLD", "SILVER", "BRONZE", ">to fetch", ">stale")
    for summary in reading.contacts():
        caps = reading.caps[summary.priority]
        stocks.add_row(
            cell(summary.contact_id),
            summary.priority,
            *(stock(tier, count, caps[tier]) for tier, count in counts_of(summary).items()),
            _number(reading.to_fetch(summary.contact_id)),
            _number(reading.soon_stale(summary.contact_id)),
        )
    return stocks


def _totals(reading: Reading) -> Text:
    to_fetch, stale = (
        _total(of.values()) for of in (reading.dashboard["replenish_needs"], reading.stale)
    )
    return Text(f"To fetch: {amounts(to_fetch)}. Stale within {STALE_DAYS} days: {amounts(stale)}.")


def _total(of: Collection[Mapping[str, int]]) -> dict[str, int]:
    return {tier: sum(counted[tier] for counted in of) for tier in TIERS}


def _number(of: Mapping[str, int]) -> str:
    return str(sum(of.values()) or "")
