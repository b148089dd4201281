"""Which database a command is about: one that there is."""

import json
import subprocess
import sys
from pathlib import Path

from aqm_db import sync
from tests.support.backends import RunningServer
from tests.support.run_commands import STATUS, fill_database, read_clock, run_command


def test_the_library_knows_how_to_close(server: RunningServer) -> None:
    """A command leaves no client behind."""
    url = f"unix://{server.socket_path}"
    with sync.connect(url) as db:
        before = db.health()
        for command in ("status", "contacts", "purge"):
            run_command(command, "--url", url)
        assert db.health().vault_key_count == before.vault_key_count
    with server.sync_client(0) as client:
        assert len(client.client_list()) == 1


def test_an_embedded_database_that_a_program_has_open(tmp_path: Path) -> None:
    """The command joins its server, sees what it sees, and leaves it running."""
    url = f"embedded://{tmp_path}/db"
    with sync.connect(url) as db:
        db.inventory.register_contact("bob", "BESTIE")
        process = subprocess.run(
            [sys.executable, "-m", "aqm_db", "contacts", "--url", url, "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(process.stdout)["contacts"][0]["contact_id"] == "bob"
        assert db.inventory.has_keys_for("bob") is False


def test_the_environment_names_the_database(url: str) -> None:
    """Without --url, AQM_DB_URL is asked."""
    assert run_command("status", AQM_DB_URL=url).lines() == STATUS


def test_owners(server: RunningServer) -> None:
    """Each sees their own data only."""
    url = f"unix://{server.socket_path}"
    fill_database(url, "alice", now=read_clock())
    assert run_command("status", "--url", url, "--owner", "alice").lines() == STATUS
    assert "No contacts." in run_command("status", "--url", url).out
    assert "No contacts." in run_command("status", "--url", url, "--owner", "bob").out
