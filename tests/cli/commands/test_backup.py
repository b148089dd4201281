"""``aqm-db export`` and ``import``: a copy that brings no used coin back to life."""

import json
from pathlib import Path

import pytest

from aqm_db import sync
from tests.support.backends import RunningServer
from tests.support.run_commands import (
    allow_answers,
    read_content,
    run_command,
)
from tests.support.samples import sample_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the backup goes."""
    return tmp_path / "alice.backup"


@pytest.fixture
def exported(url: str, path: Path) -> str:
    """The path of a backup."""
    assert run_command("export", str(path), "--url", url).code == 0
    return str(path)


@pytest.fixture
def target(tmp_path: Path) -> str:
    """The url of a database that nobody has made yet."""
    return f"embedded://{tmp_path}/new"


def test_export(url: str, server: RunningServer, path: Path) -> None:
    """It says what is in the file, and changes nothing."""
    before = read_content(server)
    ran = run_command("export", str(path), "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines() == [
        "Exported: 2 private halves, 3 contacts, 11 coins; 0 malformed entries left out."
    ]
    assert read_content(server) == before
    assert path.stat().st_mode & 0o777 == 0o600


def test_import_restores_the_vault(exported: str, target: str) -> None:
    """Into a database that it makes; why the coins aren't there, it says."""
    ran = run_command("import", exported, "--url", target)
    assert (ran.code, ran.err) == (0, "")
    assert " ".join(ran.lines()) == (
        "Restored: 2 private halves; 0 left out (used, expired, or there already). "
        "Contacts and coins were not restored: coins that were handed out since the "
        "export would be used twice. If none was, --inventory restores them."
    )
    with sync.connect(target) as db:
        assert db.vault.count_active("GOLD") == 2
        assert db.inventory.get_inventory() == {}


def test_import_of_what_is_there_already(exported: str, url: str) -> None:
    """It's counted, and no line of its own for each."""
    ran = run_command("import", exported, "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert "Restored: 0 private halves; 2 left out" in ran.out


def test_import_leaves_out_what_was_used(exported: str, target: str, tmp_path: Path) -> None:
    """A list of ids says what the program has burned since."""
    used = tmp_path / "used"
    used.write_text("k2\nother\n")
    ran = run_command("import", exported, "--url", target, "--used", str(used), "--json")
    assert json.loads(ran.out) == {
        "private_halves": 1,
        "contacts": 0,
        "public_halves": 0,
        "left_out": 1,
    }
    with sync.connect(target) as db:
        assert db.vault.get_all_active_ids() == ["k3"]


def test_ids_that_were_used_may_hold_spaces(
    server: RunningServer, path: Path, target: str, tmp_path: Path
) -> None:
    """Each line is one id, whatever it's made of and whichever system wrote it."""
    url = f"unix://{server.socket_path}"
    ids = ["my key", " x ", "a\u2028b", "plain", "left"]
    with sync.connect(url) as db:
        for key_id in ids:
            db.vault.store_key(**sample_key(key_id, "GOLD"))
    assert run_command("export", str(path), "--url", url).code == 0
    used = tmp_path / "used"
    used.write_bytes("\ufeffmy key\r\n x \r\na\u2028b\r\n  plain\r\n".encode())
    assert run_command("import", str(path), "--url", target, "--used", str(used)).code == 0
    with sync.connect(target) as db:
        assert db.vault.get_all_active_ids() == ["left"]


def test_import_asks_before_it_restores_coins(
    exported: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no answer allows, or a no forbids, isn't done."""
    question = (
        "This restores coins; those that were handed out since the export will be used twice."
    )
    ran = run_command("import", exported, "--url", target, "--inventory")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"aqm-db: {question} To go on without a terminal to ask, add --yes\n"
    allow_answers(monkeypatch)
    ran = run_command("import", exported, "--url", target, "--inventory", answer="n\n")
    assert (ran.code, ran.out) == (1, "")
    assert question in ran.err
    with sync.connect(target) as db:
        assert db.vault.get_all_active_ids() == []


def test_import_restores_coins_when_told_to(exported: str, target: str) -> None:
    """Contacts and coins are back."""
    ran = run_command("import", exported, "--url", target, "--inventory", "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert " ".join(ran.lines()) == (
        "Restored: 2 private halves, 3 contacts, 11 coins; 0 left out (used, expired, or "
        "there already)."
    )
    with sync.connect(target) as db:
        assert db.inventory.get_inventory("bob").gold_count == 5


def test_export_as_json(url: str, path: Path) -> None:
    """The same for machines."""
    ran = run_command("export", str(path), "--url", url, "--json")
    assert json.loads(ran.out) == {
        "private_halves": 2,
        "contacts": 3,
        "public_halves": 11,
        "left_out": 0,
    }


def test_mistakes(exported: str, url: str, target: str, tmp_path: Path) -> None:
    """Each is one line that says what is wrong."""
    other = tmp_path / "other"
    other.write_bytes(b"\xff")
    for arguments, complaint in (
        (["export", exported, "--url", url], f"path: {exported!r} can't be used: File exists"),
        (["export", str(other) + "2", "--url", target], "there is no database in "),
        (["import", str(other), "--url", url], "path: is no backup, or was cut off"),
        (["import", exported, "--url", url, "--used", str(other)], "--used: can't be read: "),
        (["import", exported, "--url", url, "--used", "/none"], "--used: can't be read: "),
    ):
        ran = run_command(*arguments)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith(f"aqm-db: {complaint}")
        assert ran.err.count("\n") == 1
