"""The question before anything is deleted."""

import sys

import typer

from .errors import CommandError


def confirm(deletion: str, *, yes: bool) -> None:
    """Asks whether to go on, unless that was answered beforehand.

    Args:
        deletion: a sentence of what would be deleted.
        yes: the answer, if it was given beforehand.

    Raises:
        CommandError: there's no terminal to ask.
        typer.Exit: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{deletion} To go on without a terminal to ask, add --yes")
    # On stderr: what is written to stdout may be read by a machine.
    if not typer.confirm(f"{deletion} Go on?", err=True):
        typer.echo("Nothing was changed.", err=True)
        raise typer.Exit(1)
