"""What travels opens as it was sent, or not at all."""

from typing import Any

import pytest
from msgspec.structs import replace

from aqm_db import AsyncClientDatabase
from aqm_db.chat_demo.envelope import Envelope, decrypt, dump_envelope, load_envelope
from aqm_db.chat_demo.person import Person
from aqm_db.chat_demo.publisher import mint_coin
from aqm_db.coins import unseal
from aqm_db.demo import ForgedMessageError
from aqm_db.types import CoinCategory
from tests.support.chat_people import mint_for, take_coin, write_message

pytestmark = pytest.mark.asyncio

HEADER = ("message_id", "sender", "recipient", "key_id")


PARTS = ("encapsulation", "nonce", "body", "signature")


@pytest.mark.parametrize("tier", ["GOLD", "SILVER", "BRONZE"])
async def test_there_and_back(
    alice: Person, bob: Person, bobs: AsyncClientDatabase, tier: CoinCategory
) -> None:
    """Through JSON."""
    envelope = write_message(alice, await mint_for(bob, bobs, tier), text="hällo")
    arrived = load_envelope(dump_envelope(envelope))
    assert arrived == envelope
    assert await open_envelope(bob, bobs, arrived) == "hällo"
    assert "body" not in repr(envelope)


@pytest.mark.parametrize(
    "change",
    [
        {"message_id": "alice-2"},
        {"sender": "mallory"},
        {"recipient": "carol"},
        {"nonce": bytes(12)},
        {"body": bytes(21)},
        {"encapsulation": bytes(32)},
        {"signature": bytes(64)},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_an_altered_field(
    alice: Person, bob: Person, bobs: AsyncClientDatabase, change: dict[str, Any]
) -> None:
    """Each of them is signed."""
    envelope = write_message(alice, await mint_for(bob, bobs, "BRONZE"))
    with pytest.raises(ForgedMessageError):
        await open_envelope(bob, bobs, replace(envelope, **change))


async def test_who_knows_the_coin_is_not_its_friend(bob: Person, bobs: AsyncClientDatabase) -> None:
    """Whoever sees a public half, like the server, can encrypt with it, but not sign."""
    coin = await mint_for(bob, bobs, "GOLD")
    with pytest.raises(ForgedMessageError):
        await open_envelope(bob, bobs, write_message(bob, coin))


async def test_an_encrypted_text_that_was_swapped(
    alice: Person, bob: Person, bobs: AsyncClientDatabase
) -> None:
    """A signature under another secret's text doesn't make it open."""
    coin, other = await mint_for(bob, bobs, "GOLD"), await mint_for(bob, bobs, "GOLD")
    swapped = replace(
        write_message(alice, coin), encapsulation=write_message(alice, other).encapsulation
    )
    signed = replace(swapped, signature=alice.identity.ed25519.sign(swapped.signed_part()))
    with pytest.raises(ForgedMessageError):
        await open_envelope(bob, bobs, signed)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (None, "Expected `object`, got `null`"),
        ([], "Expected `object`, got `array`"),
        ({}, "Object missing required field `message_id`"),
        ("text", "Expected `object`, got `str`"),
        (
            dict.fromkeys((*HEADER, *PARTS), "not base64"),
            "Invalid base64 encoded string - at `$.encapsulation`",
        ),
        (
            {**dict.fromkeys(HEADER, 1), **dict.fromkeys(PARTS, "")},
            "Expected `str`, got `int` - at `$.message_id`",
        ),
        (
            dict.fromkeys((*HEADER, *PARTS[:-1]), ""),
            "Object missing required field `signature`",
        ),
        (
            dict.fromkeys((*HEADER, *PARTS, "subject"), ""),
            "Object contains unknown field `subject`",
        ),
    ],
    ids=[
        *("null", "list", "empty", "text", "not base64", "numbers", "unsigned"),
        "unknown field",
    ],
)
async def test_no_envelope(value: Any, wrong: str) -> None:
    """Whatever the server sends; it's said which field is wrong."""
    with pytest.raises(ForgedMessageError) as refused:
        load_envelope(value)
    assert str(refused.value) == f"this is no envelope: {wrong}"


async def test_a_mistake_of_our_own_is_no_forgery(
    alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't said of who sent the message."""

    def fail(*_: object) -> None:
        raise TypeError("ours")

    message = dump_envelope(write_message(alice, take_coin(bob, mint_coin(bob, "BRONZE"))))
    monkeypatch.setattr("msgspec.convert", fail)
    with pytest.raises(TypeError, match="^ours$"):
        load_envelope(message)


async def open_envelope(bob: Person, db: AsyncClientDatabase, envelope: Envelope) -> str:
    """What Bob reads."""
    entry = await db.vault.fetch_key(envelope.key_id)
    assert entry is not None
    private_key = unseal(entry, bob.vault_key, owner="bob")
    return decrypt(envelope, private_key, entry.coin_category, bob.friends_identity)
