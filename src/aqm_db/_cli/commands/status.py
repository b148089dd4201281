"""``aqm-db status``."""

from contextlib import suppress
from time import sleep
from typing import Annotated

import typer
from rich.live import Live

from aqm_db._cli.opening import database
from aqm_db._cli.options import Debug, Json, Owner, Url
from aqm_db._cli.output import PlainConsole, show, write
from aqm_db._cli.views.status_view import STALE_DAYS, Reading, as_json, as_text
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
    the last four with an object {GOLD, SILVER, BRONZE} each. With --watch, one line each time.
    """
    if watch and not json and not PlainConsole().is_terminal:
        raise typer.BadParameter("--watch draws on a terminal; --json writes lines anywhere")
    with database(url, owner, debug=debug, allow_unsafe=True) as db:
        if not watch and json:
            write(as_json(reading_of(db)))
        elif not watch:
            show(as_text(reading_of(db)))
        else:
            with suppress(KeyboardInterrupt):
                _watch(db, every, json=json)


def reading_of(db: ClientDatabase) -> Reading:
    """Reads a database."""
    return Reading(
        db.reporter.get_full_dashboard(),
        db.inventory.count_stale(STALE_DAYS),
        db.inventory.budget_caps,
    )


def _watch(db: ClientDatabase, every: float, *, json: bool) -> None:
    if json:
        while True:
            write(as_json(reading_of(db)), on_one_line=True)
            sleep(every)
    with Live(console=PlainConsole(), auto_refresh=False) as live:
        while True:
            live.update(as_text(reading_of(db)), refresh=True)
            sleep(every)
