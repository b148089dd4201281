"""What each operation sends is what the header of its script names."""

import asyncio
import pkgutil
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aqm_db import AsyncSecureVault, AsyncSmartInventory, _operations, config, integrity
from aqm_db._io.confirming import UNCONFIRMED
from aqm_db._io.gate import Gate
from aqm_db._io.seam import Call, Reply
from aqm_db._lua.header import Parameter
from aqm_db._lua.loader import Code, Script, list_scripts
from aqm_db._model.keys import Keys
from aqm_db._model.kinds import INVENTORY_KINDS, VAULT_KINDS
from aqm_db._model.tiers import PRIORITIES, TIERS
from aqm_db._operations import (
    Scope,
    collecting,
    contacts,
    layout,
    memory,
    private_halves,
    publishing,
    reservations,
    rounds,
    stock,
    turn,
)
from aqm_db._operations.outcome import Progress
from aqm_db._operations.reservations import Lease, Reservations
from aqm_db.errors import InventoryUnavailableError, KeyNotFoundError, VaultUnavailableError
from aqm_db.integrity import _inventory, _vault
from aqm_db.integrity._walk import Inspection
from aqm_db.types import InventoryEntry, NewCoin, NewKey, VaultEntry

FOLDERS = ("inventory", "vault", "turn", "layout")
NOW, MS_A_DAY = 1_800_000_000_000, 86_400_000
COIN_TTL, USED_TTL, KEY_TTL = 30 * MS_A_DAY, 30 * MS_A_DAY, 30 * MS_A_DAY
CLAIM_TTL, GRACE, SPENT_TTL = 30_000, 60_000, 30 * MS_A_DAY
KEYS = Keys("alice")
BOB = KEYS.of("bob")
QUEUES = dict(zip(TIERS, BOB.queues, strict=True))
COIN = NewCoin("bob", "k1", "SILVER", b"public", b"signature", NOW + 5)
ENTRY = InventoryEntry(
    "bob", "k1", "SILVER", b"public", b"signature", NOW - 9, NOW + 5, NOW - 1, b"7 r"
)
KEY = NewKey("k1", "SILVER", b"blob", b"iv", b"tag", "v1")
OLD_KEY = VaultEntry("k1", "SILVER", b"blob", b"iv", b"tag", "ACTIVE", NOW - 9, "v1")
SILVER_CAPS = {"BESTIE": 4, "MATE": 6, "STRANGER": 0}

REPLIES: dict[str, list[Any]] = {
    "inv_reserve": [[0, *[[1, 0, 9, 0]] * len(TIERS)]],
    "inv_summarize": [b"MATE", 0, 0, 0],
    "inv_count_stale": [1, 1, 0],
    "inv_find_garbage": [1],
    "inv_forget": [0, 1, 0],
    "inv_set_priority": [0, 0],
    "inv_check_coin": [],
    "inv_check_contact": [],
    "inv_check_claim": [],
    "vault_counters": [0] * (len(TIERS) + 4),
    "vault_check_key": [b"no_expiry", b"it would stay for ever", 0],
    "vault_check_counters": [],
}
"""What follows the code of a reply; a number where nothing else is said."""


class Recorder:
    """In the place of a server: notes what it's asked, and gives short answers."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def run(self, call: Call, _undo: object = None) -> Reply:
        """All went well."""
        self.calls.append(call)
        if call.script is private_halves.EXPLAIN:
            return [Code.NOT_FOUND]
        return [Code.OK, *REPLIES.get(call.script.name, [0])]

    async def run_all(self, calls: Sequence[Call], _undos: object = None) -> list[Reply]:
        """The same, many times."""
        return [await self.run(call) for call in calls]

    async def read(self, *commands: Sequence[Any]) -> list[Any]:
        """There is one of everything, and nothing in it but a private half."""
        halves = [b"k1", b"1"] if commands and KEYS.vault_expiry in commands[0] else []
        replies: dict[Any, Any] = {"EXISTS": 1, "ZCARD": 0, "HGETALL": {}}
        replies |= {"ZRANGEBYSCORE": halves, "ZRANGE": [], "ZRANGEBYLEX": []}
        return [replies.get(command[0]) for command in commands]

    async def scan(self, pattern: str, within: str | None = None) -> AsyncIterator[list[bytes]]:
        """One key of each kind, and one contact."""
        if within == KEYS.inv_contacts:
            yield [b"bob"]
            return
        names = {
            KEYS.vault_pattern(): [KEYS.vault("k1")],
            KEYS.inv_pattern(): [BOB.row("k1")],
            "aqm:{alice}:vault:v1:*": [KEYS.vault("k1")],
            "aqm:{alice}:inv:v1:*": [BOB.row("k1"), f"{BOB.claims}r"],
        }
        yield [name.encode() for name in names[pattern]]


def scope_over(seam: Any) -> Scope:
    """Alice's data, at a time that stands still; every request has one id."""
    return Scope(seam, KEYS, lambda: NOW, lambda: "r", UNCONFIRMED)


