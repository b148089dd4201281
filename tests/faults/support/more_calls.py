"""Calls beside the methods of an owner's objects: all owners, backups, and what runs beside."""

import asyncio
import logging
from pathlib import Path
from typing import Any

from aqm_db import AsyncMinter, AsyncReplenisher
from aqm_db.backup import export_backup, import_backup
from aqm_db.errors import AccessDeniedError
from aqm_db.minter import FreshCoin
from aqm_db.types import CoinCategory, NewCoin, NewKey
from tests.faults.support.public_calls import Call, Objects
from tests.faults.support.tried_calls import BLOB, HALVES
from tests.support.coin_server import CoinServer
from tests.support.samples import BOB

OWNER = "alice"
_LONGEST_REST = 1.0


def list_more_calls(directory: Path) -> dict[str, Call]:
    """By a name that begins with the method's or the function's.

    Args:
        directory: where backups are; it has one, named ``kept``.
    """

    async def export(objects: Objects) -> None:
        target = directory / "exported"
        try:
            await export_backup(objects.db, target)
        finally:
            target.unlink(missing_ok=True)

    return {
        "inventory.store_keys(budget)": lambda o: o.inventory.store_keys(
            [NewCoin(BOB, "new", "BRONZE", *HALVES)], enforce_budget=True
        ),
        "db.iter_owners": _list_owners,
        "db.delete_owner": lambda o: o.db.delete_owner(OWNER),
        "db.doctor": lambda o: o.db.doctor(),
        "db.maintenance": lambda o: _run_maintenance(o, all_owners=False),
        "db.maintenance(all_owners)": lambda o: _run_maintenance(o, all_owners=True),
        "db.maintain_owners": lambda o: o.db.maintain_owners(),
        "export_backup": export,
        "import_backup": lambda o: import_backup(o.db, directory / "kept"),
        "import_backup(inventory)": lambda o: import_backup(
            o.db, directory / "kept", inventory=True
        ),
        "minter.top_up": lambda o: _minter(o).top_up(),
        "minter.sync": lambda o: _minter(o).sync(_count, _publish),
        "minter.reconcile": lambda o: _minter(o).reconcile(["k1"]),
        "minter.pending_upload": lambda o: _minter(o).pending_upload(),
        "minter.mark_published": lambda o: _minter(o).mark_published(["k1"]),
        "replenisher.replenish": lambda o: _replenisher(o).replenish(),
        "replenisher.replenish(BOB)": lambda o: _replenisher(o).replenish(BOB),
    }


async def _list_owners(objects: Objects) -> list[str]:
    return [owner async for owner in objects.db.iter_owners()]


async def _run_maintenance(objects: Objects, *, all_owners: bool) -> None:
    """Runs a round; what it logs instead of raising it is raised."""
    errors: list[Any] = []
    over = asyncio.Event()

    def note(record: logging.LogRecord) -> bool:
        if record.msg == "maintenance_failed":
            errors.append(record.__dict__["error"])
        return True

    async def sleep(seconds: float) -> None:
        # A round over all owners rests in between, for a second at most.
        if seconds > _LONGEST_REST:
            over.set()
            await asyncio.Event().wait()

    log = logging.getLogger("aqm_db.maintenance")
    log.addFilter(note)
    try:
        async with objects.db.maintenance(all_owners=all_owners, sleep=sleep), asyncio.timeout(30):
            await over.wait()
    finally:
        log.removeFilter(note)
    if errors:
        assert errors == [AccessDeniedError.__name__]
        raise AccessDeniedError(errors[0])


async def _count() -> dict[str, int]:
    return {}


async def _publish(_: object) -> None:
    pass


def _minter(objects: Objects) -> AsyncMinter:
    def mint(tier: CoinCategory) -> FreshCoin:
        return FreshCoin(NewKey("minted", tier, BLOB, b"nonce", b"tag"), *HALVES)

    # One that is there, and one that is minted.
    return AsyncMinter(objects.vault, mint, targets={"SILVER": 2})


def _replenisher(objects: Objects) -> AsyncReplenisher:
    return AsyncReplenisher(objects.inventory, CoinServer().fetch)
