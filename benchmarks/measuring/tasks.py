"""What is measured of two commits in turns: through what both of them have.

A task takes a place and a size, prepares what it needs untimed, and returns what it measured. Of
this library nothing private is imported here, or only by the one task that needs it: a commit that
has it elsewhere is left out of that task's comparison.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final, TypeAlias
from uuid import uuid4

from aqm_db import AsyncMinter, AsyncReplenisher, AsyncSmartInventory, config
from aqm_db.backup import export_backup, import_backup
from aqm_db.errors import BudgetExceededError
from aqm_db.minter import FreshCoin
from aqm_db.types import CoinCategory, NewCoin, NewKey
from benchmarks.measuring import names
from benchmarks.measuring.loops import Call, closed_loop, frozen_heap
from benchmarks.measuring.owner_steps import do_steps
from benchmarks.measuring.places import PLENTY, Figures, Place
from benchmarks.measuring.stock import (
    CLOCK,
    PORTION,
    keep_all,
    new_coin,
    new_coins,
    new_contacts,
    new_secret,
    stocked,
    store_all,
    storing,
)

Task: TypeAlias = Callable[[Place, int], Awaitable[Figures]]

CROWDS: Final = {names.SELECT_CROWD: 64, names.CONFIRM_CROWD: 512, names.LOAD: 64}
"""Callers at once, of tasks that many do."""
_PATIENCE_MS: Final = 4_000
_LOAD_RATE: Final = 3_500
"""Coins per second."""
_OVERGIVERS: Final = 16
_REFUSALS: Final = 10
_SILENT_DAYS: Final = 400
_SILENT_SHARE: Final = 100
"""One contact of so many has been silent for too long."""


async def reserve(place: Place, size: int) -> Figures:
    """All slots of each contact."""
    # The one part that no public method has alone.
    from aqm_db._operations.reservations import Reservations  # noqa: PLC0415

    contacts = await _contacts(place, size)
    reservations = Reservations(place.database.inventory)
    wanted: Any = dict.fromkeys(contacts, config.BUDGET_CAPS["BESTIE"])
    return await place.longest(partial(reservations.reserve, wanted))


async def overgive(place: Place, size: int) -> Figures:
    """All contacts are replenished by a source that gives more than it's asked for."""
    contacts = await _contacts(place, size)

    async def fetch(contact_id: str, tier: CoinCategory, count: int) -> list[NewCoin]:
        return [_small_coin(contact_id, tier) for _ in range(count + 1)]

    replenisher = AsyncReplenisher(place.database.inventory, fetch, concurrency=_OVERGIVERS)
    figures = await place.longest(replenisher.replenish)
    assert await place.database.inventory.has_keys_for(contacts[-1]), "nothing was stored"
    return figures


async def refuse(place: Place, size: int) -> Figures:
    """A coin beyond the cap, of a queue that is full."""
    inventory = await _full_queue(place, size)
    coins = [new_coin("bob", "GOLD") for _ in range(_REFUSALS)]

    async def try_all() -> None:
        for coin in coins:
            try:
                await storing(inventory, coin)()
            except BudgetExceededError:
                continue
            raise AssertionError("a coin beyond the cap was stored")

    figures = await place.longest(try_all)
    return {**figures, names.TIME: figures[names.TIME] / _REFUSALS}


async def pass_over(place: Place, size: int) -> Figures:
    """One select of a queue in which every coin is stale."""
    with CLOCK.days_ago(_SILENT_DAYS):
        inventory = await _full_queue(place, size)
    selected: list[Any] = []

    async def select() -> None:
        selected.append(await inventory.select_coin("bob", "GOLD"))

    figures = await place.longest(select)
    assert selected == [None], "a stale coin was handed out"
    return figures


async def select_many(place: Place, size: int) -> Figures:
    """A coin of each contact, in one call."""
    contacts = await _contacts(place, size)
    with CLOCK.an_hour_ago():
        await store_all(place.database.inventory, [new_coin(each, "GOLD") for each in contacts])
    return await place.longest(partial(place.database.inventory.select_coins, contacts, "GOLD"))


async def export(place: Place, size: int) -> Figures:
    """Private halves, into a file."""
    await _keep(place, size)
    with TemporaryDirectory(prefix="aqm-") as directory:
        path = Path(directory) / "backup"
        return await place.longest(partial(export_backup, place.database, path))