def build(make: Callable[[Scope], Call]) -> Callable[[], Call]:
    """A call that one function makes."""
    return lambda: make(scope_over(Recorder()))


def send(script: Script, act: Callable[[Scope], Awaitable[object]]) -> Callable[[], Call]:
    """The first call of a script that a longer operation sends."""

    async def sent() -> Call:
        recorder = Recorder()
        await act(scope_over(recorder))
        return next(call for call in recorder.calls if call.script is script)

    return lambda: asyncio.run(sent())


def reservations_of(scope: Scope) -> Reservations:
    """The reservations of an inventory of 9,000 bytes."""
    budgeted = SimpleNamespace(scope=scope, budget_caps=config.BUDGET_CAPS, budget_bytes=9_000)
    return Reservations(cast("Any", budgeted))


async def check_vault(scope: Scope) -> None:
    """Looks for what is wrong in the vault."""
    vault: Any = AsyncSecureVault(
        Gate(scope.seam, VaultUnavailableError, UNCONFIRMED), owner="alice", clock=lambda: NOW
    )
    inspection = Inspection(scope, VAULT_KINDS, repair=False, progress=Progress("test"))
    await _vault.check_vault(vault, inspection)


async def check_inventory(scope: Scope) -> None:
    """Looks for what is wrong in the inventory."""
    gate = Gate(scope.seam, InventoryUnavailableError, UNCONFIRMED)
    inventory: Any = AsyncSmartInventory(gate, owner="alice", clock=lambda: NOW)
    inspection = Inspection(scope, INVENTORY_KINDS, repair=True, progress=Progress("test"))
    await _inventory.check_inventory(inventory, inspection)


async def fail_to_use(scope: Scope) -> None:
    """Looks for a private half that isn't there: it's asked why."""
    with pytest.raises(KeyNotFoundError):
        await private_halves.read_known_row(scope, "k1")


