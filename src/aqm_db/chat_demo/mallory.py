"""Mallory, who sits in the server: alters some messages, and sends some again."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, Final

EVERY: Final = 10
"""Of so many messages, one is forged, and another is sent again."""
FORGED: Final = 4
"""Which of them is preceded by an altered copy."""
REPEATED: Final = 9
"""Which of them comes twice."""


def intercept_message(number: int, envelope: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """Decides on what the recipient gets instead of a message.

    Args:
        number: how many messages of this sender came before.
        envelope: the message.
    """
    if number % EVERY == FORGED:
        return alter_message(envelope), envelope
    if number % EVERY == REPEATED:
        return envelope, envelope
    return (envelope,)


def alter_message(envelope: dict[str, Any]) -> dict[str, Any]:
    """A message with a bit of its text changed."""
    body = b64decode(envelope["body"])
    return {**envelope, "body": b64encode(bytes([body[0] ^ 1]) + body[1:]).decode()}