async def restore(place: Place, size: int) -> Figures:
    """Private halves, from a file."""
    await _keep(place, size)
    with TemporaryDirectory(prefix="aqm-") as directory:
        path = Path(directory) / "backup"
        await export_backup(place.database, path)
        await place.clear()
        return await place.longest(partial(import_backup, place.database, path))


async def publish(place: Place, size: int) -> Figures:
    """All public halves are taken off the list of those to be published."""
    await place.clear()
    minted: list[str] = []

    def mint(tier: CoinCategory) -> FreshCoin:
        coin, half = new_coin("bob", tier), new_secret(tier)
        minted.append(half.key_id)
        private = NewKey(half.key_id, tier, half.blob, half.iv, half.tag)
        return FreshCoin(private, coin.public_key, coin.signature)

    async def run_here(make: Callable[[], list[FreshCoin]]) -> list[FreshCoin]:
        return make()

    minter = AsyncMinter(
        place.database.vault, mint, targets={"GOLD": size}, batch=PORTION, run=run_here
    )
    await minter.top_up()
    published: list[int] = []

    async def mark() -> None:
        published.append(await minter.mark_published(minted))

    figures = await place.longest(mark)
    assert published == [size], "a public half is still to be published"
    return figures


async def look(place: Place, size: int) -> Figures:
    """All contacts are counted."""
    await _stock(place, size)
    return await place.longest(place.database.inventory.get_inventory)