CASES: dict[str, tuple[Callable[[], Call], Mapping[str, object]]] = {
    "inv_register": (
        build(lambda scope: contacts.build_register(scope, "bob", "MATE", "Bob")),
        {
            "meta": BOB.meta,
            "used": BOB.used,
            "used_until": BOB.used_until,
            "claim": f"{BOB.claims}r",
            "contacts": KEYS.inv_contacts,
            "forgotten": KEYS.inv_forgotten,
            "request_id": "r",
            "contact_id": "bob",
            "priority": "MATE",
            "clock": NOW,
            "display_name": "Bob",
        },
    ),
    "inv_set_priority": (
        build(
            lambda scope: contacts.build_set_priority(
                scope, "bob", "MATE", config.BUDGET_CAPS["MATE"], 3
            )
        ),
        {
            "meta": BOB.meta,
            "used": BOB.used,
            "used_until": BOB.used_until,
            "claim": f"{BOB.claims}r",
            "queues": QUEUES,
            "priority": "MATE",
            "row_prefix": BOB.rows,
            "claim_ttl": CLAIM_TTL,
            "most": stock.PORTION,
            "goes_on": 3,
            "caps": {"GOLD": 0, "SILVER": 6, "BRONZE": 4},
        },
    ),
    "inv_forget": (
        send(contacts.FORGET, lambda scope: contacts.forget(scope, "bob")),
        {
            "meta": BOB.meta,
            "used": BOB.used,
            "used_until": BOB.used_until,
            "claim": f"{BOB.claims}r",
            "queues": QUEUES,
            "aside": KEYS.inv_aside,
            "contacts": KEYS.inv_contacts,
            "forgotten": KEYS.inv_forgotten,
            "contact_id": "bob",
            "row_prefix": BOB.rows,
            "claim_prefix": BOB.claims,
            "clock": NOW,
            "used_ttl": USED_TTL,
            "claim_ttl": CLAIM_TTL,
            "most": stock.PORTION,
        },
    ),
    "inv_store": (
        build(lambda scope: stock.build_store(scope, COIN, config.BUDGET_CAPS, "r:SILVER:bob")),
        {
            "row": BOB.row("k1"),
            "meta": BOB.meta,
            "used": BOB.used,
            "used_until": BOB.used_until,
            "claim": f"{BOB.claims}r",
            "queues": QUEUES,
            "totals": KEYS.inv_totals,
            "leases": KEYS.inv_leases,
            "coming": KEYS.inv_coming,
            "watch": KEYS.inv_watch,
            "aside": KEYS.inv_aside,
            "request_id": "r",
            "key_id": "k1",
            "coin_category": "SILVER",
            "public_key": b"public",
            "signature": b"signature",
            "clock": NOW,
            "expires_at": NOW + 5,
            "row_prefix": BOB.rows,
            "coin_ttl": COIN_TTL,
            "used_ttl": USED_TTL,
            "caps": SILVER_CAPS,
            "lease": "r:SILVER:bob",
        },
    ),
    "inv_select": (
        build(lambda scope: stock.build_select(scope, "bob", "SILVER")),
        {
            "claim": f"{BOB.claims}r",
            "meta": BOB.meta,
            "used": BOB.used,
            "used_until": BOB.used_until,
            "watch": KEYS.inv_watch,
            "aside": KEYS.inv_aside,
            "queue": QUEUES["SILVER"],
            "lower": [QUEUES["BRONZE"]],
            "row_prefix": BOB.rows,
            "claim_prefix": BOB.claims,
            "clock": NOW,
            "tier": "SILVER",
            "place": None,
        },
    ),
    "inv_release": (
        build(lambda scope: stock.build_release(scope, ENTRY, config.BUDGET_CAPS)),
        {
            "row": BOB.row("k1"),
            "meta": BOB.meta,
            "used": BOB.used,
            "claim": f"{BOB.claims}r",
            "queue": QUEUES["SILVER"],
            "totals": KEYS.inv_totals,
            "watch": KEYS.inv_watch,
            "key_id": "k1",
            "coin_category": "SILVER",
            "public_key": b"public",
            "signature": b"signature",
            "fetched_at": NOW - 9,
            "expires_at": NOW + 5,
            "used_at": NOW - 1,
            "origin": b"7 r",
            "clock": NOW,
            "coin_ttl": COIN_TTL,
            "claim_ttl": CLAIM_TTL,
            "caps": SILVER_CAPS,
        },
    ),
    "inv_consume": (
        build(lambda scope: stock.build_consume(scope, "bob", "k1")),
        {
            "row": BOB.row("k1"),
            "claim": f"{BOB.claims}r",
            "used": BOB.used,
            "used_until": BOB.used_until,
            "queues": QUEUES,
            "aside": KEYS.inv_aside,
            "key_id": "k1",
            "claim_prefix": BOB.claims,
            "clock": NOW,
            "claim_ttl": CLAIM_TTL,
            "coin_ttl": COIN_TTL,
            "used_ttl": USED_TTL,
        },
    ),
    "inv_count_stale": (
        send(stock.COUNT_STALE, lambda scope: stock.count_stale(scope, ["bob"], 1)),
        {
            "metas": [BOB.meta],
            "meta_prefix": KEYS.metas,
            "row_prefix": KEYS.rows,
            "queue_prefix": KEYS.queues,
            "clock": NOW,
            "within": 1,
            "coin_ttl": COIN_TTL,
            "most": stock.PORTION,
            "first": 1,
            "place": 0,
        },
    ),
    "inv_summarize": (
        send(contacts.SUMMARIZE, lambda scope: contacts.summarize(scope, "bob")),
        {"metas": [BOB.meta], "meta_prefix": KEYS.metas, "queue_prefix": KEYS.queues},
    ),
    "inv_find_garbage": (
        send(collecting.FIND_GARBAGE, lambda scope: collecting.find_garbage(scope, ["bob"], 1)),
        {
            "aside": KEYS.inv_aside,
            "metas": [BOB.meta],
            "clock": NOW,
            "meta_prefix": KEYS.metas,
            "used_prefix": KEYS.useds,
            "used_until_prefix": KEYS.used_untils,
            "queue_prefix": KEYS.queues,
            "row_prefix": KEYS.rows,
            "coin_ttl": COIN_TTL,
            "inactive": 1,
            "used_ttl": USED_TTL,
            "most": stock.PORTION,
        },
    ),
    "inv_collect": (
        build(lambda scope: collecting.build_collect(scope, "bob", 1, "count", (2, 3))),
        {
            "meta": BOB.meta,
            "used": BOB.used,
            "used_until": BOB.used_until,
            "claim": f"{BOB.claims}r",
            "queues": QUEUES,
            "watch": KEYS.inv_watch,
            "aside": KEYS.inv_aside,
            "row_prefix": BOB.rows,
            "clock": NOW,
            "coin_ttl": COIN_TTL,
            "inactive": 1,
            "used_ttl": USED_TTL,
            "claim_ttl": CLAIM_TTL,
            "mode": "count",
            "most": collecting.COLLECTED_AT_ONCE,
            "first": 2,
            "place": 3,
        },
    ),
    "inv_reserve": (
        send(
            reservations.RESERVE,
            lambda scope: reservations_of(scope).reserve({"bob": {"SILVER": 2, "BRONZE": 3}}, 77),
        ),
        {
            "leases": KEYS.inv_leases,
            "leases_until": KEYS.inv_leases_until,
            "coming": KEYS.inv_coming,
            "totals": KEYS.inv_totals,
            "watch": KEYS.inv_watch,
            "aside": KEYS.inv_aside,
            "clock": NOW,
            "request_id": "r",
            "lease_ttl": 77,
            "coin_ttl": COIN_TTL,
            "budget": 9_000,
            "meta_prefix": KEYS.metas,
            "queue_prefix": KEYS.queues,
            "row_prefix": KEYS.rows,
            "added": {"GOLD": "", "SILVER": "", "BRONZE": ""},
            "found": {"GOLD": "", "SILVER": "", "BRONZE": ""},
            "sizes": config.COIN_SIZE_BYTES,
            "caps": config.BUDGET_CAPS,
            "wanted": ["bob", 0, 2, 3],
        },
    ),
    "inv_unreserve": (
        send(
            reservations.UNRESERVE,
            lambda scope: reservations_of(scope).end([Lease("a", 1, None), Lease("b", 2, None)]),
        ),
        {
            "leases": KEYS.inv_leases,
            "leases_until": KEYS.inv_leases_until,
            "coming": KEYS.inv_coming,
            "totals": KEYS.inv_totals,
            "names": ["a", "b"],
        },
    ),
    "inv_remember": (
        send(
            memory.REMEMBER_USED,
            lambda scope: memory.remember_used(
                scope, [memory.UsedCoin("bob", "k1", NOW - 1, None)], Progress("test")
            ),
        ),
        {
            "meta": BOB.meta,
            "used": BOB.used,
            "used_until": BOB.used_until,
            "queues": QUEUES,
            "aside": KEYS.inv_aside,
            "forgotten": KEYS.inv_forgotten,
            "contact_id": "bob",
            "row_prefix": BOB.rows,
            "clock": NOW,
            "used_ttl": USED_TTL,
            "coins": ["k1", NOW - 1, ""],
        },
    ),
    "inv_check_coin": (
        send(_inventory.CHECK_COIN, check_inventory),
        {
            "meta": BOB.meta,
            "used": BOB.used,
            "used_until": BOB.used_until,
            "queues": QUEUES,
            "totals": KEYS.inv_totals,
            "aside": KEYS.inv_aside,
            "row_prefix": BOB.rows,
            "key_id": b"k1",
            "valid": 1,
            "mode": "repair",
            "clock": NOW,
            "coin_ttl": COIN_TTL,
            "used_ttl": USED_TTL,
            "caps": config.BUDGET_CAPS,
        },
    ),
    "inv_check_contact": (
        send(_inventory.CHECK_CONTACT, check_inventory),
        {
            "meta": BOB.meta,
            "used": BOB.used,
            "used_until": BOB.used_until,
            "contacts": KEYS.inv_contacts,
            "forgotten": KEYS.inv_forgotten,
            "clock": NOW,
            "contact_id": "bob",
            "mode": "repair",
            "used_ttl": USED_TTL,
        },
    ),
    "inv_check_claim": (
        send(_inventory.CHECK_CLAIM, check_inventory),
        {"claim": f"{BOB.claims}r", "mode": "repair", "claim_ttl": CLAIM_TTL},
    ),
    "vault_store": (
        send(
            private_halves.STORE,
            lambda scope: publishing.store_fresh(
                scope, [publishing.FreshCoin(KEY, b"public", b"signature")], 20
            ),
        ),
        {
            "row": KEYS.vault("k1"),
            "stats": KEYS.vault_stats,
            "expiry": KEYS.vault_expiry,
            "spent": KEYS.vault_spent,
            "unpublished": KEYS.vault_unpublished,
            "watch": KEYS.vault_watch,
            "request_id": "r",
            "key_id": "k1",
            "coin_category": "SILVER",
            "encrypted_blob": b"blob",
            "encryption_iv": b"iv",
            "auth_tag": b"tag",
            "coin_version": "v1",
            "since": "",
            "clock": NOW,
            "ttl": KEY_TTL,
            "public_key": b"public",
            "signature": b"signature",
            "most": 20,
            "row_prefix": KEYS.vault_prefix,
        },
    ),
    "vault_burn": (
        build(lambda scope: private_halves.build_burn(scope, "k1")),
        {
            "row": KEYS.vault("k1"),
            "stats": KEYS.vault_stats,
            "expiry": KEYS.vault_expiry,
            "spent": KEYS.vault_spent,
            "watch": KEYS.vault_watch,
            "request_id": "r",
            "key_id": "k1",
            "clock": NOW,
            "grace": GRACE,
            "ttl": KEY_TTL,
            "spent_ttl": SPENT_TTL,
            "most": 10,
        },
    ),
    "vault_purge": (
        send(private_halves.PURGE, lambda scope: private_halves.purge(scope, 1)),
        {
            "row": KEYS.vault("k1"),
            "stats": KEYS.vault_stats,
            "expiry": KEYS.vault_expiry,
            "spent": KEYS.vault_spent,
            "watch": KEYS.vault_watch,
            "clock": NOW,
            "key_id": "k1",
            "age": 1,
            "ttl": KEY_TTL,
        },
    ),
    "vault_counters": (
        send(private_halves.COUNTERS, private_halves.read_counters),
        {
            "stats": KEYS.vault_stats,
            "expiry": KEYS.vault_expiry,
            "spent": KEYS.vault_spent,
            "watch": KEYS.vault_watch,
            "row_prefix": KEYS.vault_prefix,
            "clock": NOW,
            "spent_ttl": SPENT_TTL,
            "most": 500,
        },
    ),
    "vault_explain": (
        send(private_halves.EXPLAIN, fail_to_use),
        {
            "row": KEYS.vault("k1"),
            "expiry": KEYS.vault_expiry,
            "spent": KEYS.vault_spent,
            "key_id": "k1",
        },
    ),
    "vault_remember": (
        send(
            memory.REMEMBER_SPENT,
            lambda scope: memory.remember_spent(
                scope, [memory.SpentHalf("k1", "burned", NOW + 9)], Progress("test")
            ),
        ),
        {
            "stats": KEYS.vault_stats,
            "expiry": KEYS.vault_expiry,
            "spent": KEYS.vault_spent,
            "request_id": "r",
            "row_prefix": KEYS.vault_prefix,
            "clock": NOW,
            "grace": GRACE,
            "spent_ttl": SPENT_TTL,
            "halves": ["k1", "burned", NOW + 9],
        },
    ),
    "vault_published": (
        send(
            publishing.PUBLISHED, lambda scope: publishing.take_off_published(scope, ["k1", "k2"])
        ),
        {
            "row": KEYS.vault("k1"),
            "unpublished": KEYS.vault_unpublished,
            "key_id": b"k1",
            "reason": "published",
            "clock": NOW,
        },
    ),
    "vault_check_key": (
        send(_vault.CHECK_KEY, check_vault),
        {
            "row": KEYS.vault("k1"),
            "expiry": KEYS.vault_expiry,
            "spent": KEYS.vault_spent,
            "key_id": b"k1",
            "valid": 1,
            "mode": "look",
            "clock": NOW,
            "ttl": KEY_TTL,
            "grace": GRACE,
        },
    ),
    "vault_check_counters": (
        send(_vault.CHECK_COUNTERS, check_vault),
        {
            "stats": KEYS.vault_stats,
            "expiry": KEYS.vault_expiry,
            "mode": "look",
            "row_prefix": KEYS.vault_prefix,
            "key_ids": [b"k1"],
        },
    ),
    "layout_mark": (
        build(lambda _: layout.build_mark("the mark")),
        {"schema": "the mark", "version": 2},
    ),
    "vault_adopt": (
        build(lambda scope: layout.build_adopt_half(scope, "k1")),
        {
            "row": KEYS.vault("k1"),
            "expiry": KEYS.vault_expiry,
            "key_id": "k1",
            "ttl": KEY_TTL,
        },
    ),
    "inv_adopt": (
        build(lambda scope: layout.build_adopt_contact(scope, "bob")),
        {
            "meta": BOB.meta,
            "used": BOB.used,
            "used_until": BOB.used_until,
            "contacts": KEYS.inv_contacts,
            "forgotten": KEYS.inv_forgotten,
            "contact_id": "bob",
            "used_ttl": USED_TTL,
        },
    ),
    "inv_adopt_row": (
        build(lambda scope: layout.build_adopt_row(scope, "b:b", "k1")),
        {
            "row": KEYS.of("b:b").row("k1"),
            "aside": KEYS.inv_aside,
            "queues": dict(zip(TIERS, KEYS.of("b:b").queues, strict=True)),
            "key_id": "k1",
        },
    ),
    "turn_take": (
        build(lambda scope: turn.build_take(scope, "me", 77)),
        {"turn": KEYS.maintenance, "holder": "me", "ttl": 77},
    ),
    "turn_drop": (
        build(lambda scope: turn.build_drop(scope, "me")),
        {"turn": KEYS.maintenance, "holder": "me"},
    ),
    "turn_visit": (
        build(
            lambda scope: turn.build_visit(scope, turn.Visit(5, "me"), working_ms=7, inactive_ms=9)
        ),
        {
            "turn": KEYS.maintenance,
            "contacts": KEYS.inv_contacts,
            "watch": KEYS.inv_watch,
            "aside": KEYS.inv_aside,
            "clock": NOW,
            "round": 5,
            "visit": "me",
            "working": 7,
            "meta_prefix": BOB.meta.removesuffix("bob"),
            "used_prefix": BOB.used.removesuffix("bob"),
            "used_until_prefix": BOB.used_until.removesuffix("bob"),
            "queue_prefix": QUEUES["GOLD"].removesuffix("bob:GOLD"),
            "row_prefix": BOB.rows.removesuffix("bob:"),
            "coin_ttl": COIN_TTL,
            "inactive": 9,
            "used_ttl": USED_TTL,
            "most_contacts": 16,
            "most_coins": 200,
        },
    ),
    "turn_keep": (
        build(lambda scope: turn.build_keep(scope, "before", "after", 77)),
        {"turn": KEYS.maintenance, "before": "before", "after": "after", "ttl": 77},
    ),
    "turn_begin": (
        build(lambda scope: rounds.build_begin(scope, 77)),
        {"round": KEYS.round, "clock": NOW, "every": 77, "abandoned": 300_000},
    ),
    "turn_advance": (
        build(lambda scope: rounds.build_advance(scope, 5, "me", 3, 1, is_over=True)),
        {
            "round": KEYS.round,
            "clock": NOW,
            "began": 5,
            "holder": "me",
            "counts": "3 1",
            "mode": "end",
        },
    ),
    "vault_look": (
        build(lambda scope: turn.build_look(scope, 77)),
        {
            "expiry": KEYS.vault_expiry,
            "clock": NOW,
            "row_prefix": KEYS.vault_prefix,
            "age": 77,
        },
    ),
}
"""By script: a call, and what the names in its header stand for."""


