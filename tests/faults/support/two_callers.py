"""Two callers at once: what each must be told, though one of them is on a bad link."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import redis
from redis.asyncio import Redis

from aqm_db.errors import (
    AQMDatabaseError,
    BudgetExceededError,
    KeyAlreadyBurnedError,
    KeyAlreadyExistsError,
    KeyAlreadyUsedError,
)
from aqm_db.sync import SecureVault, SmartInventory
from aqm_db.types import GCResult, InventoryEntry, VaultEntry
from tests.faults.support.invariants import kept, names, queued
from tests.faults.support.tried_calls import BLOB, CAPS, HALVES, client_of, selected, stocked
from tests.support.faces import ASYNC, SYNC, Threaded
from tests.support.samples import BOB, Clock

Action = Callable[[Any, Any, Any], Any]
"""A call on a vault and an inventory of either face, with what ``prepare`` returned."""


@dataclass(frozen=True)
class Encounter:
    """A call that may be sent again, and what another caller does after its first run.

    Attributes:
        name: the call, and what the other does.
        call: the call.
        other: what the other does, and what it must be told, step by step.
        told: what the first caller must be told, however often its request was sent.
        queued: Bob's coins in the end, in order.
        kept: the private halves in the end.
        ranks: the contacts' priorities in the end.
        prepare: makes the state that it starts from.
    """

    name: str
    call: Action
    other: Sequence[tuple[Action, Any]]
    told: Any = True
    queued: Sequence[str] = ("b1", "b2", "b3")
    kept: Sequence[str] = ("k1", "k2")
    ranks: Mapping[str, str] = field(default_factory=lambda: {BOB: "BESTIE"})
    prepare: Callable[[Any, Any], Awaitable[Any]] = stocked

    def __str__(self) -> str:
        return self.name

    def meet(self, client: redis.Redis, subject: Any) -> bool:
        """Lets the other act with a client; returns whether it was told what it must."""
        clock = Clock()
        vault = SecureVault(client, clock=clock)
        inventory = SmartInventory(client, clock=clock, budget_caps=CAPS)
        told = [_told(action, vault, inventory, subject) for action, _ in self.other]
        return told == [expected for _, expected in self.other]

    async def harm(self, direct: Redis) -> dict[str, int]:
        """What is lost or duplicated in the end, for the table."""
        coins, halves = await queued(direct), await kept(direct)
        ranks = {
            name.split(":")[-1]: (await cast("Any", direct.hget(name, "priority"))).decode()
            for name in await names(direct, "inv:v1:meta:*")
        }
        assert ranks == self.ranks
        lost = set(self.queued) - set(coins) | set(self.kept) - set(halves)
        left = (*coins, *sorted(halves)) == (*self.queued, *self.kept)
        return {"lost": len(lost), "duplicated": int(not lost and not left)}


def outline(outcome: Any) -> Any:
    """An answer or an error, as far as these tests compare it: a key by its id."""
    if isinstance(outcome, InventoryEntry | VaultEntry):
        return outcome.key_id
    return type(outcome) if isinstance(outcome, Exception) else outcome


def _told(action: Action, vault: SecureVault, inventory: SmartInventory, subject: Any) -> Any:
    try:
        return outline(action(vault, inventory, subject))
    except AQMDatabaseError as error:
        return outline(error)


def _keep(key_id: str) -> Action:
    return lambda vault, _i, _s: vault.store_key(key_id, "BRONZE", BLOB, b"nonce", b"tag")


def _burn(key_id: str) -> Action:
    return lambda vault, _i, _s: vault.burn_key(key_id)


def _fetch(key_id: str) -> Action:
    return lambda vault, _i, _s: vault.fetch_key(key_id)


def _store(key_id: str) -> Action:
    return lambda _v, inventory, _s: inventory.store_key(BOB, key_id, "BRONZE", *HALVES)


def _consume(key_id: str) -> Action:
    return lambda _v, inventory, _s: inventory.consume_key(BOB, key_id)


def _register(contact_id: str) -> Action:
    return lambda _v, inventory, _s: inventory.register_contact(contact_id, "MATE")


def _forget(contact_id: str) -> Action:
    return lambda _v, inventory, _s: inventory.forget_contact(contact_id)


def _rank(contact_id: str, priority: str) -> Action:
    return lambda _v, inventory, _s: inventory.set_contact_priority(contact_id, priority)


def _select(_: Any, inventory: Any, _subject: Any) -> Any:
    return inventory.select_coin(BOB, "GOLD")


def _release(_: Any, inventory: Any, subject: Any) -> Any:
    return inventory.release_coin(subject)


def _collect(_: Any, inventory: Any, _subject: Any) -> Any:
    face = SYNC if isinstance(inventory, Threaded) else ASYNC
    return face.gc(inventory, client_of(inventory)).collect_single_contact(BOB)


def _borrow(_: Any, inventory: Any, _subject: Any) -> Any:
    """Selects a coin and puts it back."""
    return inventory.release_coin(inventory.select_coin(BOB, "GOLD"))


ENCOUNTERS = (
    Encounter(
        "vault.store_key, burned",
        _keep("k3"),
        [(_burn("k3"), True), (_burn("k3"), KeyAlreadyBurnedError)],
    ),
    Encounter(
        "vault.store_key, stored",
        _keep("k3"),
        [(_keep("k3"), KeyAlreadyExistsError)],
        kept=("k1", "k2", "k3"),
    ),
    Encounter(
        "vault.fetch_key, burned", _fetch("k1"), [(_burn("k1"), True)], told=None, kept=("k2",)
    ),
    Encounter(
        "vault.burn_key, stored",
        _burn("k1"),
        [(_keep("k1"), KeyAlreadyBurnedError), (_fetch("k1"), None)],
        kept=("k2",),
    ),
    Encounter(
        "vault.burn_key, burned", _burn("k1"), [(_burn("k1"), KeyAlreadyBurnedError)], kept=("k2",)
    ),
    Encounter(
        "register_contact, registered",
        _register("carol"),
        [(_register("carol"), False)],
        ranks={BOB: "BESTIE", "carol": "MATE"},
    ),
    Encounter(
        "register_contact, forgotten",
        _register("carol"),
        [(_forget("carol"), 0)],
    ),
    Encounter(
        "register_contact, ranked",
        _register("carol"),
        [(_rank("carol", "STRANGER"), True)],
        ranks={BOB: "BESTIE", "carol": "STRANGER"},
    ),
    Encounter(
        "store_key, selected",
        _store("b4"),
        [(_select, key_id) for key_id in ("b1", "b2", "b3", "b4", None)],
        queued=(),
    ),
    Encounter(
        "store_key, selected and released",
        _store("b4"),
        [(_select, "b1"), (_select, "b2"), (_select, "b3"), (_borrow, True)],
        queued=("b4",),
    ),
    Encounter(
        "store_key, consumed",
        _store("b4"),
        [(_consume("b4"), True), (_store("b4"), KeyAlreadyUsedError)],
    ),
    Encounter(
        "store_key, stored",
        _store("b4"),
        [(_store("b4"), KeyAlreadyExistsError)],
        queued=("b1", "b2", "b3", "b4"),
    ),
    # The coin was there and is gone again; that it isn't there is what its caller must know.
    Encounter(
        "store_key, dropped",
        _store("b4"),
        [(_rank(BOB, "STRANGER"), True)],
        told=BudgetExceededError,
        queued=(),
        ranks={BOB: "STRANGER"},
    ),
    Encounter("select_coin, selected", _select, [(_select, "b2")], told="b1", queued=("b3",)),
    Encounter(
        "select_coin, stored",
        _select,
        [(_store("b1"), KeyAlreadyUsedError)],
        told="b1",
        queued=("b2", "b3"),
    ),
    Encounter(
        "select_coin, consumed",
        _select,
        [(_consume("b1"), False), (_consume("b2"), True)],
        told="b1",
        queued=("b3",),
    ),
    Encounter(
        "select_coin, dropped",
        _select,
        [(_rank(BOB, "STRANGER"), True)],
        told="b1",
        queued=(),
        ranks={BOB: "STRANGER"},
    ),
    Encounter(
        "consume_key, stored",
        _consume("b2"),
        [(_store("b2"), KeyAlreadyUsedError)],
        queued=("b1", "b3"),
    ),
    Encounter(
        "consume_key, consumed", _consume("b2"), [(_consume("b2"), False)], queued=("b1", "b3")
    ),
    Encounter(
        "release_coin, selected",
        _release,
        [(_select, "b1")],
        queued=("b2", "b3"),
        prepare=selected,
    ),
    Encounter("release_coin, selected and released", _release, [(_borrow, True)], prepare=selected),
    Encounter("release_coin, released", _release, [(_release, False)], prepare=selected),
    Encounter(
        "release_coin, consumed",
        _release,
        [(_consume("b1"), True), (_release, False)],
        queued=("b2", "b3"),
        prepare=selected,
    ),
    Encounter(
        "set_contact_priority, stored",
        _rank(BOB, "MATE"),
        [
            (_store("b4"), BudgetExceededError),
            (_consume("b1"), True),
            (_store("b3"), True),
            (_store("b4"), BudgetExceededError),
        ],
        queued=("b2", "b3"),
        ranks={BOB: "MATE"},
    ),
    Encounter(
        "set_contact_priority, ranked and stored",
        _rank(BOB, "MATE"),
        [(_rank(BOB, "BESTIE"), True), (_store("b3"), True), (_store("b4"), True)],
        queued=("b1", "b2", "b3", "b4"),
    ),
    Encounter(
        "set_contact_priority that changes nothing, ranked",
        _rank(BOB, "BESTIE"),
        [(_rank(BOB, "MATE"), True)],
        queued=("b1", "b2"),
        ranks={BOB: "MATE"},
    ),
    Encounter(
        "collect_single_contact, ranked and stored",
        _collect,
        [(_rank(BOB, "BESTIE"), True), (_store("b4"), True)],
        told=GCResult(1, 3, 3 * 96),
        queued=("b4",),
    ),
    Encounter(
        "forget_contact, registered and stored",
        _forget(BOB),
        [(_register(BOB), True), (_store("b4"), True)],
        told=3,
        queued=("b4",),
        ranks={BOB: "MATE"},
    ),
)
