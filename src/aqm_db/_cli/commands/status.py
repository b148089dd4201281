"""``aqm-db status``."""

from contextlib import suppress
from time import sleep
from typing import Annotated

import typer

from aqm_db._cli.errors import report_errors
from aqm_db._cli.opening import open_database
from aqm_db._cli.options import Debug, Json, Owner, Url
from aqm_db._cli.output import PlainConsole, write_json, write_text
from aqm_db._cli.views.status_view import STALE_DAYS, Reading, dump_reading, render_reading
from aqm_db.sync import ClientDatabase


def status(
    *,
    url: Url = None,
    owner: Owner = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Draw it anew all the time, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.05, help="How often --watch draws.")
    ] = 2.0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """What is in a database: the vault's counters, and each contact's stock against its caps.

    JSON: vault {active {GOLD, SILVER, BRONZE}, burned, expired}; storage {bytes, budget_bytes,
    percent}; stale_within_days; contacts [{contact_id, priority, stock, caps, to_fetch, stale}],
    the last four with an object {GOLD, SILVER, BRONZE} each; maintenance {began_at, ended_at (null:
    not yet), cared_for, failed, left} of the last round over all owners, or null. With --watch, one
    line each time.
    """
    if watch and not json and not PlainConsole().is_terminal:
        raise typer.BadParameter("--watch draws on a terminal; --json writes lines anywhere")
    with report_errors(debug=debug), open_database(url, owner, allow_unsafe=True) as db:
        if not watch and json:
            write_json(dump_reading(take_reading(db)))
        elif not watch:
            write_text(render_reading(take_reading(db)))
        else:
            with suppress(KeyboardInterrupt):
                _watch(db, every, json=json)


def take_reading(db: ClientDatabase) -> Reading:
    """Reads a database."""
    return Reading(
        db.reporter.get_full_dashboard(),
        db.inventory.count_stale(STALE_DAYS),
        db.inventory.budget_caps,
        db.get_maintenance_progress(),
    )


def _watch(db: ClientDatabase, every: float, *, json: bool) -> None:
    if json:
        while True:
            write_json(dump_reading(take_reading(db)), on_one_line=True)
            sleep(every)
    from rich.live import Live  # noqa: PLC0415 - only --watch needs it

    with Live(console=PlainConsole(), auto_refresh=False) as live:
        while True:
            live.update(render_reading(take_reading(db)), refresh=True)
            sleep(every)
