"""Changes that count once replicas, or disks, have them, on real servers; and what a doctor says.

What a failover then costs is tried in ``tests/cluster``.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from aqm_db import AsyncClientDatabase, AsyncSmartInventory, connect, sync
from aqm_db.acl import acl_rules
from aqm_db.errors import (
    AccessDeniedError,
    ConcurrencyError,
    InvalidArgumentError,
    InventoryUnavailableError,
    NotWritableError,
    VaultUnavailableError,
)
from tests.support.backends import REDIS_6, REDIS_8, VALKEY_9, Backend, RunningServer
from tests.support.clusters import Node, RunningPrimary
from tests.support.diagnoses import FACES, allow, diagnose, pick_finding, socket_url
from tests.support.faces import ASYNC, Face
from tests.support.peers import ScriptedServer, listening
from tests.support.samples import BOB, is_claim, sample_key, stock
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio

ON_DISK = ("--appendonly", "yes", "--appendfsync", "always")
PATIENT = {"confirm_replicas": 1, "confirm_timeout": 4000}
HASTY = {"confirm_replicas": 1, "confirm_timeout": 500}


@pytest.fixture(scope="module", params=[VALKEY_9, REDIS_8], ids=lambda backend: backend.name)
def running(request: pytest.FixtureRequest) -> Iterator[RunningPrimary]:
    """A primary and its replica, which keep append-only files."""
    with RunningPrimary(request.param, *ON_DISK, replicas=1) as servers:
        yield servers


@pytest.fixture
def pair(running: RunningPrimary) -> RunningPrimary:
    """The same, empty."""
    running.nodes[0].client.flushall()
    return running


@pytest.fixture
def old() -> Iterator[RunningServer]:
    """A server without WAITAOF."""
    with RunningServer(REDIS_6, *ON_DISK) as running:
        yield running


@asynccontextmanager
async def client_of(face: Face, port: int) -> AsyncGenerator[Any]:
    """A client for the face's classes."""
    if face is ASYNC:
        async with redis.asyncio.Redis(port=port) as client:
            yield client
    else:
        with redis.Redis(port=port) as sync_client:
            yield sync_client


async def opened(face: Face, url: str, **options: Any) -> None:
    """Opens a database and closes it."""
    if face is ASYNC:
        async with connect(url, **options) as database:
            await database.for_owner("carol").vault.store_key(**sample_key("k", "GOLD"))
    else:

        def open_and_close() -> None:
            with sync.connect(url, **options) as database:
                database.for_owner("carol").vault.store_key(**sample_key("k", "GOLD"))

        await asyncio.to_thread(open_and_close)


async def stocked(face: Face, client: Any, **options: Any) -> AsyncSmartInventory:
    """An inventory with two coins."""
    unconfirmed = face.inventory(client, owner="alice")
    await unconfirmed.register_contact(BOB, "BESTIE")
    await stock(unconfirmed, BOB, "GOLD", "c1", "c2")
    return face.inventory(client, owner="alice", **options)


async def test_disks_confirm(face: Face, pair: RunningPrimary) -> None:
    """Both servers' disks have each change before it's reported."""
    async with client_of(face, pair.nodes[0].port) as client:
        inventory = await stocked(face, client, **PATIENT, confirm_fsync=True)
        assert await inventory.select_coin(BOB, "GOLD") is not None
    await opened(face, pair.url, **PATIENT, confirm_fsync=True)
    waited = pair.nodes[0].client.info("commandstats")["cmdstat_waitaof"]
    assert waited["calls"] >= 2
    assert waited["failed_calls"] == 0


async def test_a_collector_of_ones_own_for_a_database(face: Face, pair: RunningPrimary) -> None:
    """Over the database's inventory and a client, it confirms as the database does."""
    async with client_of(face, pair.nodes[0].port) as client:
        await stocked(face, client)
        options = {"confirm_replicas": 2, "confirm_timeout": 500}
        database = face.database(client, client, owner="alice", **options)
        collector = face.gc(database.inventory, client)
        with pytest.raises(InventoryUnavailableError, match="1 of 2 replicas"):
            await collector.collect_single_contact(BOB)


