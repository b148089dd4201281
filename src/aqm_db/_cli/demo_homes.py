"""Where the demo's two databases are, and what is left of them."""

import secrets
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

from aqm_db import config, connect
from aqm_db.demo import DemoError, Home

_NAMES = ("alice", "bob")
_RETRY = Retry(ConstantBackoff(config.REDIS_RETRY_DELAY), config.REDIS_RETRY_ATTEMPTS)


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


@asynccontextmanager
async def temporary() -> AsyncGenerator[Homes]:
    """Two embedded databases in a temporary directory, which is removed."""
    with tempfile.TemporaryDirectory(prefix="aqm-db-demo-") as directory:
        alice, bob = (_embedded(Path(directory) / name) for name in _NAMES)
        yield Homes(alice, bob, "Nothing is left: the temporary directory was removed.")


@asynccontextmanager
async def kept(directory: Path) -> AsyncGenerator[Homes]:
    """Two embedded databases in a directory, where they stay.

    Raises:
        DemoError: there are such already.
    """
    alice, bob = (_embedded(path) for path in _new(directory))
    calls = "".join(f'\n      aqm_db.connect("{home.url}")' for home in (alice, bob))
    left = f"Both databases are kept; to look at them:{calls}"
    yield Homes(alice, bob, left)


@asynccontextmanager
async def on_server(url: str) -> AsyncGenerator[Homes]:
    """A namespace of its own for each on a server; all keys in it are deleted at the end.

    Raises:
        DemoError: the url names no server, or the keys can't be deleted.
    """
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise DemoError("--url must begin with redis://, rediss:// or unix://")
    run = secrets.token_hex(4)
    owners = [f"demo-{name}-{run}" for name in _NAMES]
    alice, bob = (Home(url, owner, f"your server, owner {owner}") for owner in owners)
    left = "Nothing is left on the server: redis-py deleted the keys of both owners."
    # A server that can't be reached is told before there is anything to delete.
    async with connect(url):
        pass
    try:
        yield Homes(alice, bob, left)
    finally:
        await _delete(url, owners)


def _new(directory: Path) -> list[Path]:
    paths = [directory.resolve() / name for name in _NAMES]
    for path in paths:
        if path.exists():
            raise DemoError(f"{path} exists already: name another directory")
    return paths


def _embedded(path: Path) -> Home:
    return Home(f"embedded://{quote(str(path))}", None, f"embedded Valkey in {path}")


async def _delete(url: str, owners: Sequence[str]) -> None:
    # No call of the library forgets an owner: burned keys leave tombstones, contacts stay.
    patterns = [f"aqm:{{{owner}}}:*" for owner in owners]
    try:
        for db in (config.REDIS_VAULT_DB, config.REDIS_INVENTORY_DB):
            async with Redis.from_url(url, db=db, retry=_RETRY) as client:
                for pattern in patterns:
                    async for key in client.scan_iter(match=pattern, count=1000):
                        await client.delete(key)
    except RedisError as error:
        raise DemoError(
            f"keys are left on the server, {' and '.join(patterns)}: {type(error).__name__}"
        ) from error
