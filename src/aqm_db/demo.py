"""The main job, from the first coin to the last: ten messages, a one-time key for each.

Bob mints coins: he keeps the private halves in his vault, and publishes the public halves. Alice
caches them, so that sending needs no network. Every message uses up one coin, and Bob burns his
half of it once he has read the message.

Written to be read: it uses nothing but the public API. ``aqm-db demo`` runs it, with the extras
``embedded``, ``coins`` and ``cli``.
"""

import os
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from . import AsyncClientDatabase, coins, connect
from .errors import AQMDatabaseError, KeyAlreadyBurnedError
from .types import (
    CoinCategory,
    Dashboard,
    GCResult,
    HealthStatus,
    InventorySummary,
    Priority,
    StorageReport,
    VaultStats,
)


class Line(NamedTuple):
    """A message, the tier that Alice wishes for it, and the tier that is left by then."""

    text: str
    wish: CoinCategory
    expected: CoinCategory


BOBS_COINS: Final[dict[CoinCategory, int]] = {"GOLD": 5, "SILVER": 4, "BRONZE": 1}
"""A full set: as many as are cached for a BESTIE."""
CAROLS_COINS: Final[dict[CoinCategory, int]] = {"SILVER": 2, "BRONZE": 1}

CONVERSATION: Final = (
    Line("Hi Bob, it's Alice.", "GOLD", "GOLD"),
    Line("The vault's code is 4711.", "GOLD", "GOLD"),
    Line("Lunch at noon?", "SILVER", "SILVER"),
    Line("Bring the contract.", "GOLD", "GOLD"),
    Line("Don't tell Mallory.", "GOLD", "GOLD"),
    Line("Nor Eve: she listens.", "GOLD", "GOLD"),
    Line("That was my last GOLD.", "GOLD", "SILVER"),
    Line("Still coming?", "SILVER", "SILVER"),
    Line("A table for two, then.", "SILVER", "SILVER"),
    Line("My last coin. See you!", "GOLD", "BRONZE"),
)
FORGED: Final = 4
"""The message that Mallory alters on its way, counted from 1."""
REPLAYED: Final = 1
"""The message that Mallory sends again."""
DAYS_OF_SILENCE: Final = 40
"""Since Alice met Carol; after 30 days, a contact's coins are garbage."""


class DemoError(AQMDatabaseError):
    """The demo can't go on: a step had another result than it must have, say."""


class ForgedMessageError(DemoError):
    """A message isn't as it was sent."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where somebody's database is.

    Attributes:
        url: what ``connect`` takes; it may hold a password.
        owner: whose data it is, on a server that several share.
        description: what to call it.
    """

    url: str = field(repr=False)
    owner: str | None
    description: str


@dataclass(frozen=True, slots=True)
class Message:
    """What goes over the wire.

    Attributes:
        key_id: the coin that it was encrypted with.
        encapsulation: what finds the secret, together with the coin's private half.
        nonce: 12 bytes.
        body: the encrypted text and its tag.
    """

    key_id: str
    encapsulation: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes, without the id."""
        return len(self.encapsulation) + len(self.nonce) + len(self.body)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message on its way, and what it took to send it."""

    message: Message
    coin_category: CoinCategory
    select_ms: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that Bob has read."""

    line: Line
    sent: Sent
    read: str


class Audience(Protocol):
    """Who sees the story."""

    def see_homes(self, alice: Home, bob: Home) -> None:
        """Where the two databases are."""

    def see_meeting(self, summary: InventorySummary, days_ago: int) -> None:
        """Alice cached somebody's coins some time ago."""

    def see_minting(self, published: Sequence[coins.PublicCoin]) -> None:
        """Bob has sealed the private halves, and published these."""

    def see_cache(self, summary: InventorySummary, storage: StorageReport) -> None:
        """Alice has verified what Bob published, and cached it."""

    def see_talk(self, deliveries: Sequence[Delivery]) -> None:
        """All messages were sent and read."""

    def see_forgery(self, number: int) -> None:
        """An altered copy of a message didn't open, and burned nothing."""

    def see_replay(self, number: int) -> None:
        """A message came again, and its key was burned."""

    def see_shortage(self, needs: dict[str, int]) -> None:
        """There was no coin for another message; this is what to ask the server for."""

    def see_garbage(self, planned: GCResult, done: GCResult) -> None:
        """Garbage was collected, first as a dry run."""

    def see_dashboards(self, alice: Dashboard, bob: Dashboard) -> None:
        """What is stored at the end."""

    def see_health(self, name: str, status: HealthStatus) -> None:
        """Somebody's databases answer."""


