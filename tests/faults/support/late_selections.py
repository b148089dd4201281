"""Selections whose first sending comes late, and what they cost."""

from typing import Any

from aqm_db import AsyncSmartInventory
from tests.faults.support.byte_cutter import ByteCutter, Cut
from tests.faults.support.cut_runs import Leap, ending_of


async def select_late(
    inventory: AsyncSmartInventory, name: str, contact_id: str, cutter: ByteCutter, leap: Leap
) -> None:
    """Selects a SILVER coin by a method, which is answered once it's sent again."""
    contacts: Any = contact_id if name == "select_coin" else [contact_id]
    cutter.arm(Cut("late", "request", 0))
    call = getattr(inventory, name)(contacts, "SILVER")
    assert not isinstance(await ending_of(call, cutter, leap), Exception)


async def count_lost(inventory: AsyncSmartInventory) -> int:
    """How many SILVER coins are missing, where each contact had two and was selected once."""
    summaries = await inventory.get_inventory()
    return sum(1 - summary.silver_count for summary in summaries.values())
