"""Reads each message once, and burns nothing for a forged one."""

from pathlib import Path

import pytest

from aqm_db import AsyncClientDatabase
from aqm_db.chat_demo import mallory
from aqm_db.chat_demo.envelope import dump_envelope
from aqm_db.chat_demo.journal import Journal
from aqm_db.chat_demo.person import Person
from aqm_db.chat_demo.publisher import mint_coin
from aqm_db.chat_demo.receiver import Receiver
from tests.support.chat_people import mint_for, take_coin, write_message

pytestmark = pytest.mark.asyncio


async def test_a_forged_message_keeps_the_key(
    alice: Person, bob: Person, bobs: AsyncClientDatabase, log: Journal
) -> None:
    """The genuine one, which comes later, is read."""
    receiver = Receiver(bob, bobs.vault, log)
    message = dump_envelope(write_message(alice, await mint_for(bob, bobs, "GOLD")))
    assert not await receiver.receive(mallory.alter_message(message))
    assert await bobs.vault.fetch_key(message["key_id"]) is not None
    assert await receiver.receive(message)
    assert await bobs.vault.fetch_key(message["key_id"]) is None
    assert [record.get("text") or record["refused"] for record in log] == [
        "ForgedMessageError",
        "hello",
    ]


async def test_a_message_that_comes_again_is_refused(
    alice: Person, bob: Person, bobs: AsyncClientDatabase, log: Journal
) -> None:
    """Its key is burned."""
    receiver = Receiver(bob, bobs.vault, log)
    message = dump_envelope(write_message(alice, await mint_for(bob, bobs, "SILVER")))
    assert [await receiver.receive(message), await receiver.receive(message)] == [True, False]
    assert [record.get("refused") for record in log] == [None, "KeyAlreadyBurnedError"]
    assert receiver.count == 1


async def test_a_message_whose_key_nobody_knows_is_refused(
    alice: Person, bob: Person, bobs: AsyncClientDatabase, log: Journal
) -> None:
    """It was burned long ago, or never was."""
    receiver = Receiver(bob, bobs.vault, log)
    message = dump_envelope(write_message(alice, take_coin(bob, mint_coin(bob, "BRONZE"))))
    for refused in (message, {**message, "key_id": ""}, {}):
        assert not await receiver.receive(refused)
    assert [record["refused"] for record in log] == [
        "KeyNotFoundError",
        "InvalidIdentifierError",
        "ForgedMessageError",
    ]


async def test_killed_between_the_log_and_the_burning(
    alice: Person,
    bob: Person,
    bobs: AsyncClientDatabase,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message comes again: it's logged once, and its key is burned."""

    async def die(_: str) -> bool:
        raise KeyboardInterrupt

    message = dump_envelope(write_message(alice, await mint_for(bob, bobs, "GOLD")))
    with Journal(root / "log") as log, monkeypatch.context() as patched:
        patched.setattr(bobs.vault, "burn_key", die)
        with pytest.raises(KeyboardInterrupt):
            await Receiver(bob, bobs.vault, log).receive(message)
    with Journal(root / "log") as log:
        receiver = Receiver(bob, bobs.vault, log)
        assert receiver.count == 1
        assert not await receiver.receive(message)
        assert [record["text"] for record in log] == ["hello"]
    assert await bobs.vault.fetch_key(message["key_id"]) is None