class Bob:
    """Mints coins, and reads what was encrypted with them."""

    def __init__(self, db: AsyncClientDatabase) -> None:
        self.db = db
        self.identity: coins.Identity = coins.Identity.generate()
        # A real client keeps it in the system's keyring, or derives it from a passphrase.
        self._vault_key = os.urandom(32)

    async def mint(self, key_id: str, tier: CoinCategory) -> coins.PublicCoin:
        """Makes a coin, puts its private half into the vault, and returns the public half."""
        coin = coins.mint(self.identity, key_id, tier)
        sealed = coins.seal(
            coin.private_key,
            self._vault_key,
            owner="bob",
            key_id=key_id,
            coin_category=tier,
            coin_version=coin.public.coin_version,
        )
        await self.db.vault.store_key(
            key_id,
            tier,
            sealed.encrypted_blob,
            sealed.encryption_iv,
            sealed.auth_tag,
            coin_version=coin.public.coin_version,
        )
        return coin.public

    async def read(self, message: Message) -> str:
        """Opens a message; its key is burned then, and is kept if it doesn't open."""
        async with self.db.vault.use_key(message.key_id) as entry:
            private_key = coins.unseal(entry, self._vault_key, owner="bob")
            secret = coins.decapsulate(private_key, entry.coin_category, message.encapsulation)
            return _decrypt(secret, message)


class Alice:
    """Caches contacts' coins, and sends messages."""

    def __init__(self, db: AsyncClientDatabase) -> None:
        self.db = db

    async def befriend(
        self,
        contact_id: str,
        priority: Priority,
        identity: coins.PublicIdentity,
        published: Sequence[coins.PublicCoin],
    ) -> InventorySummary:
        """Registers a contact, and caches the coins that they really made."""
        await self.db.inventory.register_contact(contact_id, priority, contact_id.title())
        for coin in published:
            coins.verify(coin, identity)
            await self.db.inventory.store_key(
                contact_id, coin.key_id, coin.coin_category, coin.public_key, coin.signature
            )
        return await self.db.inventory.get_inventory(contact_id)

    async def send(self, contact_id: str, text: str, wish: CoinCategory) -> Sent | None:
        """Encrypts a text with the best coin that is left; None if there is none."""
        started = time.perf_counter()
        coin = await self.db.inventory.select_coin(contact_id, wish)
        select_ms = (time.perf_counter() - started) * 1000
        if coin is None:
            return None
        found = coins.encapsulate(coin.public_key, coin.coin_category)
        message = _encrypt(found, coin.key_id, text)
        return Sent(message, coin.coin_category, select_ms)


async def tell(alices: Home, bobs: Home, audience: Audience) -> None:
    """The whole story.

    Args:
        alices: an empty database.
        bobs: another one.
        audience: sees what happened, step by step.

    Raises:
        DemoError: a step had another result than it must have.
        AQMDatabaseError: what the library's calls raise.
    """
    audience.see_homes(alices, bobs)
    async with connect(alices.url, owner=alices.owner, clock=_time_before_silence) as db:
        await meet_carol(Alice(db), audience)
    async with (
        connect(alices.url, owner=alices.owner) as alices_db,
        connect(bobs.url, owner=bobs.owner) as bobs_db,
    ):
        alice, bob = Alice(alices_db), Bob(bobs_db)
        await meet_bob(alice, bob, audience)
        await talk(alice, bob, audience)
        await run_out(alice, audience)
        await collect_garbage(alice, audience)
        await look_at_everything(alice, bob, audience)


async def meet_carol(alice: Alice, audience: Audience) -> None:
    """Alice caches coins of somebody whom she'll never write to."""
    carol = coins.Identity.generate()
    published = [
        coins.mint(carol, f"carol-{tier.lower()}-{number}", tier).public
        for tier, count in CAROLS_COINS.items()
        for number in range(1, count + 1)
    ]
    summary = await alice.befriend("carol", "MATE", carol.public, published)
    _expect("Carol's cached coins", InventorySummary("carol", 0, 2, 1, "MATE"), summary)
    audience.see_meeting(summary, DAYS_OF_SILENCE)


async def meet_bob(alice: Alice, bob: Bob, audience: Audience) -> None:
    """Bob publishes a full set of coins, and Alice caches it."""
    # Stands for the server, through which everybody publishes and fetches.
    published = [
        await bob.mint(f"bob-{tier.lower()}-{number}", tier)
        for tier, count in BOBS_COINS.items()
        for number in range(1, count + 1)
    ]
    _expect("Bob's vault", VaultStats(5, 4, 1, 0, 0), await bob.db.vault.get_stats())
    audience.see_minting(published)

    summary = await alice.befriend("bob", "BESTIE", bob.identity.public, published)
    _expect("Bob's cached coins", InventorySummary("bob", 5, 4, 1, "BESTIE"), summary)
    audience.see_cache(summary, await alice.db.reporter.get_storage_usage())


