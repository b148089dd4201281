"""Alters some messages, and sends some again."""

import pytest

from aqm_db.chat_demo import mallory
from aqm_db.chat_demo.envelope import dump_envelope
from aqm_db.chat_demo.person import Person
from aqm_db.chat_demo.publisher import mint_coin
from tests.support.chat_people import take_coin, write_message

pytestmark = pytest.mark.asyncio


async def test_of_ten_messages(alice: Person, bob: Person) -> None:
    """One comes altered at first, one comes twice, and eight as they are."""
    message = dump_envelope(write_message(alice, take_coin(bob, mint_coin(bob, "BRONZE"))))
    intercepted = [mallory.intercept_message(number, message) for number in range(10)]
    assert intercepted.count((message,)) == 8
    assert intercepted[mallory.REPEATED] == (message, message)
    forged, genuine = intercepted[mallory.FORGED]
    assert genuine == message
    assert {name for name in message if forged[name] != message[name]} == {"body"}
