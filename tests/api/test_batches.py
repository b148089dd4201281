"""Many at once: each with an outcome of its own, on every backend and face."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncSecureVault, AsyncSmartInventory, sync
from aqm_db._io.failures import parse_error
from aqm_db._io.redispy.async_seam import AsyncSeam
from aqm_db._io.redispy.sync_seam import SyncSeam
from aqm_db._io.request import Request
from aqm_db._io.seam import Command
from aqm_db._operations import batch
from aqm_db._operations.stock import RELEASE, SELECT
from aqm_db.errors import (
    AccessDeniedError,
    BudgetExceededError,
    ContactNotRegisteredError,
    CorruptEntryError,
    InvalidArgumentError,
    InvalidCoinCategoryError,
    InvalidIdentifierError,
    InventoryUnavailableError,
    KeyAlreadyExistsError,
    KeyAlreadyUsedError,
    VaultUnavailableError,
)
from aqm_db.types import InventoryEntry, NewCoin, NewKey
from tests.conftest import INVENTORY_DB, VAULT_DB
from tests.support.backends import VALKEY_9, RunningServer, Servers
from tests.support.peers import ScriptedServer, answer_select, listening, tell_time
from tests.support.samples import BOB, MATE, halves, sample_key, stock

pytestmark = pytest.mark.asyncio


def coin(contact_id: str, key_id: str, **changes: Any) -> NewCoin:
    """A SILVER coin."""
    values: dict[str, Any] = {"contact_id": contact_id, "key_id": key_id}
    public_key, signature = halves("SILVER")
    values |= {"coin_category": "SILVER", "public_key": public_key, "signature": signature}
    return NewCoin(**{**values, **changes})


async def test_vault_store_keys(vault: AsyncSecureVault) -> None:
    """A key that can't be stored stops no other."""
    await vault.store_key(**sample_key("taken", "GOLD"))
    platinum: Any = {**sample_key("b", "GOLD"), "coin_category": "PLATINUM"}
    outcomes = await vault.store_keys(
        [
            NewKey(**sample_key("a", "GOLD")),
            NewKey(**sample_key("taken", "GOLD")),
            NewKey(**platinum),
            NewKey(**sample_key("c", "BRONZE"), coin_version="x25519_v1"),
            NewKey(**sample_key("a", "GOLD")),
        ]
    )
    assert [outcome if outcome is True else type(outcome) for outcome in outcomes] == [
        True,
        KeyAlreadyExistsError,
        InvalidCoinCategoryError,
        True,
        KeyAlreadyExistsError,
    ]
    assert await vault.count_active() == {"GOLD": 2, "SILVER": 0, "BRONZE": 1}
    entry = await vault.fetch_key("c")
    assert entry is not None
    assert entry.coin_version == "x25519_v1"


async def test_inventory_store_keys(
    inventory: AsyncSmartInventory, registered_bestie: str, registered_mate: str
) -> None:
    """A coin that can't be cached stops no other, of whichever contact."""
    await stock(inventory, registered_bestie, "SILVER", "used")
    await inventory.select_coin(registered_bestie, "SILVER")
    outcomes = await inventory.store_keys(
        [
            coin(BOB, "1"),
            coin(MATE, "1"),
            coin("nobody", "1"),
            coin(BOB, "used"),
            coin(BOB, "1"),
            coin(BOB, ""),
            coin(MATE, "gold", coin_category="GOLD"),
            coin(BOB, "2"),
        ]
    )
    assert [outcome if outcome is True else type(outcome) for outcome in outcomes] == [
        True,
        True,
        ContactNotRegisteredError,
        KeyAlreadyUsedError,
        KeyAlreadyExistsError,
        InvalidIdentifierError,
        BudgetExceededError,
        True,
    ]
    assert (await inventory.get_inventory(BOB)).silver_count == 2
    assert (await inventory.get_inventory(MATE)).silver_count == 1


async def test_select_coins(
    inventory: AsyncSmartInventory,
    inventory_client: Redis,
    registered_bestie: str,
    registered_mate: str,
) -> None:
    """Each contact of a group gets a coin, nothing, or its own error."""
    await stock(inventory, registered_bestie, "GOLD", "g1")
    await stock(inventory, registered_mate, "BRONZE", "b1")
    await inventory.register_contact("empty", "MATE")
    await inventory_client.set("inv:v1:meta:broken", "x")
    outcomes = await inventory.select_coins(
        [BOB, MATE, "empty", "nobody", "broken", "x" * 300], "GOLD"
    )
    assert list(outcomes) == [BOB, MATE, "empty", "nobody", "broken", "x" * 300]
    assert [
        getattr(outcome, "key_id", None) or (outcome and type(outcome))
        for outcome in outcomes.values()
    ] == [
        "g1",
        "b1",
        None,
        ContactNotRegisteredError,
        CorruptEntryError,
        InvalidIdentifierError,
    ]