async def talk(alice: Alice, bob: Bob, audience: Audience) -> None:
    """Alice sends ten messages, and Bob reads each once."""
    deliveries: list[Delivery] = []
    for number, line in enumerate(CONVERSATION, 1):
        sent = await alice.send("bob", line.text, line.wish)
        if sent is None:
            raise DemoError(f"message {number}: expected a {line.expected} coin, got none")
        _expect(f"the coin of message {number}", line.expected, sent.coin_category)

        if number == FORGED:
            forged = _alter_message(sent.message)
            await _expect_refusal(bob.read(forged), ForgedMessageError, "a forgery")
            kept = await bob.db.vault.fetch_key(sent.message.key_id)
            _expect("the key after a forgery", "ACTIVE", kept and kept.status)

        read = await bob.read(sent.message)
        _expect(f"message {number}", line.text, read)
        left = await bob.db.vault.fetch_key(sent.message.key_id)
        _expect(f"the key after message {number}", None, left)
        deliveries.append(Delivery(line, sent, read))

    audience.see_talk(deliveries)
    audience.see_forgery(FORGED)
    replayed = deliveries[REPLAYED - 1].sent.message
    await _expect_refusal(bob.read(replayed), KeyAlreadyBurnedError, "a replay")
    audience.see_replay(REPLAYED)


async def run_out(alice: Alice, audience: Audience) -> None:
    """Alice has no coin left, and finds out what to ask the server for."""
    _expect("an 11th coin", None, await alice.db.inventory.select_coin("bob", "GOLD"))
    needs = await alice.db.reporter.get_replenish_needs()
    _expect("what to fetch of Bob", BOBS_COINS, needs["bob"])
    audience.see_shortage(needs["bob"])


async def collect_garbage(alice: Alice, audience: Audience) -> None:
    """Alice drops the coins of those whom she doesn't write to."""
    planned = await alice.db.gc.dry_run()
    done = await alice.db.gc.garbage_collect()
    _expect("garbage", (1, 3), (planned.contacts_cleaned, planned.keys_deleted))
    _expect("garbage that was collected", planned, done)
    _expect("garbage that is left", GCResult(0, 0, 0), await alice.db.gc.dry_run())
    audience.see_garbage(planned, done)


async def look_at_everything(alice: Alice, bob: Bob, audience: Audience) -> None:
    """What both databases hold, and how they are."""
    alices = await alice.db.reporter.get_full_dashboard()
    bobs = await bob.db.reporter.get_full_dashboard()
    _expect("bytes that Alice has cached", 0, alices["inventory_storage"].total_bytes)
    _expect("Bob's vault", VaultStats(0, 0, 0, 10, 0), bobs["vault"])
    audience.see_dashboards(alices, bobs)
    for name, db in (("Alice", alice.db), ("Bob", bob.db)):
        status = await db.health()
        answers = status.vault_connected, status.inventory_connected
        _expect(f"answers of {name}'s vault and inventory", (True, True), answers)
        audience.see_health(name, status)


def _encrypt(found: coins.Encapsulation, key_id: str, text: str) -> Message:
    nonce = os.urandom(12)
    body = AESGCM(_message_key(found.shared_secret)).encrypt(nonce, text.encode(), key_id.encode())
    return Message(key_id, found.ciphertext, nonce, body)


def _decrypt(secret: bytes, message: Message) -> str:
    cipher = AESGCM(_message_key(secret))
    try:
        return cipher.decrypt(message.nonce, message.body, message.key_id.encode()).decode()
    except InvalidTag:
        raise ForgedMessageError(f"the message for {message.key_id} isn't as it was sent") from None


def _message_key(secret: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"aqm-db demo message v1").derive(secret)


def _alter_message(message: Message) -> Message:
    return replace(message, body=bytes([message.body[0] ^ 1]) + message.body[1:])


def _time_before_silence() -> int:
    return int((time.time() - DAYS_OF_SILENCE * 86_400) * 1000)


def _expect(what: str, wanted: object, got: object) -> None:
    if got != wanted:
        raise DemoError(f"{what}: expected {wanted}, got {got}")


async def _expect_refusal(reading: Awaitable[str], reason: type[Exception], what: str) -> None:
    try:
        await reading
    except reason:
        return
    raise DemoError(f"{what}: expected {reason.__name__}, but it was read")
