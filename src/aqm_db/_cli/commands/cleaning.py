"""``aqm-db gc``, ``purge``, ``maintain`` and ``forget``."""

import asyncio
from typing import Annotated

import typer
from rich.progress import Progress
from rich.text import Text

from aqm_db import config, connect
from aqm_db._cli.asking import ask_user
from aqm_db._cli.errors import report_errors
from aqm_db._cli.escaping import escape_text
from aqm_db._cli.opening import check_exists, open_database
from aqm_db._cli.options import ContactId, Debug, Json, Owner, Url, Yes
from aqm_db._cli.output import show_progress, write_json, write_text
from aqm_db._cli.views.rounds_view import describe_round, dump_round
from aqm_db._cli.views.tables import describe_coins, describe_halves
from aqm_db._model.tiers import counts_of
from aqm_db.errors import CorruptEntryError
from aqm_db.sync import ClientDatabase
from aqm_db.types import GCResult, MaintenanceProgress

_InactiveDays = Annotated[
    int, typer.Option(metavar="N", help="Days without a message that make a contact inactive.")
]


def gc(
    *,
    url: Url = None,
    owner: Owner = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be deleted.")
    ] = False,
    days: _InactiveDays = config.INV_GC_INACTIVE_DAYS,
    yes: Yes = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete the coins of inactive contacts, who become STRANGERs, and everybody's stale coins.

    Asks first. JSON: dry_run, contacts_cleaned, coins_deleted, bytes_freed.
    """
    with report_errors(debug=debug), open_database(url, owner) as db:
        with show_progress("Looking for garbage"):
            result = db.gc.dry_run(days)
        if not dry_run:
            if result.contacts_cleaned or result.keys_deleted:
                ask_user(f"This deletes {_describe_garbage(result)}.", yes=yes)
            with show_progress("Collecting garbage"):
                result = db.gc.garbage_collect(days)
    if json:
        write_json(
            {
                "dry_run": dry_run,
                "contacts_cleaned": result.contacts_cleaned,
                "coins_deleted": result.keys_deleted,
                "bytes_freed": result.bytes_freed,
            }
        )
    else:
        write_text(f"{'To be deleted' if dry_run else 'Deleted'}: {_describe_garbage(result)}.")


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
    with report_errors(debug=debug), open_database(url, owner) as db:
        ask_user("This deletes all private halves that are older than 30 days.", yes=yes)
        with show_progress("Purging the vault"):
            purged = db.vault.purge_expired()
    if json:
        write_json({"purged": purged})
    else:
        write_text(f"Expired: {describe_halves(purged)}.")


def maintain(
    *,
    url: Url = None,
    owner: Owner = None,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long after a round another one is due.")
    ] = 3600.0,
    days: _InactiveDays = config.INV_GC_INACTIVE_DAYS,
    yes: Yes = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Do for all owners of a database what gc and purge do for one: a round, or the rest of one.

    Asks first. With --owner it's that one who keeps how far the round is. JSON: was_due;
    maintenance, as of status.
    """
    with report_errors(debug=debug):
        check_exists(url)
        ask_user("This deletes the garbage and the old private halves of all owners.", yes=yes)
        with show_progress("Caring for owners") as progress:
            was_due, found = asyncio.run(_maintain(url, owner, every, days, progress))
    if json:
        write_json({"was_due": was_due, "maintenance": dump_round(found)})
    else:
        write_text(f"{'Done' if was_due else 'Nothing is due'}: {describe_round(found)}.")


def forget(
    contact_id: ContactId,
    *,
    url: Url = None,
    owner: Owner = None,
    yes: Yes = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete a contact with all coins; ids of used coins are remembered, for 30 days at least.

    Asks first. JSON: contact_id, coins_dropped.
    """
    with report_errors(debug=debug), open_database(url, owner) as db:
        stock = _describe_stock(db, contact_id)
        ask_user(f"This deletes contact {contact_id!r} and {stock}.", yes=yes)
        with show_progress("Forgetting"):
            dropped = db.inventory.forget_contact(contact_id)
    if json:
        write_json({"contact_id": contact_id, "coins_dropped": dropped})
    else:
        name = escape_text(contact_id)
        write_text(Text(f"{name} is forgotten; {describe_coins(dropped)} dropped."))


async def _maintain(
    url: str | None, owner: str | None, every: float, days: int, progress: Progress
) -> tuple[bool, MaintenanceProgress | None]:
    def show(found: MaintenanceProgress) -> None:
        visited = found.owners_cared_for + found.owners_failed
        total = found.owners_expected or None
        progress.update(progress.task_ids[0], total=total, completed=visited)

    async with connect(url, owner=owner) as db:
        was_due = await db.maintain_owners(every=every, inactive_days=days, report=show)
        return was_due, await db.get_maintenance_progress()


def _describe_garbage(result: GCResult) -> str:
    return (
        f"{describe_coins(result.keys_deleted)} ({result.bytes_freed:,} B); "
        f"contacts that become STRANGERs: {result.contacts_cleaned:,}"
    )


def _describe_stock(db: ClientDatabase, contact_id: str) -> str:
    try:
        return describe_coins(sum(counts_of(db.inventory.get_inventory(contact_id)).values()))
    except CorruptEntryError:
        # What is malformed can be forgotten all the same.
        return "all coins"
