"""Users who are one owner each: all that is theirs works, and nothing of others."""

import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.exceptions import NoPermissionError, ResponseError

from aqm_db import AsyncClientDatabase
from aqm_db.acl import acl_rules, format_acl_line
from aqm_db.errors import AccessDeniedError, AQMDatabaseError, InvalidArgumentError
from tests.support.backends import (
    REDIS_6,
    REDIS_8,
    VALKEY_8,
    VALKEY_9,
    Backend,
    RunningServer,
    Servers,
)
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


def rules_for(backend: Backend, owner: str, **options: Any) -> list[str]:
    """An owner's rules, as this kind of server takes them."""
    return acl_rules(owner, has_selectors=backend != REDIS_6, **options)


@pytest_asyncio.fixture
async def confined(
    backend: Backend,
    server: RunningServer,
) -> AsyncIterator[Callable[..., Coroutine[Any, Any, AsyncClientDatabase]]]:
    """Makes the database of an owner, over the clients of a user who may be another one."""
    admin: Any = server.client(0)
    made: list[AsyncClientDatabase] = []

    async def confine(owner: str, **options: Any) -> AsyncClientDatabase:
        rules = rules_for(backend, owner, **options)
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
    await db.vault.get_all_active_ids()
    assert BOB in await db.inventory.get_inventory()
    for call in (anext(db.iter_owners()),):
        with pytest.raises(AccessDeniedError):
            await call
    assert await db.delete_owner("alice") > 0
    assert await db.inventory.get_inventory() == {}


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


EARLIER = (
    *("resetchannels", "skip-sanitize-payload", "~others:*", "&news:*"),
    *("+@read", "+config|get", "+get", "+publish"),
)
"""What a user may have been allowed before, on every server."""
EARLIER_SINCE_7 = (
    *EARLIER,
    *("%R~more:*", "(+get ~*)", "(+@read %R~others:*)", "(allchannels +publish)"),
)
"""The same where there are selectors."""
DENIED = ("GET others:1", "GETRANGE others:1 0 1", "CONFIG GET port", "PUBLISH news:1 text")


def denials_of(client: Any) -> int:
    """How many of these commands are denied."""
    denied = 0
    for command in DENIED:
        with suppress(NoPermissionError):
            client.execute_command(*command.split())
            continue
        denied += 1
    return denied


def grow(backend: Backend, server: RunningServer) -> None:
    """Makes the user u, whose password is p, and who was allowed some things over time."""
    earlier = EARLIER if backend == REDIS_6 else EARLIER_SINCE_7
    with server.sync_client(0) as admin:
        admin.execute_command("ACL", "SETUSER", "u", "reset", "on", ">p", *earlier)


@pytest.fixture
def grown(backend: Backend, server: RunningServer) -> Iterator[Any]:
    """A client of that user."""
    grow(backend, server)
    with server.sync_client(0) as admin:
        for number in (0, 1, 5):
            with server.sync_client(number) as client:
                client.set("others:1", "secret")
        with server.sync_client(0, username="u", password="p") as client:
            yield client
        admin.flushall()
        admin.acl_deluser("u")


async def test_what_was_allowed_before_is_taken_back(
    backend: Backend, server: RunningServer, grown: Any
) -> None:
    """Commands, categories, keys, channels and selectors: nothing is left, in no database."""
    assert denials_of(grown) == 0
    with server.sync_client(0) as admin:
        admin.execute_command("ACL", "SETUSER", "u", *rules_for(backend, "alice"))
        # Neither the password nor on has gone.
        for number in (0, 1, 5):
            with server.sync_client(number, username="u", password="p") as client:
                assert denials_of(client) == len(DENIED)
                assert client.get("aqm:{alice}:any") is None
        # Whatever it was before, a user is what a new one is.
        left = admin.execute_command("ACL", "GETUSER", "u")
        admin.acl_deluser("u")
        rules = rules_for(backend, "alice")
        admin.execute_command("ACL", "SETUSER", "u", "on", ">p", *rules)
        assert admin.execute_command("ACL", "GETUSER", "u") == left


async def test_a_server_without_selectors_says_so(
    backend: Backend, server: RunningServer, grown: Any
) -> None:
    """Rules that it doesn't know change nothing, rather than leave out what matters."""
    with server.sync_client(0) as admin:
        if backend == REDIS_6:
            before = admin.execute_command("ACL", "GETUSER", "u")
            with pytest.raises(ResponseError, match="clearselectors"):
                admin.execute_command("ACL", "SETUSER", "u", *acl_rules("alice"))
            assert admin.execute_command("ACL", "GETUSER", "u") == before
        else:
            admin.execute_command("ACL", "SETUSER", "u", *acl_rules("alice"))
            assert denials_of(grown) == len(DENIED)


