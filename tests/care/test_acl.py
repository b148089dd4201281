"""Users who are one owner each: all that is theirs works, and nothing of others."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import pytest_asyncio

from aqm_db import AsyncClientDatabase
from aqm_db.acl import acl_rules
from aqm_db.errors import AccessDeniedError, AQMDatabaseError, InvalidArgumentError
from tests.support.backends import REDIS_6, REDIS_8, VALKEY_8, VALKEY_9, Backend, RunningServer
from tests.support.samples import BOB, halves

pytestmark = pytest.mark.asyncio
GLOBS = "al?ce*[a]{b}\\"
"""An owner whose name would be a pattern of many."""


@pytest.fixture(params=[VALKEY_9, VALKEY_8, REDIS_6, REDIS_8], ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Servers that have users."""
    value = request.param
    assert isinstance(value, Backend)
    return value


@pytest_asyncio.fixture
async def confined(
    server: RunningServer,
) -> AsyncIterator[Callable[..., Coroutine[Any, Any, AsyncClientDatabase]]]:
    """Makes the database of an owner, over the clients of a user who may be another one."""
    admin: Any = server.client(0)
    made: list[AsyncClientDatabase] = []

    async def confine(owner: str, **options: Any) -> AsyncClientDatabase:
        rules = acl_rules(owner, **options)
        await admin.execute_command("ACL", "SETUSER", "confined", "on", ">secret", *rules)
        clients = [server.client(db, username="confined", password="secret") for db in (0, 1)]
        database = AsyncClientDatabase(clients[0], clients[1], owner=owner)
        made.append(database)
        return database

    yield confine
    for database in made:
        await database.aclose()
    await admin.flushall()
    await admin.acl_deluser("confined")
    await admin.aclose()


async def used(db: AsyncClientDatabase) -> None:
    """What an owner does every day."""
    await db.vault.store_key("k1", "GOLD", b"blob", b"nonce", b"tag")
    await db.vault.fetch_key("k1")
    await db.vault.burn_key("k1")
    await db.vault.get_stats()
    await db.inventory.register_contact(BOB, "BESTIE", "Bob")
    for key_id in ("c1", "c2", "c3"):
        await db.inventory.store_key(BOB, key_id, "GOLD", *halves("GOLD"))
    coin = await db.inventory.select_coin(BOB, "GOLD")
    assert coin is not None
    await db.inventory.release_coin(coin)
    await db.inventory.consume_key(BOB, "c2")
    await db.inventory.list_coins(BOB)
    await db.inventory.get_inventory(BOB)
    await db.inventory.set_contact_priority(BOB, "STRANGER")
    assert (await db.health()).vault_connected


@pytest.mark.parametrize("owner", ["alice", "@alice:example.org", GLOBS, "é"])
async def test_an_owner_can_do_everything_with_scan(
    confined: Callable[..., Coroutine[Any, Any, AsyncClientDatabase]], owner: str
) -> None:
    """The doctor finds no permission missing, and nothing else is denied either."""
    db = await confined(owner, with_scan=True)
    await used(db)
    found = {finding.name: finding.severity for finding in (await db.doctor()).findings}
    assert found["permissions"] == "ok"
    await db.gc.garbage_collect()
    await db.vault.purge_expired()
    assert [found async for found in db.iter_owners()] == [owner]
    assert await db.delete_owner(owner) > 0


async def test_an_owner_can_do_what_needs_no_walk(
    confined: Callable[..., Coroutine[Any, Any, AsyncClientDatabase]],
) -> None:
    """Nobody hears of another owner's contacts, and whoever needs a walk is told so."""
    db = await confined("alice")
    await used(db)
    for call in (
        db.inventory.get_inventory(),
        db.vault.get_all_active_ids(),
        db.gc.garbage_collect(),
        anext(db.iter_owners()),
    ):
        with pytest.raises(AccessDeniedError):
            await call


@pytest.mark.parametrize("owner", ["alice", GLOBS])
async def test_nothing_of_another_owner(
    confined: Callable[..., Coroutine[Any, Any, AsyncClientDatabase]],
    server: RunningServer,
    owner: str,
) -> None:
    """Every operation on another owner's keys is denied, and changes nothing."""
    theirs = AsyncClientDatabase(server.client(0), server.client(1), owner="al1cexa{b}")
    await theirs.vault.store_key("k1", "GOLD", b"blob", b"nonce", b"tag")
    await theirs.inventory.register_contact(BOB, "BESTIE")
    await theirs.inventory.store_key(BOB, "c1", "GOLD", *halves("GOLD"))
    other = (await confined(owner)).for_owner("al1cexa{b}")
    for call in (
        other.vault.store_key("k2", "GOLD", b"blob", b"nonce", b"tag"),
        other.vault.fetch_key("k1"),
        other.vault.burn_key("k1"),
        other.vault.get_stats(),
        other.inventory.register_contact("carol", "MATE"),
        other.inventory.get_contact_meta(BOB),
        other.inventory.store_key(BOB, "c2", "GOLD", *halves("GOLD")),
        other.inventory.select_coin(BOB, "GOLD"),
        other.inventory.consume_key(BOB, "c1"),
        other.inventory.set_contact_priority(BOB, "MATE"),
        other.inventory.list_coins(BOB),
        other.gc.collect_single_contact(BOB),
    ):
        with pytest.raises(AccessDeniedError):
            await call
    assert await theirs.vault.exists("k1")
    assert [coin.key_id for coin in await theirs.inventory.list_coins(BOB)] == ["c1"]
    await theirs.aclose()


async def test_what_a_user_may_not_run(
    confined: Callable[..., Coroutine[Any, Any, AsyncClientDatabase]], server: RunningServer
) -> None:
    """Neither the server nor its data as a whole is theirs."""
    await confined("alice")
    client: Any = server.client(0, username="confined", password="secret")
    for command in ("FLUSHALL", "KEYS *", "CONFIG GET *", "ACL LIST", "SCAN 0", "PUBLISH a b"):
        with pytest.raises(Exception, match="no permissions|has no"):
            await client.execute_command(*command.split())
    await client.aclose()


@pytest.mark.parametrize("owner", ["a b", "", None, "x" * 257])
async def test_an_owner_that_has_no_pattern(owner: Any) -> None:
    """What can't be confined gets no rules, rather than too many."""
    with pytest.raises(AQMDatabaseError) as caught:
        acl_rules(owner)
    assert isinstance(caught.value, InvalidArgumentError)
    assert caught.value.argument == "owner"
