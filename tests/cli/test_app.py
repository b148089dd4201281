"""The ``aqm-db`` command, apart from what its commands do."""

import runpy
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import aqm_db
from aqm_db import cli
from aqm_db._cli.app import app
from aqm_db.demo import DemoError
from aqm_db.errors import InvalidArgumentError

EXTRAS = "aqm-db needs its extras: pip install 'aqm-db[all]'\n"


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a process of its own."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


class TestMain:
    """The entry point."""

    def test_it_is_installed(self) -> None:
        """As ``aqm-db``."""
        [script] = entry_points(group="console_scripts", name="aqm-db")
        assert script.load() is cli.main

    def test_version(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """On one line."""
        monkeypatch.setattr(sys, "argv", ["aqm-db", "--version"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        assert capsys.readouterr().out == f"aqm-db {aqm_db.__version__}\n"

    def test_python_m(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """``python -m aqm_db`` is the same command."""
        monkeypatch.setattr(sys, "argv", ["aqm-db", "--version"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("aqm_db", run_name="__main__")
        assert ended.value.code == 0
        assert capsys.readouterr().out == f"aqm-db {aqm_db.__version__}\n"

    def test_missing_extras(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One line says what to install."""
        self.hide_typer(monkeypatch)
        monkeypatch.setattr(sys, "argv", ["aqm-db", "demo"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        assert capsys.readouterr() == ("", EXTRAS)

    def test_missing_extras_in_detail(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With --debug, the import that failed comes out."""
        self.hide_typer(monkeypatch)
        monkeypatch.setattr(sys, "argv", ["aqm-db", "demo", "--debug"])
        with pytest.raises(ImportError, match="typer"):
            cli.main()

    def hide_typer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lets the command be imported anew, where one of its extras is missing."""
        monkeypatch.delitem(sys.modules, "aqm_db._cli.app")
        monkeypatch.setitem(sys.modules, "typer", None)

    @pytest.mark.parametrize("package", ["typer", "rich"])
    def test_each_extra(self, package: str) -> None:
        """Whichever is missing, there's no traceback."""
        process = run_python(
            "-c",
            f"import sys; sys.modules[{package!r}] = None; from aqm_db.cli import main; main()",
        )
        assert (process.returncode, process.stdout, process.stderr) == (2, "", EXTRAS)

    def test_the_demo_needs_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without what makes keys, the other commands work; the demo says what to install."""
        for name in [*sys.modules]:
            if name.startswith(
                ("aqm_db.demo", "aqm_db.coins", "aqm_db._cli.commands.demo_", "cryptography")
            ):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "cryptography", None)
        assert CliRunner().invoke(app, ["status", "--url", "memory://"]).exit_code == 0
        result = CliRunner().invoke(app, ["demo"])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "aqm-db: the demo needs its extras: pip install 'aqm-db[all]'\n"


class TestCommand:
    """What all commands have in common."""

    def test_help(self) -> None:
        """Without a command, the commands are listed."""
        result = CliRunner().invoke(app, [])
        assert "demo" in result.output

    @pytest.mark.parametrize(
        ("url", "complaint"),
        [
            ("http://localhost", "--url must begin with redis://, rediss:// or unix://"),
            ("memory://", "--url must begin with redis://, rediss:// or unix://"),
            (
                "redis://localhost/3",
                "url: must name no database: the vault is in 0, the inventory in 1",
            ),
        ],
    )
    def test_wrong_url(self, url: str, complaint: str) -> None:
        """One line on stderr, and exit code 2."""
        result = CliRunner().invoke(app, ["demo", "--url", url])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"aqm-db: {complaint}\n"

    def test_no_server(self) -> None:
        """A server that isn't there is one line on stderr, too."""
        result = CliRunner().invoke(app, ["demo", "--url", "unix:///nowhere"])
        assert (result.exit_code, result.stdout) == (2, "")
        assert "nowhere" in result.stderr
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        ("url", "error"),
        [
            ("redis://localhost/3", InvalidArgumentError),
            ("http://localhost", DemoError),
        ],
    )
    def test_debug(self, url: str, error: type[Exception]) -> None:
        """With --debug, the error itself comes out, for its traceback."""
        result = CliRunner().invoke(app, ["demo", "--debug", "--url", url])
        assert result.exit_code == 1
        assert isinstance(result.exception, error)

    def test_contradiction(self) -> None:
        """A server keeps nothing in a directory."""
        result = CliRunner().invoke(app, ["demo", "--url", "unix:///x", "--keep", "x"])
        assert (result.exit_code, result.stdout) == (2, "")


def test_every_command_is_for_machines_and_for_any_database() -> None:
    """``--json`` for all, ``--url`` and ``--owner`` for all that don't bring a database along."""
    commands: Any = get_command(app)
    for name, command in commands.commands.items():
        options = {option for each in command.params for option in each.opts}
        wanted = {"--json", "--debug"} | ({"--url", "--owner"} if name != "chat-demo" else set())
        assert wanted <= options, name
        assert "JSON: " in command.help, name
