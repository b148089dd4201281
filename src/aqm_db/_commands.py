"""The commands of ``aqm-db``: a function each."""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from . import __version__
from ._demo_homes import Homes, kept, on_server, temporary
from ._demo_view import View
from .demo import DemoError, tell
from .errors import AQMDatabaseError

# Not typer's own tracebacks: they may show variables, and so key material.
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        typer.echo(f"aqm-db {__version__}")
        raise typer.Exit


@app.callback()
def aqm_db(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """A client database for post-quantum one-time keys."""


@app.command()
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
    if url is not None:
        homes = on_server(url)
    elif keep is not None:
        homes = kept(keep)
    else:
        homes = temporary()
    _run(_demo(homes), debug=debug)


async def _demo(homes: AbstractAsyncContextManager[Homes]) -> None:
    view = View(Console())
    async with homes as opened:
        await tell(opened.alice, opened.bob, view)
    view.closed(opened.left)


def _run(command: Coroutine[Any, Any, None], *, debug: bool) -> None:
    try:
        asyncio.run(command)
    except (AQMDatabaseError, DemoError) as error:
        if debug:
            raise
        typer.echo(f"aqm-db: {error}", err=True)
        raise typer.Exit(1) from None
