"""What the library takes of other packages that they don't promise: without it, all works."""

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

import aqm_db
from aqm_db import AsyncSecureVault, close_all, connect
from aqm_db._io.redispy import async_channel, private_parts
from aqm_db._io.redispy.async_link import ReaderLink, WireLink
from aqm_db._io.redispy.async_loops import get_channels
from aqm_db._io.redispy.private_parts import Part
from aqm_db.errors import VaultUnavailableError
from tests.support.backends import VALKEY_9, Servers
from tests.support.clusters import RunningCluster
from tests.support.peers import ScriptedServer, listening
from tests.support.samples import BOB

PACKAGE = Path(aqm_db.__file__).parent
PARTS = {name: part for name, part in vars(private_parts).items() if isinstance(part, Part)}


def private_names(tree: ast.AST) -> Iterator[str]:
    """The private attributes that a module touches, and those of modules that it imports from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (node.module or "").split(".")
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
            yield from (str(arg.value) for arg in node.args[1:2] if isinstance(arg, ast.Constant))


def own_names(tree: ast.AST) -> Iterator[str]:
    """The names that a module gives to something of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_every_private_part_is_listed() -> None:
    """A private name that is none of the library's own stands in one place."""
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    own = {name for tree in trees for name in own_names(tree)}
    own |= {path.stem for path in PACKAGE.rglob("*")}
    touched = {
        name
        for tree in trees
        for name in private_names(tree)
        if name.startswith("_") and not name.startswith("__")
    }
    assert touched - own == set()
    assert {part.name for part in PARTS.values()} - own >= {"_writer"}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_says_what_it_is_for(name: str) -> None:
    """And what happens without it."""
    part = PARTS[name]
    assert all((part.package, part.holder, part.use, part.without))


async def link_of(client: Redis) -> Any:
    """The link of a client, once it has answered."""
    assert await AsyncSecureVault(client).exists("k") is False
    channel: Any = get_channels(client).get_channel()
    return channel._link


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("STREAM_WRITER", ReaderLink),
        ("TAKE", WireLink),
        ("CONNECT", WireLink),
        ("ROOM", WireLink),
    ],
)
async def test_which_way_is_taken_without_a_part(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, name: str, kind: type
) -> None:
    """The suites of tests/without_parts try that way."""
    monkeypatch.setattr(private_parts, name, PARTS[name]._replace(name="gone"))
    client = servers[VALKEY_9].client(0)
    assert type(await link_of(client)) is kind
    await close_all(client, client)


@pytest.mark.asyncio
async def test_a_cluster_without_the_connections_of_its_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library makes its own, and closes them."""
    gone = private_parts.TAKE_OF_NODE._replace(name="gone")
    monkeypatch.setattr(private_parts, "TAKE_OF_NODE", gone)
    with RunningCluster(VALKEY_9, with_replicas=False) as cluster:
        async with connect(cluster.url, owner="alice") as db:
            await db.inventory.register_contact(BOB, "MATE")
            await db.inventory.store_key(BOB, "k", "BRONZE", b"p", b"s")
            coins = await asyncio.gather(*(db.inventory.select_coin(BOB, "GOLD") for _ in "ab"))
            assert [coin.key_id for coin in coins if coin is not None] == ["k"]


class Streams:
    """A protocol as redis-py's streams have one."""

    def connection_lost(self, _: object) -> None:
        """Does nothing."""

    def pause_writing(self) -> None:
        """Does nothing."""

    def resume_writing(self) -> None:
        """Does nothing."""


class Transport:
    """A transport that has all that one has, and behaves as it's told."""

    def __init__(self, protocol: object, *, keeps: bool) -> None:
        self.protocol = protocol
        self.keeps = keeps

    def get_protocol(self) -> object:
        """The one that it was made with, or was given."""
        return self.protocol

    def set_protocol(self, protocol: object) -> None:
        """Takes it, or doesn't."""
        if not self.keeps:
            self.protocol = protocol

    def write(self, _: bytes) -> None:
        """Does nothing."""

    def abort(self) -> None:
        """Does nothing."""

    def is_closing(self) -> bool:
        """It isn't."""
        return False


class NoTransport:
    """What a stand-in may have in the place of a transport: a part of what one has."""

    def is_closing(self) -> bool:
        """It isn't."""
        return False


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "transport",
    [
        NoTransport(),
        Transport(object(), keeps=False),
        Transport(Streams(), keeps=True),
        None,
    ],
    ids=["a part of one", "no streams", "keeps its streams", "none"],
)
async def test_a_transport_that_is_none(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, transport: Any
) -> None:
    """It's left alone, and calls go through the connection's methods."""

    class Holding(Part):
        def find(self, holder: object) -> Any:  # noqa: ARG002 - the base's name
            return SimpleNamespace(transport=transport)

    before = transport.get_protocol() if isinstance(transport, Transport) else None
    writer = private_parts.STREAM_WRITER
    monkeypatch.setattr(
        private_parts,
        "STREAM_WRITER",
        Holding(writer.package, writer.holder, writer.name, writer.use, writer.without),
    )
    client = servers[VALKEY_9].client(0)
    assert type(await link_of(client)) is ReaderLink
    if isinstance(transport, Transport):
        assert transport.get_protocol() is before
    await close_all(client, client)


@pytest.mark.asyncio
async def test_an_error_of_another_package_is_told_as_it_is(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't taken for a client that was closed, and the pool has its connection back."""

    async def broken(_: object) -> None:
        raise AttributeError("'FakeTransport' object has no attribute 'get_protocol'")

    client = servers[VALKEY_9].client(0, max_connections=1)
    with monkeypatch.context() as patched:
        patched.setattr(client.connection_pool, "ensure_connection", broken)
        with pytest.raises(AttributeError, match="'FakeTransport' object"):
            await AsyncSecureVault(client).exists("k")
    assert await client.ping()
    await close_all(client, client)


@pytest.mark.asyncio
async def test_an_error_of_our_own_is_told_as_it_is(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection that it came with isn't lost, either."""

    def broken(*_: object) -> None:
        raise TypeError("one argument too many")

    client = servers[VALKEY_9].client(0, max_connections=1)
    with monkeypatch.context() as patched:
        patched.setattr(async_channel, "make_link", broken)
        with pytest.raises(TypeError, match="one argument too many"):
            await AsyncSecureVault(client).exists("k")
    assert await client.ping()
    assert await AsyncSecureVault(client).exists("k") is False
    await close_all(client, client)


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["read_response", "send_packed_command"])
async def test_an_error_in_the_middle_of_a_call_is_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Nobody waits for ever, what was seen is said, and the error itself is there."""

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such luck")

    class Broken(ReaderLink):
        def __init__(self, connection: Any, *others: Any) -> None:
            monkeypatch.setattr(type(connection), method, broken)
            super().__init__(connection, *others)

    monkeypatch.setattr(async_channel, "make_link", Broken)
    async with listening(ScriptedServer(lambda _: b""), tmp_path / "s"):
        client = Redis(unix_socket_path=str(tmp_path / "s"), retry=Retry(NoBackoff(), 0))
        with pytest.raises(VaultUnavailableError, match="no such luck") as caught:
            await AsyncSecureVault(client).exists("k")
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert caught.value.outcome_unknown is (method == "send_packed_command")
        monkeypatch.undo()
        await close_all(client, client)