async def test_a_replica_without_a_disk(face: Face, pair: RunningPrimary) -> None:
    """It has the change, which WAIT would take for enough."""
    primary, replica = pair.nodes
    replica.client.config_set("appendonly", "no")
    async with client_of(face, primary.port) as client:
        inventory = await stocked(face, client, **PATIENT)
        assert await inventory.select_coin(BOB, "GOLD") is not None
        options = {"confirm_replicas": 1, "confirm_timeout": 50, "confirm_fsync": True}
        inventory = face.inventory(client, owner="alice", **options)
        with pytest.raises(InventoryUnavailableError, match="0 of 1 replicas") as caught:
            await inventory.select_coin(BOB, "GOLD")
        assert caught.value.outcome_unknown
    replica.client.config_set("appendonly", "yes")
    eventually(lambda: not replica.info("persistence", "aof_rewrite_in_progress"))


async def test_a_server_that_can_not_say_what_is_on_its_disk(
    face: Face, old: RunningServer
) -> None:
    """It's refused when the database is opened, whether it's too old or keeps no file."""
    with RunningServer(VALKEY_9) as forgetful:
        for url in (socket_url(old), socket_url(forgetful), "memory://"):
            with pytest.raises(InvalidArgumentError, match="^confirm_fsync: WAITAOF ") as caught:
                await opened(face, url, confirm_fsync=True)
            assert caught.value.argument == "confirm_fsync"


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (b"ERR unknown command 'WAITAOF'", InvalidArgumentError, "the server refused WAITAOF"),
        (b"ERR WAITAOF cannot be used when", InvalidArgumentError, "the server refused WAITAOF"),
        (b"NOPERM User u has no permissions", AccessDeniedError, "denies access to WAITAOF"),
        (b"MISCONF Errors writing to the AOF file", NotWritableError, "takes no writes now"),
        (b"OOM command not allowed", NotWritableError, "takes no writes now"),
        (b"MOVED 1 127.0.0.1:1", ConcurrencyError, "slot is being moved"),
    ],
)
async def test_what_a_server_says_of_its_disk(
    face: Face, tmp_path: Path, reply: bytes, error: type[Exception], words: str
) -> None:
    """What it can't do at all is the argument's fault; all else is called what it is."""
    server = ScriptedServer(
        lambda command: b"-%b\r\n" % reply if command[0] == b"WAITAOF" else b"+PONG\r\n"
    )
    async with listening(server, tmp_path / "s"):
        with pytest.raises(error, match=words) as caught:
            await opened(
                face, f"unix://{tmp_path}/s?protocol=2", confirm_fsync=True, allow_unsafe=True
            )
    assert type(caught.value) is error


async def test_such_a_server_of_ones_own_client(face: Face) -> None:
    """The change was made, and nothing confirmed it."""
    with RunningPrimary(VALKEY_9) as forgetful:
        async with client_of(face, forgetful.nodes[0].port) as client:
            inventory = await stocked(face, client, confirm_fsync=True)
            with pytest.raises(InventoryUnavailableError, match="nothing confirmed") as caught:
                await inventory.select_coin(BOB, "GOLD")
            assert caught.value.outcome_unknown
            vault = face.vault(client, confirm_fsync=True)
            with pytest.raises(VaultUnavailableError, match="Redis 7.2, or Valkey, and an append"):
                await vault.store_key(**sample_key("k", "GOLD"))
            assert await vault.exists("k")


# Care ------------------------------------------------------------------------------------------


@contextmanager
def silent_replica(running: RunningPrimary) -> Generator[None]:
    """The replica confirms nothing until the block ends."""
    running.nodes[1].freeze()
    try:
        yield
    finally:
        running.nodes[1].thaw()


async def test_garbage_collection_waits_for_replicas(face: Face, pair: RunningPrimary) -> None:
    """A collector's changes are confirmed as those of its inventory are."""
    async with client_of(face, pair.nodes[0].port) as client:
        inventory = await stocked(face, client, **HASTY)
        gc = face.gc(inventory, client)
        with silent_replica(pair):
            for collect in (
                partial(gc.garbage_collect, 0),
                partial(gc.collect_single_contact, BOB),
            ):
                with pytest.raises(InventoryUnavailableError, match="0 of 1 replicas") as caught:
                    await collect()
                assert caught.value.outcome_unknown
        patient = face.gc(face.inventory(client, owner="alice", **PATIENT), client)
        assert (await patient.collect_single_contact(BOB)).keys_deleted == 0
    assert pair.nodes[1].client.zcard("aqm:{alice}:inv:v1:idx:bob_test_uuid:GOLD") == 0


