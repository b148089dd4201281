"""Fixtures of the core suites without one part of another package after another."""

from collections.abc import Iterator

import pytest

from aqm_db._io.redispy import private_parts
from aqm_db._io.redispy.private_parts import Part
from tests.support.backends import VALKEY_9, Backend
from tests.support.faces import ASYNC, SYNC, Face

PARTS = {
    name: part
    for name, part in vars(private_parts).items()
    # A node of a cluster is tried in tests/cluster.
    if isinstance(part, Part) and part is not private_parts.TAKE_OF_NODE
}


@pytest.fixture
def backend() -> Backend:
    """One server: all parts are of the client's side."""
    return VALKEY_9


@pytest.fixture
def face(request: pytest.FixtureRequest) -> Face:
    """The one that touches the part."""
    return SYNC if PARTS[_find_name(request)].holder == "redis.ConnectionPool" else ASYNC


def _find_name(request: pytest.FixtureRequest) -> str:
    name: str = request.getfixturevalue("_without")
    return name


@pytest.fixture(autouse=True, params=PARTS)
def _without(request: pytest.FixtureRequest) -> Iterator[str]:
    name: str = request.param
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(private_parts, name, getattr(private_parts, name)._replace(name="gone"))
        yield name
