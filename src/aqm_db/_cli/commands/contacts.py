"""``aqm-db contacts``, ``contact`` and ``set-priority``."""

from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from aqm_db._cli.asking import confirm
from aqm_db._cli.errors import warn
from aqm_db._cli.escaping import escaped
from aqm_db._cli.opening import database
from aqm_db._cli.options import ContactId, Debug, Json, NewPriority, Owner, Url, Yes
from aqm_db._cli.output import show, write
from aqm_db._cli.views.tables import cell, coins, stock, table_of, tier
from aqm_db._model.checks import check_priority
from aqm_db._model.tiers import counts_of, excess_of
from aqm_db.errors import ContactNotRegisteredError, CorruptEntryError
from aqm_db.sync import ClientDatabase
from aqm_db.types import ContactMeta, InventorySummary


def contacts(
    *, url: Url = None, owner: Owner = None, json: Json = False, debug: Debug = False
) -> None:
    """Everybody who is registered, with their stock.

    JSON: contacts [{contact_id, display_name, priority, last_msg_at (ms since the epoch), stock,
    caps}], the last two with an object {GOLD, SILVER, BRONZE} each.
    """
    with database(url, owner, debug=debug, allow_unsafe=True) as db:
        found = [
            (meta, summary)
            for contact_id, summary in sorted(db.inventory.get_inventory().items())
            if (meta := _meta_of(db, contact_id)) is not None
        ]
        if json:
            write({"contacts": [_as_json(db, *one) for one in found]})
        else:
            show(_listed(found) if found else "No contacts.")


def contact(
    contact_id: ContactId,
    *,
    url: Url = None,
    owner: Owner = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """One contact: priority, last message, and the stock against its caps.

    JSON: contact_id, display_name, priority, last_msg_at (ms since the epoch), stock, caps; the
    last two with an object {GOLD, SILVER, BRONZE} each.
    """
    with database(url, owner, debug=debug, allow_unsafe=True) as db:
        meta = db.inventory.get_contact_meta(contact_id)
        if meta is None:
            raise ContactNotRegisteredError(f"contact {contact_id!r} is not registered")
        summary = db.inventory.get_inventory(contact_id)
        if json:
            write(_as_json(db, meta, summary))
        else:
            show(_shown_in_full(db, meta, summary))


def set_priority(
    contact_id: ContactId,
    priority: NewPriority,
    *,
    url: Url = None,
    owner: Owner = None,
    yes: Yes = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Change how many coins a contact is worth; a lower priority drops those above its caps.

    Asks first if there are such. JSON: contact_id, priority, coins_dropped.
    """
    with database(url, owner, debug=debug) as db:
        wanted = check_priority("priority", priority.upper())
        summary = db.inventory.get_inventory(contact_id)
        dropped = excess_of(summary, wanted, db.inventory.budget_caps)
        if dropped:
            confirm(f"As a {wanted}, {contact_id!r} loses {coins(dropped)}.", yes=yes)
        db.inventory.set_contact_priority(contact_id, wanted)
    if json:
        write({"contact_id": contact_id, "priority": wanted, "coins_dropped": dropped})
    else:
        show(Text(f"{escaped(contact_id)} is a {wanted} now; {coins(dropped)} dropped."))


def _meta_of(db: ClientDatabase, contact_id: str) -> ContactMeta | None:
    try:
        return db.inventory.get_contact_meta(contact_id)
    except CorruptEntryError as error:
        warn(f"{error}; 'aqm-db check' says more")
        return None


def _listed(found: list[tuple[ContactMeta, InventorySummary]]) -> Table:
    listed = table_of("contact", "name", "priority", ">GOLD", ">SILVER", ">BRONZE", "last message")
    for meta, summary in found:
        listed.add_row(
            cell(meta.contact_id),
            cell(meta.display_name, 14),
            meta.priority,
            *map(str, counts_of(summary).values()),
            _time(meta.last_msg_at)[:10],
        )
    return listed


def _shown_in_full(db: ClientDatabase, meta: ContactMeta, summary: InventorySummary) -> Table:
    caps = db.inventory.budget_caps[meta.priority]
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_row("contact", Text(escaped(meta.contact_id)))
    facts.add_row("name", Text(escaped(meta.display_name) or "-"))
    facts.add_row("priority", meta.priority)
    facts.add_row("last message", _time(meta.last_msg_at))
    for name, count in counts_of(summary).items():
        facts.add_row(tier(name), stock(name, count, caps[name]))
    return facts


def _as_json(db: ClientDatabase, meta: ContactMeta, summary: InventorySummary) -> dict[str, Any]:
    return {
        "contact_id": meta.contact_id,
        "display_name": meta.display_name,
        "priority": meta.priority,
        "last_msg_at": meta.last_msg_at,
        "stock": counts_of(summary),
        "caps": dict(db.inventory.budget_caps[meta.priority]),
    }


def _time(ms: int) -> str:
    # Whoever wrote the row may have had a clock of their own.
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError):
        return f"{ms} ms"