async def test_the_end_of_an_owner_waits_for_replicas(face: Face, pair: RunningPrimary) -> None:
    """So does what an earlier call deleted, and nothing is left of that."""
    primary, replica = pair.nodes
    async with client_of(face, primary.port) as client:
        await stocked(face, client)
        hasty = face.database(client, client, **HASTY)
        with silent_replica(pair):
            for _ in range(2):
                with pytest.raises(VaultUnavailableError, match="0 of 1 replicas") as caught:
                    await hasty.delete_owner("alice")
                assert caught.value.outcome_unknown
                assert len(_list_lasting(primary)) <= 1
        assert await face.database(client, client, **PATIENT).delete_owner("alice") <= 1
    assert _list_lasting(primary) == []
    eventually(lambda: _list_lasting(replica) == [])


async def test_care_waits_for_disks(face: Face, pair: RunningPrimary) -> None:
    """A collector's changes, and the end of an owner."""
    primary = pair.nodes[0]
    options = {**PATIENT, "confirm_fsync": True}
    async with client_of(face, primary.port) as client:
        gc = face.gc(await stocked(face, client, **options), client)
        # The first time it's tried whether the user may wait for disks.
        await gc.collect_single_contact(BOB)
        primary.client.config_resetstat()
        await gc.collect_single_contact(BOB)
        assert _waited(primary) == 1
        await face.database(client, client, **options).delete_owner("alice")
        # For each page of keys, and once more in the end.
        assert _waited(primary) >= 3


def _list_lasting(node: Node) -> list[bytes]:
    """The names of all keys but claims."""
    names: list[bytes] = node.client.keys("*")
    return [name for name in names if not is_claim(name)]


def _waited(primary: Node) -> int:
    """How often changes were confirmed by disks."""
    waited = primary.info("commandstats", "cmdstat_waitaof")
    assert waited["failed_calls"] == 0
    return int(waited["calls"])


async def test_maintenance_waits_for_replicas(
    pair: RunningPrimary, caplog: pytest.LogCaptureFixture
) -> None:
    """A round isn't begun by a program that isn't sure of its turn."""
    delays: asyncio.Queue[float] = asyncio.Queue()
    never = asyncio.Event()

    async def sleep(seconds: float) -> None:
        delays.put_nowait(seconds)
        await never.wait()

    async def care(**options: Any) -> list[tuple[str, Any]]:
        """What a round logs."""
        caplog.clear()
        caplog.set_level(logging.INFO, "aqm_db.maintenance")
        async with connect(pair.url, **options) as db, db.maintenance(sleep=sleep):
            await delays.get()
        return [(record.msg, record.__dict__.get("error")) for record in caplog.records]

    with silent_replica(pair):
        assert await care(**HASTY) == [("maintenance_failed", InventoryUnavailableError.__name__)]
    pair.nodes[0].client.flushall()
    assert await care(**PATIENT) == [("maintenance_completed", None)]


# Arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, "yes", None])
async def test_what_is_no_flag(face: Face, value: Any) -> None:
    """It's named before anything is sent."""
    with pytest.raises(InvalidArgumentError, match="^confirm_fsync: must be a bool"):
        await opened(face, "memory://", confirm_fsync=value)
    async with client_of(face, 1) as client:
        for make in (face.vault, face.inventory):
            with pytest.raises(InvalidArgumentError, match="^confirm_fsync: must be a bool"):
                make(client, confirm_fsync=value)


async def test_an_owner_who_may_wait_for_disks(face: Face) -> None:
    """acl_rules has a rule for it, on request: old servers don't know the command."""
    assert "+waitaof" not in acl_rules("carol")
    with RunningServer(REDIS_8, *ON_DISK) as server:
        url = socket_url(server, "u:p@")
        allow(server, *acl_rules("carol"))
        with pytest.raises(AccessDeniedError, match="WAITAOF"):
            await opened(face, url, owner="carol", confirm_fsync=True)
        allow(server, *acl_rules("carol", confirm_fsync=True))
        await opened(face, url, owner="carol", confirm_fsync=True)


