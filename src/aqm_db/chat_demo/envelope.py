"""A message as it travels: encrypted with a coin, signed by its sender."""

import os
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from aqm_db import coins
from aqm_db.demo import ForgedMessageError
from aqm_db.types import CoinCategory, InventoryEntry


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes over the wire, and into the outbox; in JSON, bytes are Base64.

    Attributes:
        message_id: the sender's own, the same each time it's sent.
        sender: who says that they wrote it.
        recipient: whom it's for.
        key_id: the coin that it was encrypted with.
        encapsulation: what finds the secret, together with the coin's private half.
        nonce: 12 bytes.
        body: the encrypted text and its tag.
        signature: the sender's, Ed25519 over all of these: anybody who saw the public half of a
            coin can encrypt with it.
    """

    message_id: str
    sender: str
    recipient: str
    key_id: str
    encapsulation: bytes
    nonce: bytes
    body: bytes
    signature: bytes

    def __repr__(self) -> str:
        return f"Envelope({self.message_id!r})"

    def signed_part(self) -> bytes:
        """What the signature covers."""
        return msgspec.json.encode(msgspec.structs.replace(self, signature=b""))


def dump_envelope(envelope: Envelope) -> dict[str, Any]:
    """What goes over the wire."""
    dumped: dict[str, Any] = msgspec.to_builtins(envelope)
    return dumped


def load_envelope(value: Any) -> Envelope:
    """Reads what came over the wire.

    Raises:
        ForgedMessageError: it's no envelope: a field is missing, unknown or malformed.
    """
    try:
        return msgspec.convert(value, Envelope)
    except msgspec.ValidationError as error:
        raise ForgedMessageError(f"this is no envelope: {error}") from error


def encrypt(
    coin: InventoryEntry, message_id: str, sender: str, text: str, identity: coins.Identity
) -> Envelope:
    """Encrypts a text with a contact's coin, and signs it.

    Raises:
        InvalidCoinError: the coin's public half is none.
    """
    found = coins.encapsulate(coin.public_key, coin.coin_category)
    nonce = os.urandom(12)
    body = AESGCM(_message_key(found.shared_secret)).encrypt(nonce, text.encode(), None)
    unsigned = Envelope(
        message_id, sender, coin.contact_id, coin.key_id, found.ciphertext, nonce, body, b""
    )
    signature = identity.ed25519.sign(unsigned.signed_part())
    return msgspec.structs.replace(unsigned, signature=signature)


def decrypt(
    envelope: Envelope, private_key: bytes, tier: CoinCategory, sender: coins.PublicIdentity
) -> str:
    """Makes sure of the sender, and opens an envelope with a coin's private half.

    Raises:
        ForgedMessageError: it isn't as it was sent, or not from this sender.
        InvalidCoinError: the encapsulation is malformed.
    """
    try:
        Ed25519PublicKey.from_public_bytes(sender.ed25519).verify(
            envelope.signature, envelope.signed_part()
        )
        secret = coins.decapsulate(private_key, tier, envelope.encapsulation)
        cipher = AESGCM(_message_key(secret))
        return cipher.decrypt(envelope.nonce, envelope.body, None).decode()
    except (InvalidSignature, InvalidTag):
        raise ForgedMessageError(f"{envelope.message_id!r} isn't as it was sent") from None


def _message_key(secret: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"aqm-db chat demo v1").derive(secret)
