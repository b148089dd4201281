"""Tiers, amounts, bars and tables as text, in 80 columns."""

from collections.abc import Mapping
from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from aqm_db._cli.escaping import escape_text
from aqm_db._model.tiers import TIERS
from aqm_db.types import CoinCategory, StorageReport

TIER_COLUMNS: Final = tuple(f">{tier}" for tier in TIERS)
"""Columns for a number of each tier."""

_COLOURS: Final[Mapping[str, str]] = {
    "GOLD": "bold yellow",
    "SILVER": "grey66",
    "BRONZE": "dark_orange3",
}


def make_table(*columns: str) -> Table:
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


def style_tier(tier: str) -> Text:
    """A tier in its colour."""
    return Text(tier, style=_COLOURS[tier])


def describe_amounts(counts: Mapping[CoinCategory, int] | Mapping[str, int]) -> str:
    """Coins by tier, in words."""
    return ", ".join(f"{count} {tier}" for tier, count in counts.items() if count) or "nothing"


def describe_coins(count: int) -> str:
    """So many coins, in words."""
    return "1 coin" if count == 1 else f"{count:,} coins"


def describe_halves(count: int) -> str:
    """So many private halves, in words."""
    return f"{count:,} private {'half' if count == 1 else 'halves'}"


def describe_budget(storage: StorageReport) -> str:
    """Storage used, in words."""
    return (
        f"{storage.total_bytes:,} of {storage.budget_bytes:,} B ({storage.utilization_pct:.1f} %)"
    )


def draw_bar(value: float, full: float, width: int, style: str = "green") -> Text:
    """A bar of so many cells; what is above the full value doesn't show."""
    cells = round(width * min(value / full, 1)) if full else 0
    # The smallest amount is more than nothing, and all but the last isn't all.
    cells = max(cells, 1) if value else 0
    cells = min(cells, width - 1) if value < full else cells
    return Text("█" * cells, style=style) + Text("░" * (width - cells), style="dim")


def draw_stock(tier: str, count: int, cap: int) -> Text:
    """A tier's coins against its cap."""
    if not cap and not count:
        return Text("-", style="dim")
    return draw_bar(count, cap, 5, _COLOURS[tier]) + Text(f" {count}/{cap}")


def cut_text(text: str, width: int = 20) -> Text:
    """Cuts a text of somebody else's, and escapes it: in a table it mustn't push the rest away."""
    made = Text(escape_text(text))
    made.truncate(width, overflow="ellipsis")
    return made
