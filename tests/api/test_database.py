"""``connect``: every kind of url, on both faces."""

import asyncio
import inspect
import ssl
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

import aqm_db
from aqm_db import connect, sync
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import (
    ConcurrencyError,
    EmbeddedServerError,
    InvalidArgumentError,
    UnsafeServerError,
    VaultUnavailableError,
)
from tests.support.backends import REDIS_6, VALKEY_9, Backend, RunningServer, Servers
from tests.support.certificates import certificate_in
from tests.support.peers import Cutter, ScriptedServer, listening, listening_on_loopback
from tests.support.samples import BOB, sample_key, stock

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def opened(face: str, url: str | None, **options: Any) -> AsyncGenerator[Any]:
    """A database of either face."""
    if face == "aio":
        async with connect(url, **options) as database:
            yield database
    else:
        with sync.connect(url, **options) as database:
            yield database


async def done(result: Any) -> Any:
    """What a method of either face returned."""
    return await result if inspect.isawaitable(result) else result


FACES = pytest.mark.parametrize("face", ["aio", "sync"])


@FACES
async def test_memory(face: str) -> None:
    """Everything is there, and gone when it's closed."""
    for _ in range(2):
        async with opened(face, "memory://") as db:
            assert await done(db.inventory.register_contact(BOB, "BESTIE")) is True
            assert await done(db.vault.store_key(**sample_key("k", "GOLD"))) is True
            assert (await done(db.gc.garbage_collect())).keys_deleted == 0
            assert (await done(db.reporter.get_vault_report())).active_gold == 1
            assert (await done(db.health())).vault_key_count == 4


@FACES
async def test_embedded_is_durable(face: str, tmp_path: Path) -> None:
    """What was stored is there when the directory is opened again."""
    url = f"embedded://{tmp_path}/with%20space"
    async with opened(face, url) as db:
        await done(db.vault.store_key(**sample_key("k", "GOLD")))
    assert (tmp_path / "with space").stat().st_mode & 0o777 == 0o700
    async with opened(face, url) as db:
        assert await done(db.vault.exists("k")) is True


@FACES
async def test_owners_and_options_reach_the_database(face: str) -> None:
    """Options of connect are those of the vault and the inventory."""
    caps = {
        priority: dict.fromkeys(("GOLD", "SILVER", "BRONZE"), 1)
        for priority in ("BESTIE", "MATE", "STRANGER")
    }
    async with opened(
        face,
        "memory://",
        owner="alice",
        budget_caps=caps,
        clock=lambda: 1_800_000_000_000,
        request_ids=iter("abcdef").__next__,
    ) as db:
        assert db.vault._vault_key("k") == "aqm:{alice}:vault:v1:key:k"
        await done(db.inventory.register_contact(BOB, "STRANGER"))
        await done(db.inventory.store_key(BOB, "g", "GOLD", b"p", b"s"))
        meta = await done(db.inventory.get_contact_meta(BOB))
        assert meta.last_msg_at == 1_800_000_000_000


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for this machine, with its key."""
    return certificate_in(tmp_path)


async def store_something(face: str, url: str) -> None:
    """Opens a database, and stores a key and a contact."""
    async with opened(face, url) as db:
        await done(db.vault.store_key(**sample_key("k", "GOLD")))
        await done(db.inventory.register_contact(BOB, "BESTIE"))


@FACES
@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
async def test_a_server_of_the_users(face: str, scheme: str, certificate: Path) -> None:
    """TCP, TLS and unix sockets reach the vault in 0 and the inventory in 1."""
    # The wheels' servers are built without TLS, so it ends at a relay.
    context = None
    if scheme == "rediss":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    with RunningServer(VALKEY_9) as server:
        async with listening_on_loopback(Cutter(server.socket_path), context) as port:
            url = {
                "redis": f"redis://localhost:{port}",
                "rediss": f"rediss://localhost:{port}?ssl_ca_certs={certificate}",
                "unix": f"unix://{server.socket_path}",
            }[scheme]
            # In a thread, since a synchronous client blocks the loop that the relay runs on.
            await asyncio.to_thread(lambda: asyncio.run(store_something(face, url)))
        with server.sync_client(0) as vault, server.sync_client(1) as inventory:
            assert vault.exists("vault:v1:key:k")
            assert inventory.exists(f"inv:v1:meta:{BOB}")


@FACES
async def test_the_environment_names_the_database(
    face: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a url, AQM_DB_URL is asked."""
    monkeypatch.setenv("AQM_DB_URL", f"embedded://{tmp_path}/db")
    async with opened(face, None):
        assert (tmp_path / "db").is_dir()


