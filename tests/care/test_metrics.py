"""Metrics: each operation with its outcome and its time, on either face, and no id in any of it."""

from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase, AsyncSmartInventory, sync
from aqm_db._io.seam import Seam
from aqm_db.errors import (
    ContactNotRegisteredError,
    InventoryUnavailableError,
    KeyAlreadyBurnedError,
)
from aqm_db.metrics import MaintenanceGauges, PrefetchMetrics, instrument
from aqm_db.types import MaintenanceProgress, NewCoin, PrefetchCounts
from tests.conftest import INVENTORY_DB, VAULT_DB
from tests.support.backends import RunningServer
from tests.support.samples import BOB, halves, sample_key, stock


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    """Where the metrics are exported to."""
    memory = InMemoryMetricReader()
    yield memory
    memory.shutdown()


def provider(reader: InMemoryMetricReader) -> MeterProvider:
    """Makes meters."""
    return MeterProvider(metric_readers=[reader], shutdown_on_exit=False)


def exported(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    """The attributes and the data of each metric; some SDKs tell what a gauge shows only once."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: [(dict(point.attributes or {}), point) for point in metric.data.data_points]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def counted(reader: InMemoryMetricReader) -> dict[tuple[Any, ...], int]:
    """How many operations there were, by operation, outcome, tier and fallback."""
    names = ("operation", "outcome", "tier", "fallback")
    return {
        tuple(attributes.get(name) for name in names): point.value
        for attributes, point in exported(reader)["aqm_db.operations"]
    }


@pytest.mark.asyncio
async def test_operations_are_counted_by_outcome(
    vault_client: Redis, inventory_client: Redis, reader: InMemoryMetricReader
) -> None:
    """What was done, for which tier, and how it ended."""
    await inventory_client.set("inv:v1:schema", "2")
    db = AsyncClientDatabase(vault_client, inventory_client)
    instrument(db, provider(reader).get_meter("test"))
    await db.vault.store_key(**sample_key("k", "GOLD"))
    await db.vault.burn_key("k")
    with pytest.raises(KeyAlreadyBurnedError):
        await db.vault.burn_key("k")
    assert await db.vault.fetch_key("k") is None
    await db.inventory.register_contact(BOB, "BESTIE")
    await stock(db.inventory, BOB, "SILVER", "s1", "s2")
    await db.inventory.store_keys([NewCoin(BOB, "b1", "BRONZE", *halves("BRONZE"))])
    entry = await db.inventory.select_coin(BOB, "SILVER")
    assert entry is not None
    await db.inventory.release_coin(entry)
    for _ in range(3):
        await db.inventory.select_coin(BOB, "GOLD")
    assert await db.inventory.select_coin(BOB, "GOLD") is None
    with pytest.raises(ContactNotRegisteredError):
        await db.inventory.select_coin("nobody", "BRONZE")
    await db.gc.collect_single_contact(BOB)
    assert [page async for page in db.inventory.contact_pages()] == [[BOB]]
    await db.inventory.scope.seam.aclose()
    assert not await db.inventory.has_keys_for(BOB)
    assert counted(reader) == {
        ("vault_store", "ok", "GOLD", None): 1,
        ("vault_burn", "ok", None, None): 1,
        ("vault_burn", "burned", None, None): 1,
        ("inv_register", "ok", None, None): 1,
        ("inv_store", "ok", "SILVER", None): 2,
        ("inv_store", "ok", "BRONZE", None): 1,
        ("inv_release", "ok", "SILVER", None): 1,
        ("inv_select", "ok", "SILVER", False): 1,
        ("inv_select", "ok", "SILVER", True): 2,
        ("inv_select", "ok", "BRONZE", True): 1,
        ("inv_select", "empty", "GOLD", None): 1,
        ("inv_select", "not_registered", "BRONZE", None): 1,
        ("inv_collect", "ok", None, None): 1,
    }


@pytest.mark.asyncio
async def test_other_owners_are_counted_with_the_database_they_came_from(
    vault_client: Redis, inventory_client: Redis, reader: InMemoryMetricReader
) -> None:
    """From then on, as the database itself."""
    db = AsyncClientDatabase(vault_client, inventory_client)
    before = db.for_owner("before")
    instrument(db, provider(reader).get_meter("test"))
    for each in (db, before, db.for_owner("alice"), db.for_owner("alice").for_owner("bob")):
        await each.inventory.register_contact(BOB, "MATE")
    assert counted(reader) == {("inv_register", "ok", None, None): 3}


def test_coins_at_hand(reader: InMemoryMetricReader) -> None:
    """What was done since the last time is added, and what there is takes its place."""
    metrics = PrefetchMetrics(provider(reader).get_meter("test"))
    for hits, misses, at_hand in ((2, 1, 3), (5, 1, 0)):
        counts = ({"GOLD": hits}, {"GOLD": misses}, {"GOLD": at_hand})
        metrics.record(PrefetchCounts(*counts))
    found = exported(reader)
    assert {
        (attributes["outcome"], attributes["tier"]): point.value
        for attributes, point in found["aqm_db.prefetch.selections"]
    } == {("hit", "GOLD"): 5, ("miss", "GOLD"): 1}
    [(attributes, point)] = found["aqm_db.prefetch.coins"]
    assert (attributes, point.value) == ({"tier": "GOLD"}, 0)


@pytest.mark.asyncio
async def test_errors_are_counted_by_class(
    vault_client: Redis, inventory_client: Redis, reader: InMemoryMetricReader
) -> None:
    """A call that the server refused is an operation, too; so is each one of a batch."""
    db = AsyncClientDatabase(vault_client, inventory_client)
    instrument(db, provider(reader).get_meter("test"))
    await inventory_client.set(f"inv:v1:meta:{BOB}", "x")
    with pytest.raises(Exception, match="wrong type"):
        await db.inventory.select_coin(BOB, "SILVER")
    [error] = await db.inventory.store_keys([NewCoin(BOB, "s", "SILVER", *halves("SILVER"))])
    assert isinstance(error, Exception)
    assert counted(reader) == {
        ("inv_select", "CorruptEntryError", "SILVER", None): 1,
        ("inv_store", "CorruptEntryError", "SILVER", None): 1,
    }


@pytest.mark.asyncio
async def test_an_operation_that_is_broken_off_is_counted(
    vault_client: Redis, inventory_client: Redis, reader: InMemoryMetricReader
) -> None:
    """A batch that gets no answer at all counts each of its calls."""
    db = AsyncClientDatabase(vault_client, inventory_client)
    await db.inventory.register_contact(BOB, "BESTIE")

    class Broken:
        async def run_all(self, *_: object) -> None:
            raise ConnectionResetError

    db.gates.add_layer(lambda _: cast("Seam", Broken()))
    instrument(db, provider(reader).get_meter("test"))
    with pytest.raises(ConnectionResetError):
        await db.inventory.select_coins([BOB, "carol"], "GOLD")
    assert counted(reader) == {("inv_select", "ConnectionResetError", "GOLD", None): 2}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reply", [[0, b"another claim", [], b"k"], [0, 1], [5], [], 7, {b"k": b""}]
)
async def test_a_reply_to_another_call_is_counted_as_its_error(
    reader: InMemoryMetricReader, reply: Any
) -> None:
    """And doesn't fail here: its caller is to be told."""
    db = AsyncClientDatabase(Redis(), Redis())

    hung_up = []

    class OutOfStep:
        async def run(self, *_: object) -> Any:
            return reply

        def distrust(self) -> None:
            hung_up.append(reply)

    db.gates.add_layer(lambda _: cast("Seam", OutOfStep()))
    instrument(db, provider(reader).get_meter("test"))
    with pytest.raises(InventoryUnavailableError, match="out of step"):
        await db.inventory.select_coin(BOB, "GOLD")
    assert hung_up == [reply]
    assert counted(reader) == {("inv_select", "InventoryUnavailableError", "GOLD", None): 1}


@pytest.mark.asyncio
async def test_times_are_recorded(
    vault_client: Redis, inventory_client: Redis, reader: InMemoryMetricReader
) -> None:
    """The seconds of each operation; a batch is one."""
    db = AsyncClientDatabase(vault_client, inventory_client)
    ticks = count()
    instrument(db, provider(reader).get_meter("test"), seconds=lambda: next(ticks) / 4)
    await db.inventory.register_contact(BOB, "BESTIE")
    await db.inventory.has_keys_for(BOB)
    await db.inventory.select_coins([BOB, "carol"], "GOLD")
    assert [
        (attributes, point.count, point.sum)
        for attributes, point in exported(reader)["db.client.operation.duration"]
    ] == [
        ({"db.system.name": "redis", "db.operation.name": name}, 1, 0.25)
        for name in ("inv_register", "read", "batch")
    ]


@pytest.mark.asyncio
async def test_stock_is_a_gauge(
    vault_client: Redis, inventory_client: Redis, reader: InMemoryMetricReader
) -> None:
    """What a reporter has read is what the gauges show."""
    db = AsyncClientDatabase(vault_client, inventory_client)
    gauges = instrument(db, provider(reader).get_meter("test"))
    await db.vault.store_key(**sample_key("k", "GOLD"))
    await db.inventory.register_contact(BOB, "BESTIE")
    await db.inventory.register_contact("carol", "MATE")
    await stock(db.inventory, BOB, "SILVER", "s1", "s2")
    await stock(db.inventory, "carol", "SILVER", "s3")
    gauges.record(await db.reporter.get_full_dashboard())
    shown = {
        name: {attributes["tier"]: point.value for attributes, point in points}
        for name, points in exported(reader).items()
        if name in {"aqm_db.vault.keys", "aqm_db.inventory.coins"}
    }
    assert shown == {
        "aqm_db.vault.keys": {"GOLD": 1, "SILVER": 0, "BRONZE": 0},
        "aqm_db.inventory.coins": {"GOLD": 0, "SILVER": 3, "BRONZE": 0},
    }


def test_the_synchronous_face(server: RunningServer, reader: InMemoryMetricReader) -> None:
    """The same, without an event loop; closing closes what is underneath."""
    with (
        server.sync_client(VAULT_DB) as vault_client,
        server.sync_client(INVENTORY_DB) as inventory_client,
    ):
        inventory_client.flushdb()
        db = sync.ClientDatabase(vault_client, inventory_client)
        instrument(db, provider(reader).get_meter("test"))
        db.inventory.register_contact(BOB, "BESTIE")
        assert db.inventory.select_coin(BOB, "GOLD") is None
        inventory_client.flushdb()
    assert counted(reader) == {
        ("inv_register", "ok", None, None): 1,
        ("inv_select", "empty", "GOLD", None): 1,
    }


def test_only_databases_are_instrumented(
    inventory_client: Redis, reader: InMemoryMetricReader
) -> None:
    """A vault or an inventory alone is refused."""
    wrong: Any = AsyncSmartInventory(inventory_client)
    with pytest.raises(TypeError, match="^db: "):
        instrument(wrong, provider(reader).get_meter("test"))


@pytest.mark.asyncio
async def test_no_id_is_recorded(
    vault_client: Redis, inventory_client: Redis, reader: InMemoryMetricReader
) -> None:
    """Whose coins they are, and which, is nobody's to collect."""
    db = AsyncClientDatabase(vault_client, inventory_client)
    gauges = instrument(db, provider(reader).get_meter("test"))
    await db.vault.store_key(**sample_key("a-secret-key", "GOLD"))
    await db.inventory.register_contact("a-secret-contact", "BESTIE")
    await stock(db.inventory, "a-secret-contact", "GOLD", "a-secret-coin")
    await db.inventory.select_coin("a-secret-contact", "GOLD")
    gauges.record(await db.reporter.get_full_dashboard())
    assert "secret" not in str(reader.get_metrics_data())


class Refusing:
    """A meter whose instruments take no value."""

    def create_counter(self, *_: str) -> Any:
        """Makes any of them."""
        return self

    create_histogram = create_gauge = create_counter

    def add(self, *_: Any) -> None:
        """Refuses."""
        raise ValueError

    record = add


@pytest.mark.asyncio
async def test_a_meter_that_fails_costs_no_coin(
    vault_client: Redis, inventory_client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """It's logged, and whoever asked gets what was asked for."""
    db = AsyncClientDatabase(vault_client, inventory_client)
    meter: Any = Refusing()
    instrument(db, meter)
    await db.inventory.register_contact(BOB, "BESTIE")
    await stock(db.inventory, BOB, "GOLD", "g1")
    caplog.clear()
    assert await db.inventory.select_coin(BOB, "GOLD") is not None
    assert [record.msg for record in caplog.records] == ["metrics_failed"] * 2
    outcomes = await db.inventory.store_keys([NewCoin(BOB, "g2", "GOLD", *halves("GOLD"))])
    assert outcomes == [True]


def test_gauges_of_maintenance(reader: InMemoryMetricReader) -> None:
    """How far a round is, by what became of the owners."""
    gauges = MaintenanceGauges(provider(reader).get_meter("test"))
    gauges.record(MaintenanceProgress(1, None, 5, 2, 10))
    shown = exported(reader)["aqm_db.maintenance.owners"]
    assert {attributes["state"]: point.value for attributes, point in shown} == {
        "cared_for": 5,
        "failed": 2,
        "left": 3,
    }
    gauges.record(MaintenanceProgress(1, 2, 9, 2, 20))
    shown = exported(reader)["aqm_db.maintenance.owners"]
    assert ({"state": "left"}, 0) in [(dict(found), point.value) for found, point in shown]
