"""The synchronous face is what its generator writes, and the generator misses nothing."""

import inspect
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aqm_db
import generate_sync
from aqm_db import backup, connection, database, sync
from generate_sync import CLASSES, FUNCTIONS, KEY_HELPERS, PACKAGE, generated, main, source_of

FILE = PACKAGE / "sync.py"
BACKUPS = ("export_backup", "import_backup")
SPECIFIED = ("create_vault_client", "create_inventory_client", "health_check", "close_all")
PAIRS = {
    name.removeprefix("Async"): (getattr(sys.modules[f"aqm_db.{module}"], name))
    for module, name in CLASSES.items()
}

BACKGROUND = {"maintenance", "maintain_owners", "prefetch"}
"""What goes on beside a program, which takes an event loop."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources that are copied from, and what was made of them."""
    for name in {*CLASSES, *FUNCTIONS, "sync"}:
        shutil.copy(source_of(PACKAGE, name), tmp_path / f"{name}.py")
    return tmp_path


def changed(directory: Path, module: str, before: str, after: str) -> str:
    """What is generated after a change in a source."""
    path = directory / f"{module}.py"
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), "utf-8")
    return generated(directory)


# The file ----------------------------------------------------------------------------------


def test_the_file_is_what_is_generated() -> None:
    """The whole file: nothing was added by hand, and nothing is out of date."""
    assert FILE.read_text("utf-8") == generated(PACKAGE)


def test_nothing_speaks_of_event_loops() -> None:
    """Docstrings became synchronous, below the header that says where they come from."""
    _, header, text = FILE.read_text("utf-8").split('"""', 2)
    assert "do not edit" in header
    prose = re.sub(r"self\.asynchronous\S*|Async\w+", "", text)
    assert re.findall(r".*\b(?:a?sync|await|cancel|loop|aclose|in flight).*", prose) == []


@pytest.mark.parametrize("name", PAIRS)
def test_every_method_is_there_with_its_signature(name: str) -> None:
    """What can be called, and how, is the same on both faces."""
    mine, other = getattr(sync, name), PAIRS[name]
    renamed = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}
    for attribute, value in vars(other).items():
        if attribute in BACKGROUND:
            assert not hasattr(mine, attribute)
        elif inspect.isfunction(value) and (
            not attribute.startswith("_") or attribute in {*renamed, *KEY_HELPERS, "__init__"}
        ):
            copied = getattr(mine, str(renamed.get(attribute, attribute)))
            assert shape(copied) == shape(value)
            assert not inspect.iscoroutinefunction(copied)
            assert bool(copied.__doc__) == bool(value.__doc__)


def test_every_function_is_there_with_its_signature() -> None:
    """The functions, too."""
    functions = [
        value
        for name, value in vars(connection).items()
        if inspect.iscoroutinefunction(value)
        and value.__module__ == connection.__name__
        and not name.startswith("_")
    ]
    assert len(functions) == len(SPECIFIED)
    backups = [getattr(backup, name) for name in BACKUPS]
    for function in (*functions, *backups, database.connect):
        assert shape(getattr(sync, function.__name__)) == shape(function)


def shape(function: Any) -> list[tuple[str, object, object]]:
    """Names, kinds and defaults of parameters."""
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
    ]


def test_the_specified_classes_are_exported_beside_the_asynchronous_ones() -> None:
    """One import for both faces."""
    for name in ("SecureVault", "SmartInventory", "GarbageCollector", "StorageReporter"):
        assert getattr(aqm_db, name) is getattr(sync, name)
        assert {name, f"Async{name}"} <= set(aqm_db.__all__)
    assert set(sync.__all__) == {*PAIRS, "connect", *SPECIFIED, *BACKUPS}


