"""What the tests of the chat demo share: two people, a server, and a link that only remembers."""

import subprocess
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from aqm_db import AsyncClientDatabase
from aqm_db.chat_demo.envelope import Envelope, encrypt
from aqm_db.chat_demo.link import Link
from aqm_db.chat_demo.person import Person
from aqm_db.chat_demo.publisher import mint_coin
from aqm_db.chat_demo.purse import Purse
from aqm_db.chat_demo.server import serve_chat
from aqm_db.errors import AQMDatabaseError
from aqm_db.minter import FreshCoin, PublicHalf
from aqm_db.types import CoinCategory, InventoryEntry


@contextmanager
def forbid_leftovers(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Sees to it that a block leaves no temporary directory, and no server in one."""
    with tempfile.TemporaryDirectory(prefix="aqm-") as name:
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield
        assert not any(Path(name).iterdir())
        # The arguments of an embedded server name its directory.
        command = ["ps", "-A", "-o", "args="]
        assert (
            name not in subprocess.run(command, capture_output=True, text=True, check=True).stdout
        )


@asynccontextmanager
async def run_coin_server(root: Path) -> AsyncGenerator[str]:
    """Runs a server; the path of its socket."""
    path = str(root / "server.sock")
    async with serve_chat(path, root / "server.sqlite"):
        yield path


@dataclass
class Recorder:
    """Stands for a link: remembers what was sent, or fails."""

    sent: list[Envelope] = field(default_factory=list)
    failure: Exception | None = None

    async def send(self, envelope: Envelope) -> None:
        """Remembers."""
        if self.failure is not None:
            raise self.failure
        self.sent.append(envelope)

    def as_link(self) -> Link:
        """For whoever wants a link."""
        return cast("Link", self)


@dataclass
class OneCoin:
    """Stands for a purse: always the same coin, and remembers what came back."""

    coin: InventoryEntry
    back: list[InventoryEntry] = field(default_factory=list)

    async def take(self) -> InventoryEntry:
        """Gives the coin."""
        return self.coin

    async def give_back(self, coin: InventoryEntry) -> None:
        """Remembers."""
        self.back.append(coin)

    def as_purse(self) -> Purse:
        """For whoever wants a purse."""
        return cast("Purse", self)


async def read_frame(link: Link) -> dict[str, Any]:
    """What the server says next."""
    return await anext(link.read_frames())


async def mint_for(person: Person, db: AsyncClientDatabase, tier: CoinCategory) -> InventoryEntry:
    """Mints a coin into somebody's vault; as their friend selects it."""
    coin = mint_coin(person, tier)
    [outcome] = await db.vault.store_keys([coin.private])
    assert not isinstance(outcome, AQMDatabaseError)
    return take_coin(person, coin)


def take_coin(person: Person, coin: FreshCoin) -> InventoryEntry:
    """A coin as its owner's friend selects it."""
    tier: Any = coin.private.coin_category
    return InventoryEntry(
        person.name,
        coin.private.key_id,
        tier,
        coin.public_key,
        coin.signature,
        0,
        None,
        0,
    )


def half_of(coin: FreshCoin, **changed: Any) -> PublicHalf:
    """What is to be published of a coin."""
    fields: dict[str, Any] = {
        "key_id": coin.private.key_id,
        "coin_category": coin.private.coin_category,
        "coin_version": coin.private.coin_version,
        "public_key": coin.public_key,
        "signature": coin.signature,
        "expires_at": 2**42,
    }
    return PublicHalf(**{**fields, **changed})


def write_message(
    writer: Person, coin: InventoryEntry, number: int = 1, text: str = "hello"
) -> Envelope:
    """A message to a coin's owner."""
    return encrypt(coin, f"{writer.name}-{number}", writer.name, text, writer.identity)
