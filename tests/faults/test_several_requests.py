"""Calls that take several requests, and end halfway: their errors tell what was done."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from aqm_db._operations.batch import AT_ONCE
from aqm_db._operations.outcome import Progress
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    ConcurrencyError,
    ContactNotRegisteredError,
    CorruptEntryError,
    InventoryUnavailableError,
    NotWritableError,
    UnavailableError,
)
from aqm_db.testing._relay import Relay
from tests.faults.support.fault_table import Tally
from tests.faults.support.halfway import act_halfway
from tests.faults.support.public_calls import objects_over
from tests.faults.support.several_requests import (
    ALICE,
    MANY,
    SEVERAL,
    Hindrance,
    Scene,
    Several,
    many_keys,
    tell_what_was_done,
)
from tests.support.backends import REDIS_6, VALKEY_9, Backend
from tests.support.clusters import Node, RunningPrimary
from tests.support.faces import ASYNC, FACES, Face
from tests.support.samples import BOB, Clock

pytestmark = pytest.mark.asyncio

USER = "alice"
HINDRANCES = ("denied", "not writable", "down")


@pytest.fixture(scope="module", params=[VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A server that keeps what it has when it's killed."""
    backend: Backend = request.param
    with RunningPrimary(backend, "--appendonly", "yes", "--appendfsync", "always") as running:
        yield running.nodes[0]


@pytest_asyncio.fixture(params=FACES, ids=str)
async def face(request: pytest.FixtureRequest) -> Face:
    """Each face."""
    made: Face = request.param
    return made


@pytest_asyncio.fixture
async def scene(node: Node, face: Face, tmp_path: Path) -> AsyncIterator[Scene]:
    """An empty database of a user who may do everything."""
    clear(node)
    async with scene_over(node, node.port, face, tmp_path) as made:
        yield made


def clear(node: Node) -> None:
    """Deletes everything, and takes back what hinders calls."""
    node.client.config_set("min-replicas-to-write", 0)
    node.client.flushall()
    _allow(node)


@asynccontextmanager
async def scene_over(
    node: Node, port: int, face: Face, tmp_path: Path, retries: int = 0
) -> AsyncGenerator[Scene]:
    """A database on a link that begins at a port."""
    clock = Clock()
    options: dict[str, Any] = {"port": port, "username": USER, "password": "any"}

    def make(client: Any) -> Scene:
        on = objects_over(client, face, owner="alice", clock=clock)
        return Scene(on, client, face, lambda: node.client, clock, tmp_path / "backup")

    if face is ASYNC:
        async with redis.asyncio.Redis(retry=AsyncRetry(NoBackoff(), retries), **options) as client:
            yield make(client)
    else:
        with closing(redis.Redis(retry=Retry(NoBackoff(), retries), **options)) as sync_client:
            yield make(sync_client)


@pytest.mark.parametrize("several", SEVERAL, ids=str)
@pytest.mark.parametrize("kind", HINDRANCES)
async def test_a_call_that_ends_halfway(
    node: Node,
    scene: Scene,
    several: Several,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    tally: Tally,
) -> None:
    """Whatever error it is, it counts what was done, and calling again does the rest."""
    if several.is_asynchronous and scene.face is not ASYNC:
        return
    await tell_what_was_done(scene, several, hindrance_of(node, kind), monkeypatch)
    tally.add("call of several requests that ends halfway")


