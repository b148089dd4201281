"""The files of constraints pin all that the sessions of nox install."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parent.parent.parent
SETTINGS: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
IMPORTED = [
    SETTINGS["project"]["dependencies"],
    *SETTINGS["project"]["optional-dependencies"].values(),
]
NEWEST, OLDEST = "constraints.txt", "tests/constraints-lowest.txt"


def requirements(lists: list[list[Any]]) -> list[Requirement]:
    """Those in the lists, but for the project itself, and for groups that a group includes."""
    texts = [text for each in lists for text in each if isinstance(text, str)]
    return [Requirement(text) for text in texts if not text.startswith("aqm-db[")]


def pins(name: str) -> dict[str, list[str]]:
    """The versions that a file pins, by package: one, or one for each Python."""
    versions: dict[str, list[str]] = {}
    for line in (PROJECT / name).read_text("utf-8").splitlines():
        if not line.startswith("#"):
            # A path or an address would be no version.
            assert re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+( ; .+)?", line)
            pin = Requirement(line)
            versions.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier)[2:])
    return versions


@pytest.mark.parametrize(
    ("name", "lists"),
    [
        (NEWEST, [*IMPORTED, *SETTINGS["dependency-groups"].values()]),
        (OLDEST, [*IMPORTED, *map(SETTINGS["dependency-groups"].get, ("servers", "tests"))]),
    ],
    ids=["newest", "oldest"],
)
def test_all_is_pinned_to_versions_that_will_do(name: str, lists: list[list[Any]]) -> None:
    """Also what builds the project."""
    versions = pins(name)
    for wanted in requirements([SETTINGS["build-system"]["requires"], *lists]):
        found = versions.get(canonicalize_name(wanted.name), [])
        assert found, f"nox -s lock: {wanted} isn't pinned"
        assert all(map(wanted.specifier.contains, found)), f"nox -s lock: {wanted}"


def test_the_oldest_are_the_oldest() -> None:
    """Each bound of pyproject.toml is tried."""
    versions = pins(OLDEST)
    for wanted in requirements(IMPORTED):
        [bound] = wanted.specifier
        assert bound.operator == ">="
        [found] = versions[canonicalize_name(wanted.name)]
        assert found.removeprefix(bound.version).strip(".0") == "", f"nox -s lock: {wanted}"
