"""Many owners in one database: one set of clients, and what is asked of all of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncClientDatabase, AsyncSecureVault, connect, sync
from aqm_db._io.redispy.async_channel import Channel
from aqm_db._io.redispy.async_loops import get_channels
from aqm_db.errors import (
    CorruptEntryError,
    InvalidArgumentError,
    InvalidIdentifierError,
    InventoryUnavailableError,
    VaultUnavailableError,
)
from aqm_db.types import NewCoin
from tests.conftest import INVENTORY_DB, VAULT_DB
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.faces import ASYNC, Face, Threaded
from tests.support.samples import BOB, Clock, is_claim, sample_key, snapshot, stock

pytestmark = pytest.mark.asyncio
ODD = "@al:ex*?{}[]\\%é \n"


@pytest_asyncio.fixture
async def open_database(
    face: Face, server: RunningServer, vault_client: Redis, inventory_client: Redis, clock: Clock
) -> AsyncIterator[Callable[..., Any]]:
    """Makes a database over both clients; what is left open is closed."""
    made: list[Any] = []

    def make(**options: Any) -> Any:
        if face is ASYNC:
            database: Any = AsyncClientDatabase(
                vault_client, inventory_client, clock=clock, **options
            )
        else:
            clients = [server.sync_client(db) for db in (VAULT_DB, INVENTORY_DB)]
            made.extend(clients)
            database = _Threads(sync.ClientDatabase(*clients, clock=clock, **options))
        return database

    yield make
    for client in made:
        client.close()


async def filled(database: Any, owner: str) -> Any:
    """The database of an owner, with a key and a coin."""
    db = await of(database, owner)
    await db.vault.store_key(**sample_key("k", "GOLD"))
    await db.inventory.register_contact(BOB, "BESTIE", owner)
    await stock(db.inventory, BOB, "GOLD", "c1", "c2")
    await db.inventory.select_coin(BOB, "GOLD")
    return db


async def of(database: Any, owner: str) -> Any:
    """The database of an owner, on either face."""
    if isinstance(database, Threaded):
        other = await database.for_owner(owner)
        return _Threads(other)
    return database.for_owner(owner)


class _Threads(Threaded):
    """A synchronous database whose vault and inventory can be awaited, too."""

    @property
    def vault(self) -> Any:
        return Threaded(self.wrapped.vault)

    @property
    def inventory(self) -> Any:
        return Threaded(self.wrapped.inventory)


async def owners_in(database: Any) -> list[str]:
    """All that ``iter_owners`` names."""
    if isinstance(database, Threaded):
        return list(database.wrapped.iter_owners())
    return [owner async for owner in database.iter_owners()]


async def test_each_owner_has_a_database_of_their_own(open_database: Callable[..., Any]) -> None:
    """The same ids of two owners are two, over one set of clients."""
    database = open_database()
    alice, carol = await filled(database, "alice"), await of(database, "carol")
    assert await carol.vault.fetch_key("k") is None
    assert await carol.inventory.get_contact_meta(BOB) is None
    assert (await alice.inventory.get_contact_meta(BOB)).display_name == "alice"
    assert (await alice.vault.get_stats()).active_gold == 1


async def test_another_owner_has_the_same_settings(
    open_database: Callable[..., Any], clock: Clock
) -> None:
    """Caps, budget, clock and request ids are those of the database."""
    caps = {p: {"GOLD": 1, "SILVER": 0, "BRONZE": 0} for p in ("BESTIE", "MATE", "STRANGER")}
    database = open_database(budget_caps=caps, budget_bytes=5000, request_ids=lambda: "id")
    other = await of(database, "alice")
    inventory: Any = other.inventory
    assert inventory.budget_caps == caps
    assert inventory.budget_bytes == 5000
    await inventory.register_contact(BOB, "BESTIE")
    meta = await inventory.get_contact_meta(BOB)
    assert meta.last_msg_at == clock.now


async def test_closing_another_owners_database_closes_nothing(
    open_database: Callable[..., Any],
) -> None:
    """Its clients are the first one's."""
    database = open_database(owner="alice")
    carol = await filled(database, "carol")
    if isinstance(carol, Threaded):
        carol.wrapped.close()
    else:
        async with carol:
            pass
    dave = await filled(database, "dave")
    assert await dave.vault.exists("k")