@pytest.mark.parametrize("name", CASES)
def test_a_call_is_what_its_header_names(name: str) -> None:
    """Both ends of a script mean the same by each of its keys and arguments."""
    make, expected = CASES[name]
    call = make()
    assert call.script.name == name
    header = call.script.header
    # When it was first sent is said by whoever sends it.
    arguments = header.arguments[call.script.is_dated :]
    found = {**named(header.keys, call.keys), **named(arguments, call.arguments)}
    assert found == expected
    for parameter in arguments:
        assert not parameter.is_number or all(
            isinstance(value, int) or value == "" for value in _leaves(found[parameter.name])
        )


def test_what_is_missing_has_an_argument_of_its_own() -> None:
    """A coin that isn't for ever stale is stored without a lease; a key may be published never."""
    without_end = NewCoin("bob", "k1", "SILVER", b"public", b"signature")
    call = stock.build_store(scope_over(Recorder()), without_end, config.BUDGET_CAPS)
    found = named(call.script.header.arguments[1:], call.arguments)
    assert (found["expires_at"], found["lease"]) == ("", None)
    call = private_halves.build_restore(scope_over(Recorder()), NOW, OLD_KEY)
    found = named(call.script.header.arguments[1:], call.arguments)
    assert found["since"] == NOW - 9
    assert (found["public_key"], found["signature"], found["most"]) == (None, None, None)


