"""Coins' public halves as JSON, between a minter, the server and whoever caches them."""

from base64 import b64encode
from typing import Any, Final

from aqm_db import coins
from aqm_db.backup._fields import Fields
from aqm_db.errors import InvalidCoinError
from aqm_db.minter import PublicHalf
from aqm_db.types import NewCoin

_VERSIONS: Final[dict[str, str]] = {
    "GOLD": "kyber768_v1",
    "SILVER": "kyber768_v1",
    "BRONZE": "x25519_v1",
}


def to_json(half: PublicHalf) -> dict[str, Any]:
    """What a minter publishes."""
    return {
        "key_id": half.key_id,
        "coin_category": half.coin_category,
        "public_key": b64encode(half.public_key).decode(),
        "signature": b64encode(half.signature).decode(),
        "expires_at": half.expires_at,
    }


def to_coin(contact_id: str, value: object) -> NewCoin:
    """What the inventory stores of what a server gave; nothing in it is true until verified.

    Raises:
        InvalidCoinError: a field is missing or malformed.
    """
    fields = Fields(value, _no_coin)
    return NewCoin(
        contact_id,
        fields.text("key_id"),
        fields.text("coin_category"),
        fields.blob("public_key"),
        fields.blob("signature"),
        fields.number("expires_at"),
    )


def verify(coin: NewCoin, identity: coins.PublicIdentity) -> None:
    """Makes sure that its owner made a coin.

    Raises:
        InvalidCoinError: they didn't.
        InvalidArgumentError: a field is of the wrong type or size.
    """
    version = _VERSIONS.get(coin.coin_category, "unknown")
    coins.verify(
        coins.PublicCoin(coin.key_id, coin.coin_category, version, coin.public_key, coin.signature),
        identity,
    )


def _no_coin(what: str) -> InvalidCoinError:
    return InvalidCoinError(f"this is no coin: {what}")
