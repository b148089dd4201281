"""Ids that are made to be taken for others: whatever they are, nobody else's rows are touched."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given, settings, strategies as st
from redis import Redis

from aqm_db import sync
from aqm_db.errors import InvalidIdentifierError
from aqm_db.types import InventoryEntry, NewCoin, NewKey
from tests.conftest import INVENTORY_DB
from tests.faults.support.fault_table import Tally
from tests.faults.support.tried_calls import CANARY, CAPS
from tests.support.backends import REDIS_6, VALKEY_9, Servers
from tests.support.samples import Clock

Ids = tuple[str, str]
STRUCTURE = st.text("ab:{}%*?[]\\\r\n\0\x7f\x1b\u202e\u200f3A", min_size=1, max_size=10)
WORDS = st.sampled_from(
    [
        *("GOLD", "a:GOLD", "a", "a:b", "a:b:c", "%3A", "a%3Ab", "a%253Ab", "*", "?", "[a-z]"),
        *("inv:v1:meta", "vault:v1:stats", "stats", "expiry", "aqm:{a}", "{a}", "}", "{", ".."),
        *("\0", "\r\n", "a\r\nFLUSHALL\r\n", "\u202eabc", "\u0041\u030a", "\u00c5", "\U0001f511"),
        *("x" * 256, "x" * 255, "\u00e9" * 128, ":" * 256, "%" * 256, " ", "a ", " a", "A", "\\*"),
    ]
)
ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda value: len(value.encode()) <= 256
)
IDS = STRUCTURE | WORDS | ANY
PART = st.sampled_from(["a", "b", "a3", "%", "{a}", "*"])


def _split(first: str, second: str, third: str) -> tuple[Ids, Ids]:
    return (first, f"{second}:{third}"), (f"{first}:{second}", third)


def _encoded(contact_id: str, key_id: str) -> tuple[Ids, Ids]:
    return (contact_id, key_id), (quote(contact_id)[:256], f"{quote(key_id)[:250]} other")


PAIRS = (
    st.tuples(st.tuples(IDS, IDS), st.tuples(IDS, IDS))
    | st.builds(_split, PART, PART, PART)
    | st.builds(_encoded, STRUCTURE, STRUCTURE)
)
"""Contact and key of one, and of another: any, the same text split in two ways, and one that reads
like the other's name in the database."""
OWNERS = st.tuples(st.none() | IDS, st.none() | IDS) | st.sampled_from(
    [("*", "a"), ("?", "a"), ("[a-z]", "a"), ("a*", "ab"), ("%2A", "*"), ("a}:inv", "a")]
)
NO_IDS: list[Any] = ["", "x" * 257, "\u00e9" * 129, "\ud800", "a\udfffb", "x" * 10_000_000]
SHARED = (b"vault:v1:stats", b"vault:v1:expiry", b"inv:v1:contacts", b"inv:v1:totals")


@dataclass(frozen=True)
class Someone:
    """An owner's contact, with a coin in each tier and a private half, all under one id.

    Attributes:
        owner: whose database it is.
        contact_id: the contact.
        key_id: the coin, and the private half.
    """

    owner: str | None
    contact_id: str
    key_id: str


class Everything:
    """What can be done for someone.

    Args:
        client: a client of the database.
        who: for whom.
    """

    def __init__(self, client: Redis, who: Someone) -> None:
        self._who = who
        self._clock = Clock()
        self._vault = sync.SecureVault(client, owner=who.owner, clock=self._clock)
        self._inventory = sync.SmartInventory(
            client, owner=who.owner, clock=self._clock, budget_caps=CAPS
        )
        self._gc = sync.GarbageCollector(self._inventory, client)
        self._mark = f"{who}".encode()

    def settle(self) -> None:
        """Stores all that they have."""
        contact_id, key_id = self._who.contact_id, self._who.key_id
        self._vault.store_key(key_id, "GOLD", self._mark, b"nonce", b"tag")
        self._inventory.register_contact(contact_id, "BESTIE", contact_id)
        self._inventory.store_key(contact_id, key_id, "SILVER", CANARY, self._mark)

    def is_intact(self) -> bool:
        """Whether they get what is theirs."""
        key = self._vault.fetch_key(self._who.key_id)
        coin = self._inventory.select_coin(self._who.contact_id, "GOLD")
        return (
            key is not None
            and key.encrypted_blob == self._mark
            and coin is not None
            and (coin.contact_id, coin.key_id) == (self._who.contact_id, self._who.key_id)
            and coin.signature == self._mark
        )

    def steps(self, other: Someone) -> Iterator[Callable[[], Any]]:
        """Every operation on what is theirs, among it a coin that has the id of another's."""
        vault, inventory, gc = self._vault, self._inventory, self._gc
        contact_id, key_id = self._who.contact_id, self._who.key_id
        yield self.settle
        yield lambda: inventory.store_keys(
            [
                NewCoin(contact_id, f"own coin {number}", "GOLD", CANARY, CANARY)
                for number in range(3)
            ]
        )
        if key_id != other.key_id:
            yield lambda: inventory.store_key(contact_id, other.key_id, "BRONZE", CANARY, CANARY)
        yield lambda: (vault.fetch_key(key_id), vault.exists(key_id), vault.get_all_active_ids())
        yield lambda: (inventory.get_contact_meta(contact_id), inventory.get_inventory(contact_id))
        yield lambda: (inventory.get_available_tiers(contact_id), inventory.list_coins(contact_id))
        yield lambda: (inventory.get_inventory(), gc.dry_run(0), vault.get_stats())
        yield lambda: self._selected_and_released(contact_id)
        yield lambda: inventory.select_coins([contact_id], "GOLD")
        yield lambda: inventory.consume_key(contact_id, key_id)
        yield lambda: inventory.consume_key(contact_id, other.key_id)
        yield lambda: inventory.select_coin(contact_id, "BRONZE")
        yield lambda: inventory.set_contact_priority(contact_id, "STRANGER")
        yield lambda: inventory.set_contact_priority(contact_id, "BESTIE")
        yield lambda: inventory.store_key(contact_id, "own 3", "GOLD", CANARY, CANARY)
        yield lambda: gc.collect_single_contact(contact_id)
        yield lambda: self._used(key_id)
        if self._who.owner != other.owner:
            yield lambda: self._clock.advance(days=40)
            yield gc.garbage_collect
            yield vault.purge_expired

    def _selected_and_released(self, contact_id: str) -> None:
        entry = self._inventory.select_coin(contact_id, "GOLD")
        assert entry is not None
        assert self._inventory.release_coin(entry)

    def _used(self, key_id: str) -> None:
        with self._vault.use_key(key_id):
            pass