@FACES
@pytest.mark.parametrize("variable", ["", None])
async def test_the_default_is_in_the_users_data_directory(
    face: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    """Without a url and AQM_DB_URL, the user's own embedded database is opened."""

    def user_data_path(name: str, *, appauthor: bool) -> Path:
        assert appauthor is False
        return tmp_path / name

    monkeypatch.setattr("platformdirs.user_data_path", user_data_path)
    monkeypatch.delenv("AQM_DB_URL", raising=False)
    if variable is not None:
        monkeypatch.setenv("AQM_DB_URL", variable)
    async with opened(face, None):
        assert (tmp_path / "aqm_db").is_dir()


@FACES
@pytest.mark.parametrize(
    ("module", "url", "extra"),
    [("platformdirs", "embedded://", "embedded"), ("fakeredis", "memory://", "memory")],
)
async def test_a_missing_extra_is_named(
    face: str, monkeypatch: pytest.MonkeyPatch, module: str, url: str, extra: str
) -> None:
    """Whoever asks for what isn't installed is told what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidArgumentError, match=rf"^url: .*pip install 'aqm-db\[{extra}\]'"):
        async with opened(face, url):
            pytest.fail("it was opened")


@FACES
async def test_no_server(face: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that can't be reached is an error at once, and the clients are closed."""
    monkeypatch.setattr("aqm_db.config.REDIS_RETRY_DELAY", 0)
    with pytest.raises(VaultUnavailableError):
        async with opened(face, f"unix://{tmp_path}/nobody"):
            pytest.fail("it was opened")


@FACES
@pytest.mark.parametrize(
    "url",
    [
        *("redis://127.0.0.1:1?foo=secret", "unix:///nowhere?foo=secret"),
        *("redis://127.0.0.1:1?socket_timeout=secret", "redis://127.0.0.1:1?protocol=9"),
        *("rediss://127.0.0.1:1?ssl_cert_reqs=secret", "redis://127.0.0.1:1?decode_responses=1"),
        *("redis+sentinel://127.0.0.1:1/name?foo=secret",),
        *("redis+sentinel://127.0.0.1:1/name?decode_responses=1",),
    ],
)
async def test_options_that_a_url_can_not_have(face: str, url: str) -> None:
    """They're refused before anything is opened, in one way on both faces, and not quoted."""
    with pytest.raises(InvalidArgumentError, match="^url: has an option") as caught:
        async with opened(face, url):
            raise AssertionError(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@FACES
@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis+cluster://127.0.0.1:1?socket_timeout=1", "socket_timeout"),
        ("redis+cluster://127.0.0.1:1?startup_nodes=1", "startup_nodes"),
        ("redis+cluster://127.0.0.1:1?decode_responses=1", "decode_responses"),
        ("redis+sentinel://127.0.0.1:1/name?socket_connect_timeout=1", "socket_connect_timeout"),
        ("redis+sentinel://127.0.0.1:1/name?decode_responses=1", "decode_responses"),
        ("unix:///nowhere?decode_responses=1", "decode_responses"),
    ],
)
async def test_options_that_are_the_librarys_own(face: str, url: str, name: str) -> None:
    """The error names them: they're part of no password."""
    wanted = f"^url: has an option that isn't allowed: {name}$"
    with pytest.raises(InvalidArgumentError, match=wanted):
        async with opened(face, url, owner="alice"):
            raise AssertionError(url)


@pytest.mark.parametrize("url", ["memory://name", "memory:///name", "memory://?a=b", "memory://#a"])
async def test_a_database_in_memory_has_no_name(face: str, url: str) -> None:
    """Two that open the same name would find that they share nothing."""
    with pytest.raises(InvalidArgumentError, match="^url: memory:// has no name"):
        async with opened(face, url):
            raise AssertionError(url)


async def test_an_option_that_a_clusters_url_can_not_have() -> None:
    """The same."""
    with pytest.raises(InvalidArgumentError, match="^url: has an option"):
        await connect("redis+cluster://127.0.0.1:1?foo=1", owner="alice")


@FACES
async def test_no_embedded_server(face: str, tmp_path: Path) -> None:
    """A directory that can't be used is one clear error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedServerError, match="file"):
        async with opened(face, f"embedded://{tmp_path}/file"):
            pytest.fail("it was opened")


EVICTING = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}


@FACES
@pytest.mark.parametrize("kind", [VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
async def test_a_server_that_evicts_keys(face: str, kind: Backend) -> None:
    """A cache loses keys by design: it's refused by name, unless the caller insists."""
    with RunningServer(kind) as server, server.sync_client(0) as admin:
        url = f"unix://{server.socket_path}"
        for name, value in EVICTING.items():
            admin.config_set(name, value)
        with pytest.raises(UnsafeServerError, match="allkeys-lru.* Set maxmemory-policy to noevic"):
            async with opened(face, url):
                pytest.fail("it was opened")
        async with opened(face, url, allow_unsafe=True) as db:
            assert await done(db.vault.store_key(**sample_key("k", "GOLD"))) is True
        # It evicts nothing as long as there is no limit.
        admin.config_set("maxmemory", "0")
        async with opened(face, url) as db:
            assert await done(db.vault.exists("k")) is True


