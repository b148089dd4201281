"""``aqm-db contacts``, ``contact`` and ``set-priority``."""

from rich.text import Text

from aqm_db._cli.asking import ask_user
from aqm_db._cli.errors import report_errors, warn_user
from aqm_db._cli.escaping import escape_text
from aqm_db._cli.opening import open_database
from aqm_db._cli.options import ContactId, Debug, Json, NewPriority, Owner, Url, Yes
from aqm_db._cli.output import write_json, write_text
from aqm_db._cli.views.contacts_view import (
    Contact,
    dump_contact,
    dump_contacts,
    render_contact,
    render_contacts,
)
from aqm_db._cli.views.tables import describe_coins
from aqm_db._model.checks import check_priority
from aqm_db._model.tiers import excess_of
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
    with report_errors(debug=debug), open_database(url, owner, allow_unsafe=True) as db:
        found = [
            _contact_of(db, meta, summary)
            for contact_id, summary in sorted(db.inventory.get_inventory().items())
            if (meta := _read_meta(db, contact_id)) is not None
        ]
        if json:
            write_json(dump_contacts(found))
        else:
            write_text(render_contacts(found))


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
    with report_errors(debug=debug), open_database(url, owner, allow_unsafe=True) as db:
        meta = db.inventory.get_contact_meta(contact_id)
        if meta is None:
            raise ContactNotRegisteredError(f"contact {contact_id!r} is not registered")
        found = _contact_of(db, meta, db.inventory.get_inventory(contact_id))
        if json:
            write_json(dump_contact(found))
        else:
            write_text(render_contact(found))


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
    with report_errors(debug=debug), open_database(url, owner) as db:
        wanted = check_priority("priority", priority.upper())
        summary = db.inventory.get_inventory(contact_id)
        dropped = excess_of(summary, wanted, db.inventory.budget_caps)
        if dropped:
            ask_user(f"As a {wanted}, {contact_id!r} loses {describe_coins(dropped)}.", yes=yes)
        db.inventory.set_contact_priority(contact_id, wanted)
    if json:
        write_json({"contact_id": contact_id, "priority": wanted, "coins_dropped": dropped})
    else:
        name = escape_text(contact_id)
        write_text(Text(f"{name} is a {wanted} now; {describe_coins(dropped)} dropped."))


def _contact_of(db: ClientDatabase, meta: ContactMeta, summary: InventorySummary) -> Contact:
    return Contact(meta, summary, db.inventory.budget_caps[meta.priority])


def _read_meta(db: ClientDatabase, contact_id: str) -> ContactMeta | None:
    try:
        return db.inventory.get_contact_meta(contact_id)
    except CorruptEntryError as error:
        warn_user(f"{error}; 'aqm-db check' says more")
        return None
