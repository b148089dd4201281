"""A mistake of the library's own comes out as what it is, and is told as nobody else's fault.

Each test breaks a function of ours, where a caller's mistake or a server's refusal is caught close
by. What those come to is tested beside what they're about.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from typer.testing import CliRunner

from aqm_db import (
    AsyncClientDatabase,
    AsyncSmartInventory,
    cli,
    coins,
    connect,
    embedded,
    metrics,
    replenisher,
    sync,
)
from aqm_db._cli.app import app
from aqm_db._io import target
from aqm_db._io.redispy import clients
from aqm_db._io.redispy.faces import Face
from aqm_db._model import checks
from aqm_db._operations import Scope, contacts, reservations
from aqm_db.backup import _file, _records, export_backup, import_backup
from aqm_db.embedded import EmbeddedServer, _share
from aqm_db.errors import CorruptEntryError, InventoryUnavailableError
from aqm_db.replenisher import AsyncReplenisher
from aqm_db.types import CoinCategory, NewCoin
from tests.conftest import INVENTORY_DB, VAULT_DB
from tests.support.backends import VALKEY_9, Servers
from tests.support.coin_server import CoinServer
from tests.support.samples import BOB, halves, sample_key, stock

pytestmark = pytest.mark.asyncio

KINDS = pytest.mark.parametrize("kind", [TypeError, ValueError, KeyError, RuntimeError])


def breaking(error: BaseException) -> Callable[..., NoReturn]:
    """A function with a mistake in it."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


@pytest_asyncio.fixture
async def db(servers: Servers) -> AsyncIterator[AsyncClientDatabase]:
    """An empty database."""
    clients: list[Redis] = [servers[VALKEY_9].client(number) for number in (VAULT_DB, INVENTORY_DB)]
    for client in clients:
        await client.flushdb()
    yield AsyncClientDatabase(*clients)
    for client in clients:
        await client.flushdb()
        await client.aclose()


async def never_sleeping(seconds: float) -> NoReturn:
    """Stands for the pause between two rounds, which no round of these tests lives to see."""
    raise AssertionError(seconds)


# Replenishing and maintenance --------------------------------------------------------------


