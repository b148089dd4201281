"""Sections, tables and figures in Markdown."""

from collections.abc import Iterable, Sequence

from benchmarks.report.results import Spread


def section(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], text: str = ""
) -> str:
    """A titled table; nothing if there is nothing in it."""
    if not rows:
        return ""
    return "\n\n".join(part for part in (f"## {title}", text, table(columns, rows)) if part)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, whose first column is text."""
    lines = [columns, ["---", *("---:" for _ in columns[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def figure(value: float, unit: str) -> str:
    """A figure in four digits, with what it counts."""
    return f"{value:.4g}x" if unit == "x" else f"{value:.4g} {unit}"


def spread(value: Spread, unit: str = "x") -> str:
    """The round in the middle, and then the range."""
    return f"{figure(value.middle, unit)} ({value.least:.3g} to {value.most:.3g})"


def milliseconds(value: float) -> str:
    """A time in three digits or more."""
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"  # noqa: PLR2004 - four digits
