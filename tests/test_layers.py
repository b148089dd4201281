"""What may import what: the rule that lets one implementation serve both faces."""

import ast
from pathlib import Path

import pytest

from aqm_db import vault

PACKAGE = Path(vault.__file__).parent
FORBIDDEN = {"asyncio", "redis", "threading", "concurrent"}


def imported(source: str) -> set[str]:
    """The packages that a text imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    return names


@pytest.mark.parametrize(
    "module",
    [
        *("vault", "inventory", "gc", "stats", "doctor", "integrity"),
        *(
            "_batch",
            "_orphans",
            "_outcome",
            "_permissions",
            "_reservations",
            "_safety",
            "_unpublished",
        ),
        *("_inspection", "_vault_check", "_inventory_check"),
    ],
)
def test_what_serves_both_faces_knows_neither(module: str) -> None:
    """Neither an event loop nor a client library: all of that is behind the seam."""
    assert not imported((PACKAGE / f"{module}.py").read_text("utf-8")) & FORBIDDEN


@pytest.mark.parametrize("module", ["replenisher", "minter", "_backoff", "_anyio"])
def test_what_runs_in_the_background_knows_anyio_only(module: str) -> None:
    """Their event loop is anyio's, and the client is the seam's."""
    assert imported((PACKAGE / f"{module}.py").read_text("utf-8")) & FORBIDDEN == set()


def test_the_rule_sees_every_kind_of_import() -> None:
    """The test above would fail."""
    for line in ("import asyncio.locks as x", "from redis import Redis", "from redis.x import y"):
        assert imported(f"def f():\n    {line}\n") & FORBIDDEN
    assert not imported("from .redis import x\nfrom . import asyncio\n") & FORBIDDEN
