"""Steps of the demo's story that are broken, each in the place of one that works."""

from aqm_db.demo import Message
from aqm_db.errors import InvalidCoinError
from aqm_db.types import GCResult


def find_another_secret(*_: object) -> bytes:
    """A decapsulation that is broken."""
    return bytes(32)


def alter_nothing(message: Message) -> Message:
    """A forgery that is none."""
    return message


async def collect_nothing(*_: object) -> GCResult:
    """A garbage collector that is broken."""
    return GCResult(0, 0, 0)


async def find_nothing(*_: object) -> None:
    """An inventory that is broken."""


async def burn_nothing(*_: object) -> bool:
    """A vault that is broken."""
    return True


def refuse_coin(*_: object) -> None:
    """A signature check that nothing passes."""
    raise InvalidCoinError("the signature doesn't match")
