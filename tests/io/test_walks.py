"""Walks over names and indexes: what is there throughout is found, whichever process answers."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
import valkey
from redis.asyncio import Redis

from aqm_db import AsyncSecureVault, sync
from aqm_db._io.seam import SCAN_COUNT, Seam
from aqm_db._operations import Scope
from aqm_db._operations.index import walk_index
from aqm_db.errors import AccessDeniedError, CorruptEntryError, VaultUnavailableError
from tests.support.backends import REAL_BACKENDS, VALKEY_9, Backend, RunningServer
from tests.support.faces import ASYNC, Face
from tests.support.samples import always
from tests.support.valkey_seam import ValkeySeam

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("_at_once")]
NAMES = {f"vault:v1:key:k{number}".encode() for number in range(3 * SCAN_COUNT)}
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
STARTS = 16


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time between attempts passes at once."""

    async def pass_(_: float) -> None: ...

    monkeypatch.setattr("redis.asyncio.retry.sleep", pass_)
    monkeypatch.setattr("redis.retry.sleep", always(None))


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A server that a test may spoil, with many keys and an index; Valkey 9.1, or as it says."""
    backend: Backend = getattr(request, "param", VALKEY_9)
    with RunningServer(backend, *DURABLE) as running:
        with running.sync_client(0) as client:
            pipeline = client.pipeline(transaction=False)
            for name in NAMES:
                pipeline.hset(name, "status", "ACTIVE")
            pipeline.execute()
        yield running


Open = Callable[..., Scope]


@pytest_asyncio.fixture
async def open_scope(face: Face, server: RunningServer) -> AsyncIterator[Open]:
    """Makes a vault's scope over a client of a face, with some options."""
    clients: list[Any] = []

    def make(**options: Any) -> Scope:
        if face is ASYNC:
            clients.append(server.client(0, **options))
            return AsyncSecureVault(clients[-1]).scope
        clients.append(server.sync_client(0, **options))
        return sync.SecureVault(clients[-1]).asynchronous.scope

    yield make
    for client in clients:
        if isinstance(client, Redis):
            await client.aclose()
        else:
            client.close()


async def walk(seam: Seam, meanwhile: Callable[[], object], times: int = 100) -> list[set[bytes]]:
    """The pages of a walk over all names; something happens after each, so often at most."""
    pages: list[set[bytes]] = []
    async for page in seam.scan("vault:v1:key:*"):
        pages.append(set(page))
        if len(pages) <= times:
            meanwhile()
    return pages


def restart(server: RunningServer) -> Callable[[], None]:
    """Ends a server's process, and starts another one on what it left."""

    def act() -> None:
        server.kill()
        server.restart()

    return act


def cut(server: RunningServer) -> Callable[[], None]:
    """Ends all connections to a server, which goes on."""

    def act() -> None:
        with server.sync_client(0) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    return act


def restrict(server: RunningServer) -> dict[str, str]:
    """What a user logs in with who may not ask which process it is (INFO)."""
    with server.sync_client(0) as client:
        client.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-info")
    return {"username": "u", "password": "p"}


def count_denials(server: RunningServer) -> int:
    """How often the server has refused a user a command."""
    with server.sync_client(0) as client:
        log: list[dict[str, Any]] = client.acl_log()
    return sum(int(each["count"]) for each in log)


async def test_nothing_but_pages_is_asked(server: RunningServer, open_scope: Open) -> None:
    """As long as one connection answers: nobody has to say which process it is."""
    seam = open_scope(**restrict(server)).seam
    pages = await walk(seam, lambda: None)
    assert sum(map(len, pages)) == len(set.union(*pages)) == len(NAMES)
    assert count_denials(server) == 0


@pytest.mark.parametrize("server", REAL_BACKENDS, indirect=True, ids=lambda kind: kind.name)
async def test_another_process(server: RunningServer, open_scope: Open) -> None:
    """The walk begins anew, once."""
    pages = await walk(open_scope().seam, restart(server), 1)
    assert set.union(*pages) == NAMES
    # The first page, the one in vain, and all.
    assert set.union(*pages[2:]) == NAMES


