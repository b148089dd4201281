"""Receiving: fetch, verify and decrypt, write down, burn."""

from typing import Any

from aqm_db import AsyncSecureVault, coins
from aqm_db.demo import ForgedMessageError
from aqm_db.errors import (
    InvalidCoinError,
    InvalidIdentifierError,
    KeyAlreadyBurnedError,
    KeyNotFoundError,
)

from .envelope import decrypt, load_envelope
from .journal import Journal
from .person import Person

REFUSALS = (
    ForgedMessageError,
    InvalidCoinError,
    InvalidIdentifierError,
    KeyAlreadyBurnedError,
    KeyNotFoundError,
)
"""Why a message isn't read: it's nobody's, or it was read before."""


class Receiver:
    """Reads messages, each once.

    Args:
        person: who reads.
        vault: theirs.
        log: what they read and refused.
    """

    def __init__(self, person: Person, vault: AsyncSecureVault, log: Journal) -> None:
        self._person = person
        self._vault = vault
        self._log = log
        self._known = {record["message_id"] for record in log if "message_id" in record}

    @property
    def count(self) -> int:
        """How many messages were read."""
        return len(self._known)

    async def receive(self, delivered: Any) -> bool:
        """Reads a message, unless it's forged or was read before.

        Its key is burned after its text is in the log, and is kept if it isn't what the friend
        sent. Killed in between, the process gets the message again: its id is known then, and
        only the key is burned.

        Returns:
            Whether it is new.
        """
        try:
            envelope = load_envelope(delivered)
            async with self._vault.use_key(envelope.key_id) as entry:
                private_key = coins.unseal(entry, self._person.vault_key, owner=self._person.name)
                text = decrypt(
                    envelope, private_key, entry.coin_category, self._person.friends_identity
                )
                is_new = envelope.message_id not in self._known
                if is_new:
                    self._log.append(
                        {
                            "message_id": envelope.message_id,
                            "key_id": envelope.key_id,
                            "text": text,
                        }
                    )
                    self._known.add(envelope.message_id)
        except REFUSALS as error:
            self._log.append({"refused": type(error).__name__})
            return False
        return is_new
