"""Sends each message for sure, with one coin."""

import pytest

from aqm_db import AsyncClientDatabase
from aqm_db.chat_demo.envelope import Envelope, dump_envelope
from aqm_db.chat_demo.journal import Journal
from aqm_db.chat_demo.link import Link
from aqm_db.chat_demo.person import Person
from aqm_db.chat_demo.publisher import mint_coin
from aqm_db.chat_demo.purse import Purse
from aqm_db.chat_demo.sender import Sender
from aqm_db.demo import DemoError
from aqm_db.types import CoinCategory
from tests.support.chat_people import (
    OneCoin,
    Recorder,
    take_coin,
)

pytestmark = pytest.mark.asyncio


async def test_the_outbox_survives(alice: Person, bob: Person) -> None:
    """What was not accepted before a kill goes out again as it was."""
    purse = OneCoin(take_coin(bob, mint_coin(bob, "GOLD")))
    link = Recorder(failure=DemoError("no network"))
    with Journal(alice.outbox) as outbox, pytest.raises(DemoError, match="no network"):
        await Sender(alice, purse.as_purse(), outbox, link.as_link()).send("hello")
    with Journal(alice.outbox) as outbox:
        [record] = outbox
        link = Recorder()
        sender = Sender(alice, purse.as_purse(), outbox, link.as_link())
        assert (sender.written, sender.is_idle) == (1, False)
        await sender.resend()
        assert [dump_envelope(envelope) for envelope in link.sent] == [record["message"]]
        sender.note_acceptance("alice-1")
        assert sender.is_idle
    with Journal(alice.outbox) as outbox:
        link = Recorder()
        sender = Sender(alice, purse.as_purse(), outbox, link.as_link())
        await sender.resend()
        assert (sender.written, sender.is_idle, link.sent) == (1, True, [])
    assert purse.back == []


async def test_accepted_while_others_are_sent_again(alice: Person, bob: Person) -> None:
    """The server answers at once."""

    class Prompt(Recorder):
        async def send(self, envelope: Envelope) -> None:
            await super().send(envelope)
            sender.note_acceptance(envelope.message_id)

    with Journal(alice.outbox) as outbox:
        purse = OneCoin(take_coin(bob, mint_coin(bob, "BRONZE")))
        writer = Sender(alice, purse.as_purse(), outbox, Recorder().as_link())
        for _ in range(3):
            await writer.send("hello")
        link = Prompt()
        sender = Sender(alice, purse.as_purse(), outbox, link.as_link())
        await sender.resend()
        assert [envelope.message_id for envelope in link.sent] == [
            "alice-1",
            "alice-2",
            "alice-3",
        ]
        assert sender.is_idle


async def test_accepted_twice(alice: Person, bob: Person) -> None:
    """The server says so for each time that it's sent."""
    with Journal(alice.outbox) as outbox:
        purse = OneCoin(take_coin(bob, mint_coin(bob, "BRONZE")))
        sender = Sender(alice, purse.as_purse(), outbox, Recorder().as_link())
        await sender.send("hello")
        for _ in range(2):
            sender.note_acceptance("alice-1")
        assert sender.is_idle


@pytest.mark.parametrize("tier", ["GOLD", "SILVER"])
async def test_a_coin_that_nobody_can_encrypt_for_is_used_up(
    alice: Person, bob: Person, alices: AsyncClientDatabase, bobs_link: Link, tier: CoinCategory
) -> None:
    """It was stored by a program that verified nothing: the message takes the next coin."""
    good = mint_coin(bob, tier)
    broken = b"\xff" * len(good.public_key)
    key_id = good.private.key_id
    await alices.inventory.store_key("bob", "broken", tier, broken, good.signature)
    await alices.inventory.store_key("bob", key_id, tier, good.public_key, good.signature)
    link = Recorder()
    with Journal(alice.outbox) as outbox:
        purse = Purse(alice, alices.inventory, bobs_link)
        await Sender(alice, purse, outbox, link.as_link()).send("hello")
    assert [envelope.key_id for envelope in link.sent] == [key_id]
    assert await alices.inventory.list_coins("bob") == []


async def test_a_coin_goes_back_if_the_message_is_not_sent(
    alice: Person, bob: Person, alices: AsyncClientDatabase, bobs_link: Link
) -> None:
    """When the outbox can't be written, say: the next message takes the same coin."""
    coin = mint_coin(bob, "GOLD")
    await alices.inventory.store_key(
        "bob", coin.private.key_id, "GOLD", coin.public_key, coin.signature
    )
    link = Recorder()
    purse = Purse(alice, alices.inventory, bobs_link)
    with Journal(alice.outbox) as outbox:
        sender = Sender(alice, purse, outbox, link.as_link())
    with pytest.raises(OSError, match="Bad file descriptor"):
        await sender.send("hello")
    assert (sender.written, link.sent) == (0, [])
    entry = await alices.inventory.select_coin("bob", "GOLD")
    assert entry is not None
    assert entry.key_id == coin.private.key_id