async def test_nothing_at_once(vault: AsyncSecureVault, inventory: AsyncSmartInventory) -> None:
    """No items give no outcomes."""
    assert await vault.store_keys([]) == []
    assert await inventory.store_keys([]) == []
    assert await inventory.select_coins([], "GOLD") == {}


async def test_wrong_items(vault: AsyncSecureVault, inventory: AsyncSmartInventory) -> None:
    """What isn't a list of the right things is refused as a whole, with the place."""
    wrong: Any
    for wrong in (None, 5, "text", b"bytes", {"key"}, iter([])):
        with pytest.raises(InvalidArgumentError, match="^keys: "):
            await vault.store_keys(wrong)
        with pytest.raises(InvalidArgumentError, match="^coins: "):
            await inventory.store_keys(wrong)
        with pytest.raises(InvalidArgumentError, match="^contact_ids: "):
            await inventory.select_coins(wrong, "GOLD")
    wrong = [NewKey(**sample_key("a", "GOLD")), "b"]
    with pytest.raises(InvalidArgumentError, match=r"^keys\[1\]: .*NewKey, not str"):
        await vault.store_keys(wrong)
    assert not await vault.exists("a")
    wrong = "PLATINUM"
    with pytest.raises(InvalidCoinCategoryError, match="^desired_tier: "):
        await inventory.select_coins([BOB], wrong)
    with pytest.raises(InvalidArgumentError, match="^contact_ids: .*once"):
        await inventory.select_coins([BOB, MATE, BOB], "GOLD")


async def test_forgotten_scripts_are_sent_once(servers: Servers) -> None:
    """After SCRIPT FLUSH a batch takes three round trips, however long it is."""
    client = servers[VALKEY_9].client(INVENTORY_DB)
    await client.flushdb()
    await client.script_flush()
    vault = AsyncSecureVault(client)
    tell_time(client)
    await client.config_resetstat()
    keys = [NewKey(**sample_key(f"k{number}", "BRONZE")) for number in range(30)]
    assert await vault.store_keys(keys) == [True] * 30
    calls: Any = await client.info("commandstats")
    assert calls["cmdstat_eval"]["calls"] == 1
    assert calls["cmdstat_evalsha"]["calls"] == 30 + 29
    await client.flushdb()
    await client.aclose()


@pytest.mark.parametrize("portion", [200, 6])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_batch_loses_no_coin(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, times: int, portion: int
) -> None:
    """At whatever step its caller is cancelled, all coins are back, of all portions."""
    monkeypatch.setattr(batch, "AT_ONCE", portion)
    client = servers[VALKEY_9].client(INVENTORY_DB)
    await client.flushdb()
    inventory = AsyncSmartInventory(client)
    contacts = [f"c{number}" for number in range(20)]
    for contact_id in contacts:
        await inventory.register_contact(contact_id, "MATE")
        await stock(inventory, contact_id, "SILVER", "s1", "s2")
    delivered = 0
    for step in range(25):
        task = asyncio.ensure_future(inventory.select_coins([*contacts, "nobody"], "SILVER"))
        for _ in range(step):
            await asyncio.sleep(0)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait((task,))
        if not task.cancelled():
            found = [entry for entry in task.result().values() if hasattr(entry, "key_id")]
            delivered += len(found)
        assert delivered + await count_silver(inventory) == 40
    await client.flushdb()
    await client.aclose()


async def test_a_cancelled_batch_with_an_id_that_is_no_text(servers: Servers) -> None:
    """A coin that nobody could be given keeps no other from going back."""
    client = servers[VALKEY_9].client(INVENTORY_DB)
    await client.flushdb()
    inventory = AsyncSmartInventory(client)
    for contact_id in (BOB, MATE):
        await inventory.register_contact(contact_id, "MATE")
        await stock(inventory, contact_id, "SILVER", "s1", "s2")
    row = inventory.keys.of(BOB).row("s1")
    spoiled: Any = await client.hgetall(row)
    cancelled = 0
    for step in range(25):
        await client.hset(f"inv:v1:key:{BOB}:".encode() + b"\xff", mapping=spoiled)
        await client.zadd(f"inv:v1:idx:{BOB}:SILVER", {b"\xff": 1})
        task = asyncio.ensure_future(inventory.select_coins([BOB, MATE], "SILVER"))
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        cancelled += task.cancelled()
        if not task.cancelled():
            await stock(inventory, MATE, "SILVER", f"again-{step}")
        assert (await inventory.get_inventory())[MATE].silver_count == 2
    assert cancelled > 1
    await client.flushdb()
    await client.aclose()


