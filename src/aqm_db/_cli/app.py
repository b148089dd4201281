"""``aqm-db`` itself: which commands there are, and one line for what isn't one."""

from typing import Annotated

import typer

from aqm_db import __version__

from .commands import backup, bench, chat_demo, cleaning, contacts, demo, health, status
from .errors import FAILED, OneLineGroup
from .output import write_line

# Not typer's own tracebacks: they may show variables, and so key material.
app = typer.Typer(cls=OneLineGroup, pretty_exceptions_enable=False, rich_markup_mode="markdown")


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


for command in (
    status.status,
    contacts.contacts,
    contacts.contact,
    contacts.set_priority,
    cleaning.gc,
    cleaning.purge,
    cleaning.maintain,
    cleaning.forget,
    health.doctor,
    health.check,
    backup.export,
    backup.import_,
    bench.bench,
    demo.demo,
    chat_demo.chat_demo,
):
    # "import" is a word of Python's own.
    app.command(command.__name__.rstrip("_").replace("_", "-"))(command)