async def test_owners_are_found_once_each(
    open_database: Callable[..., Any], vault_client: Redis
) -> None:
    """Whatever they're called, and wherever their keys are; names that aren't ours are no owner."""
    database = open_database()
    assert await owners_in(database) == []
    for number in range(30):
        await (await of(database, f"owner-{number}")).vault.store_key(**sample_key("k", "GOLD"))
    await (await of(database, "carol")).inventory.register_contact(BOB, "MATE")
    await filled(database, ODD)
    await open_database().vault.store_key(**sample_key("nobody's", "GOLD"))
    for name in (b"aqm:{\xff}:x", "aqm:{}:x", "aqm:{a*b}:x", "aqm:other"):
        await vault_client.set(name, "")
    found = await owners_in(database)
    assert sorted(found) == sorted([*(f"owner-{n}" for n in range(30)), "carol", ODD])


@pytest.mark.parametrize("owner", ["alice", ODD])
async def test_an_owner_is_deleted(
    open_database: Callable[..., Any], vault_client: Redis, inventory_client: Redis, owner: str
) -> None:
    """All that is theirs is gone but claims, and nothing else; a second time finds none."""
    clients = (vault_client, inventory_client)
    database = open_database()
    await filled(database, "alices")
    before = [await _read_lasting(client) for client in clients]
    await filled(database, owner)
    await _leave_more(await of(database, owner), inventory_client)
    theirs = sum([len(await _read_lasting(client)) for client in clients]) - sum(map(len, before))
    delete: Any = database.delete_owner
    assert await delete(owner) == theirs
    assert [await _read_lasting(client) for client in clients] == before
    assert await delete(owner) == 0
    assert await owners_in(database) == ["alices"]


async def _leave_more(db: Any, inventory_client: Redis) -> None:
    """A tombstone, the memory of a contact who was forgotten, and a coin that was set aside."""
    await db.vault.store_key(**sample_key("burned", "SILVER"))
    await db.vault.burn_key("burned")
    await db.inventory.register_contact("carol", "BESTIE")
    await stock(db.inventory, "carol", "GOLD", "c3", "c4")
    await db.inventory.select_coin("carol", "GOLD")
    await db.inventory.forget_contact("carol")
    await stock(db.inventory, BOB, "SILVER", "aside")
    keys = db.inventory.keys
    await inventory_client.zrem(keys.of(BOB).queues[1], "aside")
    await inventory_client.zadd(keys.inv_aside, {f"{BOB}:aside": 0})


async def _read_lasting(client: Redis) -> dict[bytes, Any]:
    """Everything but claims."""
    content = await snapshot(client)
    return {key: value for key, value in content.items() if not is_claim(key)}


@pytest.mark.parametrize("name", ["inv_contacts", "inv_forgotten", "inv_aside", "vault_expiry"])
async def test_an_owner_whose_index_is_damaged(
    open_database: Callable[..., Any], vault_client: Redis, inventory_client: Redis, name: str
) -> None:
    """It isn't said that all is gone; once the index is mended, the rest goes."""
    database = open_database()
    alice = await filled(database, "alice")
    await _leave_more(alice, inventory_client)
    index = getattr(alice.inventory.keys, name)
    client = vault_client if name.startswith("vault") else inventory_client
    await client.rename(index, "elsewhere")
    await client.set(index, "")
    with pytest.raises(CorruptEntryError):
        await database.delete_owner("alice")
    await client.rename("elsewhere", index)
    assert await database.delete_owner("alice") > 0
    assert [await _read_lasting(client) for client in (vault_client, inventory_client)] == [{}, {}]


