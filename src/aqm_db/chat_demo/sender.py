"""Sending: select, encrypt, write down, send; release when it was not written down."""

from typing import Any

from aqm_db.errors import InvalidCoinError

from .envelope import Envelope, dump_envelope, encrypt, load_envelope
from .journal import Journal
from .link import Link
from .person import Person
from .purse import Purse


class Sender:
    """Sends messages, each for sure.

    The outbox is written before anything is sent, so a message that was under way when the process
    was killed goes out again as it was: with the same id and ciphertext, and no second coin.

    Args:
        person: who writes.
        purse: their friend's coins.
        outbox: all messages, and which of them were accepted.
        link: to the server.

    Attributes:
        written: how many messages there are.
    """

    def __init__(self, person: Person, purse: Purse, outbox: Journal, link: Link) -> None:
        self._person = person
        self._purse = purse
        self._outbox = outbox
        self._link = link
        self._under_way: dict[str, Envelope] = {}
        self.written: int = 0
        for record in outbox:
            self._read(record)

    @property
    def is_idle(self) -> bool:
        """Whether all messages that were written are on their way for sure."""
        return not self._under_way

    async def resend(self) -> None:
        """Sends what may not have arrived when the process was killed."""
        # Some are accepted while others are still being sent.
        for envelope in tuple(self._under_way.values()):
            self._outbox.append({"resent": envelope.message_id})
            await self._link.send(envelope)

    async def send(self, text: str) -> None:
        """Sends a text, with the next coin that can be encrypted for.

        Raises:
            OSError: the outbox can't be written; the message isn't sent, and its coin is back.
        """
        message_id = f"{self._person.name}-{self.written + 1}"
        while True:
            coin = await self._purse.take()
            try:
                envelope = encrypt(coin, message_id, self._person.name, text, self._person.identity)
                record = {"message": dump_envelope(envelope), "coin_category": coin.coin_category}
                self._outbox.append(record)
            except InvalidCoinError:
                # Used up: if it were given back, every message would meet it first.
                continue
            except Exception:
                await self._purse.give_back(coin)
                raise
            break
        # From here on the coin is spent, however often this message is sent.
        self._read(record)
        await self._link.send(envelope)

    def note_acceptance(self, message_id: str) -> None:
        """The server keeps a message until its recipient has read it."""
        record = {"accepted": message_id}
        self._outbox.append(record)
        self._read(record)

    def _read(self, record: dict[str, Any]) -> None:
        if "message" in record:
            envelope = load_envelope(record["message"])
            self._under_way[envelope.message_id] = envelope
            self.written += 1
        elif "accepted" in record:
            self._under_way.pop(record["accepted"], None)
