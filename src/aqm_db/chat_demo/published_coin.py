"""Coins' public halves as JSON, between a minter, the server and whoever caches them."""

from typing import Any

import msgspec

from aqm_db import coins
from aqm_db.errors import InvalidCoinError
from aqm_db.minter import PublicHalf
from aqm_db.types import NewCoin


class PublishedCoin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a minter publishes; in JSON, bytes are Base64.

    Attributes:
        key_id: the coin's id.
        coin_category: its tier.
        public_key: the key to encrypt for.
        signature: the owner's signature.
        expires_at: until when it may be encrypted for, in ms since the epoch.
    """

    key_id: str
    coin_category: str
    public_key: bytes
    signature: bytes
    expires_at: int


def dump_coin(half: PublicHalf) -> dict[str, Any]:
    """What a minter publishes."""
    coin = PublishedCoin(
        half.key_id, half.coin_category, half.public_key, half.signature, half.expires_at
    )
    dumped: dict[str, Any] = msgspec.to_builtins(coin)
    return dumped


def load_coin(contact_id: str, value: object) -> NewCoin:
    """What the inventory stores of what a server gave; nothing in it is true until verified.

    Raises:
        InvalidCoinError: a field is missing, unknown or malformed.
    """
    try:
        coin = msgspec.convert(value, PublishedCoin)
    except msgspec.ValidationError as error:
        raise InvalidCoinError(f"this is no coin: {error}") from error
    return NewCoin(contact_id, **msgspec.structs.asdict(coin))


def verify_coin(coin: NewCoin, identity: coins.PublicIdentity) -> None:
    """Makes sure that its owner made a coin.

    Raises:
        InvalidCoinError: they didn't.
        InvalidArgumentError: a field is of the wrong type or size.
    """
    made_with = coins.ALGORITHMS.get(coin.coin_category)
    version = "unknown" if made_with is None else made_with.version
    coins.verify(
        coins.PublicCoin(coin.key_id, coin.coin_category, version, coin.public_key, coin.signature),
        identity,
    )
