"""Owners whom ``acl_rules`` confine: each operation works, or is refused and changes nothing."""

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from aqm_db import (
    AsyncClientDatabase,
    AsyncGarbageCollector,
    AsyncMinter,
    AsyncReplenisher,
    AsyncSecureVault,
    AsyncSmartInventory,
    AsyncStorageReporter,
    backup,
)
from aqm_db.acl import acl_rules
from aqm_db.backup import export_backup
from aqm_db.errors import AccessDeniedError
from generate_denials import list_denied
from tests.faults.support.fault_table import Tally
from tests.faults.support.more_calls import OWNER, list_more_calls
from tests.faults.support.public_calls import (
    CALLS,
    Call,
    Objects,
    errors_of,
    furnish,
    objects_over,
)
from tests.faults.support.restored_database import Kept
from tests.support.backends import REAL_BACKENDS, REDIS_6, VALKEY_9, Backend, RunningServer
from tests.support.faces import ASYNC, FACES, SYNC, Face
from tests.support.samples import snapshot

pytestmark = pytest.mark.asyncio

OBJECTS: dict[str, type] = {
    "vault": AsyncSecureVault,
    "inventory": AsyncSmartInventory,
    "gc": AsyncGarbageCollector,
    "reporter": AsyncStorageReporter,
    "db": AsyncClientDatabase,
    "minter": AsyncMinter,
    "replenisher": AsyncReplenisher,
}
UNTRIED = {
    *("db.aclose", "db.for_owner", "inventory.prefetch"),
    *("replenisher.running", "replenisher.take_unreported", "minter.running"),
}
"""Methods that ask the server nothing, or nothing but what another one does."""
OPERATIONS = {
    "inventory.get_inventory()": "get_inventory of all contacts",
    "inventory.store_key(budget)": "enforce_budget",
    "inventory.store_keys(budget)": "enforce_budget",
    "db.maintenance(all_owners)": "maintenance of all owners",
}
"""What the rules' docstring calls some calls; others are named as their methods are."""
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "with_scan": {"with_scan": True},
    "confirm_fsync": {"confirm_fsync": True, "with_config": True},
    "all": {"with_scan": True, "confirm_fsync": True, "with_config": True},
}
CASES = [
    pytest.param(backend, options, face, id=f"{backend.name}-{name}-{face}")
    for backend in REAL_BACKENDS
    for name, options in OPTIONS.items()
    for face in FACES
    # Redis 6.2 can't confirm that.
    if not ("confirm_fsync" in options and backend == REDIS_6)
]


@dataclass(frozen=True)
class Confined:
    """A furnished database, and who may do what there.

    Attributes:
        admin: makes objects of a user who may do everything.
        user: makes those of the confined one.
        calls: all that can be tried with them.
        kept: what is there before each call.
        read: everything that is there.
    """

    admin: Callable[[], Objects]
    user: Callable[[], Objects]
    calls: dict[str, Call]
    kept: Kept
    read: Callable[[], Awaitable[dict[Any, Any]]]


@pytest_asyncio.fixture
async def confined(
    backend: Backend, options: dict[str, Any], face: Face, tmp_path: Path
) -> AsyncIterator[Confined]:
    """A server of its own, whose disk can confirm changes."""
    confirms = bool(options.get("confirm_fsync"))
    files = ("--appendonly", "yes", "--appendfsync", "always") if confirms else ()
    rules = dict(options, has_selectors=backend != REDIS_6)
    if backend == VALKEY_9:
        rules["databases"] = [1]
    with RunningServer(backend, *files) as server:
        direct: Any = server.client(1)
        await direct.execute_command("ACL", "SETUSER", "u", "on", ">p", *acl_rules(OWNER, **rules))
        entry = await furnish(objects_over(direct, owner=OWNER))
        await export_backup(objects_over(direct, owner=OWNER).db, tmp_path / "kept")
        # The server has let it go: whoever counts takes it off.
        await direct.delete("aqm:{alice}:vault:v1:key:k3")
        kept = Kept(direct)
        await kept.keep()
        connect = server.client if face is ASYNC else server.sync_client
        clients: list[Any] = [connect(1), connect(1, username="u", password="p")]

        def make(client: Any) -> Objects:
            return objects_over(client, face, owner=OWNER, entry=entry, confirm_fsync=confirms)

        yield Confined(
            lambda: make(clients[0]),
            lambda: make(clients[1]),
            CALLS if face is SYNC else {**CALLS, **list_more_calls(tmp_path)},
            kept,
            lambda: snapshot(direct),
        )
        for client in clients:
            await client.aclose() if face is ASYNC else client.close()
        await direct.aclose()


