"""Slices of the tests, each chosen by a rule, so that no list of names has to be kept.

``measured`` is each test with all of its arguments, but on one server, and each fault once: more of
them run the same lines of Python, and to measure coverage takes nearly as long as the tests do.
``unmeasured`` is all the rest.

``clients`` finds what another version of a dependency breaks: that's on the client's side. It is
each test once, on each face, and both on fakeredis and on a real server if it's for both; without
faults and chats, which take long and use nothing else, and without what checks the source.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.backends import FAKEREDIS, Backend
from tests.support.faces import Face

SLICES: Final = ("measured", "unmeasured", "clients")
_FAULTS: Final = Path(__file__).parent.parent / "faults"


def slice_of(items: Iterable[pytest.Item], name: str) -> list[pytest.Item]:
    """The tests of a slice, in order."""
    match name:
        case "measured":
            return _firsts(items, _lines)
        case "unmeasured":
            measured = set(_firsts(items, _lines))
            return [item for item in items if item not in measured]
        case _:
            return _firsts(filter(_is_about_clients, items), _client)


def _firsts(
    items: Iterable[pytest.Item], kind_of: Callable[[pytest.Item], object]
) -> list[pytest.Item]:
    """The first test of each kind."""
    firsts: dict[object, pytest.Item] = {}
    for item in items:
        firsts.setdefault(kind_of(item), item)
    return [*firsts.values()]


def _lines(item: pytest.Item) -> object:
    """What decides on the lines that are run."""
    if _is_fault(item):
        return _client(item)
    name = item.nodeid
    for value in _values(item):
        if isinstance(value, Backend):
            name = name.replace(value.name, "")
    return name


def _client(item: pytest.Item) -> object:
    """What decides on the client's side."""
    # Who calls is told by a face, or by what has one.
    values = [getattr(value, "face", value) for value in _values(item)]
    faces = frozenset(value for value in values if isinstance(value, Face))
    return item.nodeid.partition("[")[0], faces, FAKEREDIS in values


def _is_about_clients(item: pytest.Item) -> bool:
    marks = map(item.get_closest_marker, ("chat", "lint"))
    return not _is_fault(item) and not any(marks)


def _is_fault(item: pytest.Item) -> bool:
    return _FAULTS in item.path.parents


def _values(item: pytest.Item) -> Iterator[Any]:
    """The arguments that a test is run with, those in tuples too."""
    if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        for value in item.callspec.params.values():
            yield from value if isinstance(value, tuple) else (value,)
