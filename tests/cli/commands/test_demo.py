"""``aqm-db demo``: what it tells, and what it leaves behind."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

import aqm_db
from aqm_db import AsyncGarbageCollector, AsyncSmartInventory
from aqm_db._cli.app import app
from aqm_db._cli.views.demo_view import View
from aqm_db.demo import CONVERSATION, DemoError
from aqm_db.types import VaultStats
from tests.support.backends import RunningServer
from tests.support.broken_steps import collect_nothing, find_nothing
from tests.support.run_commands import read_content, run_command
from tests.support.samples import is_claim


def without_claims(content: dict[str, Any]) -> dict[str, Any]:
    """What is left of a server's content once claims have ended."""
    return {
        db: {key: value for key, value in keys.items() if not is_claim(key)}
        for db, keys in content.items()
    }


STEPS = (
    "Ten messages, a one-time key for each",
    "1. 40 days ago, Alice cached Carol's coins",
    "2. Bob mints 10 coins",
    "3. Alice verifies and caches Bob's coins",
    "4. Alice writes, Bob reads and burns",
    "5. An 11th message finds no coin",
    "6. Alice collects garbage",
    "7. What is stored now",
)


ROW = re.compile(
    r"^ +(?P<number>\d+)  (?P<wish>[A-Z]+) +(?P<coin>[A-Z]+) +\d+\.\d\d ms +[\d,]+ B  (?P<text>.+)$"
)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose sockets have short names, which those in pytest's may not have."""
    with tempfile.TemporaryDirectory(prefix="aqm-") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.CompletedProcess[str]]:
    """The command in a process of its own, not on a terminal, every warning an error."""
    names = ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    with tempfile.TemporaryDirectory(prefix="aqm-") as directory:
        yield subprocess.run(
            [sys.executable, "-W", "error", "-m", "aqm_db", "demo"],
            env={**kept, "TMPDIR": directory},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert not any(Path(directory).iterdir())


class TestStory:
    """What ``python -m aqm_db demo`` does when nothing is said about where."""

    def test_it_succeeds_silently(self, process: subprocess.CompletedProcess[str]) -> None:
        """Exit code 0, and nothing on stderr."""
        assert (process.returncode, process.stderr) == (0, "")

    def test_every_step_is_told(self, process: subprocess.CompletedProcess[str]) -> None:
        """In order, each on a line of its own."""
        told = [line for line in process.stdout.splitlines() if line in STEPS]
        assert told == list(STEPS)

    def test_plain_text_in_80_columns(self, process: subprocess.CompletedProcess[str]) -> None:
        """No escape codes, at most about a screen, and no line too long but for paths."""
        assert "\x1b" not in process.stdout
        lines = process.stdout.splitlines()
        assert len(lines) <= 62
        assert [line for line in lines if cell_len(line) > 80 and "/" not in line] == []

    def test_every_message_is_read(self, process: subprocess.CompletedProcess[str]) -> None:
        """Ten rows: number, wish, coin, and the text that Bob read."""
        rows = [
            found.groups() for line in process.stdout.splitlines() if (found := ROW.match(line))
        ]
        assert [(number, wish, coin, text.rstrip()) for number, wish, coin, text in rows] == [
            (str(number), line.wish, line.expected, line.text)
            for number, line in enumerate(CONVERSATION, 1)
        ]

    @pytest.mark.parametrize(
        "line",
        [
            r"As a MATE: 2 SILVER, 1 BRONZE\.",
            r"GOLD +5  ML-KEM-768  ML-DSA-44 +3,604 B",
            r"SILVER +4  ML-KEM-768  Ed25519 +1,248 B",
            r"BRONZE +1  X25519 +Ed25519 +96 B",
            r"As a BESTIE: 5 GOLD, 4 SILVER, 1 BRONZE; 25,700 of 65,536 B \(39\.2 %\)\.",
            r"select_coin: p50 \d+\.\d\d ms, max \d+\.\d\d ms \(promised: under 2 ms\)\.",
            r"Forged copy of message 4: refused;",
            r"Replay of message 1: refused;",
            r"To fetch from the server: 5 GOLD, 4 SILVER, 1 BRONZE\.",
            r"Dry run:   contacts cleaned 1, coins deleted 3, bytes freed 2,592\.",
            r"Collected: contacts cleaned 1, coins deleted 3, bytes freed 2,592\.",
            r"Alice's cache: 0 of 65,536 B \(0\.0 %\)\.",
            r"Bob's cache:   0 of 65,536 B \(0\.0 %\)\.",
            r"Alice's +0 +0 +0 +0 +0$",
            r"Bob's +0 +0 +0 +10 +0$",
            r"Alice's bob +BESTIE +0 +0 +0  5 GOLD, 4 SILVER, 1 BRONZE",
            r"Alice's carol +STRANGER +0 +0 +0  nothing",
            r"Alice: vault answers, 0 Redis keys; inventory answers, \d+ Redis keys\.",
            r"Bob: vault answers, 13 Redis keys; inventory answers, 1 Redis keys\.",
            r"Nothing is left: the temporary directory was removed\.",
        ],
    )
    def test_results(self, process: subprocess.CompletedProcess[str], line: str) -> None:
        """Each step's result is there."""
        assert re.search(rf"^ +{line}", process.stdout, re.MULTILINE)


class TestKeep:
    """``--keep DIR`` leaves the databases there."""

    def test_databases_are_as_shown(self, short_path: Path) -> None:
        """Both open again, and hold what the output said."""
        code, out, _ = run_command("demo", "--keep", str(short_path))
        assert code == 0
        urls = re.findall(r'aqm_db\.connect\("(.+)"\)', out)
        assert urls == [f"embedded://{short_path.resolve() / name}" for name in ("alice", "bob")]

        async def look() -> None:
            alice, bob = await aqm_db.connect(urls[0]), await aqm_db.connect(urls[1])
            hers = await alice.reporter.get_full_dashboard()
            his = await bob.reporter.get_full_dashboard()
            await alice.aclose()
            await bob.aclose()
            assert {summary.contact_id: summary.priority for summary in hers["contacts"]} == {
                "bob": "BESTIE",
                "carol": "STRANGER",
            }
            assert hers["replenish_needs"] == {"bob": {"GOLD": 5, "SILVER": 4, "BRONZE": 1}}
            assert hers["inventory_storage"].total_bytes == 0
            assert his["vault"] == VaultStats(0, 0, 0, total_burned=10, total_expired=0)
            assert his["contacts"] == []

        asyncio.run(look())

    def test_other_files_stay(self, short_path: Path) -> None:
        """The directory may be in use, and have a name that a url has to escape."""
        directory = short_path / "50% off?"
        directory.mkdir()
        (directory / "notes").write_text("mine")
        assert run_command("demo", "--keep", str(directory))[0] == 0
        assert {path.name for path in directory.iterdir()} == {"alice", "bob", "notes"}

    def test_nothing_is_overwritten(self, short_path: Path) -> None:
        """A database that is there already is left as it is."""
        (short_path / "bob").mkdir()
        code, out, err = run_command("demo", "--keep", str(short_path))
        path = short_path.resolve() / "bob"
        assert (code, out) == (2, "")
        assert err == f"aqm-db: {path} exists already: name another directory\n"
        assert [path.name for path in short_path.iterdir()] == ["bob"]


class TestServer:
    """``--url`` uses a server, and leaves it as it was."""

    @pytest.fixture(autouse=True)
    def somebody(self, server: RunningServer) -> None:
        """Others have data on the server, with similar names and with none."""
        for db in (0, 1):
            with server.sync_client(db) as client:
                client.set("aqm:{demo-alice-00000000}:vault:v1:stats", "somebody's")
                client.set("vault:v1:stats", "somebody's")
                client.set("inv:v1:meta:bob", "somebody's")

    def test_the_server_is_left_as_it_was(self, server: RunningServer) -> None:
        """The story works there, next to other data, and no key more or less is there then."""
        before = read_content(server)
        code, out, err = run_command("demo", "--url", f"unix://{server.socket_path}")
        assert (code, err) == (0, "")
        assert [line for line in out.splitlines() if line in STEPS] == list(STEPS)
        alice, bob = re.findall(r"your server, owner (demo-[a-z]+-[0-9a-f]{8})$", out, re.MULTILINE)
        assert (alice[:11], bob[:9]) == ("demo-alice-", "demo-bob-")
        assert "Claims are left on the server for 30 seconds: delete_owner took all else." in out
        assert without_claims(read_content(server)) == before

    def test_owner(self, server: RunningServer) -> None:
        """The names of both owners begin as told, whatever is in them; a wrong one is an error."""
        before = read_content(server)
        url = f"unix://{server.socket_path}"
        code, out, err = run_command("demo", "--url", url, "--owner", "mine*")
        assert (code, err) == (0, "")
        owners = re.findall(r"your server, owner (mine\*-[a-z]+)-[0-9a-f]{8}$", out, re.MULTILINE)
        assert owners == ["mine*-alice", "mine*-bob"]
        code, out, err = run_command("demo", "--url", url, "--owner", "x" * 250)
        assert (code, out) == (2, "")
        assert err == "aqm-db: owner: must be 1 to 256 bytes of valid UTF-8\n"
        assert without_claims(read_content(server)) == before

    def test_so_it_is_when_a_step_fails(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The last step fails, and all the same no key is left."""
        monkeypatch.setattr(AsyncGarbageCollector, "dry_run", collect_nothing)
        before = read_content(server)
        code, _, err = run_command("demo", "--url", f"unix://{server.socket_path}")
        assert (code, err) == (2, "aqm-db: garbage: expected (1, 3), got (0, 0)\n")
        assert without_claims(read_content(server)) == before

    def test_keys_that_could_not_be_deleted_are_named(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server dies at the end: whoever starts it again should know of them."""

        def die(_: View, name: str, __: object) -> None:
            if name == "Bob":
                server.kill()

        monkeypatch.setattr(View, "see_health", die)
        monkeypatch.setattr("redis.asyncio.retry.sleep", skip_pause)
        code, _, err = run_command("demo", "--url", f"unix://{server.socket_path}")
        assert code == 2
        assert re.fullmatch(
            r"aqm-db: keys of the owners demo-alice-\w{8} and demo-bob-\w{8} are left on the "
            r"server: Error \d+ connecting to .*\n",
            err,
        )

    def test_keys_that_could_not_be_deleted_hide_no_error(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server dies in the middle: that comes last, and the keys are named before."""

        def die(*_: object) -> None:
            server.kill()

        monkeypatch.setattr(View, "see_minting", die)
        monkeypatch.setattr("redis.asyncio.retry.sleep", skip_pause)
        code, _, err = run_command("demo", "--url", f"unix://{server.socket_path}")
        assert code == 2
        named, told = err.splitlines()
        assert named.startswith("aqm-db: keys of the owners demo-alice-")
        assert told.endswith("; start the server, or correct --url (or AQM_DB_URL)")


class TestJson:
    """``--json`` tells the same to machines."""

    def test_the_story(self) -> None:
        """One object, with keys that stay, and nothing else."""
        code, out, err = run_command("demo", "--json")
        assert (code, err) == (0, "")
        told = json.loads(out)
        messages = told.pop("messages")
        assert [(each["wished"], each["tier"], each["read"]) for each in messages] == [
            (line.wish, line.expected, line.text) for line in CONVERSATION
        ]
        assert all(each["select_ms"] > 0 and each["bytes"] > 0 for each in messages)
        for name in ("alice", "bob"):
            assert told["databases"].pop(name).startswith("embedded Valkey in /")
            assert told["redis_keys"].pop(name).keys() == {"vault", "inventory"}
        full = {"GOLD": 5, "SILVER": 4, "BRONZE": 1}
        vault = dict.fromkeys(VaultStats.__dataclass_fields__, 0)
        assert told == {
            "databases": {},
            "minted": full,
            "cached": full,
            "cached_bytes": 25_700,
            "forged": 4,
            "replayed": 1,
            "to_fetch": full,
            "garbage": {"contacts_cleaned": 1, "coins_deleted": 3, "bytes_freed": 2592},
            "vaults": {"alice": vault, "bob": {**vault, "total_burned": 10}},
            "redis_keys": {},
        }

    def test_what_is_kept(self, short_path: Path) -> None:
        """It says where."""
        code, out, _ = run_command("demo", "--keep", str(short_path), "--json")
        told = json.loads(out)
        assert code == 0
        assert told["databases"]["bob"] == f"embedded Valkey in {short_path.resolve() / 'bob'}"

    def test_a_step_that_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is written that a machine would take for a result."""
        monkeypatch.setattr(AsyncGarbageCollector, "dry_run", collect_nothing)
        code, out, err = run_command("demo", "--json")
        assert (code, out) == (2, "")
        assert err == "aqm-db: garbage: expected (1, 3), got (0, 0)\n"


async def skip_pause(_: float) -> None:
    """Time between two attempts."""


def test_debug_shows_where_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --debug, the error itself comes out, for its traceback."""
    monkeypatch.setattr(AsyncSmartInventory, "select_coin", find_nothing)
    result = CliRunner().invoke(app, ["demo", "--debug"])
    assert result.exit_code == 1
    assert isinstance(result.exception, DemoError)
