"""The question before what can't be taken back."""

import sys

import typer

from .errors import CommandError
from .output import write_line


def ask_user(consequence: str, *, yes: bool) -> None:
    """Asks whether to go on, unless that was answered beforehand.

    Args:
        consequence: a sentence of what would be done.
        yes: the answer, if it was given beforehand.

    Raises:
        CommandError: there's no terminal to ask.
        typer.Exit: the answer is no.
    """
    if yes:
        return
    if not is_terminal():
        raise CommandError(f"{consequence} To go on without a terminal to ask, add --yes")
    # On stderr: what is written to stdout may be read by a machine.
    write_line(f"{consequence} Go on? [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        write_line("Nothing was changed.", err=True)
        raise typer.Exit(1)


def is_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()
