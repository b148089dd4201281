"""Contacts as ``aqm-db contacts`` and ``contact`` show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from aqm_db._cli.escaping import escape_text
from aqm_db._model.tiers import counts_of
from aqm_db.types import ContactMeta, InventorySummary

from .tables import TIER_COLUMNS, cut_text, draw_stock, make_table, style_tier


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody, and what is cached of them.

    Attributes:
        meta: who it is.
        summary: their stock.
        caps: the most of it, by tier.
    """

    meta: ContactMeta
    summary: InventorySummary
    caps: Mapping[str, int]


def dump_contacts(contacts: Sequence[Contact]) -> dict[str, Any]:
    """For machines."""
    return {"contacts": [dump_contact(contact) for contact in contacts]}


def render_contacts(contacts: Sequence[Contact]) -> RenderableType:
    """For people, a line for each contact."""
    if not contacts:
        return "No contacts."
    table = make_table("contact", "name", "priority", *TIER_COLUMNS, "last message")
    for contact in contacts:
        table.add_row(
            cut_text(contact.meta.contact_id),
            cut_text(contact.meta.display_name, 14),
            contact.meta.priority,
            *map(str, counts_of(contact.summary).values()),
            _format_time(contact.meta.last_msg_at)[:10],
        )
    return table


def dump_contact(contact: Contact) -> dict[str, Any]:
    """For machines."""
    return {
        "contact_id": contact.meta.contact_id,
        "display_name": contact.meta.display_name,
        "priority": contact.meta.priority,
        "last_msg_at": contact.meta.last_msg_at,
        "stock": counts_of(contact.summary),
        "caps": dict(contact.caps),
    }


def render_contact(contact: Contact) -> RenderableType:
    """For people, a line for each fact."""
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_row("contact", Text(escape_text(contact.meta.contact_id)))
    facts.add_row("name", Text(escape_text(contact.meta.display_name) or "-"))
    facts.add_row("priority", contact.meta.priority)
    facts.add_row("last message", _format_time(contact.meta.last_msg_at))
    for tier, count in counts_of(contact.summary).items():
        facts.add_row(style_tier(tier), draw_stock(tier, count, contact.caps[tier]))
    return facts


def _format_time(ms: int) -> str:
    # Whoever wrote the row may have had a clock of their own.
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError):
        return f"{ms} ms"
