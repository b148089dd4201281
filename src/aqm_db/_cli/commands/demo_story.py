"""What ``aqm-db demo`` runs, once its extras are there, and where its two databases are."""

import secrets
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from aqm_db import connect
from aqm_db._cli.errors import clean_up
from aqm_db._cli.output import PlainConsole, write_json
from aqm_db._cli.views.demo_record import Record
from aqm_db._cli.views.demo_view import View
from aqm_db.demo import DemoError, Home, tell
from aqm_db.errors import AQMDatabaseError

_NAMES = ("alice", "bob")


@dataclass(frozen=True, slots=True)
class Homes:
    """The two databases.

    Attributes:
        alice: hers.
        bob: his.
        left: what is left of them, once this was closed.
    """

    alice: Home
    bob: Home
    left: str


async def play_demo(url: str | None, owner: str, keep: Path | None, *, json: bool) -> None:
    """Tells the story on a server, in a directory that's kept, or in a temporary one."""
    if url is not None:
        homes = open_server_homes(url, owner)
    elif keep is not None:
        homes = open_kept_homes(keep)
    else:
        homes = open_temporary_homes()
    record, view = Record(), View(PlainConsole())
    async with homes as opened:
        await tell(opened.alice, opened.bob, record if json else view)
    if json:
        write_json(record.content)
    else:
        view.show_end(opened.left)


@asynccontextmanager
async def open_temporary_homes() -> AsyncGenerator[Homes]:
    """Two embedded databases in a temporary directory, which is removed."""
    with tempfile.TemporaryDirectory(prefix="aqm-db-demo-") as directory:
        alice, bob = (_make_home(Path(directory) / name) for name in _NAMES)
        yield Homes(alice, bob, "Nothing is left: the temporary directory was removed.")


@asynccontextmanager
async def open_kept_homes(directory: Path) -> AsyncGenerator[Homes]:
    """Two embedded databases in a directory, where they stay.

    Raises:
        DemoError: there are such already.
    """
    alice, bob = (_make_home(path) for path in _name_paths(directory))
    calls = "".join(f'\n      aqm_db.connect("{home.url}")' for home in (alice, bob))
    left = f"Both databases are kept; to look at them:{calls}"
    yield Homes(alice, bob, left)


@asynccontextmanager
async def open_server_homes(url: str, owner: str) -> AsyncGenerator[Homes]:
    """A namespace of its own for each on a server; all keys in it are deleted at the end.

    Args:
        url: the server.
        owner: what the names of both owners begin with.

    Raises:
        DemoError: the url names no server, or the keys can't be deleted.
        AQMDatabaseError: what :func:`aqm_db.connect` raises.
    """
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise DemoError("--url must begin with redis://, rediss:// or unix://")
    run = secrets.token_hex(4)
    owners = [f"{owner}-{name}-{run}" for name in _NAMES]
    alice, bob = (Home(url, name, f"your server, owner {name}") for name in owners)
    left = "Claims are left on the server for 30 seconds: delete_owner took all else."
    # A server that can't be reached is told before there is anything to delete.
    async with connect(url, owner=owners[0]):
        pass
    async with clean_up(partial(_delete_owners, url, owners)):
        yield Homes(alice, bob, left)


def _name_paths(directory: Path) -> list[Path]:
    paths = [directory.resolve() / name for name in _NAMES]
    for path in paths:
        if path.exists():
            raise DemoError(f"{path} exists already: name another directory")
    return paths


def _make_home(path: Path) -> Home:
    return Home(f"embedded://{quote(str(path))}", None, f"embedded Valkey in {path}")


async def _delete_owners(url: str, owners: Sequence[str]) -> None:
    try:
        async with connect(url, owner=owners[0]) as db:
            for owner in owners:
                await db.delete_owner(owner)
    except AQMDatabaseError as error:
        raise DemoError(
            f"keys of the owners {' and '.join(owners)} are left on the server: {error}"
        ) from error
