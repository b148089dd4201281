"""What cached coins come to: how many, how many bytes, and how many are missing."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from aqm_db import config
from aqm_db.types import CoinCategory, InventorySummary, Priority

TIERS: tuple[CoinCategory, CoinCategory, CoinCategory] = ("GOLD", "SILVER", "BRONZE")
"""All tiers, best first: the order in which scripts take queues and caps."""
PRIORITIES: tuple[Priority, Priority, Priority] = ("BESTIE", "MATE", "STRANGER")
"""All priorities, highest first: what is higher is known here alone, and scripts are told."""

Caps: TypeAlias = Mapping[str, Mapping[str, int]]
"""Coins per contact, by priority and tier."""


def caps_of(caps: Caps, tier: str) -> tuple[int, int, int]:
    """The caps of a tier, by priority."""
    bestie, mate, stranger = (caps[priority][tier] for priority in PRIORITIES)
    return bestie, mate, stranger


def priorities_above(priority: str) -> tuple[Priority, ...]:
    """The priorities that are higher than one."""
    return PRIORITIES[: PRIORITIES.index(priority)]


def counts_of(summary: InventorySummary) -> dict[CoinCategory, int]:
    """A contact's coins by tier, best first."""
    return {
        "GOLD": summary.gold_count,
        "SILVER": summary.silver_count,
        "BRONZE": summary.bronze_count,
    }


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
    return {
        summary.contact_id: {
            tier: max(caps[summary.priority][tier] - count, 0)
            for tier, count in counts_of(summary).items()
        }
        for summary in summaries
        if summary.priority != "STRANGER"
    }