@KINDS
async def test_a_mistake_ends_the_background(
    db: AsyncClientDatabase, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """Tried again every minute, it would be a line in a log for ever."""
    error = kind("ours")
    monkeypatch.setattr(replenisher, "summarize_pages", breaking(error))
    running = AsyncReplenisher(db.inventory, CoinServer().fetch).running(
        every=60, sleep=never_sleeping
    )
    with pytest.raises(kind) as caught:
        async with running:
            await asyncio.Event().wait()
    assert caught.value is error


async def test_a_mistake_while_coins_are_stored(
    db: AsyncClientDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes out, of each of the three tiers that are filled at once."""
    await db.inventory.register_contact(BOB, "BESTIE")
    monkeypatch.setattr(AsyncReplenisher, "_store", breaking(TypeError("ours")))
    running = AsyncReplenisher(db.inventory, CoinServer().fetch).running(
        every=60, sleep=never_sleeping
    )
    with pytest.RaisesGroup(TypeError, TypeError, TypeError):
        async with running:
            await asyncio.Event().wait()


async def test_a_block_that_fails_as_well(
    db: AsyncClientDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither error hides the other."""
    monkeypatch.setattr(replenisher, "summarize_pages", breaking(TypeError("ours")))
    running = AsyncReplenisher(db.inventory, CoinServer().fetch).running(
        every=60, sleep=never_sleeping
    )
    with pytest.RaisesGroup(TypeError, LookupError):
        async with running:
            try:
                await asyncio.Event().wait()
            finally:
                raise LookupError("the program's own")


async def test_what_the_database_refuses_is_tried_again(
    db: AsyncClientDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That's no mistake: the next round may fare better."""
    failures = [InventoryUnavailableError("gone"), CorruptEntryError("malformed")]
    rounds: list[float] = []

    async def summarize_pages(scope: Scope) -> AsyncIterator[Any]:
        if failures:
            raise failures.pop(0)
        async for page in contacts.summarize_pages(scope):
            yield page

    async def sleep(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) > 2:
            await asyncio.Event().wait()

    monkeypatch.setattr(replenisher, "summarize_pages", summarize_pages)
    reported = asyncio.Event()

    async def on_report(_: object) -> None:
        reported.set()

    running = AsyncReplenisher(db.inventory, CoinServer().fetch).running(
        every=60, on_report=on_report, sleep=sleep
    )
    async with running:
        await reported.wait()
    logged = [r.__dict__["error"] for r in caplog.records if r.msg == "replenish_failed"]
    assert logged == ["InventoryUnavailableError", "CorruptEntryError"]


async def test_a_mistake_in_what_stores_within_the_budget(
    db: AsyncClientDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only an argument's mistake is left to be said later."""
    error = CorruptEntryError("ours")
    monkeypatch.setattr(reservations, "check_coin", breaking(error))
    with pytest.raises(CorruptEntryError) as caught:
        await db.inventory.store_keys(
            [NewCoin(BOB, "k", "GOLD", *halves("GOLD"))], enforce_budget=True
        )
    assert caught.value is error


async def test_a_mistake_in_maintenance(
    db: AsyncClientDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if the lease can't be given back, which is an error of the database's."""
    error = TypeError("ours")
    lease, client = db.inventory.keys.maintenance, db.resources.clients[1]

    async def collect(_: int) -> NoReturn:
        await client.delete(lease)
        await client.rpush(lease, "x")
        raise error

    monkeypatch.setattr(db.gc, "garbage_collect", collect)
    with pytest.raises(TypeError) as caught:
        async with db.maintenance(sleep=never_sleeping):
            await asyncio.Event().wait()
    assert caught.value is error


# Metrics -----------------------------------------------------------------------------------


async def test_a_mistake_beside_a_meter(
    db: AsyncClientDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """The clock is no meter."""
    error = LookupError("the clock's")
    ticks = iter([0.0])

    def seconds() -> float:
        for tick in ticks:
            return tick
        raise error

    class Meter:
        """Makes instruments that take any value, each of them itself."""

        def create_counter(self, *_: str) -> Any:
            return self

        def add(self, *_: object) -> None:
            pass

        create_histogram = create_gauge = create_counter
        record = add

    meter: Any = Meter()
    metrics.instrument(db, meter, seconds=seconds)
    with pytest.raises(LookupError) as caught:
        await db.inventory.register_contact(BOB, "MATE")
    assert caught.value is error
    assert "metrics_failed" not in caplog.text


# Backups -----------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (_file, "_find_field"),
        (_records, "_read_private"),
        (_records, "_read_contact"),
        (_records, "_read_public"),
        (_records, "_Fields"),
    ],
)
async def test_a_mistake_in_reading_a_backup(
    db: AsyncClientDatabase,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: type[Exception],
    module: Any,
    name: str,
) -> None:
    """The file is as good as it was."""
    await db.vault.store_key(**sample_key("k", "GOLD"))
    await db.inventory.register_contact(BOB, "BESTIE")
    await stock(db.inventory, BOB, "GOLD", "g")
    await export_backup(db, tmp_path / "file")
    error = kind("ours")
    monkeypatch.setattr(module, name, breaking(error))
    with pytest.raises(kind) as caught:
        await import_backup(db, tmp_path / "file")
    assert caught.value is error


# Opening -----------------------------------------------------------------------------------


URLS = pytest.mark.parametrize(
    "url",
    [
        "unix:///nowhere",
        "redis://127.0.0.1:1",
        "redis+cluster://127.0.0.1:1",
        "redis+sentinel://127.0.0.1:1/name",
    ],
)
OPEN = pytest.mark.parametrize("opener", [connect, sync.connect], ids=["aio", "sync"])


@OPEN
@URLS
@KINDS
async def test_a_mistake_in_making_clients(
    monkeypatch: pytest.MonkeyPatch, opener: Any, url: str, kind: type[Exception]
) -> None:
    """The url's options have nothing to do with it."""
    error = kind("ours")
    monkeypatch.setattr(Face, "make_options", breaking(error))
    with pytest.raises(kind) as caught:
        await opened(opener, url)
    assert caught.value is error


@OPEN
@pytest.mark.parametrize("url", ["unix:///nowhere", "redis+sentinel://127.0.0.1:1/name"])
async def test_a_mistake_in_looking_at_options(
    monkeypatch: pytest.MonkeyPatch, opener: Any, url: str
) -> None:
    """The same."""
    error = TypeError("ours")
    monkeypatch.setattr(clients, "_get_options", breaking(error))
    with pytest.raises(TypeError) as caught:
        await opened(opener, url)
    assert caught.value is error


@pytest.mark.parametrize("name", ["_read_several", "_read_place", "_split", "unquote"])
async def test_a_mistake_in_reading_a_url(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The url is well formed."""
    error = ValueError("ours")
    monkeypatch.setattr(target, name, breaking(error))
    with pytest.raises(ValueError, match="^ours$") as caught:
        connect("redis+cluster://127.0.0.1:1", owner="alice")
    assert caught.value is error


@KINDS
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (embedded, "prepare_directory"),
        (embedded, "Share"),
        (_share, "SocketPlace"),
        (_share, "start_server"),
        (_share, "tie_server"),
    ],
)
async def test_a_mistake_in_starting_a_server(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: type[Exception],
    module: ModuleType,
    name: str,
) -> None:
    """The directory can be used."""
    error = kind("ours")
    monkeypatch.setattr(module, name, breaking(error))
    with pytest.raises(kind) as caught:
        EmbeddedServer.open(tmp_path / "db")
    assert caught.value is error
    monkeypatch.undo()
    with EmbeddedServer.open(tmp_path / "db"):
        pass


@KINDS
async def test_a_mistake_in_looking_at_caps(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """They are complete."""
    error = kind("ours")
    monkeypatch.setattr(checks, "_entry_of", breaking(error))
    with pytest.raises(kind) as caught:
        AsyncSmartInventory(Redis())
    assert caught.value is error


async def opened(opener: Any, url: str) -> None:
    """Opens a database of either face."""
    opening = opener(url, owner="alice", allow_unsafe=True)
    if opener is connect:
        await opening


# Coins -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tier", "name"), [("BRONZE", "HKDF"), ("BRONZE", "_frame")])
async def test_a_mistake_in_finding_a_secret(
    monkeypatch: pytest.MonkeyPatch, tier: CoinCategory, name: str
) -> None:
    """Neither the coin nor the ciphertext is malformed."""
    coin = coins.mint(coins.Identity.generate(), "k", tier)
    sent = coins.encapsulate(coin.public.public_key, tier)
    error = ValueError("ours")
    monkeypatch.setattr(coins, name, breaking(error))
    with pytest.raises(ValueError, match="^ours$"):
        coins.encapsulate(coin.public.public_key, tier)
    with pytest.raises(ValueError, match="^ours$"):
        coins.decapsulate(coin.private_key, tier, sent.ciphertext)


async def test_a_mistake_in_making_an_encapsulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, of the tiers above."""
    coin = coins.mint(coins.Identity.generate(), "k", "GOLD")
    monkeypatch.setattr(coins, "Encapsulation", breaking(ValueError("ours")))
    with pytest.raises(ValueError, match="^ours$"):
        coins.encapsulate(coin.public.public_key, "GOLD")


# The command -------------------------------------------------------------------------------


async def test_a_broken_module_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """No extra would mend it."""
    monkeypatch.setitem(sys.modules, "aqm_db._cli.app", None)
    monkeypatch.setattr(sys, "argv", ["aqm-db", "demo"])
    with pytest.raises(ImportError, match="aqm_db._cli.app"):
        cli.main()


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("demo", "aqm_db._cli.commands.demo_story"),
        ("chat-demo", "aqm_db._cli.views.chat_demo_view"),
    ],
)
async def test_a_broken_module_of_a_demo(
    monkeypatch: pytest.MonkeyPatch, command: str, module: str
) -> None:
    """The same."""
    monkeypatch.setitem(sys.modules, module, None)
    result = CliRunner().invoke(app, [command])
    assert isinstance(result.exception, ImportError)
    assert result.exception.name == module
