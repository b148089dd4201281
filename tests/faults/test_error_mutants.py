"""Each error that keeps its name, or counts, is needed to: else a test that names it fails.

As in test_mutants, every docstring says which protection is taken out, and which test then fails.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from aqm_db import AsyncClientDatabase, cli, connect
from aqm_db._io import facts, fsync
from aqm_db._io.redispy.faces import Face
from aqm_db._operations.outcome import Progress
from aqm_db.errors import (
    AQMDatabaseError,
    ConcurrencyError,
    InvalidArgumentError,
    InventoryUnavailableError,
)
from aqm_db.replenisher import AsyncReplenisher
from tests.api import (
    test_confirming as of_confirming,
    test_database as of_databases,
    test_programming_errors as of_mistakes,
)
from tests.faults import test_several_requests as of_several_requests
from tests.faults.support.fault_table import Tally
from tests.faults.support.several_requests import SEVERAL, Several
from tests.support.clusters import Node
from tests.support.faces import ASYNC

pytestmark = pytest.mark.asyncio

NOTICED = (AssertionError, AQMDatabaseError, SystemExit, pytest.fail.Exception)
"""How a test fails that notices a mutant."""


node = of_several_requests.node


@pytest_asyncio.fixture
async def db() -> AsyncIterator[AsyncClientDatabase]:
    """An empty database."""
    async with connect("memory://") as database:
        yield database


def always(_: object) -> bool:
    """Tells nothing apart."""
    return True


async def is_noticed(
    mutant: pytest.MonkeyPatch, test: Callable[[pytest.MonkeyPatch], Awaitable[None]]
) -> None:
    """Makes sure that a test fails with a mutant, and passes without it."""
    with pytest.MonkeyPatch.context() as patched, pytest.raises(NOTICED):
        await test(patched)
    mutant.undo()
    with pytest.MonkeyPatch.context() as patched:
        await test(patched)


async def test_a_disk_that_is_full_is_an_argument(tmp_path: Path) -> None:
    """What a server says of WAITAOF: test_what_a_server_says_of_its_disk."""

    async def test(_: pytest.MonkeyPatch) -> None:
        await of_confirming.test_what_a_server_says_of_its_disk(
            ASYNC, tmp_path, b"MOVED 1 127.0.0.1:1", ConcurrencyError, "slot is being moved"
        )

    with pytest.MonkeyPatch.context() as mutant:
        mutant.setattr(fsync, "is_refusal", always)
        await is_noticed(mutant, test)


async def test_what_fails_is_what_is_not_told(tmp_path: Path) -> None:
    """What a server says of INFO: test_a_server_that_can_not_tell_now."""

    async def test(_: pytest.MonkeyPatch) -> None:
        await of_databases.test_a_server_that_can_not_tell_now("aio", tmp_path)

    with pytest.MonkeyPatch.context() as mutant:
        mutant.setattr(facts, "is_refusal", always)
        await is_noticed(mutant, test)


async def test_a_broken_module_is_an_extra() -> None:
    """Imports of our own: test_a_broken_module_of_the_command."""
    with pytest.MonkeyPatch.context() as mutant:
        mutant.setattr(cli, "is_missing", always)
        await is_noticed(mutant, of_mistakes.test_a_broken_module_of_the_command)


async def test_a_mistake_in_the_background_is_the_databases(db: AsyncClientDatabase) -> None:
    """What a run raises: test_a_mistake_ends_the_background."""
    replenish = AsyncReplenisher.replenish

    async def renaming(replenisher: AsyncReplenisher, *contact_id: str) -> Any:
        try:
            return await replenish(replenisher, *contact_id)
        except TypeError:
            raise InventoryUnavailableError("gone") from None

    async def test(patched: pytest.MonkeyPatch) -> None:
        await of_mistakes.test_a_mistake_ends_the_background(db, patched, TypeError)

    with pytest.MonkeyPatch.context() as mutant:
        mutant.setattr(AsyncReplenisher, "replenish", renaming)
        await is_noticed(mutant, test)


async def test_a_mistake_in_making_clients_is_the_urls() -> None:
    """What making clients raises: test_a_mistake_in_making_clients."""
    clients: Any = Face.make_clients

    def renaming(*arguments: Any) -> Any:
        try:
            return clients(*arguments)
        except TypeError:
            raise InvalidArgumentError("url", "has an option that isn't known") from None

    async def test(patched: pytest.MonkeyPatch) -> None:
        url = "redis+sentinel://127.0.0.1:1/name"
        await of_mistakes.test_a_mistake_in_making_clients(patched, connect, url, TypeError)

    with pytest.MonkeyPatch.context() as mutant:
        mutant.setattr(Face, "make_clients", renaming)
        await is_noticed(mutant, test)


@pytest.mark.parametrize("several", SEVERAL, ids=str)
async def test_a_call_that_counts_nothing(node: Node, several: Several, tmp_path: Path) -> None:
    """What a call of several requests did: test_a_call_that_ends_halfway."""

    async def test(patched: pytest.MonkeyPatch) -> None:
        of_several_requests.clear(node)
        async with of_several_requests.scene_over(node, node.port, ASYNC, tmp_path) as scene:
            scene.path.unlink(missing_ok=True)
            await of_several_requests.test_a_call_that_ends_halfway(
                node, scene, several, "denied", patched, Tally()
            )

    def add_nothing(*_: object) -> None:
        """Counts nothing."""

    with pytest.MonkeyPatch.context() as mutant:
        mutant.setattr(Progress, "add", add_nothing)
        await is_noticed(mutant, test)