# The generator -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "before", "after", "expected"),
    [
        pytest.param(
            "vault",
            "def exists(self, key_id: str) -> bool:",
            "def exists(self, key_id: str, *, deep: bool = False) -> bool:",
            "    def exists(self, key_id: str, *, deep: bool = False) -> bool:",
            id="a parameter",
        ),
        pytest.param(
            "vault",
            'coin_version: str = "kyber768_v1",',
            'coin_version: str = "other",',
            '        coin_version: str = "other",',
            id="a default",
        ),
        pytest.param(
            "gc",
            "def collect_single_contact(self, contact_id: str) -> GCResult:",
            "def collect_single_contact(self, contact_id: str) -> GCResult | None:",
            "    def collect_single_contact(self, contact_id: str) -> GCResult | None:",
            id="a type",
        ),
        pytest.param(
            "vault",
            "    async def exists(",
            "    async def ids(self, prefix: str) -> list[str]:\n"
            "        return []\n\n"
            "    async def exists(",
            "        return drive(self.asynchronous.ids(prefix))",
            id="a method",
        ),
        pytest.param(
            "inventory",
            "    async def consume_key(",
            "    def label(self, contact_id: str) -> str:\n"
            "        return contact_id\n\n"
            "    async def consume_key(",
            "        return self.asynchronous.label(contact_id)",
            id="a method that waits for nothing",
        ),
        pytest.param(
            "connection",
            "async def close_all(",
            "async def ping(vault_client: AsyncClient) -> bool:\n"
            "    return True\n\n\n"
            "async def close_all(",
            '    return drive(connection.ping(wrap_client(vault_client, "ping")))',
            id="a function",
        ),
        pytest.param(
            "stats",
            '"""The vault\'s counters."""',
            '"""Other words. A cancelled call is not told.\n\n        Nor cancelled.\n        """',
            '        """Other words."""',
            id="a docstring",
        ),
    ],
)
def test_a_change_is_caught(
    copy: Path, module: str, before: str, after: str, expected: str
) -> None:
    """What is changed or added in a source makes another file."""
    text = changed(copy, module, before, after)
    assert expected in text.splitlines()
    assert expected not in FILE.read_text("utf-8").splitlines()


@pytest.mark.parametrize(
    ("module", "name"),
    [("vault", "exists"), ("inventory", "_meta_key"), ("connection", "health_check")],
)
def test_a_removal_is_caught(copy: Path, module: str, name: str) -> None:
    """What is gone in a source is gone in the file."""
    text = changed(copy, module, f"def {name}(", f"def _gone_{name}(")
    assert f"def {name}(" in FILE.read_text("utf-8")
    assert f"def {name}(" not in text


@pytest.mark.parametrize(
    ("module", "before", "after", "complaint"),
    [
        (
            "inventory",
            "self.budget_bytes: int =",
            "self.budget_bytes =",
            "needs an anno",
        ),
        (
            "database",
            "        vault: the owner's",
            "        The owner's",
            "a line under",
        ),
        ("vault", "def exists(self, key_id: str)", "def exists(self, *key_id: str)", "parameters"),
        ("vault", "    @asynccontextmanager", "    @cache", "use_key has a decorator .*: cache"),
    ],
)
def test_what_is_not_understood_is_not_copied_wrongly(
    copy: Path, module: str, before: str, after: str, complaint: str
) -> None:
    """The generator fails, and says at what."""
    with pytest.raises(ValueError, match=complaint):
        changed(copy, module, before, after)


def test_a_change_of_the_inside_changes_nothing(copy: Path) -> None:
    """What callers can't see isn't copied."""
    assert FILE.read_text("utf-8") == changed(
        copy,
        "vault",
        "        keys = Keys(owner)",
        "        super().__init__()\n        keys = self._names = Keys(owner)",
    )


def test_what_only_annotations_need_is_imported_for_type_checkers(copy: Path) -> None:
    """As in the source: at run time it would cost every program's start."""
    deferred = "    from .integrity import IntegrityReport\n"
    assert deferred in FILE.read_text("utf-8")
    text = changed(copy, "database", '-> "IntegrityReport":', "-> Any:")
    assert deferred not in text
    text = changed(copy, "database", '-> "Diagnosis":', "-> Any:")
    assert "TYPE_CHECKING" not in text


def test_check_tells_the_difference(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command compares, and writes."""
    assert main(["--check"], copy) == 0
    assert capsys.readouterr().out == ""
    (copy / "sync.py").write_text("# by hand\n", "utf-8")
    assert main(["--check"], copy) == 1
    assert "-# by hand\n" in capsys.readouterr().out
    (copy / "sync.py").unlink()
    assert main(["--check"], copy) == 1
    assert main([], copy) == 0
    assert (copy / "sync.py").read_text("utf-8") == FILE.read_text("utf-8")


def test_it_runs_as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """``python src/generate_sync.py`` is the command."""
    monkeypatch.setattr(sys, "argv", ["generate_sync", "--check"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(generate_sync.__file__, run_name="__main__")
    assert ended.value.code == 0


def test_it_runs_where_the_package_can_not_be_imported(tmp_path: Path) -> None:
    """A class that was renamed breaks the import of the file that has to be written anew."""
    copy = tmp_path / "aqm_db"
    shutil.copytree(PACKAGE, copy)
    shutil.copy(generate_sync.__file__, tmp_path)
    (copy / "sync.py").write_text("import nothing_like_this\n", "utf-8")
    subprocess.run([sys.executable, "-P", str(tmp_path / "generate_sync.py")], check=True)
    assert (copy / "sync.py").read_text("utf-8") == FILE.read_text("utf-8")