# What a doctor says ------------------------------------------------------------------------


@FACES
@pytest.mark.parametrize("kind", [VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
async def test_replicas_that_are_missing(face: str, kind: Backend) -> None:
    """Every call would fail; without confirmation there's nothing to find."""
    with RunningPrimary(kind, replicas=1) as running:
        primary, replica = running.nodes
        eventually(lambda: primary.info("replication", "slave0")["state"] == "online")
        enough = pick_finding(await diagnose(face, running.url, confirm_replicas=1), "confirmation")
        assert enough.severity == "ok"
        lacking = pick_finding(
            await diagnose(face, running.url, confirm_replicas=2), "confirmation"
        )
        assert lacking.severity == "error"
        assert "wait for 2 replicas, and the server has 1:" in lacking.message
        replica.client.replicaof("no", "one")
        eventually(lambda: primary.info("replication", "connected_slaves") == 0)
        diagnosis = await diagnose(face, running.url, confirm_replicas=1)
        assert "has 0:" in pick_finding(diagnosis, "confirmation").message
        names = {finding.name for finding in (await diagnose(face, running.url)).findings}
        assert "confirmation" not in names


@FACES
@pytest.mark.parametrize(
    ("kind", "appendfsync", "replicas", "patience", "severity"),
    [
        (REDIS_8, "everysec", 0, 1999, "warning"),
        (REDIS_8, "everysec", 0, 2000, "ok"),
        (VALKEY_9, "always", 0, 1, "ok"),
        (VALKEY_9, "always", 1, 1, "ok"),
        (REDIS_8, "everysec", 1, 1999, "warning"),
    ],
)
async def test_disks_that_are_waited_for(
    face: str, kind: Backend, appendfsync: str, replicas: int, patience: int, severity: str
) -> None:
    """A disk that is written once a second takes longer than the default timeout."""
    options = ("--appendonly", "yes", "--appendfsync", appendfsync)
    with RunningPrimary(kind, *options, replicas=replicas) as servers:
        told = {"confirm_replicas": replicas, "confirm_timeout": patience, "confirm_fsync": True}
        finding = pick_finding(await diagnose(face, servers.url, **told), "confirmation")
    assert (finding.severity, "a second" in finding.message) == (severity, severity != "ok")


@FACES
async def test_what_is_not_told(face: str) -> None:
    """A user who may not ask can't be told."""
    with RunningServer(VALKEY_9) as server:
        allow(server, "~*", "+@all", "-info")
        finding = pick_finding(
            await diagnose(face, socket_url(server, "u:p@"), confirm_replicas=1), "confirmation"
        )
    assert (finding.severity, "refuses INFO" in finding.message) == ("warning", True)


@FACES
async def test_what_confirmation_may_not_do(face: str) -> None:
    """It's found where changes have to be confirmed, and nowhere else."""
    keys = (
        "~vault:*",
        "~inv:v1:[a-bd-z]*",
        "~inv:v1:claim:*",
        "~inv:v1:contacts",
        "~inv:v1:coming",
    )
    with RunningServer(VALKEY_9, *ON_DISK) as server:
        allow(server, "+@all", "-wait", *keys)
        diagnosis = await diagnose(face, socket_url(server, "u:p@"))
        assert pick_finding(diagnosis, "permissions").severity == "ok"
        diagnosis = await diagnose(face, socket_url(server, "u:p@"), confirm_replicas=1)
        assert {
            (finding.message, finding.remedy)
            for finding in diagnosis.findings
            if finding.name == "permissions"
        } == {
            (
                f"The {database}'s user may not {what}, as confirmation must.",
                f"Run ACL SETUSER u {rule}",
            )
            for database in ("vault", "inventory")
            for what, rule in (
                ("run WAIT", "+wait"),
                ("reach the keys inv:v1:confirm", "~inv:v1:confirm"),
            )
        }
        allow(server, "+@all", "-waitaof", "~*")
        client = redis.asyncio.Redis(
            unix_socket_path=str(server.socket_path), username="u", password="p"
        )
        database = AsyncClientDatabase(client, client, confirm_fsync=True)
        remedies = {finding.remedy for finding in (await database.doctor()).findings}
        assert "Run ACL SETUSER u +waitaof" in remedies
        await database.aclose()
