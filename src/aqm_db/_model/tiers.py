"""Tiers and priorities, and what coins of each tier come to.

``config.py`` has the rows; here is what follows from them, for scripts too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, TypeAlias, cast

from aqm_db import config
from aqm_db.types import CoinCategory, InventorySummary, Priority, VaultStats

_QUARTERS: Final = 4


def order_tiers(names: Iterable[str]) -> tuple[CoinCategory, ...]:
    """All tiers, best first.

    Raises:
        ValueError: there are more than an expiry score can tell apart.
    """
    tiers = cast("tuple[CoinCategory, ...]", tuple(names))
    if len(tiers) > _QUARTERS:
        raise ValueError(f"there may be {_QUARTERS} tiers: an expiry score holds one as quarters")
    return tiers


TIERS: Final = order_tiers(config.COIN_SIZE_BYTES)
"""All tiers, best first: the order in which scripts take queues and caps."""
PRIORITIES: Final = cast("tuple[Priority, ...]", tuple(config.BUDGET_CAPS))
"""All priorities, highest first."""

Caps: TypeAlias = Mapping[str, Mapping[str, int]]
"""Coins per contact, by priority and tier."""


def name_active_counter(tier: str) -> str:
    """The counter of a tier's active keys: a field of ``VaultStats``, and of the stored row."""
    return f"active_{tier.lower()}"


def name_count_field(tier: str) -> str:
    """The number of a contact's coins of a tier: a field of ``InventorySummary``."""
    return f"{tier.lower()}_count"


_read_counts: "attrgetter[Any]" = attrgetter(*map(name_count_field, TIERS))


def active_of(stats: VaultStats) -> dict[str, int]:
    """Active keys by tier, best first."""
    return {tier: getattr(stats, name_active_counter(tier)) for tier in TIERS}


def counts_of(summary: InventorySummary) -> dict[CoinCategory, int]:
    """A contact's coins by tier, best first."""
    return dict(zip(TIERS, _read_counts(summary), strict=True))


def deduct(summary: InventorySummary, gone: Mapping[str, int]) -> InventorySummary:
    """A contact's coins without so many of each tier, and with none where that is all."""
    counts: dict[str, Any] = {
        name_count_field(tier): max(count - gone[tier], 0)
        for tier, count in counts_of(summary).items()
    }
    return replace(summary, **counts)


def caps_of(caps: Caps, tier: str) -> tuple[int, ...]:
    """The caps of a tier, by priority."""
    return tuple(caps[priority][tier] for priority in PRIORITIES)


def flatten_caps(caps: Caps) -> list[int]:
    """All caps: of the highest priority by tier, then of the next one."""
    return [caps[priority][tier] for priority in PRIORITIES for tier in TIERS]


def priorities_above(priority: str) -> tuple[Priority, ...]:
    """The priorities that are higher than one."""
    return PRIORITIES[: PRIORITIES.index(priority)]


def excess_of(summary: InventorySummary, priority: str, caps: Caps) -> int:
    """How many coins a contact loses with a new priority: what is above its caps, if it's lower."""
    if summary.priority not in priorities_above(priority):
        return 0
    return sum(max(count - caps[priority][tier], 0) for tier, count in counts_of(summary).items())


def bytes_of(summary: InventorySummary) -> int:
    """Payload bytes of a contact's coins."""
    return sum(config.COIN_SIZE_BYTES[tier] * count for tier, count in counts_of(summary).items())


def needs_of(summaries: Iterable[InventorySummary], caps: Caps) -> dict[str, dict[str, int]]:
    """How many coins are missing to each cap, by contact id and tier, without STRANGERs."""
    *_, lowest = PRIORITIES
    return {
        summary.contact_id: {
            tier: max(caps[summary.priority][tier] - count, 0)
            for tier, count in counts_of(summary).items()
        }
        for summary in summaries
        if summary.priority != lowest
    }