async def collect(place: Place, size: int) -> Figures:
    """All contacts are looked at, and a few have been silent for too long."""
    await _stock(place, size)
    with CLOCK.days_ago(_SILENT_DAYS):
        silent = await new_contacts(place.database.inventory, max(size // _SILENT_SHARE, 1))
        await store_all(place.database.inventory, [new_coin(each, "GOLD") for each in silent])
    cleaned: list[int] = []

    async def run() -> None:
        cleaned.append((await place.database.gc.garbage_collect()).contacts_cleaned)

    figures = await place.longest(run)
    assert cleaned == [len(silent)], "the wrong contacts were collected"
    return figures


async def select_lone(place: Place, size: int) -> Figures:
    """The hot path, one call after another."""
    return await _hot(place, await _selections(place, size, place.database.inventory), callers=1)


async def select_crowd(place: Place, size: int) -> Figures:
    """The hot path, many callers at once."""
    return await _hot(
        place, await _selections(place, size, place.database.inventory), CROWDS[names.SELECT_CROWD]
    )


async def store_lone(place: Place, size: int) -> Figures:
    """Coins are stored, one after another."""
    inventory = place.database.inventory
    return await _hot(
        place, [storing(inventory, coin) for coin in await new_coins(inventory, size)], callers=1
    )


async def confirm_lone(place: Place, size: int) -> Figures:
    """The hot path where a replica must have each change, one call after another."""
    return await _confirm(place, size, callers=1)


async def confirm_crowd(place: Place, size: int) -> Figures:
    """The same of very many callers at once."""
    return await _confirm(place, size, CROWDS[names.CONFIRM_CROWD])


async def load(place: Place, size: int) -> Figures:
    """Coins are stored and selected for so many seconds: by how much the server's memory grows."""
    contacts, inventory = await _contacts(place, CROWDS[names.LOAD]), place.database.inventory
    before = await _used_memory(place)
    begin, selected = perf_counter(), 0
    while selected < size * _LOAD_RATE:
        await store_all(inventory, [new_coin(each, "GOLD") for each in contacts])
        calls = [partial(inventory.select_coin, each, "GOLD") for each in contacts]
        run = await closed_loop(calls, len(calls))
        assert all(run.results), "a call got no coin"
        selected += len(calls)
        await asyncio.sleep(begin + selected / _LOAD_RATE - perf_counter())
    return {names.BYTES: float(await _used_memory(place) - before)}


async def idle(place: Place, size: int) -> Figures:
    """Scripts that do nothing for so many ms: what the machine itself adds."""

    async def run() -> None:
        end = perf_counter() + size / 1000
        while perf_counter() < end:
            await place.client.eval("return 1", 0)

    return await place.longest(run)


async def fill_index(place: Place, size: int) -> Figures:
    """Contacts with UUIDs are registered: what their index takes for each."""
    await _contacts(place, size)
    index = place.database.inventory.keys.inv_contacts
    memory: Any = await place.client.memory_usage(index, samples=0)
    return {names.BYTES: memory / size}


TASKS: Final[Mapping[str, Task]] = {
    names.RESERVE: reserve,
    names.OVERGIVEN: overgive,
    names.REFUSED: refuse,
    names.STALE: pass_over,
    names.SELECT_MANY: select_many,
    names.EXPORT: export,
    names.IMPORT_MANY: restore,
    names.PUBLISH: publish,
    names.LOOK: look,
    names.COLLECT: collect,
    names.SELECT_LONE: select_lone,
    names.SELECT_CROWD: select_crowd,
    names.STORE_LONE: store_lone,
    names.CONFIRM_LONE: confirm_lone,
    names.CONFIRM_CROWD: confirm_crowd,
    names.LOAD: load,
    names.IDLING: idle,
    names.OWN: do_steps,
    names.FILL_INDEX: fill_index,
}


async def _confirm(place: Place, size: int, callers: int) -> Figures:
    calls = await _selections(place, size, _confirming(place))
    # The replica has what was prepared.
    assert await place.client.wait(1, _PATIENCE_MS) == 1, "the replica is behind"
    return await _hot(place, calls, callers)


@cache
def _confirming(place: Place) -> AsyncSmartInventory:
    """An inventory whose calls wait for a replica; its connections last as long as the place."""
    return AsyncSmartInventory(
        place.client,
        owner=place.owner,
        budget_bytes=PLENTY,
        clock=CLOCK,
        confirm_replicas=1,
        confirm_timeout=_PATIENCE_MS,
    )


async def _hot(place: Place, calls: Sequence[Call], callers: int) -> Figures:
    """Seconds of a call, and of its script in the server."""
    await place.client.config_resetstat()
    with frozen_heap():
        run = await closed_loop(calls, callers)
    assert all(run.results), "a call got no coin, or stored none"
    stats: dict[str, Any] = await place.client.info("commandstats")
    script = stats["cmdstat_evalsha"]["usec"] / len(calls)
    each = median(run.latencies) if callers == 1 else run.elapsed / len(calls)
    return {names.TIME: each, names.IN_SERVER: script / 1e6}


async def _selections(place: Place, size: int, inventory: AsyncSmartInventory) -> list[Call]:
    """Selections by an inventory, of contacts that have a coin each."""
    contacts = await stocked(place.database.inventory, size)
    return [partial(inventory.select_coin, each, "GOLD") for each in contacts]


async def _used_memory(place: Place) -> int:
    """What the server's data takes, in bytes, and what it keeps beside it."""
    memory: dict[str, Any] = await place.client.info("memory")
    return int(memory["used_memory"])


async def _contacts(place: Place, size: int) -> list[str]:
    """The only contacts on the server."""
    await place.clear()
    return await new_contacts(place.database.inventory, size)


async def _stock(place: Place, size: int) -> None:
    """Contacts, each with a BRONZE coin."""
    contacts = await _contacts(place, size)
    await store_all(place.database.inventory, [new_coin(each, "BRONZE") for each in contacts])


async def _full_queue(place: Place, size: int) -> AsyncSmartInventory:
    """An inventory whose only contact has as many GOLD coins as it may."""
    await place.clear()
    caps = {each: dict.fromkeys(config.COIN_SIZE_BYTES, size) for each in config.BUDGET_CAPS}
    inventory = AsyncSmartInventory(
        place.client, owner=place.owner, budget_caps=caps, budget_bytes=PLENTY, clock=CLOCK
    )
    await inventory.register_contact("bob", "BESTIE")
    await store_all(inventory, [new_coin("bob", "GOLD") for _ in range(size)])
    return inventory


async def _keep(place: Place, size: int) -> None:
    """The only private halves on the server."""
    await place.clear()
    await keep_all(place.database.vault, [new_secret("GOLD") for _ in range(size)])


def _small_coin(contact_id: str, tier: CoinCategory) -> NewCoin:
    return NewCoin(contact_id, str(uuid4()), tier, b"p", b"s")