async def test_an_owner_of_many_contacts_and_coins(
    open_database: Callable[..., Any], inventory_client: Redis
) -> None:
    """Queues of more coins than a page holds, and more contacts than are read at once."""
    caps = {p: {"GOLD": 0, "SILVER": 0, "BRONZE": 1200} for p in ("BESTIE", "MATE", "STRANGER")}
    alice = await of(open_database(budget_caps=caps, budget_bytes=10**9), "alice")
    for number in range(30):
        await alice.inventory.register_contact(f"c{number}", "MATE")
    coins = [NewCoin("c1", f"k{number}", "BRONZE", b"p", b"s") for number in range(1100)]
    await alice.inventory.store_keys(coins)
    # All of the contacts, their coins, the one queue, and the index.
    assert await open_database().delete_owner("alice") >= 30 + 1100 + 2
    assert await _read_lasting(inventory_client) == {}


async def test_an_owner_of_many_keys_is_deleted(open_database: Callable[..., Any]) -> None:
    """In pages."""
    database = open_database()
    alice = await of(database, "alice")
    for number in range(1100):
        await alice.vault.store_key(**sample_key(f"k{number}", "BRONZE"))
    assert await database.delete_owner("alice") == 1100 + 2
    assert await owners_in(database) == []


async def test_an_owner_of_whom_a_part_was_deleted() -> None:
    """The error says so, and another time deletes the rest."""
    with RunningServer(VALKEY_9) as server, RunningServer(VALKEY_9) as other:
        never = Retry(NoBackoff(), 0)
        database = AsyncClientDatabase(server.client(0), other.client(0, retry=never))
        alice = database.for_owner("alice")
        await alice.vault.store_key(**sample_key("k", "GOLD"))
        other.kill()
        with pytest.raises(InventoryUnavailableError) as caught:
            await database.delete_owner("alice")
        assert caught.value.outcome_unknown is True
        assert not await alice.vault.exists("k")
        with pytest.raises(InventoryUnavailableError) as caught:
            await database.delete_owner("alice")
        assert caught.value.outcome_unknown is False
        await database.aclose()


@pytest.mark.parametrize("owner", ["", None, 7, "x" * 257, "\ud800"])
async def test_what_is_no_owner(open_database: Callable[..., Any], owner: Any) -> None:
    """It's named before anything is sent."""
    database = open_database()
    with pytest.raises(InvalidIdentifierError, match="^owner: "):
        await of(database, owner)
    with pytest.raises(InvalidIdentifierError, match="^owner: "):
        await database.delete_owner(owner)


@pytest.mark.parametrize("limit", ["1000", True, 0, 4001])
async def test_a_timeout_of_confirmations_has_bounds(limit: Any) -> None:
    """It must end before the socket's own."""
    with pytest.raises(InvalidArgumentError, match="^confirm_timeout: "):
        connect("memory://", confirm_replicas=1, confirm_timeout=limit)


async def test_request_ids_are_told_on_both_faces() -> None:
    """What makes them is what was passed."""
    with sync.connect("memory://", request_ids=lambda: "mine") as db:
        assert db.inventory.request_ids() == "mine"


async def test_a_connection_that_is_given_up_while_it_is_made() -> None:
    """Whoever waits for it hears that nothing was executed."""
    client = Redis(unix_socket_path="/nowhere")
    call = asyncio.ensure_future(AsyncSecureVault(client).exists("k"))
    await asyncio.sleep(0)
    channel = get_channels(client).get_channel()
    assert isinstance(channel, Channel)
    opening = channel._opening
    assert opening is not None
    opening.cancel()
    with pytest.raises(VaultUnavailableError) as caught:
        await call
    assert caught.value.outcome_unknown is False
    await client.aclose()
