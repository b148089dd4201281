"""Alice and Bob, who have met, and their server."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from aqm_db import AsyncClientDatabase, connect
from aqm_db.chat_demo.journal import Journal
from aqm_db.chat_demo.link import Link
from aqm_db.chat_demo.person import Person, load_person, make_people
from tests.support.chat_people import run_coin_server


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory whose sockets have short names, with two people who have met."""
    with tempfile.TemporaryDirectory(prefix="aqm-") as directory:
        make_people(Path(directory))
        yield Path(directory)


@pytest.fixture
def alice(root: Path) -> Person:
    """She writes."""
    return load_person(root, "alice")


@pytest.fixture
def bob(root: Path) -> Person:
    """He reads."""
    return load_person(root, "bob")


@pytest_asyncio.fixture
async def alices(alice: Person) -> AsyncIterator[AsyncClientDatabase]:
    """Her database; she knows Bob."""
    async with connect(alice.url) as db:
        await db.inventory.register_contact("bob", "BESTIE")
        yield db


@pytest_asyncio.fixture
async def bobs(bob: Person) -> AsyncIterator[AsyncClientDatabase]:
    """His database."""
    async with connect(bob.url) as db:
        yield db


@pytest.fixture
def log(root: Path) -> Iterator[Journal]:
    """What somebody reads."""
    with Journal(root / "log") as journal:
        yield journal


@pytest_asyncio.fixture
async def socket(root: Path) -> AsyncIterator[str]:
    """A running server."""
    async with run_coin_server(root) as path:
        yield path


@pytest_asyncio.fixture
async def bobs_link(socket: str, bob: Person) -> AsyncIterator[Link]:
    """His link to the server, which knows him."""
    async with Link.open(socket, "bob") as link:
        await link.introduce(bob.identity.public)
        yield link


@pytest_asyncio.fixture
async def alices_link(socket: str) -> AsyncIterator[Link]:
    """Hers."""
    async with Link.open(socket, "alice") as link:
        yield link
