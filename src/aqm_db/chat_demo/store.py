"""What the server keeps, in SQLite: coins until they are claimed, messages until acknowledged."""

import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

Coin: TypeAlias = dict[str, Any]
"""A coin's public half, as JSON."""
Delivery: TypeAlias = tuple[int, dict[str, Any]]
"""A message that waits, and the number to acknowledge it by."""

_SCHEMA: Final = """
CREATE TABLE published (owner TEXT, key_id TEXT, PRIMARY KEY (owner, key_id));
CREATE TABLE coins (number INTEGER PRIMARY KEY, owner TEXT, tier TEXT, coin TEXT);
CREATE TABLE messages (number INTEGER PRIMARY KEY AUTOINCREMENT, recipient TEXT, envelope TEXT);
"""


class Store:
    """The server's database; all calls come from one thread.

    Args:
        path: a file that isn't there yet.
    """

    def __init__(self, path: Path) -> None:
        # Opened in the thread of whoever made it, used in that of the calls.
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.executescript(_SCHEMA)

    def publish(self, owner: str, coins: Sequence[Coin]) -> int:
        """Takes coins, each id once: one that was claimed meanwhile mustn't be handed out again.

        Returns:
            How many of them are new.
        """
        new = 0
        with self._connection as connection:
            for coin in coins:
                taken = connection.execute(
                    "INSERT OR IGNORE INTO published VALUES (?, ?)", (owner, coin["key_id"])
                )
                if taken.rowcount:
                    connection.execute(
                        "INSERT INTO coins (owner, tier, coin) VALUES (?, ?, ?)",
                        (owner, coin["coin_category"], json.dumps(coin)),
                    )
                    new += 1
        return new

    def count(self, owner: str) -> dict[str, int]:
        """How many coins of somebody's nobody has claimed, by tier, and may still use."""
        counted = self._connection.execute(
            "SELECT tier, COUNT(*) FROM coins"
            " WHERE owner = ? AND json_extract(coin, '$.expires_at') > ? GROUP BY tier",
            (owner, time.time() * 1000),
        )
        return dict(counted.fetchall())

    def claim(self, owner: str, tier: str, count: int) -> list[Coin]:
        """Hands out coins, oldest first, and forgets them: each goes to one caller."""
        with self._connection as connection:
            claimed = connection.execute(
                "DELETE FROM coins WHERE number IN"
                " (SELECT number FROM coins WHERE owner = ? AND tier = ? ORDER BY number LIMIT ?)"
                " RETURNING number, coin",
                (owner, tier, count),
            ).fetchall()
        return [json.loads(coin) for _, coin in sorted(claimed)]

    def post(self, recipient: str, envelopes: Sequence[dict[str, Any]]) -> None:
        """Keeps messages for somebody."""
        with self._connection as connection:
            connection.executemany(
                "INSERT INTO messages (recipient, envelope) VALUES (?, ?)",
                [(recipient, json.dumps(envelope)) for envelope in envelopes],
            )

    def list_waiting(self, recipient: str, after: int) -> list[Delivery]:
        """Somebody's messages behind a number, oldest first."""
        rows = self._connection.execute(
            "SELECT number, envelope FROM messages WHERE recipient = ? AND number > ?"
            " ORDER BY number LIMIT 100",
            (recipient, after),
        )
        return [(number, json.loads(envelope)) for number, envelope in rows]

    def acknowledge(self, recipient: str, number: int) -> None:
        """Forgets a message that its recipient has dealt with."""
        with self._connection as connection:
            connection.execute(
                "DELETE FROM messages WHERE recipient = ? AND number = ?", (recipient, number)
            )

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()
