"""Calls on many contacts: whoever else uses the loop, or the server, waits for a few of them."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSecureVault, AsyncSmartInventory, AsyncStorageReporter, config, stats
from aqm_db._io.seam import SCAN_COUNT, Call, Reply, Seam, Undo
from aqm_db._operations import reservations
from aqm_db._operations.contacts import SUMMARIZE
from aqm_db._operations.reservations import RESERVE
from aqm_db.errors import AQMDatabaseError
from aqm_db.replenisher import AsyncReplenisher
from aqm_db.types import CoinCategory, NewCoin
from tests.support.layers import Passing
from tests.support.samples import Clock

pytestmark = pytest.mark.asyncio

SOME = 60
MANY = SCAN_COUNT + 100
"""More than a page has."""


class Noting(Passing):
    """Takes note of each script that is run."""

    def __init__(self, behind: Seam) -> None:
        super().__init__(behind)
        self.calls: list[Call] = []

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """Passes it on."""
        self.calls.append(call)
        return await self._behind.run(call, undo)

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """Passes them on."""
        self.calls += calls
        return await self._behind.run_all(calls, undos)


@pytest.fixture
def inventory(inventory_client: Redis, clock: Clock) -> AsyncSmartInventory:
    """An empty inventory."""
    return AsyncSmartInventory(inventory_client, clock=clock, budget_bytes=10**9)


async def register(inventory: AsyncSmartInventory, count: int) -> list[str]:
    """Contacts."""
    contact_ids = [f"c{number}" for number in range(count)]
    await asyncio.gather(*(inventory.register_contact(each, "MATE") for each in contact_ids))
    return contact_ids


def note_calls(inventory: AsyncSmartInventory) -> list[Call]:
    """Scripts that an inventory runs from now on."""
    noting = Noting(inventory.scope.seam)
    inventory.scope = inventory.scope.replace_seam(cast("Seam", noting))
    return noting.calls


async def give(contact_id: str, tier: CoinCategory, count: int) -> list[NewCoin]:
    """A source."""
    return [NewCoin(contact_id, f"{tier}{number}", tier, b"p", b"s") for number in range(count)]


async def test_there_is_no_task_for_each_tier_that_is_short(inventory: AsyncSmartInventory) -> None:
    """Sources that wait for their turn are no tasks: to begin them all would take long."""
    await register(inventory, SOME)
    most = 0

    async def source(*wanted: Any) -> list[NewCoin]:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))
        return await give(*wanted)

    before = len(asyncio.all_tasks())
    report = await AsyncReplenisher(inventory, source, concurrency=3).replenish()
    assert report.stored == SOME * sum(config.BUDGET_CAPS["MATE"].values())
    # Those that run, and whoever hands the orders out.
    assert most <= before + 3 + 1


async def test_one_script_reserves_for_a_few_contacts(inventory: AsyncSmartInventory) -> None:
    """It writes a lease for each of their tiers."""
    contacts = await register(inventory, SOME)
    calls = note_calls(inventory)
    leases = await reservations.Reservations(inventory).reserve(
        {contact_id: {"SILVER": 1} for contact_id in contacts}
    )
    assert len(leases) == SOME
    scripts = [call for call in calls if call.script is RESERVE]
    # Once more, since totals that aren't there yet are measured.
    assert len(scripts) == 1 + ceil(SOME / 25)


async def test_one_script_counts_a_few_contacts(inventory: AsyncSmartInventory) -> None:
    """One takes a page of them, and no more."""
    contacts = await register(inventory, MANY)
    calls = note_calls(inventory)
    assert len(await inventory.get_inventory()) == len(contacts)
    counted = [len(call.keys) for call in calls if call.script is SUMMARIZE]
    assert sum(counted) == MANY
    assert max(counted) <= SCAN_COUNT


@pytest.mark.parametrize(
    "report",
    [
        AsyncStorageReporter.get_storage_usage,
        AsyncStorageReporter.get_replenish_needs,
        AsyncStorageReporter.get_full_dashboard,
    ],
    ids=lambda report: report.__name__,
)
async def test_reports_are_made_page_by_page(
    inventory: AsyncSmartInventory,
    vault_client: Redis,
    monkeypatch: pytest.MonkeyPatch,
    report: Callable[[AsyncStorageReporter], Any],
) -> None:
    """What follows from all contacts isn't worked out at once."""
    await register(inventory, MANY)
    sizes: list[int] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(summaries: Iterable[Any], *rest: Any) -> Any:
            page = list(summaries)
            sizes.append(len(page))
            return function(page, *rest)

        return noted

    for name in ("needs_of", "_weigh"):
        monkeypatch.setattr(stats, name, noting(getattr(stats, name)))
    await report(AsyncStorageReporter(AsyncSecureVault(vault_client), inventory))
    assert sum(sizes) in {MANY, 2 * MANY}
    assert max(sizes) < MANY
