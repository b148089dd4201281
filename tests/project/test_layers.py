"""The contracts of pyproject.toml: imports go one way, and few modules know what isn't ours."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.lint

PROJECT = Path(__file__).parent.parent.parent
PACKAGE = PROJECT / "src" / "aqm_db"
LAYERS = "Each layer imports what stands below it"
LAYERS_OF_IO = "Each layer of the I/O imports what stands below it"
CLIENT_LIBRARY = "One folder knows the client library"
EVENT_LOOP = "Only I/O, and what is a program, knows an event loop"
ANYIO = "Background work knows anyio from one module"
PRIVATE = "A private module is known in its own package"
DEMOS = "Demos import what users may"
COMMANDS = "Commands call the API"
VIEWS = "A view does no I/O"
INNER = sorted(
    path.stem
    for path in PACKAGE.iterdir()
    if path.name.startswith("_") and not path.name.startswith("__")
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, beside its contracts."""
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PACKAGE, tmp_path / "aqm_db", ignore=ignored))


def broken_contracts(package: Path) -> set[str]:
    """The names of the contracts that a package breaks."""
    finished = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"],
        cwd=package.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    broken = set(re.findall(r"^(.+) BROKEN\b", finished.stdout, re.MULTILINE))
    # A check that can't be made is no answer.
    assert f" {len(broken)} broken." in finished.stdout, finished.stdout + finished.stderr
    assert (finished.returncode != 0) == bool(broken)
    return broken


def add_line(path: Path, line: str) -> None:
    """Adds a line to a module, which is made if it isn't there."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")


def test_the_package_keeps_them(package: Path) -> None:
    """As it is, nothing is imported that shouldn't be."""
    assert broken_contracts(package) == set()


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("_model/rows", "from aqm_db._lua import scripts", LAYERS),
        ("_operations/outcome", "from aqm_db import vault", LAYERS),
        ("vault", "from .inventory import AsyncSmartInventory", LAYERS),
        ("gc", "def later() -> None:\n    import aqm_db.database", LAYERS),
        ("gc", "if TYPE_CHECKING:\n    from .stats import AsyncStorageReporter", LAYERS),
        ("_sync_support", "from aqm_db import connect", LAYERS),
        ("surprise", "", LAYERS),
        ("metrics", "from .testing import SeamContract", LAYERS),
        ("_io/failures", "from .seam import Seam", LAYERS_OF_IO),
        ("_io/seam", "from .redispy import clients", LAYERS_OF_IO),
        ("_io/surprise", "", LAYERS_OF_IO),
        ("vault", "from redis.exceptions import RedisError", CLIENT_LIBRARY),
        ("_lua/scripts", "import hiredis", CLIENT_LIBRARY),
        ("doctor/__init__", "import fakeredis", CLIENT_LIBRARY),
        ("testing/_lab", "import redis", CLIENT_LIBRARY),
        ("_operations/batch", "import asyncio", EVENT_LOOP),
        ("minter", "from asyncio import sleep", EVENT_LOOP),
        ("_io/facts", "from concurrent.futures import Future", EVENT_LOOP),
        ("_model/keys", "import threading", EVENT_LOOP),
        ("replenisher", "from anyio import sleep", ANYIO),
        ("database", "from .integrity._walk import Inspection", PRIVATE),
        ("chat_demo/sender", "from aqm_db.backup import _file", PRIVATE),
        ("_cli/commands/bench_rounds", "from aqm_db._io import seam", COMMANDS),
        ("_cli/views/tables", "from aqm_db._cli.output import write_text", VIEWS),
    ],
)
def test_a_wrong_import_breaks_the_contract_about_it(
    package: Path, module: str, line: str, contract: str
) -> None:
    """Also one for type checkers only, one in a function, and a module without a place."""
    add_line(package / f"{module}.py", line)
    assert broken_contracts(package) == {contract}


@pytest.mark.parametrize("inner", INNER)
def test_a_demo_imports_no_private_module(package: Path, inner: str) -> None:
    """None of them, those of later days included."""
    add_line(package / "chat_demo" / "purse.py", f"import aqm_db.{inner}")
    assert DEMOS in broken_contracts(package)
