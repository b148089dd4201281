"""The question before anything is deleted."""

import sys

import typer

from .errors import CommandError
from .output import say


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
    if not is_terminal():
        raise CommandError(f"{deletion} To go on without a terminal to ask, add --yes")
    # On stderr: what is written to stdout may be read by a machine.
    say(f"{deletion} Go on? [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        say("Nothing was changed.", err=True)
        raise typer.Exit(1)


def is_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()
