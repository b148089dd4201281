"""``aqm-db gc``, ``purge`` and ``forget``."""

from typing import Annotated

import typer
from rich.text import Text

from aqm_db import config
from aqm_db._cli.asking import confirm
from aqm_db._cli.escaping import escaped
from aqm_db._cli.opening import database
from aqm_db._cli.options import ContactId, Debug, Json, Owner, Url, Yes
from aqm_db._cli.output import show, working, write
from aqm_db._cli.views.tables import coins
from aqm_db._model.tiers import counts_of
from aqm_db.errors import CorruptEntryError
from aqm_db.sync import ClientDatabase
from aqm_db.types import GCResult


def gc(
    *,
    url: Url = None,
    owner: Owner = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be deleted.")
    ] = False,
    days: Annotated[
        int, typer.Option(metavar="N", help="Days without a message that make a contact inactive.")
    ] = config.INV_GC_INACTIVE_DAYS,
    yes: Yes = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete the coins of inactive contacts, who become STRANGERs, and everybody's stale coins.

    Asks first. JSON: dry_run, contacts_cleaned, coins_deleted, bytes_freed.
    """
    with database(url, owner, debug=debug) as db:
        with working("Looking for garbage"):
            result = db.gc.dry_run(days)
        if not dry_run:
            if result.contacts_cleaned or result.keys_deleted:
                confirm(f"This deletes {_garbage(result)}.", yes=yes)
            with working("Collecting garbage"):
                result = db.gc.garbage_collect(days)
    if json:
        write(
            {
                "dry_run": dry_run,
                "contacts_cleaned": result.contacts_cleaned,
                "coins_deleted": result.keys_deleted,
                "bytes_freed": result.bytes_freed,
            }
        )
    else:
        show(f"{'To be deleted' if dry_run else 'Deleted'}: {_garbage(result)}.")


def purge(
    *,
    url: Url = None,
    owner: Owner = None,
    yes: Yes = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete private halves that are older than 30 days, and take expired ones off the counters.

    Asks first. JSON: purged.
    """
    with database(url, owner, debug=debug) as db:
        confirm("This deletes all private halves that are older than 30 days.", yes=yes)
        with working("Purging the vault"):
            purged = db.vault.purge_expired()
    if json:
        write({"purged": purged})
    else:
        show(f"Expired: {purged:,} private {'half' if purged == 1 else 'halves'}.")


def forget(
    contact_id: ContactId,
    *,
    url: Url = None,
    owner: Owner = None,
    yes: Yes = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete a contact with all coins; ids of used coins are remembered for 30 days.

    Asks first. JSON: contact_id, coins_dropped.
    """
    with database(url, owner, debug=debug) as db:
        confirm(f"This deletes contact {contact_id!r} and {_stock(db, contact_id)}.", yes=yes)
        with working("Forgetting"):
            dropped = db.inventory.forget_contact(contact_id)
    if json:
        write({"contact_id": contact_id, "coins_dropped": dropped})
    else:
        show(Text(f"{escaped(contact_id)} is forgotten; {coins(dropped)} dropped."))


def _garbage(result: GCResult) -> str:
    return (
        f"{coins(result.keys_deleted)} ({result.bytes_freed:,} B); "
        f"contacts that become STRANGERs: {result.contacts_cleaned:,}"
    )


def _stock(db: ClientDatabase, contact_id: str) -> str:
    try:
        return coins(sum(counts_of(db.inventory.get_inventory(contact_id)).values()))
    except CorruptEntryError:
        # What is malformed can be forgotten all the same.
        return "all coins"
