"""What confines an owner is needed: without it, a test that names it fails.

Every docstring says which protection is taken out, and which test then fails; the same test passes
with it, in the same place.
"""

from typing import Any

import pytest

from aqm_db.acl import acl_rules
from tests.care import test_acl as of_rules
from tests.faults import test_confined_owners as of_owners
from tests.support.backends import VALKEY_8, Backend, RunningServer

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