def name_operation(call: str) -> str:
    """What the rules' docstring calls it."""
    return OPERATIONS.get(call, call.partition("(")[0].rpartition(".")[2])


@pytest.mark.parametrize(("backend", "options", "face"), CASES)
async def test_an_operation_works_or_changes_nothing(
    confined: Confined, options: dict[str, Any], tally: Tally
) -> None:
    """What is denied is what the docstring lists; everything else is as without the rules."""
    listed = set(list_denied(acl_rules(OWNER, **options)))
    denied: set[str] = set()
    for name, call in confined.calls.items():
        await confined.kept.restore()
        usual = [type(error) for error in await errors_of(call(confined.admin()))]
        assert AccessDeniedError not in usual
        await confined.kept.restore()
        before = await confined.read()
        errors = [type(error) for error in await errors_of(call(confined.user()))]
        if AccessDeniedError in errors:
            denied.add(name_operation(name))
            changed = await confined.read() != before
            wrong = errors != [AccessDeniedError] or name_operation(name) not in listed
            tally.add("an owner's rules", lost=changed, wrong=wrong, case=name)
        else:
            tally.add("an owner's rules", wrong=errors != usual, case=name)
    assert denied == listed & set(map(name_operation, confined.calls))


@pytest.mark.parametrize(
    ("backend", "options", "face"), [(VALKEY_9, {"confirm_fsync": True}, face) for face in FACES]
)
async def test_a_confirmation_that_is_denied(confined: Confined, tally: Tally) -> None:
    """Without CONFIG GET nobody can confirm a change there, so none is made."""
    denied = 0
    for name, call in confined.calls.items():
        await confined.kept.restore()
        before = await confined.read()
        errors = [type(error) for error in await errors_of(call(confined.user()))]
        if AccessDeniedError in errors:
            denied += 1
            changed = await confined.read() != before
            tally.add("an owner's rules", lost=changed, case=name)
    # Whatever changes something.
    assert denied >= 30


@pytest.mark.parametrize(("backend", "options", "face"), [(VALKEY_9, {}, ASYNC)])
async def test_the_doctor_names_what_is_denied(confined: Confined) -> None:
    """It tries what operations need, and so says the same as the rules' docstring."""
    findings = (await confined.user().db.doctor()).findings
    named: set[str] = set()
    for message in [each.message for each in findings if each.name == "permissions"]:
        found = re.search(r" may not run (?:SCAN|UNLINK), as (.+) must\.$", message)
        assert found, message
        named.update(found[1].split(", "))
    assert sorted(named) == list_denied(acl_rules(OWNER))


async def test_every_public_method_is_tried(tmp_path: Path) -> None:
    """None is left out that has been added since, and no operation is listed that isn't there."""
    calls = (*CALLS, *list_more_calls(tmp_path))
    public = {
        f"{name}.{method}"
        for name, kind in OBJECTS.items()
        for method, value in vars(kind).items()
        if inspect.isfunction(value) and not method.startswith("_")
    }
    public |= {
        name
        for name, value in vars(backup).items()
        if inspect.iscoroutinefunction(value) and value.__module__ == backup.__name__
        if not name.startswith("_")
    }
    assert {name.partition("(")[0] for name in calls} == public - UNTRIED
    assert set(list_denied(acl_rules(OWNER))) <= set(map(name_operation, calls))
