"""Tiers, amounts, bars and tables as text, in 80 columns."""

from collections.abc import Mapping
from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from aqm_db._cli.escaping import escaped
from aqm_db.types import CoinCategory, StorageReport

_COLOURS: Final[Mapping[str, str]] = {
    "GOLD": "bold yellow",
    "SILVER": "grey66",
    "BRONZE": "dark_orange3",
}


def table_of(*columns: str) -> Table:
    """An empty table; a column whose name begins with ``>`` is aligned to the right."""
    made = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
        header_style="dim",
    )
    for column in columns:
        made.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left"
        )
    return made


def tier(name: str) -> Text:
    """A tier in its colour."""
    return Text(name, style=_COLOURS[name])


def amounts(of: Mapping[CoinCategory, int] | Mapping[str, int]) -> str:
    """Coins by tier in words."""
    return ", ".join(f"{count} {name}" for name, count in of.items() if count) or "nothing"


def coins(number: int) -> str:
    """So many coins."""
    return "1 coin" if number == 1 else f"{number:,} coins"


def budget(storage: StorageReport) -> str:
    """Storage used in words."""
    return (
        f"{storage.total_bytes:,} of {storage.budget_bytes:,} B ({storage.utilization_pct:.1f} %)"
    )


def bar(value: float, full: float, width: int, style: str = "green") -> Text:
    """A bar of so many cells; what is above the full value doesn't show."""
    cells = round(width * min(value / full, 1)) if full else 0
    # The smallest amount is more than nothing, and all but the last isn't all.
    cells = max(cells, 1) if value else 0
    cells = min(cells, width - 1) if value < full else cells
    return Text("█" * cells, style=style) + Text("░" * (width - cells), style="dim")


def stock(name: str, count: int, cap: int) -> Text:
    """A tier's coins against its cap."""
    if not cap and not count:
        return Text("-", style="dim")
    return bar(count, cap, 5, _COLOURS[name]) + Text(f" {count}/{cap}")


def cell(text: str, width: int = 20) -> Text:
    """A text of somebody else's that may be cut: in a table it mustn't push the rest away."""
    made = Text(escaped(text))
    made.truncate(width, overflow="ellipsis")
    return made
