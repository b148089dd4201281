"""``aqm-db demo``."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from aqm_db._cli.errors import check_extras, report_errors
from aqm_db._cli.options import Debug, Json


def demo(
    *,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Use this server (redis://, rediss://, unix://); it's left as it was.",
        ),
    ] = None,
    owner: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="On a server (--url): what the names of the two owners begin with."
        ),
    ] = "demo",
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Put the databases into DIR/alice and DIR/bob."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Ten messages, a one-time key for each: minted, cached, used, and burned.

    On two embedded databases in a temporary directory, unless told otherwise.

    JSON: databases {alice, bob}; minted and cached {GOLD, SILVER, BRONZE}; cached_bytes; messages
    [{wished, tier, select_ms, bytes, read}]; forged and replayed (number of the message); to_fetch
    {GOLD, SILVER, BRONZE}; garbage {contacts_cleaned, coins_deleted, bytes_freed}; vaults {alice,
    bob}; redis_keys {alice, bob}.
    """
    if url is not None and keep is not None:
        raise typer.BadParameter("--url and --keep exclude each other")
    with report_errors(debug=debug):
        with check_extras("the demo"):
            from .demo_story import play_demo  # noqa: PLC0415 - extras that few commands need
        asyncio.run(play_demo(url, owner, keep, json=json))