@pytest.fixture(params=[VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
def client(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Redis]:
    """A client of an empty database."""
    with servers[request.param].sync_client(INVENTORY_DB) as client:
        client.flushdb()
        yield client
        client.flushdb()


def rows_of(client: Redis) -> dict[Any, Any]:
    """Everything that is there, field by field and byte for byte."""
    keys: Any = client.keys()
    kinds = client.pipeline(transaction=False)
    for key in keys:
        kinds.type(key)
    reads = client.pipeline(transaction=False)
    for key, kind in zip(keys, kinds.execute(), strict=True):
        if kind == b"hash":
            reads.hgetall(key)
        elif kind == b"zset":
            reads.zrange(key, 0, -1, withscores=True)
        elif kind == b"set":
            reads.smembers(key)
        else:
            reads.get(key)
    return dict(zip(keys, reads.execute(), strict=True))


@pytest.mark.parametrize("shares_owner", [True, False])
def test_what_is_done_for_one_is_done_for_nobody_else(
    client: Redis, tally: Tally, *, shares_owner: bool, thorough: bool
) -> None:
    """Every row of another stays as it is, and they get the coin and the key that are theirs.

    Of one owner, contacts and keys have different ids; of two owners, they may have the same.
    """

    def check(owners: tuple[str | None, str | None], ids: tuple[Ids, Ids]) -> None:
        one = Someone(owners[0], *ids[0])
        other = Someone(owners[0] if shares_owner else owners[1], *ids[1])
        if shares_owner:
            assume(one.contact_id != other.contact_id and one.key_id != other.key_id)
        else:
            assume(one.owner != other.owner)
        client.flushdb()
        theirs = Everything(client, other)
        theirs.settle()
        rows = rows_of(client)
        if shares_owner:
            # The counters, the order of expiry, and who is registered are the owner's.
            rows = {key: row for key, row in rows.items() if not key.endswith(SHARED)}
        for step in Everything(client, one).steps(other):
            step()
            assert rows.items() <= rows_of(client).items()
        assert theirs.is_intact()
        tally.add("hostile ids")

    settled = settings(deadline=None, max_examples=300 if thorough else 15)
    given(OWNERS, PAIRS)(settled(check))()


def test_coins_of_one_contact(client: Redis, tally: Tally, *, thorough: bool) -> None:
    """What is done to one coin leaves another of the same contact in its row and its place."""

    def check(contact_id: str, one: str, other: str) -> None:
        assume(one != other)
        client.flushdb()
        inventory = sync.SmartInventory(client, clock=Clock(), budget_caps=CAPS)
        inventory.register_contact(contact_id, "BESTIE")
        before = rows_of(client).keys()
        inventory.store_key(contact_id, other, "GOLD", CANARY, b"other")
        [row] = [key for key in rows_of(client).keys() - before if b"inv:v1:key:" in key]
        rows = {row: rows_of(client)[row]}
        steps: tuple[Callable[[], bool], ...] = (
            lambda: inventory.store_key(contact_id, one, "GOLD", CANARY, b"one"),
            lambda: inventory.consume_key(contact_id, one),
            lambda: inventory.consume_key(contact_id, one),
        )
        for step in steps:
            step()
            assert rows.items() <= rows_of(client).items()
        entry = inventory.select_coin(contact_id, "GOLD")
        assert entry is not None
        assert (entry.key_id, entry.signature) == (other, b"other")
        assert inventory.select_coin(contact_id, "GOLD") is None
        tally.add("hostile ids")

    settled = settings(deadline=None, max_examples=300 if thorough else 10)
    given(IDS, IDS, IDS)(settled(check))()


@pytest.mark.parametrize("no_id", NO_IDS, ids=lambda value: repr(value)[:12])
def test_what_is_no_id_among_ids(client: Redis, no_id: Any, tally: Tally) -> None:
    """In a batch it is an error in its place, and the others go on."""
    inventory = sync.SmartInventory(client, budget_caps=CAPS)
    vault = sync.SecureVault(client)
    inventory.register_contact("bob", "BESTIE")
    coins = [NewCoin("bob", key_id, "GOLD", CANARY, CANARY) for key_id in ("1", no_id, "2")]
    keys = [NewKey(key_id, "GOLD", CANARY, b"nonce", b"tag") for key_id in ("1", no_id, "2")]
    for outcomes in (inventory.store_keys(coins), vault.store_keys(keys)):
        assert outcomes[0] is outcomes[2] is True
        assert isinstance(outcomes[1], InvalidIdentifierError)
    selected = inventory.select_coins(["bob", no_id], "GOLD")
    assert isinstance(selected[no_id], InvalidIdentifierError)
    entry = selected["bob"]
    assert isinstance(entry, InventoryEntry)
    assert entry.key_id == "1"
    tally.add("hostile ids")
