"""What commands write: text for people, JSON for machines, and a bar while they wait."""

import json
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


def show(*parts: RenderableType) -> None:
    """Writes for people."""
    console = Console(highlight=False)
    for part in parts:
        console.print(part)


def write(value: dict[str, Any], *, on_one_line: bool = False) -> None:
    """Writes for machines; what isn't ASCII is escaped."""
    typer.echo(json.dumps(value, indent=None if on_one_line else 2))


@contextmanager
def working(description: str, *, total: float | None = None) -> Generator[Progress]:
    """A bar on stderr for the time of a block, if that's a terminal.

    Args:
        description: what is being done.
        total: when the bar is full, for whoever moves it; None if nobody knows, and it moves by
            itself.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    progress = Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        # A bar that draws itself meanwhile takes time from what may be measured.
        auto_refresh=total is None,
    )
    progress.add_task(description, total=total)
    # Where it's disabled, rich before 14 writes an empty line all the same.
    with progress if console.is_terminal else nullcontext():
        yield progress
