"""Commands run in this process, and the databases that they are about."""

import asyncio
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from aqm_db import sync
from aqm_db._cli.app import app
from aqm_db._model.defaults import now_ms
from aqm_db.types import CoinCategory, InventorySummary
from tests.support.backends import RunningServer
from tests.support.samples import Clock, halves, sample_key, snapshot

NOW = Clock().now
STATUS = """\
vault    2 GOLD active; 1 burned, 0 expired
storage  ██████░░░░░░░░░░░░░░ 20,900 of 65,536 B (31.9 %)

contact  priority  GOLD       SILVER     BRONZE     to fetch  stale
───────────────────────────────────────────────────────────────────
bob      BESTIE    █████ 5/5  ██░░░ 2/4  ░░░░░ 0/1         3
carol    MATE      -          ░░░░░ 0/6  █████ 4/4         6
mallory  STRANGER  -          -          -

To fetch: 8 SILVER, 1 BRONZE. Stale within 7 days: nothing.
""".splitlines()
"""What ``status`` shows of what :func:`fill_database` fills in now."""


BOB_STOCK = {"GOLD": 5, "SILVER": 2, "BRONZE": 0}
BOB_CAPS = {"GOLD": 5, "SILVER": 4, "BRONZE": 1}
NOBODY_TO_ASK = " To go on without a terminal to ask, add --yes\n"
"""What follows a question that nobody can answer."""


class CommandResult(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    def lines(self) -> list[str]:
        """What it wrote to stdout, without the blanks that fill up lines."""
        return [line.rstrip() for line in self.out.splitlines()]


def run_command(*arguments: str, answer: str | None = None, **environment: str) -> CommandResult:
    """Runs ``aqm-db`` with these arguments; an answer is typed at its question."""
    result = CliRunner().invoke(app, arguments, input=answer, env=environment, prog_name="aqm-db")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return CommandResult(result.exit_code, result.stdout, result.stderr)


def get_complaint(*arguments: str) -> str:
    """The one line that a command fails with."""
    ran = run_command(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("aqm-db: ")
    assert ran.err.count("\n") == 1
    return ran.err.removeprefix("aqm-db: ").rstrip("\n")


def set_plain_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that whoever runs the tests has set decides on width, colours and the database."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "AQM_DB_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("COLUMNS", "80"), ("NO_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)


def allow_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the command believe that there's a terminal to ask."""
    monkeypatch.setattr("aqm_db._cli.asking.is_terminal", lambda: True)


def fill_database(url: str, owner: str | None = None, *, now: int = NOW) -> None:
    """Stores three keys in the vault, and three contacts with their coins in the inventory."""
    with sync.connect(url, owner=owner, clock=Clock(now)) as db:
        # From here on nobody looks for what came without its indexes.
        db.vault.get_all_active_ids()
        db.inventory.get_inventory()
        for key_id in ("k1", "k2", "k3"):
            db.vault.store_key(**sample_key(key_id, "GOLD"))
        db.vault.burn_key("k1")
        db.inventory.register_contact("bob", "BESTIE", "Bob")
        db.inventory.register_contact("carol", "MATE")
        db.inventory.register_contact("mallory", "STRANGER")
        _stock(db, "bob", "GOLD", 5)
        _stock(db, "bob", "SILVER", 2)
        _stock(db, "carol", "BRONZE", 4)


def read_clock() -> int:
    """The time that the commands go by: that of their servers."""
    return now_ms()


def read_summary(url: str, contact_id: str) -> InventorySummary:
    """A contact's stock."""
    with sync.connect(url) as db:
        return db.inventory.get_inventory(contact_id)


def read_content(server: RunningServer) -> dict[str, Any]:
    """Everything on a server."""

    async def read() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for number in (0, 1):
            client = server.client(number)
            found[str(number)] = await snapshot(client)
            await client.aclose()
        return found

    return asyncio.run(read())


def _stock(db: sync.ClientDatabase, contact_id: str, tier: CoinCategory, count: int) -> None:
    for number in range(count):
        db.inventory.store_key(contact_id, f"{tier} {number}", tier, *halves(tier))
