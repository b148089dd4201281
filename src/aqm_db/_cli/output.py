"""What commands write: text for people, JSON for machines, and a bar while they wait.

Everything goes through here, and nothing leaves it that a terminal would obey: ids, names, urls and
paths are somebody else's.
"""

import json
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from .escaping import EscapingStream, escape_text

if TYPE_CHECKING:
    from rich.progress import Progress


class PlainConsole(Console):
    """A console that takes texts as they are: without markup, emoji codes and control characters.

    Args:
        stderr: whether it writes there, and not to stdout.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else None
        # Of a stream that escapes everything, what rich itself tells the terminal isn't left.
        file = stream.stream if isinstance(stream, EscapingStream) else stream
        super().__init__(file=file, stderr=stderr, highlight=False, markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Renders a part, as all that is printed is."""
        for segment in super().render(renderable, options):
            # What rich tells the terminal is no text.
            yield (
                segment
                if segment.control
                else Segment(escape_text(segment.text, keep="\n"), segment.style)
            )


def write_text(*parts: RenderableType) -> None:
    """Writes for people, wrapped."""
    console = PlainConsole()
    for part in parts:
        console.print(part)


def write_line(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Writes a line for people, unwrapped.

    Args:
        text: what.
        err: whether it goes to stderr.
        nl: whether the line ends with it.
    """
    typer.echo(escape_text(text, keep="\n"), err=err, nl=nl)


def write_json(value: dict[str, Any], *, on_one_line: bool = False) -> None:
    """Writes for machines; what isn't ASCII is escaped."""
    typer.echo(json.dumps(value, indent=None if on_one_line else 2))


@contextmanager
def show_progress(description: str, *, total: float | None = None) -> "Generator[Progress]":
    """A bar on stderr for the time of a block, if that's a terminal.

    Args:
        description: what is being done.
        total: when the bar is full, for whoever moves it; None if nobody knows, and it moves by
            itself.
    """
    from rich.progress import (  # noqa: PLC0415 - most commands show none
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    console = PlainConsole(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
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
