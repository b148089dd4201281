"""An owner's operations, each of which finds something to do."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from aqm_db.backup import export_backup
from benchmarks.measuring.places import Figures, Place
from benchmarks.measuring.stock import keep_all, new_coin, new_secret, store_all


async def do_steps(place: Place, size: int) -> Figures:
    """Does each so often; in the end only what is the owner's is gone."""
    samples: dict[str, list[float]] = {step: [] for step in STEPS}
    for _ in range(size):
        await place.database.inventory.register_contact("bob", "BESTIE")
        await store_all(place.database.inventory, [new_coin("bob", "GOLD")])
        await keep_all(place.database.vault, [new_secret("GOLD")])
        for step, act in STEPS.items():
            begin = perf_counter()
            await act(place)
            samples[step].append(perf_counter() - begin)
    return {step: median(each) for step, each in samples.items()}


async def _store_within_budget(place: Place) -> bool:
    coin = new_coin("bob", "SILVER")
    halves = (coin.public_key, coin.signature)
    return await place.database.inventory.store_key(
        "bob", coin.key_id, coin.tier, *halves, enforce_budget=True
    )


async def _export(place: Place) -> None:
    with TemporaryDirectory(prefix="aqm-") as directory:
        await export_backup(place.database, Path(directory) / "backup")


STEPS: Final[Mapping[str, Callable[[Place], Awaitable[object]]]] = {
    "store_key, within the budget": _store_within_budget,
    "get_inventory": lambda place: place.database.inventory.get_inventory(),
    "get_all_active_ids": lambda place: place.database.vault.get_all_active_ids(),
    "purge_expired": lambda place: place.database.vault.purge_expired(),
    "garbage_collect": lambda place: place.database.gc.garbage_collect(),
    "get_full_dashboard": lambda place: place.database.reporter.get_full_dashboard(),
    "export": _export,
    "collect_single_contact": lambda place: place.database.gc.collect_single_contact("bob"),
    "forget_contact": lambda place: place.database.inventory.forget_contact("bob"),
    "delete_owner": lambda place: place.database.delete_owner(place.owner),
}
"""In an order in which each finds something to do."""
