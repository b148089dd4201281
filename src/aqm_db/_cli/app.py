"""``aqm-db`` itself: which commands there are, and one line for what isn't one."""

from typing import Annotated

import typer

from aqm_db import __version__

from .errors import FAILED
from .output import write_line
from .parsing import LazyGroup

# Not typer's own tracebacks: they may show variables, and so key material.
app = typer.Typer(cls=LazyGroup, pretty_exceptions_enable=False, rich_markup_mode="markdown")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        write_line(f"aqm-db {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def aqm_db(
    context: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - its callback uses it
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """A client database for post-quantum one-time keys.

    Exit codes: 0, it's done; 1, something was found, or you said no; 2, it couldn't be done.
    """
    if context.invoked_subcommand is None:
        # It writes the help, and returns it only where rich isn't installed.
        context.get_help()
        raise typer.Exit(FAILED)