async def test_a_release_that_is_refused_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a cancelled call can't be taken back, the log says so."""
    coin = (b"k", b"GOLD", b"p", b"s", b"1", b"99999999999999", b"2 1 r")
    asked = asyncio.Event()

    def answer(command: list[bytes]) -> bytes:
        if command[1] == SELECT.sha.encode():
            first = not asked.is_set()
            asked.set()
            return b"" if first else answer_select(command, *coin) * 2
        return b"-NOPERM no permission\r\n"

    server = ScriptedServer(answer)
    async with listening(server, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"), protocol=2, retry=Retry(NoBackoff(), 0)
        )
        task = asyncio.ensure_future(AsyncSmartInventory(client).select_coin(BOB, "GOLD"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.aclose()
    [record] = caplog.records
    assert record.msg == "outcome_unknown"
    assert record.__dict__["error"] == AccessDeniedError.__name__


async def test_a_batch_that_was_not_sent_is_dropped(tmp_path: Path) -> None:
    """Cancelling a caller that still waits for a connection waits for nothing."""
    client = Redis(unix_socket_path=str(tmp_path / "nobody"), retry=Retry(NoBackoff(), 1_000_000))
    task = asyncio.ensure_future(AsyncSmartInventory(client).select_coins([BOB], "GOLD"))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await client.aclose()


async def test_a_batch_that_is_cancelled_between_two_requests_loses_no_coin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What its first request took is back though its second one was never sent."""
    coin = [b"k", b"GOLD", b"p", b"s", b"1", None, b"2 1 r"]
    coin_reply: list[Any] = [0, b"inv:v1:claim:a:id", [], *coin]
    asked: list[Command] = []

    async def ask(_: AsyncSeam, commands: list[Command], __: Request) -> list[Any]:
        asked.extend(commands)
        match len(asked):
            case 2:
                # One coin is taken; for the other contact the script was forgotten meanwhile.
                return [coin_reply, parse_error("NOSCRIPT No matching script.")]
            case 3:
                # Cancelled while it still waits for a connection.
                raise asyncio.CancelledError
            case 5:
                return [coin_reply, [5, b"inv:v1:claim:b:id"]]
            case _:
                return [[0, 1]]

    monkeypatch.setattr(AsyncSeam, "_ask", ask)
    client = Redis()
    tell_time(client)
    inventory = AsyncSmartInventory(client, request_ids=lambda: "id")
    with pytest.raises(asyncio.CancelledError):
        await inventory.select_coins(["a", "b"], "GOLD")
    assert len(asked) == 6
    assert RELEASE.sha in asked[-1]


async def test_a_denied_batch_has_an_error_for_each(servers: Servers) -> None:
    """What the server refuses, it refuses one by one."""
    with RunningServer(VALKEY_9) as server:
        admin = server.client(0)
        await admin.acl_setuser(
            "limited", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-evalsha"]
        )
        client = server.client(0, username="limited", password="x")
        outcomes = await AsyncSmartInventory(client).select_coins(["a", "b"], "GOLD")
        assert [type(outcome) for outcome in outcomes.values()] == [AccessDeniedError] * 2
        await client.aclose()
        await admin.aclose()


def many() -> list[NewKey]:
    """More keys than a portion has."""
    return [NewKey(**sample_key(f"k{number}", "BRONZE")) for number in range(1200)]


async def test_others_wait_for_a_portion_of_a_large_batch(servers: Servers) -> None:
    """A caller that comes meanwhile is served between two portions."""
    client = servers[VALKEY_9].client(VAULT_DB)
    await client.flushdb()
    vault = AsyncSecureVault(client)
    # Connected, and with a server that knows the script, a batch is sent at once.
    await vault.store_key(**sample_key("first", "BRONZE"))
    storing = asyncio.create_task(vault.store_keys(many()))
    await asyncio.sleep(0)
    assert not await vault.exists("k1199")
    assert not storing.done()
    assert await storing == [True] * 1200
    assert await vault.exists("k1199")
    await client.flushdb()
    await client.aclose()


@pytest.mark.parametrize("done", [0, 200, 1000])
async def test_a_large_batch_that_stops_halfway(tmp_path: Path, done: int) -> None:
    """What was done is told, and so is why the rest was not; if all was refused, it's raised."""
    server = ScriptedServer(
        lambda _: b"*1\r\n:0\r\n" if len(server.requests) <= done else b"-LOADING\r\n"
    )
    path = tmp_path / "s"
    async with listening(server, path):
        client = Redis(unix_socket_path=str(path), protocol=2, retry=Retry(NoBackoff(), 0))
        storing = AsyncSecureVault(client).store_keys(many())
        if done:
            outcomes = await storing
            assert outcomes[:done] == [True] * done
            assert {type(outcome) for outcome in outcomes[done:]} == {VaultUnavailableError}
        else:
            with pytest.raises(VaultUnavailableError) as caught:
                await storing
            assert not caught.value.outcome_unknown
        assert len(server.requests) == done + 200
        await client.aclose()


async def test_a_selection_that_stops_halfway(tmp_path: Path) -> None:
    """The coins of the portions before are given out; the others have the error."""
    coin = (b"k", b"GOLD", b"p", b"s", b"1", b"99999999999999", b"2 1 r")

    def answer(command: list[bytes]) -> bytes:
        return answer_select(command, *coin) if len(server.requests) <= 200 else b"-LOADING\r\n"

    server = ScriptedServer(answer)
    contacts = [f"c{number}" for number in range(450)]
    async with listening(server, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"), protocol=2, retry=Retry(NoBackoff(), 0)
        )
        found = await AsyncSmartInventory(client).select_coins(contacts, "GOLD")
        await client.aclose()
    kinds = [type(found[contact_id]) for contact_id in contacts]
    assert kinds == [InventoryEntry] * 200 + [InventoryUnavailableError] * 250
    assert [command[0] for command in server.requests].count(b"EVALSHA") == 400


def interrupt(monkeypatch: pytest.MonkeyPatch, seam: type[Any], after: int) -> None:
    """Has whoever runs calls be interrupted, once that many portions have been run."""
    run_all, runs = seam.run_all, iter(range(after + 1))

    async def run_or_interrupt(self: Any, calls: Any, undos: Any = None) -> Any:
        if next(runs, 0) == after:
            raise KeyboardInterrupt
        return await run_all(self, calls, undos)

    monkeypatch.setattr(seam, "run_all", run_or_interrupt)


async def test_an_interrupted_batch_loses_no_coin(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the synchronous face, all coins of the portions before are back, too."""
    monkeypatch.setattr(batch, "AT_ONCE", 3)
    contacts = [f"c{number}" for number in range(8)]
    with servers[VALKEY_9].sync_client(INVENTORY_DB) as client:
        client.flushdb()
        inventory = sync.SmartInventory(client)
        for contact_id in contacts:
            inventory.register_contact(contact_id, "MATE")
            inventory.store_key(contact_id, "s1", "SILVER", *halves("SILVER"))
        with monkeypatch.context() as patched:
            interrupt(patched, SyncSeam, 2)
            with pytest.raises(KeyboardInterrupt):
                inventory.select_coins(contacts, "SILVER")
        assert [each.silver_count for each in inventory.get_inventory().values()] == [1] * 8
        client.flushdb()


@pytest.mark.parametrize("how", ["refused", "silent"])
async def test_a_batch_that_can_not_be_taken_back_is_logged(
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    """The cancellation goes on in time, and the log says what became of the portions before."""
    monkeypatch.setattr(batch, "AT_ONCE", 2)
    client = servers[VALKEY_9].client(INVENTORY_DB)
    await client.flushdb()
    inventory = AsyncSmartInventory(client, settle_timeout=20)
    for contact_id in "abc":
        await inventory.register_contact(contact_id, "MATE")
        await stock(inventory, contact_id, "SILVER", "s1")
    run_all, answered, spoken = AsyncSeam.run_all, asyncio.Event(), asyncio.Event()

    async def run(self: AsyncSeam, calls: Any, undos: Any = None) -> Any:
        if undos is None and calls[0].script.name == "inv_release":
            await spoken.wait()
            refused = how == "refused"
            return [AccessDeniedError("no")] * 2 if refused else await run_all(self, calls)
        if undos is None:
            return await run_all(self, calls)
        if answered.is_set():
            await asyncio.Event().wait()
        replies = await run_all(self, calls, undos)
        answered.set()
        return replies

    monkeypatch.setattr(AsyncSeam, "run_all", run)
    if how == "refused":
        spoken.set()
    task = asyncio.ensure_future(inventory.select_coins([*"abc"], "SILVER"))
    await answered.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [record] = [each for each in caplog.records if each.levelname == "WARNING"]
    assert record.msg == ("outcome_unknown" if how == "refused" else "settling_delayed")
    assert record.__dict__["operation"] == "inv_release"
    spoken.set()
    back = 3 if how == "silent" else 1
    await until_async(lambda: count_silver(inventory), back)
    await client.flushdb()
    await client.aclose()


async def count_silver(inventory: AsyncSmartInventory) -> int:
    """All coins that there are."""
    return sum(each.silver_count for each in (await inventory.get_inventory()).values())


async def until_async(count: Callable[[], Awaitable[int]], wanted: int) -> None:
    """Waits until something is counted."""
    async with asyncio.timeout(10):
        while await count() != wanted:
            await asyncio.sleep(0)