async def test_another_connection_to_the_same_process(
    server: RunningServer, open_scope: Open
) -> None:
    """It's taken for another process once; from then on it's known by its name."""
    pages = await walk(open_scope().seam, cut(server))
    assert set.union(*pages[2:]) == NAMES
    assert sum(map(len, pages[2:])) == len(NAMES)


async def test_another_process_that_may_not_be_asked_for_its_name(
    server: RunningServer, open_scope: Open
) -> None:
    """The walk begins anew on each connection, and the server's log has one line of it."""
    pages = await walk(open_scope(**restrict(server)).seam, cut(server), 3)
    assert set.union(*pages[4:]) == NAMES
    assert sum(map(len, pages[4:])) == len(NAMES)
    assert count_denials(server) == 1


async def test_a_server_that_is_replaced_without_end(
    server: RunningServer, open_scope: Open
) -> None:
    """The walk isn't as endless; what it found until then is no answer."""
    with pytest.raises(VaultUnavailableError, match="other servers take over again") as caught:
        await walk(open_scope().seam, restart(server))
    assert not caught.value.outcome_unknown


async def test_connections_without_end_to_a_process_that_is_not_known(
    server: RunningServer, open_scope: Open
) -> None:
    """The error names the command with which it would be known."""
    acts: list[None] = []

    def act() -> None:
        acts.append(None)
        cut(server)()

    with pytest.raises(AccessDeniedError, match="the server denies access to INFO"):
        await walk(open_scope(**restrict(server)).seam, act)
    assert len(acts) == 2 * STARTS - 1


async def test_a_pool_of_many_connections(server: RunningServer) -> None:
    """Where other threads take those that it had, the walk begins anew once."""
    with server.sync_client(0) as client:
        pool: Any = client.connection_pool
        seam = sync.SecureVault(client).asynchronous.scope.seam
        taken: list[Any] = []
        pages = await walk(seam, lambda: taken.append(pool.get_connection()))
        for connection in taken:
            pool.release(connection)
    assert sum(map(len, pages[2:])) == len(set.union(*pages[2:])) == len(NAMES)


@pytest.mark.parametrize("face", [ASYNC], ids=str)
async def test_a_pool_of_one_connection(open_scope: Open) -> None:
    """It's given back after each page, and it's the same one that is taken for the next."""
    seam = open_scope(max_connections=1).seam
    assert sum(map(len, await walk(seam, lambda: None))) == len(NAMES)


async def test_a_seam_that_knows_no_connections(server: RunningServer) -> None:
    """Each page tells which process it's from."""
    with valkey.Valkey(unix_socket_path=str(server.socket_path)) as client:
        seam = ValkeySeam(client, VaultUnavailableError)
        pages = await walk(seam, restart(server), 3)
        assert set.union(*pages[4:]) == NAMES
        assert sum(map(len, pages[4:])) == len(NAMES)


INDEX = "vault:v1:spent"
SCORES = {f"m{number}".encode(): float(number // 7) for number in range(3 * SCAN_COUNT)}
"""More than a page of an index, where some members have one score."""


@pytest.mark.parametrize(
    "scores",
    [SCORES, dict.fromkeys(SCORES, 1_800_000_000_000.25), {b"m": float("inf")}, {}],
    ids=["many", "of one score", "one", "none"],
)
@pytest.mark.parametrize("protocol", [2, 3])
async def test_an_index(
    server: RunningServer, open_scope: Open, scores: dict[bytes, float], protocol: int
) -> None:
    """All of it is found, though each page comes from another process."""
    with server.sync_client(0) as client:
        pipeline = client.pipeline(transaction=False)
        for member, score in scores.items():
            pipeline.zadd(INDEX, {member: score})
        pipeline.execute()
    found: dict[bytes, float] = {}
    async for page in walk_index(open_scope(protocol=protocol), INDEX):
        found.update(page)
        restart(server)()
    assert found == scores


async def test_an_index_of_the_wrong_type(server: RunningServer, open_scope: Open) -> None:
    """It isn't taken for an empty one."""
    with server.sync_client(0) as client:
        client.set(INDEX, "")
    with pytest.raises(CorruptEntryError):
        await anext(walk_index(open_scope(), INDEX))
