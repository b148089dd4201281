"""Another design: no server, a SQLite file, through a thread (aiosqlite) or on the loop's own.

As durable as the embedded server: what was answered survives the process, not a power cut
(write-ahead log, ``synchronous = NORMAL``).
"""

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import aiosqlite

from benchmarks.baselines.redis import now_ms
from benchmarks.measuring import checks, names
from benchmarks.measuring.loops import Call, Variant
from benchmarks.measuring.stock import new_coin, new_secret

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS coins (
    key_id TEXT, contact_id TEXT, tier TEXT, public_key BLOB, signature BLOB, fetched_at INTEGER);
CREATE INDEX IF NOT EXISTS queue ON coins (contact_id, tier, fetched_at);
CREATE TABLE IF NOT EXISTS secrets (
    key_id TEXT PRIMARY KEY, tier TEXT, blob BLOB, iv BLOB, tag BLOB, status TEXT,
    created_at INTEGER) WITHOUT ROWID;
"""
_SELECT = """
DELETE FROM coins WHERE rowid = (
    SELECT rowid FROM coins WHERE contact_id = ? AND tier = 'GOLD' ORDER BY fetched_at LIMIT 1)
RETURNING key_id, public_key, signature, fetched_at
"""
_STORE = "INSERT INTO coins VALUES (?, ?, ?, ?, ?, ?) RETURNING key_id"
_KEEP = "INSERT INTO secrets VALUES (?, ?, ?, ?, ?, 'ACTIVE', ?) RETURNING key_id"
_BURN = """
UPDATE secrets SET status = 'BURNED', blob = NULL, iv = NULL, tag = NULL
WHERE key_id = ? AND status = 'ACTIVE' RETURNING key_id
"""
_FETCH = "SELECT * FROM secrets WHERE key_id = ? AND status = 'ACTIVE'"

Rows: TypeAlias = list[tuple[Any, ...]]
Execute: TypeAlias = Callable[[str, tuple[Any, ...]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Sqlite:
    """A database file, and one way to use it.

    Attributes:
        name: of the variants.
        file: a connection to prepare with.
        execute: runs one statement in a transaction of its own, and returns its rows.
    """

    name: str
    file: sqlite3.Connection
    execute: Execute

    def select(self) -> Variant:
        """``DELETE ... RETURNING``."""

        async def prepare(count: int) -> list[Call]:
            contact_ids = [str(uuid4()) for _ in range(count)]
            self.file.executemany(_STORE, [_coin_row(each) for each in contact_ids])
            return [partial(self.execute, _SELECT, (each,)) for each in contact_ids]

        return Variant(self.name, prepare, _one_row_each)

    def store(self) -> Variant:
        """``INSERT`` of a public half."""

        async def prepare(count: int) -> list[Call]:
            return [partial(self.execute, _STORE, _coin_row(str(uuid4()))) for _ in range(count)]

        return Variant(self.name, prepare, _one_row_each)

    def keep(self) -> Variant:
        """``INSERT`` of a private half."""

        async def prepare(count: int) -> list[Call]:
            return [partial(self.execute, _KEEP, _secret_row()) for _ in range(count)]

        return Variant(self.name, prepare, _one_row_each)

    def burn(self) -> Variant:
        """``UPDATE`` that erases."""
        return self._of_secrets(_BURN)

    def fetch(self) -> Variant:
        """``SELECT``."""
        return self._of_secrets(_FETCH)

    def _of_secrets(self, statement: str) -> Variant:
        async def prepare(count: int) -> list[Call]:
            rows = [_secret_row() for _ in range(count)]
            self.file.executemany(_KEEP, rows)
            return [partial(self.execute, statement, (key_id,)) for key_id, *_ in rows]

        return Variant(self.name, prepare, _one_row_each)


@asynccontextmanager
async def sqlites(path: Path) -> AsyncGenerator[tuple[Sqlite, Sqlite]]:
    """aiosqlite, and sqlite3 on the event loop's own thread, each with a file of its own."""
    threaded_path, own_path = path / "threaded", path / "own"
    with closing(_opened(own_path)) as own, closing(_opened(threaded_path)) as threaded_file:
        async with aiosqlite.connect(threaded_path, isolation_level=None) as threaded:
            await threaded.execute("PRAGMA synchronous = NORMAL")

            async def on_the_loop(statement: str, values: tuple[Any, ...]) -> Rows:
                return own.execute(statement, values).fetchall()

            yield (
                Sqlite(names.AIOSQLITE, threaded_file, threaded.execute_fetchall),
                Sqlite(names.SQLITE, own, on_the_loop),
            )


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(_SCHEMA)
    return connection


def _coin_row(contact_id: str) -> tuple[Any, ...]:
    coin = new_coin(contact_id, "GOLD")
    return coin.key_id, contact_id, coin.tier, coin.public_key, coin.signature, now_ms()


def _secret_row() -> tuple[Any, ...]:
    secret = new_secret("GOLD")
    return secret.key_id, secret.tier, secret.blob, secret.iv, secret.tag, now_ms()


def _one_row_each(results: Sequence[Sequence[tuple[Any, ...]]]) -> None:
    checks.distinct([rows[0][0] if rows else None for rows in results])