async def test_a_purge_that_meets_a_malformed_index_halfway(
    node: Node, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was purged before is counted."""
    [purge] = [each for each in SEVERAL if each.name == "purge_expired"]
    spent = f"{ALICE}vault:v1:spent"

    def spoil() -> None:
        node.client.rename(spent, "kept")
        node.client.set(spent, "x")

    hindrance = Hindrance(
        "spoiled", CorruptEntryError, spoil, lambda: node.client.rename("kept", spent)
    )
    await tell_what_was_done(scene, purge, hindrance, monkeypatch)


@pytest.mark.parametrize("kind", HINDRANCES)
async def test_a_batch_that_ends_halfway(
    node: Node, scene: Scene, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each item has its own outcome; what wasn't sent any more is known not to be stored."""
    hindrance = hindrance_of(node, kind)
    with monkeypatch.context() as patched:
        act_halfway(patched, "vault_store", 2, hindrance.strike)
        outcomes = await scene.on.vault.store_keys(many_keys())
    hindrance.mend()
    assert outcomes[:AT_ONCE] == [True] * AT_ONCE
    assert len(outcomes) == MANY
    for outcome in outcomes[AT_ONCE:]:
        assert isinstance(outcome, hindrance.error)
    # A link that broke may have taken the second portion along.
    unsent = outcomes[2 * AT_ONCE if kind == "down" else AT_ONCE :]
    assert not any(isinstance(each, AQMDatabaseError) and each.outcome_unknown for each in unsent)
    assert scene.count_keys("vault:v1:key:*") == AT_ONCE
    again = await scene.on.vault.store_keys(many_keys()[AT_ONCE:])
    assert again == [True] * (MANY - AT_ONCE)


async def test_a_caller_who_stops_halfway(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a cancellation nor an error of the client's own can count: the log does."""
    caplog.set_level(logging.INFO)
    [purge] = [each for each in SEVERAL if each.name == "purge_expired"]
    await purge.prepare(scene)
    stopped: type[BaseException] = (
        RuntimeError if scene.face is not ASYNC else asyncio.CancelledError
    )

    def stop() -> None:
        raise stopped

    with monkeypatch.context() as patched:
        act_halfway(patched, "vault_purge", 2, stop)
        with pytest.raises(stopped):
            await purge.call(scene)
    [record] = [each for each in caplog.records if each.msg == "changed_in_part"]
    about: Any = record
    assert record.levelno == logging.INFO
    assert (about.operation, about.error) == ("purge_expired", stopped.__name__)
    assert about.count == MANY - purge.count_left(scene) > 0


async def test_a_reply_that_is_lost_while_an_owner_is_deleted(
    node: Node, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """The repetition finds nothing to delete: what was there is counted before."""
    clear(node)
    with Relay(("127.0.0.1", node.port)) as relay:
        async with scene_over(node, relay.port, face, tmp_path, retries=3) as scene:
            await scene.on.vault.store_key("k1", "GOLD", b"blob", b"nonce", b"tag")
            there = scene.count_keys("*")
            act_halfway(monkeypatch, "UNLINK", 1, lambda: relay.lose(1))
            assert await scene.on.db.delete_owner("alice") == there
    assert relay.names.count("UNLINK") == 2
    tally.add("reply lost while an owner is deleted")


async def test_a_failure_that_others_are_told_of_too() -> None:
    """Each caller's error tells of its own call; the cause is the same."""
    cause = OSError("gone")
    shared = InventoryUnavailableError("no answer")
    shared.__cause__ = cause
    for count in (3, 4):
        outer, inner = Progress("call"), Progress("part")
        outer.add([1])
        inner.add([count - 1])
        with pytest.raises(InventoryUnavailableError, match="no answer") as caught, outer, inner:
            raise shared
        assert caught.value.carried_out == count
        assert caught.value.__cause__ is cause
    assert (shared.outcome_unknown, shared.carried_out) == (False, 0)


async def test_a_request_of_many_whose_outcome_is_unknown() -> None:
    """The error that is raised is another one's: it tells all the same."""
    unknown, refused = InventoryUnavailableError("", outcome_unknown=True), ConcurrencyError("")
    progress = Progress("call")
    progress.add([unknown, refused])
    with pytest.raises(ConcurrencyError) as caught, progress:
        raise refused
    assert (caught.value.outcome_unknown, caught.value.carried_out) == (True, 0)


async def test_a_change_that_may_not_be_confirmed(node: Node, face: Face, tmp_path: Path) -> None:
    """It was made, whatever the error is called."""
    clear(node)
    _allow(node, "-wait")
    async with scene_over(node, node.port, face, tmp_path) as scene:
        vault = face.vault(scene.client, owner="alice", confirm_replicas=1)
        with pytest.raises(AccessDeniedError, match="WAIT") as caught:
            await vault.store_key("k1", "GOLD", b"blob", b"nonce", b"tag")
        assert caught.value.outcome_unknown is True
        assert scene.count_keys("vault:v1:key:*") == 1


async def test_a_contact_who_is_half_gone(scene: Scene) -> None:
    """Whatever forgot the contact: the rows that were left go, once, and then it isn't there."""
    [forget] = [each for each in SEVERAL if each.name == "forget_contact"]
    await forget.prepare(scene)
    admin = scene.find_admin()
    admin.delete(f"{ALICE}inv:v1:meta:{BOB}", f"{ALICE}inv:v1:idx:{BOB}:BRONZE")
    admin.zadd(f"{ALICE}inv:v1:aside", {f"{BOB}:{BOB}{number}": 0 for number in range(3)})
    assert await forget.call(scene) == 3
    with pytest.raises(ContactNotRegisteredError) as caught:
        await forget.call(scene)
    assert (caught.value.outcome_unknown, caught.value.carried_out) == (False, 0)


async def test_an_unregistered_contact_whose_coins_are_listed(scene: Scene) -> None:
    """Nothing is half gone there: the contact isn't registered, and nothing is deleted."""
    [forget] = [each for each in SEVERAL if each.name == "forget_contact"]
    await forget.prepare(scene)
    admin = scene.find_admin()
    admin.delete(f"{ALICE}inv:v1:meta:{BOB}", f"{ALICE}inv:v1:aside")
    admin.zadd(f"{ALICE}inv:v1:idx:{BOB}:BRONZE", {f"{BOB}0": 1})
    with pytest.raises(ContactNotRegisteredError):
        await forget.call(scene)
    assert scene.count_keys(f"inv:v1:key:{BOB}:*") == 3


def hindrance_of(node: Node, kind: str) -> Hindrance:
    """What ends a call on a server."""
    set_config = node.client.config_set
    return {
        "denied": Hindrance(
            kind, AccessDeniedError, lambda: _allow(node, "-@all"), lambda: _allow(node)
        ),
        "not writable": Hindrance(
            kind,
            NotWritableError,
            lambda: set_config("min-replicas-to-write", 3),
            lambda: set_config("min-replicas-to-write", 0),
        ),
        "down": Hindrance(kind, UnavailableError, node.kill, lambda: _start_again(node)),
    }[kind]


def _allow(node: Node, *more: str) -> None:
    rules = ("on", "nopass", "~*", "&*", "+@all", *more)
    node.client.execute_command("ACL SETUSER", USER, "reset", *rules)


def _start_again(node: Node) -> None:
    node.start()
    _allow(node)
