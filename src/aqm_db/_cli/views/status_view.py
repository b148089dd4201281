"""What was in a database at one time, as ``aqm-db status`` shows it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aqm_db._model.tiers import TIERS, active_of, counts_of
from aqm_db.types import Dashboard, InventorySummary, MaintenanceProgress

from .rounds_view import describe_round, dump_round
from .tables import cut_text, describe_amounts, describe_budget, draw_bar, draw_stock, make_table

STALE_DAYS: Final = 7
"""How close to its end a coin is worth a mention."""
_NONE: Final[Mapping[str, int]] = dict.fromkeys(TIERS, 0)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was in a database at one time.

    Attributes:
        dashboard: the library's own reports.
        stale: coins that are stale within :data:`STALE_DAYS`, by contact and tier.
        caps: coins per contact, by priority and tier.
        maintenance: how far the last round over all owners is; None if there was none.
    """

    dashboard: Dashboard
    stale: Mapping[str, Mapping[str, int]]
    caps: Mapping[str, Mapping[str, int]]
    maintenance: MaintenanceProgress | None

    def contacts(self) -> list[InventorySummary]:
        """All contacts in the order of their ids."""
        return sorted(self.dashboard["contacts"], key=lambda summary: summary.contact_id)

    def to_fetch(self, contact_id: str) -> Mapping[str, int]:
        """What a contact lacks to its caps."""
        return self.dashboard["replenish_needs"].get(contact_id, _NONE)

    def soon_stale(self, contact_id: str) -> Mapping[str, int]:
        """What a contact is about to lose."""
        return self.stale.get(contact_id, _NONE)


def dump_reading(reading: Reading) -> dict[str, Any]:
    """For machines."""
    vault, storage = reading.dashboard["vault"], reading.dashboard["inventory_storage"]
    return {
        "vault": {
            "active": active_of(vault),
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
        "maintenance": dump_round(reading.maintenance),
    }


def render_reading(reading: Reading) -> RenderableType:
    """For people."""
    vault, storage = reading.dashboard["vault"], reading.dashboard["inventory_storage"]
    heads = Table.grid(padding=(0, 2, 0, 0))
    heads.add_row(
        "vault",
        f"{describe_amounts(active_of(vault))} active; "
        f"{vault.total_burned} burned, {vault.total_expired} expired",
    )
    style = "green" if storage.total_bytes <= storage.budget_bytes else "red"
    used = draw_bar(storage.total_bytes, storage.budget_bytes, 20, style)
    heads.add_row("storage", used + Text(f" {describe_budget(storage)}"))
    if reading.maintenance is not None:
        heads.add_row("maintenance", describe_round(reading.maintenance))
    if not reading.contacts():
        return Group(heads, "", Text("No contacts."))
    return Group(heads, "", _tabulate_stocks(reading), "", _sum_up(reading))


def _tabulate_stocks(reading: Reading) -> Table:
    stocks = make_table("contact", "priority", *TIERS, ">to fetch", ">stale")
    for summary in reading.contacts():
        caps = reading.caps[summary.priority]
        stocks.add_row(
            cut_text(summary.contact_id),
            summary.priority,
            *(draw_stock(tier, count, caps[tier]) for tier, count in counts_of(summary).items()),
            _format_sum(reading.to_fetch(summary.contact_id)),
            _format_sum(reading.soon_stale(summary.contact_id)),
        )
    return stocks


def _sum_up(reading: Reading) -> Text:
    to_fetch, stale = (
        describe_amounts(_add_tiers(counts.values()))
        for counts in (reading.dashboard["replenish_needs"], reading.stale)
    )
    return Text(f"To fetch: {to_fetch}. Stale within {STALE_DAYS} days: {stale}.")


def _add_tiers(counts: Collection[Mapping[str, int]]) -> dict[str, int]:
    return {tier: sum(each[tier] for each in counts) for tier in TIERS}


def _format_sum(counts: Mapping[str, int]) -> str:
    return str(sum(counts.values()) or "")