@pytest.mark.parametrize("tier", TIERS)
def test_a_selection_that_goes_on(tier: str) -> None:
    """It's about the same request, and what is left of the queues."""
    scope = scope_over(Recorder())
    call = stock.build_select(scope, "bob", "GOLD")
    # What goes on may have to go on itself.
    for _ in range(2):
        reply = [Code.UNFINISHED, call.keys[0].encode(), [], tier.encode(), 7]
        following = stock.continue_select("bob", call, reply)
        assert following is not None
        call = following
    usual = stock.build_select(scope, "bob", tier)
    assert (call.keys, call.arguments[:4]) == (usual.keys, (*usual.arguments[:3], tier.encode()))
    assert (call.arguments[4:], call.tier) == ((7,), "GOLD")


def test_calls_about_one_tier_say_so() -> None:
    """Metrics count them by tier."""
    tiers = {name: make().tier for name, (make, _) in CASES.items()}
    assert {name for name, tier in tiers.items() if tier == "SILVER"} == {
        *("inv_store", "inv_select", "inv_release", "vault_store")
    }


def test_every_script_has_one_owner() -> None:
    """Each file is a script of one module, and none is left out of the table above."""
    owned = [
        script.name
        for package in (_operations, integrity)
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        for script in vars(import_module(module.name)).values()
        if isinstance(script, Script)
    ]
    files = [script.name for folder in FOLDERS for script in list_scripts(folder)]
    assert sorted(owned) == sorted(files) == sorted(CASES)


def named(parameters: Sequence[Parameter], values: Sequence[object]) -> dict[str, object]:
    """What the names in a header stand for; None for what a call ends before."""
    left = deque(values)
    found: dict[str, object] = {}
    for each in parameters:
        if each.is_rest:
            found[each.name] = [*left]
            left.clear()
        else:
            found[each.name] = _take(each.indexes, left)
    assert not left, "more was sent than the header names"
    return found


def _take(indexes: Sequence[str], left: deque[object]) -> object:
    if not indexes:
        return left.popleft() if left else None
    all_of = {"tier": TIERS, "priority": PRIORITIES}
    return {index: _take(indexes[1:], left) for index in all_of[indexes[0]]}


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _leaves(each)
    else:
        yield value
