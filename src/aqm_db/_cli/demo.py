"""``aqm-db demo``."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import CommandError, told
from .options import Debug


def demo(
    *,
    url: Annotated[
        str | None,
        typer.Option(help="Use this server (redis://, rediss://, unix://); it's left as it was."),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Put the databases into DIR/alice and DIR/bob."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Ten messages, a one-time key for each: minted, cached, used, and burned.

    On two embedded databases in a temporary directory, unless told otherwise.
    """
    if url is not None and keep is not None:
        raise typer.BadParameter("--url and --keep exclude each other")
    with told(debug=debug):
        asyncio.run(_story(url, keep))


def _story(url: str | None, keep: Path | None) -> Coroutine[Any, Any, None]:
    try:
        from .demo_story import play  # noqa: PLC0415 - extras that no other command needs
    except ImportError as error:
        raise CommandError("the demo needs its extras: pip install 'aqm-db[all]'") from error
    return play(url, keep)