@FACES
@pytest.mark.parametrize("kind", [VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
async def test_owners_on_a_server_whose_memory_is_at_risk(
    face: str, kind: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever opens an owner's database there hears of it at once; without one, nobody does."""

    async def list_reasons(owner: str | None, **settings: str) -> set[str]:
        for name, value in settings.items():
            admin.config_set(name.replace("_", "-"), value)
        caplog.clear()
        async with opened(face, f"unix://{server.socket_path}", owner=owner):
            pass
        risks: list[Any] = [each for each in caplog.records if each.msg == "memory_at_risk"]
        return {risk.reason for risk in risks}

    with RunningServer(kind) as server, server.sync_client(0) as admin:
        assert await list_reasons("alice", maxmemory="0", maxmemory_policy="noeviction") == set()
        [reason] = await list_reasons("alice", maxmemory_policy="volatile-ttl")
        assert "maxmemory-policy is volatile-ttl" in reason
        assert await list_reasons(None) == set()
        full = str(admin.info("memory")["used_memory"] * 10 // 9)
        reasons = await list_reasons("alice", maxmemory_policy="noeviction", maxmemory=full)
        assert reasons
        assert all("nearly full" in reason for reason in reasons)
        assert await list_reasons("alice", maxmemory="100mb") == set()


@FACES
@pytest.mark.parametrize("kind", [VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
async def test_a_replica(face: str, kind: Backend) -> None:
    """A replica takes no keys, or loses them: it's refused, unless the caller only reads."""
    # Nobody listens on port 1, and a replica without its primary is one all the same.
    with RunningServer(kind, "--replicaof", "127.0.0.1", "1") as server:
        url = f"unix://{server.socket_path}"
        with pytest.raises(UnsafeServerError, match=r"role is slave.*REPLICAOF NO ONE"):
            async with opened(face, url):
                pytest.fail("it was opened")
        async with opened(face, url, allow_unsafe=True) as db:
            assert await done(db.vault.exists("k")) is False
        with server.sync_client(0) as admin:
            for name, value in EVICTING.items():
                admin.config_set(name, value)
        with pytest.raises(UnsafeServerError, match="allkeys-lru.*role is slave"):
            async with opened(face, url):
                pytest.fail("it was opened")


@FACES
async def test_an_unsafe_embedded_server_is_given_back(face: str, tmp_path: Path) -> None:
    """Whoever is refused keeps no share in it: the last one who has it open still stops it."""
    url = f"embedded://{tmp_path}/db"
    server = EmbeddedServer.open(tmp_path / "db")
    with redis.Redis(unix_socket_path=str(server.socket_path)) as admin:
        for name, value in EVICTING.items():
            admin.config_set(name, value)
        with pytest.raises(UnsafeServerError):
            async with opened(face, url):
                pytest.fail("it was opened")
        assert admin.ping()
    server.close()
    assert not server.socket_path.exists()


@FACES
async def test_a_server_that_tells_nothing_is_opened(face: str) -> None:
    """A user who may not ask is not refused: the server may well be safe."""
    with RunningServer(VALKEY_9) as server, server.sync_client(0) as admin:
        for name, value in EVICTING.items():
            admin.config_set(name, value)
        admin.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-info")
        async with opened(face, f"unix://u:p@{server.socket_path}") as db:
            assert await done(db.vault.exists("k")) is False


@FACES
async def test_a_server_that_can_not_tell_now(face: str, tmp_path: Path) -> None:
    """It isn't taken for one that never tells: what is in the way is said."""
    moved = b"-MOVED 1 127.0.0.1:1\r\n"
    server = ScriptedServer(lambda command: moved if command[0] == b"INFO" else b"+PONG\r\n")

    async def open_it() -> None:
        async with opened(face, f"unix://{tmp_path}/s?protocol=2"):
            pytest.fail("it was opened")

    async with listening(server, tmp_path / "s"):
        with pytest.raises(ConcurrencyError, match="INFO"):
            await asyncio.to_thread(lambda: asyncio.run(open_it()))


@FACES
@pytest.mark.parametrize("options", [{}, {"allow_unsafe": True}], ids=["", "unsafe"])
async def test_opening_takes_few_round_trips(
    face: str, options: dict[str, bool], tmp_path: Path
) -> None:
    """Each client pings, and asks once whether the server is safe; the first refusal is the end."""
    info = b"$10\r\nrole:slave\r\n"
    server = ScriptedServer(lambda command: info if command[0] == b"INFO" else b"+PONG\r\n")
    url = f"unix://{tmp_path}/s?protocol=2"

    async def open_it() -> None:
        async with opened(face, url, **options):
            pass

    async with listening(server, tmp_path / "s"):
        # In a thread, since a synchronous client blocks the loop that the server runs on.
        opening = asyncio.to_thread(lambda: asyncio.run(open_it()))
        if options:
            await opening
        else:
            with pytest.raises(UnsafeServerError):
                await opening
    asked = [[b"INFO", b"memory"], [b"INFO", b"replication"]]
    marks = ([b"GET", name] for name in (b"vault:v1:schema", b"inv:v1:schema"))
    greeting = [[b"PING"], *marks]
    assert server.requests == (greeting * 2 if options else [*greeting, *asked])


async def test_await_and_close_twice() -> None:
    """A database can be awaited, and closed by hand more than once."""
    db = await connect("memory://")
    await db.vault.store_key(**sample_key("k", "GOLD"))
    await db.aclose()
    await db.aclose()
    async with await connect("memory://") as other:
        assert not await other.vault.exists("k")


async def test_a_forgotten_await() -> None:
    """The error says how a database is opened."""
    connecting: Any = connect("memory://")
    with pytest.raises(AttributeError, match="^'vault' belongs to .* 'db = await connect"):
        await connecting.vault.exists("k")


async def test_a_path_is_no_url(tmp_path: Path) -> None:
    """The error says how to make one of it."""
    path: Any = tmp_path
    with pytest.raises(InvalidArgumentError, match="^url: is no path: .*'embedded://{path}'"):
        connect(path)


async def test_use_without_entering_sync() -> None:
    """The synchronous database is open when connect returns."""
    db = sync.connect("memory://")
    assert db.inventory.register_contact(BOB, "MATE") is True
    db.close()
    db.close()


async def test_a_block_that_was_never_entered_closes_nothing() -> None:
    """What couldn't be opened isn't closed."""
    connecting = connect("memory://")
    await connecting.__aexit__(None, None, None)


async def test_a_cancelled_connect_leaves_no_server_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that starts for a caller who is gone is stopped again."""
    stopped: list[Path] = []
    close = EmbeddedServer.close

    def closing(server: EmbeddedServer) -> None:
        close(server)
        stopped.append(server.directory)

    monkeypatch.setattr(EmbeddedServer, "close", closing)
    connecting = asyncio.ensure_future(aqm_db.connect(f"embedded://{tmp_path}/db").__aenter__())
    await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert stopped == [tmp_path / "db"]


async def test_a_connect_that_is_cancelled_at_any_step_is_cancelled(servers: Servers) -> None:
    """Nothing is left behind, and nobody's cancellation is swallowed, by closing neither."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    url = f"unix://{servers[VALKEY_9].socket_path}"

    async def open_and_close() -> None:
        async with connect(url):
            pass

    ended = []
    for step in range(120):
        task = asyncio.create_task(open_and_close())
        for _ in range(step):
            await asyncio.sleep(0)
        if task.done():
            break
        task.cancel()
        await asyncio.wait((task,))
        ended.append(task.cancelled())
    assert len(ended) > 10
    assert all(ended)
    assert said == []


@pytest.mark.parametrize("turns", [0, 1, 2, 5, None], ids=str)
async def test_a_scope_that_ends_leaves_nothing_behind(tmp_path: Path, turns: int | None) -> None:
    """A scope of anyio's cancels in every turn, while a database is opened or closed as well."""
    directory = tmp_path / "db"
    inside = asyncio.Event()

    async def use(scope: anyio.CancelScope) -> None:
        with scope:
            async with connect(f"embedded://{directory}") as db:
                await db.vault.exists("k")
                await db.inventory.has_keys_for(BOB)
                inside.set()
                await anyio.sleep_forever()

    scope = anyio.CancelScope()
    using = asyncio.create_task(use(scope))
    if turns is None:
        await inside.wait()
    else:
        for _ in range(turns):
            await asyncio.sleep(0)
    scope.cancel()
    await asyncio.wait_for(using, 60)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not (directory / "aqm_db.sock").exists()


async def test_two_databases_are_two(tmp_path: Path) -> None:
    """Databases in memory share nothing, and neither do directories."""
    async with connect("memory://") as first, connect("memory://") as second:
        await first.inventory.register_contact(BOB, "BESTIE")
        await stock(first.inventory, BOB, "GOLD", "g")
        assert await second.inventory.get_inventory() == {}