async def test_databases_that_a_user_may_enter(servers: Servers) -> None:
    """Where the server has rules for that, others are shut, with SCAN, too."""
    server = servers[VALKEY_9]
    rules = acl_rules("alice", with_scan=True, databases=[1, 3])
    with server.sync_client(0) as admin:
        admin.execute_command("ACL", "SETUSER", "u", "on", ">p", "db=5,1", "(+get ~* db=7)", *rules)
        try:
            vault, inventory = (server.client(db, username="u", password="p") for db in (1, 3))
            async with AsyncClientDatabase(vault, inventory, owner="alice") as db:
                await used(db)
                await db.gc.garbage_collect()
                assert await db.delete_owner("alice") > 0
            for number in (0, 5, 7):
                with (
                    server.sync_client(number, username="u", password="p") as client,
                    pytest.raises(NoPermissionError),
                ):
                    client.scan()
        finally:
            admin.flushall()
            admin.acl_deluser("u")


@pytest.mark.parametrize("owner", ["alice", GLOBS, "é"])
async def test_a_file_of_users(backend: Backend, tmp_path: Path, owner: str) -> None:
    """A server that loads it confines a user just as ACL SETUSER does, whatever is loaded then."""
    file = tmp_path / "users.acl"
    default = "user default on nopass ~* &* +@all"
    password = "#" + hashlib.sha256(b"p").hexdigest()
    rules = ["on", password, *rules_for(backend, owner)]
    earlier = " ".join(EARLIER if backend == REDIS_6 else EARLIER_SINCE_7)
    file.write_text(f"{default}\nuser zoë on >p {earlier}\n", "utf-8")
    with (
        RunningServer(backend, "--aclfile", str(file)) as server,
        server.sync_client(0) as admin,
        server.sync_client(0, username="zoë", password="p") as user,
    ):
        admin.set("others:1", "secret")
        assert denials_of(user) == 0
        file.write_text(f"{default}\n{format_acl_line('zoë', rules)}\n", "utf-8")
        assert admin.acl_load()
        loaded = admin.execute_command("ACL", "GETUSER", "zoë")
        admin.execute_command("ACL", "SETUSER", "other", *rules)
        assert admin.execute_command("ACL", "GETUSER", "other") == loaded
        clients = [server.client(db, username="zoë", password="p") for db in (0, 1)]
        async with AsyncClientDatabase(clients[0], clients[1], owner=owner) as db:
            await used(db)
        with server.sync_client(5, username="zoë", password="p") as client:
            assert denials_of(client) == len(DENIED)


@pytest.mark.parametrize(
    ("user", "rules", "argument"),
    [
        *((user, [], "user") for user in ("", "a b", "a\nuser b on", "a\0", "\ud800", None, b"a")),
        *(("a", ["on", rule], "rules[1]") for rule in ("", ">a b", "on\r", "\x7f", None)),
        ("a", "on", "rules"),
    ],
)
async def test_a_line_that_is_none(user: Any, rules: Any, argument: str) -> None:
    """What would be another word, or another user, is refused, and isn't told: it's a password."""
    with pytest.raises(InvalidArgumentError) as caught:
        format_acl_line(user, rules)
    assert caught.value.argument == argument
    assert ">a b" not in str(caught.value)


@pytest.mark.parametrize(
    ("databases", "argument"),
    [
        ([], "databases"),
        (0, "databases"),
        ("01", "databases"),
        ([0, -1], "databases[1]"),
        (["0"], "databases[0]"),
        ([True], "databases[0]"),
    ],
)
async def test_databases_that_are_none(databases: Any, argument: str) -> None:
    """Numbers, and at least one."""
    with pytest.raises(InvalidArgumentError) as caught:
        acl_rules("alice", databases=databases)
    assert caught.value.argument == argument


@pytest.mark.parametrize("option", ["with_scan", "confirm_fsync", "with_config", "has_selectors"])
async def test_options_that_are_no_bool(option: str) -> None:
    """A word that says no gives nothing."""
    options: dict[str, Any] = {option: "no"}
    with pytest.raises(InvalidArgumentError) as caught:
        acl_rules("alice", **options)
    assert caught.value.argument == option


async def test_what_options_give() -> None:
    """Each gives no more than what it's for."""
    plain = acl_rules("alice")
    assert "+scan" not in plain
    cases: tuple[tuple[dict[str, Any], set[str]], ...] = (
        ({"with_scan": True}, {"+info", "+scan"}),
        ({"confirm_fsync": True}, {"+waitaof"}),
        ({"with_config": True}, {"+config|get"}),
        ({"databases": [0, 1]}, {"resetdbs", "db=0,1"}),
    )
    for options, more in cases:
        assert set(acl_rules("alice", **options)) - set(plain) == more
    assert set(plain) - set(acl_rules("alice", has_selectors=False)) == {"clearselectors"}


@pytest.mark.parametrize("owner", ["a b", "", None, "x" * 257])
async def test_an_owner_that_has_no_pattern(owner: Any) -> None:
    """What can't be confined gets no rules, rather than too many."""
    with pytest.raises(AQMDatabaseError) as caught:
        acl_rules(owner)
    assert isinstance(caught.value, InvalidArgumentError)
    assert caught.value.argument == "owner"
