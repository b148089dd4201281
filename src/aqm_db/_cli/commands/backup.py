"""``aqm-db export`` and ``import``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from aqm_db import sync
from aqm_db._cli.asking import ask_user
from aqm_db._cli.errors import report_errors
from aqm_db._cli.opening import open_database
from aqm_db._cli.options import Debug, Json, Owner, Url
from aqm_db._cli.output import show_progress, write_json, write_text
from aqm_db._cli.views.tables import describe_coins, describe_halves
from aqm_db.backup import BackupReport
from aqm_db.errors import InvalidArgumentError

_File = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the backup.")]


def export(
    path: _File,
    *,
    url: Url = None,
    owner: Owner = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a database to a new file that only you can read.

    Private halves are in it as their owner encrypted them; contacts and coins are readable.
    JSON: private_halves, contacts, public_halves, left_out.
    """
    with (
        report_errors(debug=debug),
        open_database(url, owner, allow_unsafe=True) as db,
        show_progress("Exporting"),
    ):
        report = sync.export_backup(db, path)
    if json:
        write_json(asdict(report))
    else:
        write_text(
            f"Exported: {describe_halves(report.private_halves)}, {_describe_stock(report)}; "
            f"{report.left_out:,} malformed entries left out."
        )


def import_(
    path: _File,
    *,
    url: Url = None,
    owner: Owner = None,
    used: Annotated[
        Path | None,
        typer.Option(
            "--used",
            metavar="FILE",
            help="Ids of keys that were burned since the export, one on a line: left out.",
        ),
    ] = None,
    inventory: Annotated[
        bool,
        typer.Option(
            "--inventory",
            help="Restore contacts and coins, too: only if no message was sent since the export.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Don't ask before coins are restored.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Restore the vault from a file; contacts and coins only with --inventory.

    What is in the database stays as it is. Coins that were handed out since the export would come
    back to life, and be used twice: that's why they aren't restored unless you say so.
    JSON: private_halves, contacts, public_halves, left_out.
    """
    with report_errors(debug=debug), open_database(url, owner, new=True) as db:
        burned = [] if used is None else _read_lines(used)
        if inventory:
            ask_user(
                "This restores coins; those that were handed out since the export will be used "
                "twice.",
                yes=yes,
            )
        with show_progress("Importing"):
            report = sync.import_backup(db, path, used=burned, inventory=inventory)
    if json:
        write_json(asdict(report))
        return
    restored = f"Restored: {describe_halves(report.private_halves)}"
    if inventory:
        restored += f", {_describe_stock(report)}"
    write_text(f"{restored}; {report.left_out:,} left out (used, expired, or there already).")
    if not inventory:
        write_text(
            "Contacts and coins were not restored: coins that were handed out since the export "
            "would be used twice. If none was, --inventory restores them."
        )


def _describe_stock(report: BackupReport) -> str:
    return f"{report.contacts:,} contacts, {describe_coins(report.public_halves)}"


def _read_lines(path: Path) -> list[str]:
    try:
        # An id may hold spaces, and what str.splitlines takes for the end of a line, too.
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError("--used", f"can't be read: {error}") from None
    # Spaces around an id are part of it, or of how the file was written.
    return [*lines, *map(str.strip, lines)]
