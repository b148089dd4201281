"""A message as it travels: encrypted with a coin, signed by its sender."""

import json
import os
from base64 import b64encode
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from aqm_db import coins
from aqm_db.backup._fields import Fields
from aqm_db.demo import ForgedMessageError
from aqm_db.types import CoinCategory, InventoryEntry

_HEADER = ("message_id", "sender", "recipient", "key_id")
_PARTS = ("encapsulation", "nonce", "body", "signature")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What goes over the wire.

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
    encapsulation: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    body: bytes = field(repr=False)
    signature: bytes = field(default=b"", repr=False)

    def as_json(self) -> dict[str, str]:
        """For the wire, and for the outbox."""
        header = {name: getattr(self, name) for name in _HEADER}
        return header | {name: b64encode(getattr(self, name)).decode() for name in _PARTS}

    def signed_part(self) -> bytes:
        """What the signature covers."""
        return json.dumps(replace(self, signature=b"").as_json(), sort_keys=True).encode()


def envelope_of(value: Any) -> Envelope:
    """Reads what came over the wire.

    Raises:
        ForgedMessageError: it's no envelope.
    """
    fields = Fields(value, _no_envelope)
    header: dict[str, Any] = {name: fields.text(name) for name in _HEADER}
    parts: dict[str, Any] = {name: fields.blob(name) for name in _PARTS}
    return Envelope(**header, **parts)


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
        message_id, sender, coin.contact_id, coin.key_id, found.ciphertext, nonce, body
    )
    return replace(unsigned, signature=identity.ed25519.sign(unsigned.signed_part()))


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


def _no_envelope(what: str) -> ForgedMessageError:
    return ForgedMessageError(f"this is no envelope: {what}")


def _message_key(secret: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"aqm-db chat demo v1").derive(secret)
