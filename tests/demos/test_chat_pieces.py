"""The pieces of the chat demo: each loses and repeats nothing, whatever comes in between."""

import asyncio
import dataclasses
import os
import runpy
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from aqm_db import AsyncClientDatabase, connect
from aqm_db.chat_demo import mallory
from aqm_db.chat_demo.envelope import Envelope, decrypt, dump_envelope, load_envelope
from aqm_db.chat_demo.journal import Journal
from aqm_db.chat_demo.link import Link
from aqm_db.chat_demo.party import take_part, text_of
from aqm_db.chat_demo.person import Person, load_person, make_people
from aqm_db.chat_demo.published_coin import dump_coin, load_coin
from aqm_db.chat_demo.publisher import Publisher, mint_coin
from aqm_db.chat_demo.purse import Purse
from aqm_db.chat_demo.receiver import Receiver
from aqm_db.chat_demo.sender import Sender
from aqm_db.coins import unseal
from aqm_db.demo import DemoError, ForgedMessageError
from aqm_db.errors import InvalidCoinError
from aqm_db.minter import PublicHalf
from aqm_db.types import CoinCategory
from tests.support.chat_people import (
    OneCoin,
    Recorder,
    half,
    minted,
    running_server,
    selected,
    written,
)
from tests.support.samples import reservations_of

