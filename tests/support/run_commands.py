"""Commands run in this process, and the databases that they are about."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from aqm_db import sync
from aqm_db._cli.app import app
from aqm_db.types import CoinCategory
from tests.support.backends import RunningServer
from tests.support.samples import Clock, halves, sample_key, snapshot

NOW = Clock().now


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    def lines(self) -> list[str]:
        """What it wrote to stdout, without the blanks that fill up lines."""
        return [line.rstrip() for line in self.out.splitlines()]


def run(*arguments: str, answer: str | None = None, **environment: str) -> Ran:
    """Runs ``aqm-db`` with these arguments; an answer is typed at its question."""
    result = CliRunner().invoke(app, arguments, input=answer, env=environment, prog_name="aqm-db")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that whoever runs the tests has set decides on width, colours and the database."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "AQM_DB_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("COLUMNS", "80"), ("NO_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)


def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the command believe that there's a terminal to ask."""
    monkeypatch.setattr("aqm_db._cli.asking.is_terminal", lambda: True)


def filled(url: str, owner: str | None = None, **options: Any) -> None:
    """A vault with three keys, and an inventory of three contacts, as of :data:`NOW`."""
    clock = Clock(options.pop("now", NOW))
    with sync.connect(url, owner=owner, clock=clock, **options) as db:
        for key_id in ("k1", "k2", "k3"):
            db.vault.store_key(**sample_key(key_id, "GOLD"))
        db.vault.burn_key("k1")
        db.inventory.register_contact("bob", "BESTIE", "Bob")
        db.inventory.register_contact("carol", "MATE")
        db.inventory.register_contact("mallory", "STRANGER")
        _stock(db, "bob", "GOLD", 5)
        _stock(db, "bob", "SILVER", 2)
        _stock(db, "carol", "BRONZE", 4)


def content(server: RunningServer) -> dict[str, Any]:
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
