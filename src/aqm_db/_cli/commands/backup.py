"""``aqm-db export`` and ``import``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from aqm_db import sync
from aqm_db._cli.asking import confirm
from aqm_db._cli.opening import database
from aqm_db._cli.options import Debug, Json, Owner, Url
from aqm_db._cli.output import show, working, write
from aqm_db._cli.views.tables import coins
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
    with database(url, owner, debug=debug, allow_unsafe=True) as db, working("Exporting"):
        report = sync.export_backup(db, path)
    if json:
        write(asdict(report))
    else:
        show(
            f"Exported: {_halves(report.private_halves)}, {report.contacts:,} contacts, "
            f"{coins(report.public_halves)}; {report.left_out:,} malformed entries left out."
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
    with database(url, owner, debug=debug, new=True) as db:
        burned = [] if used is None else _lines(used)
        if inventory:
            confirm(
                "This restores coins; those that were handed out since the export will be used "
                "twice.",
                yes=yes,
            )
        with working("Importing"):
            report = sync.import_backup(db, path, used=burned, inventory=inventory)
    if json:
        write(asdict(report))
        return
    restored = f"Restored: {_halves(report.private_halves)}"
    if inventory:
        restored += f", {report.contacts:,} contacts, {coins(report.public_halves)}"
    show(f"{restored}; {report.left_out:,} left out (used, expired, or there already).")
    if not inventory:
        show(
            "Contacts and coins were not restored: coins that were handed out since the export "
            "would be used twice. If none was, --inventory restores them."
        )


def _halves(count: int) -> str:
    return f"{count:,} private {'half' if count == 1 else 'halves'}"


def _lines(path: Path) -> list[str]:
    try:
        # An id may hold spaces, and what str.splitlines takes for the end of a line, too.
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError("--used", f"can't be read: {error}") from None
    # Spaces around an id are part of it, or of how the file was written.
    return [*lines, *map(str.strip, lines)]
