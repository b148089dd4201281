"""A database that was closed stays closed: no call connects again behind its back."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from aqm_db import connect, sync
from aqm_db.errors import InventoryUnavailableError, UnavailableError, VaultUnavailableError
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.clusters import RunningCluster, RunningSentinels
from tests.support.samples import BOB
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio

IN_VAULT: dict[str, Callable[[Any], Any]] = {
    "a read": lambda db: db.vault.exists("k"),
    "a script": lambda db: db.vault.burn_key("k"),
    "a report": lambda db: db.reporter.get_vault_report(),
    "a check": lambda db: db.check(),
    "the doctor": lambda db: db.doctor(),
    "the end of an owner": lambda db: db.delete_owner("bob"),
    "another owner": lambda db: db.for_owner("bob"),
    "owners": lambda db: db.iter_owners(),
}
IN_INVENTORY: dict[str, Callable[[Any], Any]] = {
    "a script": lambda db: db.inventory.select_coin(BOB, "GOLD"),
    "a batch": lambda db: db.inventory.select_coins([BOB], "GOLD"),
    "a walk": lambda db: db.inventory.get_inventory(),
    "a collection": lambda db: db.gc.garbage_collect(),
}


@pytest.fixture(scope="module", params=["memory", "embedded", "server", "cluster", "sentinels"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Whatever can be opened."""
    with ExitStack() as running:
        match request.param:
            case "memory":
                yield "memory://"
            case "embedded":
                yield f"embedded://{tmp_path_factory.mktemp('db')}"
            case "server":
                server = running.enter_context(RunningServer(VALKEY_9))
                yield f"unix://{server.socket_path}"
            case "cluster":
                nodes = RunningCluster(VALKEY_9, with_replicas=False)
                yield running.enter_context(nodes).url
            case _:
                yield running.enter_context(RunningSentinels(VALKEY_9)).url


async def given(result: Any) -> Any:
    """What a call of either face gives."""
    if inspect.isawaitable(result):
        return await result
    if isinstance(result, AsyncIterator):
        return [each async for each in result]
    return list(result) if isinstance(result, Iterator) else result


async def closed(face: str, url: str) -> tuple[Any, Any]:
    """A database that was used and closed, and that of another owner over it."""
    if face == "aio":
        database = await connect(url, owner="alice")
        assert not await database.vault.exists("k")
        other = database.for_owner("carol")
        await database.aclose()
        return database, other
    plain = sync.connect(url, owner="alice")
    assert not plain.vault.exists("k")
    last = plain.for_owner("carol")
    plain.close()
    return plain, last


@pytest.mark.parametrize("face", ["aio", "sync"])
async def test_calls_after_the_end(face: str, url: str) -> None:
    """They say that nothing was done, and why."""
    database, other = await closed(face, url)
    expected: list[tuple[type[UnavailableError], dict[str, Callable[[Any], Any]]]] = [
        (VaultUnavailableError, IN_VAULT),
        (InventoryUnavailableError, IN_INVENTORY),
    ]
    for db in (database, other):
        for error, calls in expected:
            for name, call in calls.items():
                with pytest.raises(error, match=r"^the database was closed$") as caught:
                    await given(call(db))
                assert not caught.value.outcome_unknown, name
        health = await given(db.health())
        assert not health.vault_connected
        assert not health.inventory_connected
    # Again, it does nothing.
    await given(database.aclose() if face == "aio" else database.close())


@pytest.mark.parametrize("face", ["aio", "sync"])
async def test_no_connection_is_left(face: str) -> None:
    """What is asked of a closed database opens none."""
    with RunningServer(VALKEY_9) as server, server.sync_client(0) as admin:
        database, other = await closed(face, f"unix://{server.socket_path}")
        for db in (database, other):
            with pytest.raises(VaultUnavailableError):
                await given(db.vault.exists("k"))
        # The server hears of the end of the others by and by.
        eventually(lambda: len(admin.client_list()) == 1)


async def test_maintenance_after_the_end() -> None:
    """It isn't begun."""
    database, other = await closed("aio", "memory://")
    for db in (database, other):
        with pytest.raises(VaultUnavailableError, match=r"^the database was closed$"):
            db.maintenance()


async def test_the_end_of_a_borrowed_database_is_its_own(tmp_path: Path) -> None:
    """The database that it came from goes on."""
    async with connect(f"embedded://{tmp_path}/db") as database:
        async with database.for_owner("carol") as other:
            assert not await other.vault.exists("k")
        assert not await database.vault.exists("k")
        assert not await other.vault.exists("k")
