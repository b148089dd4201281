"""Fixtures of the core suites without one part of another package after another."""

from collections.abc import Iterator

import pytest

from aqm_db._io.redispy import private_parts
from aqm_db._io.redispy.private_parts import Part
from tests.support.backends import VALKEY_9, Backend
from tests.support.faces import ASYNC, Face

PARTS = [
    name
    for name, part in vars(private_parts).items()
    # A node of a cluster is tried in tests/cluster.
    if isinstance(part, Part) and part is not private_parts.TAKE_OF_NODE
]


@pytest.fixture
def backend() -> Backend:
    """One server: all parts are of the client's side."""
    return VALKEY_9


@pytest.fixture
def face() -> Face:
    """The asynchronous one: the other touches no such part."""
    return ASYNC


@pytest.fixture(autouse=True, params=PARTS)
def _without(request: pytest.FixtureRequest) -> Iterator[None]:
    name = request.param
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(private_parts, name, getattr(private_parts, name)._replace(name="gone"))
        yield
