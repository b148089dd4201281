"""What confines an owner is needed: without it, a test that names it fails.

Every docstring says which protection is taken out, and which test then fails; the same test passes
with it, in the same place.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from aqm_db import gc
from aqm_db._operations import Scope, collecting, contacts
from aqm_db._operations.collecting import Mode, Row
from aqm_db._operations.outcome import Progress
from aqm_db.acl import acl_rules
from tests.care import test_acl as of_rules
from tests.faults import test_confined_owners as of_owners
from tests.faults.support.fault_table import Tally
from tests.support.backends import VALKEY_8, VALKEY_9, Backend, RunningServer
from tests.support.faces import ASYNC
from tests.support.samples import BOB

pytestmark = pytest.mark.asyncio
confined = of_owners.confined
grown = of_rules.grown


@pytest.mark.parametrize("backend", [VALKEY_8], ids=lambda backend: backend.name)
@pytest.mark.parametrize(
    "rule", ["resetkeys", "resetchannels", "nocommands", "sanitize-payload", "clearselectors"]
)
async def test_rules_that_leave_something(
    monkeypatch: pytest.MonkeyPatch, backend: Backend, server: RunningServer, grown: Any, rule: str
) -> None:
    """What takes back earlier grants: test_what_was_allowed_before_is_taken_back."""

    def leave(_: Backend, owner: str) -> list[str]:
        return [each for each in acl_rules(owner) if each != rule]

    with monkeypatch.context() as changed:
        changed.setattr(of_rules, "rules_for", leave)
        with pytest.raises(AssertionError):
            await of_rules.test_what_was_allowed_before_is_taken_back(backend, server, grown)
    of_rules.grow(backend, server)
    await of_rules.test_what_was_allowed_before_is_taken_back(backend, server, grown)


@pytest.mark.parametrize(("backend", "options", "face"), [(VALKEY_9, {}, ASYNC)])
@pytest.mark.parametrize("place", ["forget", "collect"])
async def test_walks_that_come_late(
    monkeypatch: pytest.MonkeyPatch,
    confined: of_owners.Confined,
    options: dict[str, Any],
    place: str,
) -> None:
    """A walk before the first change: test_an_operation_works_or_changes_nothing."""

    async def find_nothing(*_: object) -> list[Row]:
        return []

    async def walk(
        scope: Scope, _: Sequence[Row], mode: Mode, progress: Progress
    ) -> list[tuple[str, int]]:
        return await collecting.remove_orphans(scope, [BOB], mode, progress)

    with monkeypatch.context() as changed:
        module = contacts if place == "forget" else gc
        changed.setattr(module, "find_orphans", find_nothing)
        changed.setattr(module, "drop_orphans", walk)
        with pytest.raises(AssertionError, match="an owner's rules"):
            await of_owners.test_an_operation_works_or_changes_nothing(confined, options, Tally())
    await of_owners.test_an_operation_works_or_changes_nothing(confined, options, Tally())
