"""Private halves whose public halves still have to be published."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aqm_db import config
from aqm_db._io.seam import Argument, Call, Reply, Seam
from aqm_db._lua import scripts
from aqm_db._lua.scripts import Code
from aqm_db._model.checks import check_blob, check_count, check_id, check_items
from aqm_db._model.keys import Keys
from aqm_db._model.rows import Row
from aqm_db.errors import AQMDatabaseError, CorruptEntryError
from aqm_db.types import CoinCategory, NewKey

from .batch import run_batch
from .outcome import Progress, checked

_log = logging.getLogger("aqm_db.vault")
_TTL_MS = config.VAULT_KEY_TTL_SECONDS * 1000
_FIELDS = ("status", "coin_category", "coin_version", "created_at", "public_key", "signature")


@dataclass(frozen=True, slots=True)
class FreshCoin:
    """Both halves of a coin that was just minted.

    Attributes:
        private: the private half, encrypted; its id, tier and version are those of the coin.
        public_key: the public half.
        signature: the owner's signature over it.
    """

    private: NewKey
    public_key: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PublicHalf:
    """What is to be published of a coin.

    Attributes:
        key_id: the coin's id.
        coin_category: its tier.
        coin_version: what kind of key it is.
        public_key: the key to encrypt for.
        signature: the owner's signature.
        expires_at: when the private half is gone, in ms since the epoch.
    """

    key_id: str
    coin_category: CoinCategory
    coin_version: str
    public_key: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    expires_at: int


class Unpublished:
    """The unpublished coins of a vault.

    Args:
        seam: the vault's.
        keys: the vault's.
        storing: the call that stores a private half, with more arguments.
        stored: what its reply says.
    """

    def __init__(
        self,
        seam: Seam,
        keys: Keys,
        storing: Callable[[NewKey, Sequence[Argument]], Call],
        stored: Callable[[NewKey, Reply | AQMDatabaseError], bool],
    ) -> None:
        self._seam = seam
        self._keys = keys
        self._storing = storing
        self._stored = stored

    async def store(self, coins: Sequence[FreshCoin], most: int) -> list[bool | AQMDatabaseError]:
        """Stores coins, each with its public half in one step.

        Args:
            coins: what was minted, all of one tier.
            most: active keys of this tier; a coin beyond them isn't stored.

        Returns:
            For each coin True; False if there are enough; or an error.
        """

        def storing(coin: FreshCoin) -> Call:
            check_blob("public_key", coin.public_key)
            check_blob("signature", coin.signature)
            return self._storing(coin.private, (coin.public_key, coin.signature, most))

        def stored(coin: FreshCoin, reply: Reply | AQMDatabaseError) -> bool:
            if isinstance(reply, list) and reply[0] == Code.BUDGET:
                return False
            return self._stored(coin.private, reply)

        return await run_batch(self._seam, coins, storing, stored)

    async def pending(self, limit: int) -> list[PublicHalf]:
        """Lists public halves to be published, oldest first; one whose private half is gone leaves.

        Raises:
            InvalidArgumentError: the limit is no whole number from 1 up.
        """
        check_count("limit", limit, 1)
        found: list[PublicHalf] = []
        passed = 0
        while len(found) < limit:
            [key_ids] = await self._seam.read(
                ("ZRANGE", self._keys.vault_unpublished, passed, passed + limit - len(found) - 1)
            )
            if isinstance(key_ids, AQMDatabaseError):
                raise key_ids
            if not key_ids:
                break
            rows = await self._seam.read(
                *(("HMGET", self._row(key_id), *_FIELDS) for key_id in key_ids)
            )
            dead: list[bytes] = []
            for key_id, row in zip(key_ids, rows, strict=True):
                try:
                    half = _half(key_id, row)
                except CorruptEntryError:
                    _log.warning("corrupt_entry", extra={"key_id": key_id.decode()})
                    passed += 1
                    continue
                if half is None:
                    dead.append(key_id)
                else:
                    found.append(half)
                    passed += 1
            await self._take_off(dead, "dead")
        return found

    async def published(self, key_ids: Sequence[str]) -> int:
        """Takes coins off the list; returns how many of them were on it.

        Raises:
            InvalidArgumentError: the ids aren't a sequence of ids; nothing was changed.
        """
        check_items("key_ids", key_ids, str)
        for position, key_id in enumerate(key_ids):
            check_id(f"key_ids[{position}]", key_id)
        return await self._take_off([key_id.encode() for key_id in key_ids], "published")

    async def _take_off(self, key_ids: Sequence[bytes], reason: str) -> int:
        replies = await self._seam.run_all(
            [
                Call(
                    scripts.VAULT_PUBLISHED,
                    (self._row(key_id), self._keys.vault_unpublished),
                    (key_id, reason),
                )
                for key_id in key_ids
            ]
        )
        with Progress() as progress:
            progress.made = any(isinstance(reply, list) for reply in replies)
            return sum(taken_off for [taken_off] in map(checked, replies))

    def _row(self, key_id: bytes) -> str:
        return self._keys.vault(key_id.decode("utf-8", "replace"))


def _half(key_id: bytes, fields: Any) -> PublicHalf | None:
    """A row's public half; None if the private half is gone."""
    if isinstance(fields, AQMDatabaseError):
        raise fields
    if fields[0] != b"ACTIVE":
        return None
    named = zip((name.encode() for name in _FIELDS), fields, strict=True)
    row = Row("unpublished coin", {name: value for name, value in named if value is not None})
    return PublicHalf(
        key_id=key_id.decode(),
        coin_category=row.category(),
        coin_version=row.text("coin_version"),
        public_key=row.blob("public_key"),
        signature=row.blob("signature"),
        expires_at=row.integer("created_at") + _TTL_MS,
    )