pytestmark = pytest.mark.asyncio
COIN = {
    "key_id": "k",
    "coin_category": "BRONZE",
    "public_key": "AA==",
    "signature": "",
    "expires_at": 1,
}
HEADER = ("message_id", "sender", "recipient", "key_id")
PARTS = ("encapsulation", "nonce", "body", "signature")


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory whose sockets have short names, with two people who have met."""
    with tempfile.TemporaryDirectory(prefix="aqm-") as directory:
        make_people(Path(directory))
        yield Path(directory)


@pytest.fixture
def alice(root: Path) -> Person:
    """She writes."""
    return load_person(root, "alice")


@pytest.fixture
def bob(root: Path) -> Person:
    """He reads."""
    return load_person(root, "bob")


@pytest_asyncio.fixture
async def alices(alice: Person) -> AsyncIterator[AsyncClientDatabase]:
    """Her database; she knows Bob."""
    async with connect(alice.url) as db:
        await db.inventory.register_contact("bob", "BESTIE")
        yield db


@pytest_asyncio.fixture
async def bobs(bob: Person) -> AsyncIterator[AsyncClientDatabase]:
    """His database."""
    async with connect(bob.url) as db:
        yield db


@pytest.fixture
def log(root: Path) -> Iterator[Journal]:
    """What somebody reads."""
    with Journal(root / "log") as journal:
        yield journal


@pytest_asyncio.fixture
async def socket(root: Path) -> AsyncIterator[str]:
    """A running server."""
    async with running_server(root) as path:
        yield path


@pytest_asyncio.fixture
async def bobs_link(socket: str, bob: Person) -> AsyncIterator[Link]:
    """His link to the server, which knows him."""
    async with Link.open(socket, "bob") as link:
        await link.introduce(bob.identity.public)
        yield link


@pytest_asyncio.fixture
async def alices_link(socket: str) -> AsyncIterator[Link]:
    """Hers."""
    async with Link.open(socket, "alice") as link:
        yield link


async def next_frame(link: Link) -> dict[str, Any]:
    """What the server says next."""
    return await anext(link.read_frames())


class TestServer:
    """Hands out each coin once, and keeps messages until they are acknowledged."""

    async def test_a_coin_is_claimed_once(self, bob: Person, socket: str, bobs_link: Link) -> None:
        """Ten who ask at once get 20 coins, none of them twice, and oldest first."""
        coins = [mint_coin(bob, "BRONZE") for _ in range(20)]
        assert await bobs_link.publish([half(coin) for coin in coins]) == 20

        async def claim(number: int) -> list[str]:
            async with Link.open(socket, f"claimant-{number}") as link:
                return [coin.key_id for coin in await link.claim("bob", "BRONZE", 3)]

        claims = await asyncio.gather(*map(claim, range(10)))
        claimed = [key_id for claim in claims for key_id in claim]
        assert sorted(claimed) == sorted(coin.private.key_id for coin in coins)
        assert sorted(map(len, claims)) == [0, 0, 0, 2, 3, 3, 3, 3, 3, 3]

    async def test_a_claimed_coin_that_is_published_again_stays_claimed(
        self, bob: Person, bobs_link: Link
    ) -> None:
        """A minter that was killed before it marked a coin as published offers it again."""
        coin = half(mint_coin(bob, "GOLD"))
        await bobs_link.publish([coin])
        assert len(await bobs_link.claim("bob", "GOLD", 5)) == 1
        assert await bobs_link.publish([coin]) == 0
        assert await bobs_link.claim("bob", "GOLD", 5) == []

    async def test_new_coins_are_announced(
        self, bob: Person, bobs_link: Link, alices_link: Link
    ) -> None:
        """To everybody who is there."""
        await bobs_link.publish([half(mint_coin(bob, "BRONZE"))])
        assert await next_frame(alices_link) == {"published": "bob"}

    async def test_forged_coins_are_refused(self, bob: Person, bobs_link: Link) -> None:
        """One that isn't by whom it's said to be, and all that came with it."""
        genuine, other = mint_coin(bob, "SILVER"), mint_coin(bob, "SILVER")
        forged = half(genuine, public_key=other.public_key)
        with pytest.raises(DemoError, match="refused: InvalidCoinError"):
            await bobs_link.publish([half(other), forged])
        assert await bobs_link.claim("bob", "SILVER", 5) == []

    async def test_coins_of_nobody_are_refused(self, bob: Person, alices_link: Link) -> None:
        """The server must know whose signature to look for."""
        with pytest.raises(DemoError, match="refused: nobody has this name"):
            await alices_link.publish([half(mint_coin(bob, "BRONZE"))])

    @pytest.mark.parametrize(
        "change",
        [
            {"key_id": 5},
            {"key_id": ""},
            {"coin_category": "PLATINUM"},
            {"public_key": "secret"},
            {"signature": None},
            {"expires_at": "never"},
        ],
        ids=str,
    )
    async def test_malformed_coins_are_refused(
        self,
        bob: Person,
        bobs_link: Link,
        monkeypatch: pytest.MonkeyPatch,
        change: dict[str, Any],
    ) -> None:
        """Whatever is wrong with them, and whoever sends it."""

        def malformed(coin: PublicHalf) -> dict[str, Any]:
            return dump_coin(coin) | change

        monkeypatch.setattr("aqm_db.chat_demo.link.dump_coin", malformed)
        with pytest.raises(DemoError, match="refused: Invalid"):
            await bobs_link.publish([half(mint_coin(bob, "BRONZE"))])

    @pytest.mark.parametrize(
        ("value", "wrong"),
        [
            ("coin", "Expected `object`, got `str`"),
            ({"key_id": "k"}, "Object missing required field `coin_category`"),
            ({**COIN, "owner": "bob"}, "Object contains unknown field `owner`"),
            ({**COIN, "key_id": 5}, "Expected `str`, got `int` - at `$.key_id`"),
            ({**COIN, "expires_at": True}, "Expected `int`, got `bool` - at `$.expires_at`"),
            ({**COIN, "expires_at": 1.0}, "Expected `int`, got `float` - at `$.expires_at`"),
            ({**COIN, "public_key": "AA="}, "Invalid base64 encoded string - at `$.public_key`"),
            ({**COIN, "signature": "AA==\n"}, "Invalid base64 encoded string - at `$.signature`"),
        ],
        ids=str,
    )
    async def test_what_is_no_coin(self, value: Any, wrong: str) -> None:
        """It's said which field is missing, unknown or malformed."""
        load_coin("bob", COIN)
        with pytest.raises(InvalidCoinError) as refused:
            load_coin("bob", value)
        assert str(refused.value) == f"this is no coin: {wrong}"

    async def test_a_mistake_of_the_servers_own_is_no_refusal(
        self, bob: Person, bobs_link: Link, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The coin is good."""

        def fail(*_: object) -> None:
            raise KeyError("ours")

        monkeypatch.setattr("aqm_db.chat_demo.server.verify_coin", fail)
        with pytest.raises(DemoError, match="500 Internal Server Error"):
            await bobs_link.publish([half(mint_coin(bob, "BRONZE"))])

    async def test_a_name_is_taken_once(self, alice: Person, bob: Person, bobs_link: Link) -> None:
        """By the same person again, and by nobody else."""
        await bobs_link.introduce(bob.identity.public)
        with pytest.raises(DemoError, match="somebody else has this name"):
            await bobs_link.introduce(alice.identity.public)

    @pytest.mark.parametrize("name", ["..", "a/b", "a?b#c", "a%2Fb", "a b\u00e9"])
    async def test_a_name_is_no_path(self, bob: Person, socket: str, name: str) -> None:
        """Whatever is in it, it's the same person's everywhere, and nobody else's."""
        coin = half(mint_coin(bob, "BRONZE"))
        async with Link.open(socket, name) as link:
            await link.introduce(bob.identity.public)
            assert await link.publish([coin]) == 1
            assert await next_frame(link) == {"published": name}
            assert await link.claim("b", "BRONZE", 1) == []
            assert [claimed.key_id for claimed in await link.claim(name, "BRONZE", 1)] == [
                coin.key_id
            ]

    async def test_messages_stay_until_they_are_acknowledged(
        self, alice: Person, bob: Person, socket: str, alices_link: Link
    ) -> None:
        """Who hangs up without a word gets them again; who isn't there gets them later."""
        envelopes = [
            written(alice, selected(bob, mint_coin(bob, "BRONZE")), number) for number in (1, 2)
        ]
        for envelope in envelopes:
            await alices_link.send(envelope)
            assert await next_frame(alices_link) == {"accepted": envelope.message_id}
        async with Link.open(socket, "bob") as link:
            assert load_envelope((await next_frame(link))["envelope"]) == envelopes[0]
        async with Link.open(socket, "bob") as link:
            first, second = [await next_frame(link), await next_frame(link)]
            assert [load_envelope(frame["envelope"]) for frame in (first, second)] == envelopes
            await link.acknowledge(first["delivery"])
            # In the order in which they were sent, so this says that the server has heard it.
            await link.send(replace(envelopes[0], recipient="nobody"))
            while "accepted" not in await next_frame(link):
                pass
        async with Link.open(socket, "bob") as link:
            frame = await next_frame(link)
            assert load_envelope(frame["envelope"]) == envelopes[1]

    async def test_a_server_that_is_gone(self, root: Path) -> None:
        """Nobody waits for it."""
        async with running_server(root) as path:
            opened = Link.open(path, "alice")
            link = await opened.__aenter__()
        with pytest.raises(DemoError, match="hung up"):
            await next_frame(link)
        await opened.__aexit__(None, None, None)


class TestMallory:
    """Alters some messages, and sends some again."""

    async def test_of_ten_messages(self, alice: Person, bob: Person) -> None:
        """One comes altered at first, one comes twice, and eight as they are."""
        message = dump_envelope(written(alice, selected(bob, mint_coin(bob, "BRONZE"))))
        intercepted = [mallory.intercept_message(number, message) for number in range(10)]
        assert intercepted.count((message,)) == 8
        assert intercepted[mallory.REPEATED] == (message, message)
        forged, genuine = intercepted[mallory.FORGED]
        assert genuine == message
        assert {name for name in message if forged[name] != message[name]} == {"body"}


class TestEnvelope:
    """What travels opens as it was sent, or not at all."""

    @pytest.mark.parametrize("tier", ["GOLD", "SILVER", "BRONZE"])
    async def test_there_and_back(
        self, alice: Person, bob: Person, bobs: AsyncClientDatabase, tier: CoinCategory
    ) -> None:
        """Through JSON."""
        envelope = written(alice, await minted(bob, bobs, tier), text="hällo")
        arrived = load_envelope(dump_envelope(envelope))
        assert arrived == envelope
        assert await opened(bob, bobs, arrived) == "hällo"
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
        self, alice: Person, bob: Person, bobs: AsyncClientDatabase, change: dict[str, Any]
    ) -> None:
        """Each of them is signed."""
        envelope = written(alice, await minted(bob, bobs, "BRONZE"))
        with pytest.raises(ForgedMessageError):
            await opened(bob, bobs, replace(envelope, **change))

    async def test_who_knows_the_coin_is_not_its_friend(
        self, bob: Person, bobs: AsyncClientDatabase
    ) -> None:
        """Whoever sees a public half, like the server, can encrypt with it, but not sign."""
        coin = await minted(bob, bobs, "GOLD")
        with pytest.raises(ForgedMessageError):
            await opened(bob, bobs, written(bob, coin))

    async def test_an_encrypted_text_that_was_swapped(
        self, alice: Person, bob: Person, bobs: AsyncClientDatabase
    ) -> None:
        """A signature under another secret's text doesn't make it open."""
        coin, other = await minted(bob, bobs, "GOLD"), await minted(bob, bobs, "GOLD")
        swapped = replace(written(alice, coin), encapsulation=written(alice, other).encapsulation)
        signed = replace(swapped, signature=alice.identity.ed25519.sign(swapped.signed_part()))
        with pytest.raises(ForgedMessageError):
            await opened(bob, bobs, signed)

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
    async def test_no_envelope(self, value: Any, wrong: str) -> None:
        """Whatever the server sends; it's said which field is wrong."""
        with pytest.raises(ForgedMessageError) as refused:
            load_envelope(value)
        assert str(refused.value) == f"this is no envelope: {wrong}"

    async def test_a_mistake_of_our_own_is_no_forgery(
        self, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It isn't said of who sent the message."""

        def fail(*_: object) -> None:
            raise TypeError("ours")

        message = dump_envelope(written(alice, selected(bob, mint_coin(bob, "BRONZE"))))
        monkeypatch.setattr("msgspec.convert", fail)
        with pytest.raises(TypeError, match="^ours$"):
            load_envelope(message)


async def opened(bob: Person, db: AsyncClientDatabase, envelope: Envelope) -> str:
    """What Bob reads."""
    entry = await db.vault.fetch_key(envelope.key_id)
    assert entry is not None
    private_key = unseal(entry, bob.vault_key, owner="bob")
    return decrypt(envelope, private_key, entry.coin_category, bob.friends_identity)


class TestReceiver:
    """Reads each message once, and burns nothing for a forged one."""

    async def test_a_forged_message_keeps_the_key(
        self, alice: Person, bob: Person, bobs: AsyncClientDatabase, log: Journal
    ) -> None:
        """The genuine one, which comes later, is read."""
        receiver = Receiver(bob, bobs.vault, log)
        message = dump_envelope(written(alice, await minted(bob, bobs, "GOLD")))
        assert not await receiver.receive(mallory.alter_message(message))
        assert await bobs.vault.fetch_key(message["key_id"]) is not None
        assert await receiver.receive(message)
        assert await bobs.vault.fetch_key(message["key_id"]) is None
        assert [record.get("text") or record["refused"] for record in log] == [
            "ForgedMessageError",
            "hello",
        ]

    async def test_a_message_that_comes_again_is_refused(
        self, alice: Person, bob: Person, bobs: AsyncClientDatabase, log: Journal
    ) -> None:
        """Its key is burned."""
        receiver = Receiver(bob, bobs.vault, log)
        message = dump_envelope(written(alice, await minted(bob, bobs, "SILVER")))
        assert [await receiver.receive(message), await receiver.receive(message)] == [True, False]
        assert [record.get("refused") for record in log] == [None, "KeyAlreadyBurnedError"]
        assert receiver.count == 1

    async def test_a_message_whose_key_nobody_knows_is_refused(
        self, alice: Person, bob: Person, bobs: AsyncClientDatabase, log: Journal
    ) -> None:
        """It was burned long ago, or never was."""
        receiver = Receiver(bob, bobs.vault, log)
        message = dump_envelope(written(alice, selected(bob, mint_coin(bob, "BRONZE"))))
        for refused in (message, {**message, "key_id": ""}, {}):
            assert not await receiver.receive(refused)
        assert [record["refused"] for record in log] == [
            "KeyNotFoundError",
            "InvalidIdentifierError",
            "ForgedMessageError",
        ]

    async def test_killed_between_the_log_and_the_burning(
        self,
        alice: Person,
        bob: Person,
        bobs: AsyncClientDatabase,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The message comes again: it's logged once, and its key is burned."""

        async def killed(_: str) -> bool:
            raise KeyboardInterrupt

        message = dump_envelope(written(alice, await minted(bob, bobs, "GOLD")))
        with Journal(root / "log") as log, monkeypatch.context() as patched:
            patched.setattr(bobs.vault, "burn_key", killed)
            with pytest.raises(KeyboardInterrupt):
                await Receiver(bob, bobs.vault, log).receive(message)
        with Journal(root / "log") as log:
            receiver = Receiver(bob, bobs.vault, log)
            assert receiver.count == 1
            assert not await receiver.receive(message)
            assert [record["text"] for record in log] == ["hello"]
        assert await bobs.vault.fetch_key(message["key_id"]) is None


class TestSender:
    """Sends each message for sure, with one coin."""

    async def test_the_outbox_survives(self, alice: Person, bob: Person) -> None:
        """What was not accepted before a kill goes out again as it was."""
        purse = OneCoin(selected(bob, mint_coin(bob, "GOLD")))
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

    async def test_accepted_while_others_are_sent_again(self, alice: Person, bob: Person) -> None:
        """The server answers at once."""

        class Prompt(Recorder):
            async def send(self, envelope: Envelope) -> None:
                await super().send(envelope)
                sender.note_acceptance(envelope.message_id)

        with Journal(alice.outbox) as outbox:
            purse = OneCoin(selected(bob, mint_coin(bob, "BRONZE")))
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

    async def test_accepted_twice(self, alice: Person, bob: Person) -> None:
        """The server says so for each time that it's sent."""
        with Journal(alice.outbox) as outbox:
            purse = OneCoin(selected(bob, mint_coin(bob, "BRONZE")))
            sender = Sender(alice, purse.as_purse(), outbox, Recorder().as_link())
            await sender.send("hello")
            for _ in range(2):
                sender.note_acceptance("alice-1")
            assert sender.is_idle

    async def test_a_coin_goes_back_if_the_message_is_not_sent(
        self, alice: Person, bob: Person, alices: AsyncClientDatabase, bobs_link: Link
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


class TestJournal:
    """Outlives its process."""

    async def test_there_and_back(self, root: Path) -> None:
        """In order, also while it's open."""
        with Journal(root / "journal") as journal:
            journal.append({"a": 1})
            journal.append({"b": "ä\n"})
            assert list(journal) == [{"a": 1}, {"b": "ä\n"}]
        with Journal(root / "journal") as journal:
            assert list(journal) == [{"a": 1}, {"b": "ä\n"}]

    async def test_a_line_without_an_end_never_counted(self, root: Path) -> None:
        """It's cut off, and the next one stands alone."""
        (root / "journal").write_text('{"a": 1}\n{"b": ')
        with Journal(root / "journal") as journal:
            journal.append({"c": 3})
            assert list(journal) == [{"a": 1}, {"c": 3}]


class TestPurse:
    """Gives a coin out, wherever it has to come from."""

    async def test_lower_tiers_when_the_best_is_used_up(
        self, alice: Person, bob: Person, alices: AsyncClientDatabase, bobs_link: Link
    ) -> None:
        """And fetches nothing before all are."""
        tiers: list[CoinCategory] = ["GOLD", "SILVER", "BRONZE"]
        await bobs_link.publish([half(mint_coin(bob, tier)) for tier in tiers])
        purse = Purse(alice, alices.inventory, bobs_link)
        assert [(await purse.take()).coin_category for _ in range(3)] == tiers

    async def test_waits_until_coins_are_published(
        self,
        alice: Person,
        bob: Person,
        alices: AsyncClientDatabase,
        bobs_link: Link,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A coin that was published before it's waited for isn't missed."""
        asked = asyncio.Event()
        claim = bobs_link.claim

        async def told(*arguments: Any) -> Any:
            claimed = await claim(*arguments)
            asked.set()
            return claimed

        monkeypatch.setattr(bobs_link, "claim", told)
        purse = Purse(alice, alices.inventory, bobs_link)
        async with asyncio.TaskGroup() as group:
            taking = group.create_task(purse.take())
            await asked.wait()
            await bobs_link.publish([half(mint_coin(bob, "BRONZE"))])
            purse.note_coins()
        assert taking.result().coin_category == "BRONZE"

    async def test_slots_that_a_killed_process_had_reserved(
        self, alice: Person, bob: Person, alices: AsyncClientDatabase, bobs_link: Link
    ) -> None:
        """No message waits until they are free: it gets a coin past them."""
        await reservations_of(alices.inventory).reserve(
            {"bob": {"GOLD": 5, "SILVER": 4, "BRONZE": 1}}
        )
        await bobs_link.publish([half(mint_coin(bob, "SILVER")) for _ in range(2)])
        purse = Purse(alice, alices.inventory, bobs_link)
        assert (await purse.take()).coin_category == "SILVER"
        assert len(await bobs_link.claim("bob", "SILVER", 5)) == 1

    async def test_a_forged_coin_is_never_given_out(
        self,
        alice: Person,
        bob: Person,
        alices: AsyncClientDatabase,
        bobs_link: Link,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A server that hands out its own gets no message to read."""
        claim = bobs_link.claim

        async def forging(*arguments: Any) -> Any:
            return [
                dataclasses.replace(coin, public_key=bytes(32)) for coin in await claim(*arguments)
            ]

        await bobs_link.publish([half(mint_coin(bob, "BRONZE")) for _ in range(2)])
        monkeypatch.setattr(bobs_link, "claim", forging)
        with pytest.raises(InvalidCoinError):
            await Purse(alice, alices.inventory, bobs_link).take()
        assert not await alices.inventory.has_keys_for("bob")


class TestPublisher:
    """Keeps the vault full and the server supplied."""

    async def test_what_a_kill_left_unpublished(
        self, bob: Person, bobs: AsyncClientDatabase, bobs_link: Link
    ) -> None:
        """Is published at the next start, each coin once."""

        class Dying(Recorder):
            async def publish(self, halves: Any) -> int:
                await bobs_link.publish(halves)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await Publisher(bob, bobs.vault, Dying().as_link()).restock()
        claimed = await bobs_link.claim("bob", "GOLD", 100)
        await Publisher(bob, bobs.vault, bobs_link).restock()
        assert len(claimed) == 10
        assert await bobs_link.claim("bob", "GOLD", 100) == []
        assert len(await bobs_link.claim("bob", "SILVER", 100)) == 20
        assert (await bobs.vault.get_stats()).active_gold == 10


class TestParty:
    """All of it together, in one process here."""

    async def test_two_chat(self, root: Path) -> None:
        """Until both are done; what Mallory did is refused."""
        told: dict[str, list[str]] = {"alice": [], "bob": []}
        stopped = asyncio.Event()
        async with running_server(root) as path, asyncio.TaskGroup() as group:

            def hear(name: str, line: str) -> None:
                told[name].append(line)
                if all("done" in lines for lines in told.values()):
                    stopped.set()

            for name in told:
                group.create_task(
                    take_part(
                        load_person(root, name),
                        path,
                        12,
                        lambda line, name=name: hear(name, line),  # type: ignore[misc]
                        stopped,
                    )
                )
        for name, friend in (("alice", "bob"), ("bob", "alice")):
            lines = told[name]
            for word in ("sent", "received"):
                assert [line for line in lines if line.startswith(word)] == [
                    f"{word} {number}" for number in range(1, 13)
                ]
            with Journal(root / name / "log") as log:
                records = list(log)
            assert [record["text"] for record in records if "text" in record] == [
                text_of(friend, number) for number in range(1, 13)
            ]
        refused = [
            record["refused"]
            for name in told
            for record in Journal(root / name / "log")
            if "refused" in record
        ]
        assert set(refused) == {"ForgedMessageError", "KeyAlreadyBurnedError"}


class TestProcesses:
    """``python -m aqm_db.chat_demo``, in this process."""

    @pytest.fixture(autouse=True)
    def ended(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """In the demo's directory, and stdin has ended."""
        monkeypatch.chdir(root)
        reading, writing = os.pipe()
        os.close(writing)
        with os.fdopen(reading) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            yield

    async def run(self, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
        """Runs one to its end, in a thread with an event loop of its own."""
        monkeypatch.setattr(sys, "argv", ["aqm_db.chat_demo", *arguments])
        await asyncio.to_thread(runpy.run_module, "aqm_db.chat_demo", run_name="__main__")

    async def test_server(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Tells that it's ready, and ends when stdin does."""
        await self.run(monkeypatch)
        assert capsys.readouterr().out == "ready\n"

    async def test_party(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        """Ends when stdin does."""
        async with running_server(root):
            await self.run(monkeypatch, "alice", "3")
        assert (root / "alice" / "outbox").exists()
