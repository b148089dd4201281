"""Random calls, faults and damage, each followed by a comparison of the database with the model."""

import asyncio
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from aqm_db.errors import AQMDatabaseError, UnavailableError
from aqm_db.types import CoinCategory, InventoryEntry, NewCoin, NewKey, Priority
from tests.faults.support.database_views import OWN_FIELDS, expiries, modelled, stored
from tests.faults.support.fault_table import Tally
from tests.faults.support.model import DAY_MS, TIERS, InventoryModel, Row, VaultModel
from tests.faults.support.single_faults import (
    Call,
    Cancelled,
    Client,
    Fault,
    Forgotten,
    Overtaken,
    Place,
    RepliesLost,
    Unanswered,
)

T = TypeVar("T")
CAPS = {
    "BESTIE": {"GOLD": 3, "SILVER": 3, "BRONZE": 2},
    "MATE": {"GOLD": 0, "SILVER": 1, "BRONZE": 3},
    "STRANGER": {"GOLD": 0, "SILVER": 0, "BRONZE": 0},
}
"""So small that a run reaches all of them."""
# "a" with "b:c" and "a:b" with "c" share a name where ids stand in names as they are.
CONTACT_IDS = ("a", "a:b", "zoë*")
KEY_IDS = ("c", "b:c", "k1", "k2", "k3")
CONTACTS = st.sampled_from(["a", *CONTACT_IDS])
KEYS = st.sampled_from(KEY_IDS)
PRIVATE_IDS = (*KEY_IDS, *(f"p{number}" for number in range(5)))
PRIVATE_KEYS = st.sampled_from(PRIVATE_IDS)
"""More of them, since one that was burned or has expired doesn't come back for two months."""
TIER = st.sampled_from(TIERS)
PRIORITY = st.sampled_from(["BESTIE", "MATE", "STRANGER"])
DAYS = st.sampled_from([1, 30])
NUMBER = st.integers(0, 9)
LIVES = st.sampled_from([None, None, DAY_MS, 1, 0, 70 * DAY_MS])
"""How long a coin is good; None is as long as any, and 0 is no longer."""
HOUR_MS = 3_600_000
CLOCK_MOVES = st.sampled_from([1, 1, HOUR_MS, DAY_MS, 15 * DAY_MS, 31 * DAY_MS, -1, -31 * DAY_MS])
"""How the clock may move, in ms."""
NO_FAULT = st.builds(Fault)
PASSED_OVER = NO_FAULT | st.builds(RepliesLost, st.integers(1, 2)) | st.builds(Forgotten)
"""Faults after which a call of many requests returns all the same."""
FAULT_OF_MANY = PASSED_OVER | st.builds(Cancelled, st.integers(0, 40), st.integers(1, 3))
"""Faults of a batch: another client may come between its calls, and not all may be sent."""
FAULT = FAULT_OF_MANY | st.builds(Unanswered) | st.builds(Overtaken, CONTACTS)
Effect = Callable[[VaultModel, InventoryModel], Any]
KEY_DAMAGE: dict[str, Callable[[Row], Row]] = {
    "another type": lambda _: {},
    "status": lambda row: {**row, "status": b"LOST"},
    "time": lambda row: {**row, "created_at": b"-1"},
    "blob": lambda row: _without(row, "encrypted_blob"),
    "version": lambda row: {**row, "coin_version": b"\xff"},
}
COIN_DAMAGE: dict[str, Callable[[Row], Row]] = {
    "another type": lambda _: {},
    "tier": lambda row: {**row, "coin_category": b"PLATINUM"},
    "time": lambda row: {**row, "fetched_at": b"1e9"},
    "expiry": lambda row: {**row, "expires_at": b"soon"},
    "public key": lambda row: _without(row, "public_key"),
    "signature": lambda row: _without(row, "signature"),
}
LOSSES = ("the row is gone", "its place in the queue is gone")


# One rule, not a rule for each: Hypothesis leaves out half of the rules in each run, and then there
# is seldom a coin to select, or a key to burn.
ARGUMENTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "store_key": {"key_id": PRIVATE_KEYS, "tier": TIER, "fault": FAULT},
    "store_keys": {
        "ids": st.lists(st.tuples(PRIVATE_KEYS, TIER), min_size=1, max_size=4),
        "fault": FAULT_OF_MANY,
    },
    "burn_key": {"key_id": PRIVATE_KEYS, "fault": FAULT},
    "use_key": {"key_id": PRIVATE_KEYS, "cleanly": st.booleans(), "fault": PASSED_OVER},
    "purge": {"days": DAYS, "fault": PASSED_OVER},
    "read_vault": {"fault": PASSED_OVER},
    "register": {"contact_id": CONTACTS, "priority": PRIORITY, "fault": FAULT},
    "set_priority": {"contact_id": CONTACTS, "priority": PRIORITY, "fault": FAULT},
    "store_coin": {
        "contact_id": CONTACTS,
        "key_id": KEYS,
        "tier": TIER,
        "life": LIVES,
        "fault": FAULT,
    },
    "restock": {
        "contact_id": CONTACTS,
        "tier": TIER,
        "number": st.integers(1, 4),
        "life": LIVES,
        "fault": FAULT_OF_MANY,
    },
    "select": {"contact_id": CONTACTS, "tier": TIER, "fault": FAULT},
    "select_many": {
        "contact_ids": st.lists(CONTACTS, min_size=1, unique=True),
        "tier": TIER,
        "fault": FAULT_OF_MANY,
    },
    "release": {"number": st.integers(0, 3), "fault": FAULT},
    "consume": {"contact_id": CONTACTS, "number": NUMBER, "fault": FAULT},
    "read_inventory": {"fault": PASSED_OVER},
    "collect": {"days": DAYS, "fault": PASSED_OVER},
    "collect_one": {"contact_id": CONTACTS, "fault": PASSED_OVER},
    "forget": {"contact_id": CONTACTS, "fault": PASSED_OVER},
    "clock_moves": {"ms": CLOCK_MOVES},
    "server_expires": {"number": st.integers(1, 4)},
    "key_is_damaged": {"key_id": PRIVATE_KEYS, "how": st.sampled_from(sorted(KEY_DAMAGE))},
    "coin_is_damaged": {
        "contact_id": CONTACTS,
        "number": NUMBER,
        "how": st.sampled_from([*sorted(COIN_DAMAGE), *LOSSES]),
    },
    "contact_is_damaged": {"contact_id": CONTACTS},
}
OFTEN = ("store_key", "burn_key", "set_priority", "store_coin", "restock", "select", "release")
MOVE = st.sampled_from([*ARGUMENTS, *OFTEN, *OFTEN, *OFTEN[-3:], "clock_moves"]).flatmap(
    lambda name: st.tuples(st.just(name), st.fixed_dictionaries(ARGUMENTS[name]))
)


class Machine(RuleBasedStateMachine):
    """A database and its model, side by side.

    What is drawn never depends on how far a cancelled call came, so a run can be repeated.

    Args:
        place: where the calls go.
        tally: the table that counts them.
    """

    def __init__(self, place: Place, tally: Tally | None) -> None:
        super().__init__()
        self.place = place
        self.tally = tally
        self.vault = VaultModel()
        self.inventory = InventoryModel(CAPS)
        self.entries: list[InventoryEntry] = []
        self.serial = 0
        place.empty()

    @property
    def now(self) -> int:
        """The time of all objects."""
        return self.place.clock.now

    @initialize(tier=TIER)
    def stocked(self, tier: CoinCategory) -> None:
        """Some keys, contacts and coins are there from the beginning."""
        self.store_keys([(key_id, tier) for key_id in KEY_IDS], Fault())
        self.register("a", "BESTIE", Fault())
        self.register("a:b", "MATE", Fault())
        self.restock("a", tier, 3, None, Fault())

    @rule(move=MOVE)
    def go_on(self, move: tuple[str, dict[str, Any]]) -> None:
        """Anything may come next."""
        name, arguments = move
        getattr(self, name)(**arguments)

    # The vault ---------------------------------------------------------------------------------

    def store_key(self, key_id: str, tier: CoinCategory, fault: Fault) -> None:
        """A private half is stored."""
        key = self._new_key(key_id, tier)
        self._check(
            lambda on: on.vault.store_key(
                key_id, tier, key.encrypted_blob, key.encryption_iv, key.auth_tag
            ),
            lambda vault, _: vault.store(key, self.now),
            fault,
        )

    def store_keys(self, ids: list[tuple[str, CoinCategory]], fault: Fault) -> None:
        """Many private halves are stored at once."""
        keys = [self._new_key(*each) for each in ids]
        self._check(
            lambda on: on.vault.store_keys(keys),
            lambda vault, _: [_outcome(partial(vault.store, key, self.now)) for key in keys],
            fault,
        )

    def burn_key(self, key_id: str, fault: Fault) -> None:
        """A private half is burned."""
        self._check(
            lambda on: on.vault.burn_key(key_id),
            lambda vault, _: vault.burn(key_id, self.now),
            fault,
        )

    def use_key(self, key_id: str, *, cleanly: bool, fault: Fault) -> None:
        """A private half is used by a block, which may raise."""

        async def use(on: Client) -> Any:
            entry = None
            try:
                async with on.vault.use_key(key_id) as entry:
                    _decrypt(cleanly=cleanly)
            except _BlockError:
                pass
            return entry

        self._check(use, lambda vault, _: vault.use(key_id, self.now, cleanly=cleanly), fault)

    def purge(self, days: int, fault: Fault) -> None:
        """Old private halves are deleted; a count whose reply was lost may be too low."""
        self._check(
            lambda on: on.vault.purge_expired(days),
            lambda vault, _: vault.purge(days, self.now),
            fault,
            counts=True,
        )

    def read_vault(self, fault: Fault) -> None:
        """Everything is read."""

        async def read(on: Client) -> Any:
            return (
                await on.vault.get_stats(),
                await on.vault.count_active(),
                [set(await on.vault.get_all_active_ids(tier)) for tier in (None, *TIERS)],
                [await on.vault.exists(key_id) for key_id in PRIVATE_IDS],
                [await _caught(on.vault.fetch_key(key_id)) for key_id in PRIVATE_IDS],
            )

        def expected(vault: VaultModel, _: InventoryModel) -> Any:
            stats = vault.stats(self.now)
            return (
                stats,
                {
                    "GOLD": stats.active_gold,
                    "SILVER": stats.active_silver,
                    "BRONZE": stats.active_bronze,
                },
                [vault.active_ids(tier) for tier in (None, *TIERS)],
                [key_id in vault.rows for key_id in PRIVATE_IDS],
                [_outcome(partial(vault.fetch, key_id)) for key_id in PRIVATE_IDS],
            )

        self._check(read, expected, fault)

    # The inventory -----------------------------------------------------------------------------

    def register(self, contact_id: str, priority: Priority, fault: Fault) -> None:
        """A contact is registered."""
        name = f"contact {self._serial()}"
        self._check(
            lambda on: on.inventory.register_contact(contact_id, priority, name),
            lambda _, inventory: inventory.register(contact_id, priority, name, self.now),
            fault,
        )

    def set_priority(self, contact_id: str, priority: Priority, fault: Fault) -> None:
        """A contact's priority changes."""
        self._check(
            lambda on: on.inventory.set_contact_priority(contact_id, priority),
            lambda _, inventory: inventory.set_priority(contact_id, priority),
            fault,
        )

    def forget(self, contact_id: str, fault: Fault) -> None:
        """A contact is forgotten; a count whose reply was lost may be too low."""
        self._check(
            lambda on: on.inventory.forget_contact(contact_id),
            lambda _, inventory: inventory.forget(contact_id, self.now),
            fault,
            counts=True,
        )

    def store_coin(
        self, contact_id: str, key_id: str, tier: CoinCategory, life: int | None, fault: Fault
    ) -> None:
        """A coin is cached."""
        coin = self._new_coin(contact_id, key_id, tier, life)
        self._check(
            lambda on: on.inventory.store_key(
                contact_id,
                key_id,
                tier,
                coin.public_key,
                coin.signature,
                expires_at=coin.expires_at,
            ),
            lambda _, inventory: inventory.store(coin, self.now),
            fault,
        )

    def restock(
        self, contact_id: str, tier: CoinCategory, number: int, life: int | None, fault: Fault
    ) -> None:
        """Many coins are cached at once, and most of their ids are new."""
        # What is refused is decided anew when it's asked again: nothing that follows may change it.
        ids = [*(f"n{self._serial()}" for _ in range(number)), "c"]
        coins = [self._new_coin(contact_id, key_id, tier, life) for key_id in ids]
        self._check(
            lambda on: on.inventory.store_keys(coins),
            lambda _, inventory: [
                _outcome(partial(inventory.store, coin, self.now)) for coin in coins
            ],
            fault,
        )

    def select(self, contact_id: str, tier: CoinCategory, fault: Fault) -> None:
        """A coin is selected."""
        outcome = self._check(
            lambda on: on.inventory.select_coin(contact_id, tier),
            lambda _, inventory: inventory.select(contact_id, tier, self.now),
            fault,
        )
        self._keep([outcome])

    def select_many(self, contact_ids: list[str], tier: CoinCategory, fault: Fault) -> None:
        """A coin of each of many contacts is selected at once."""
        outcome = self._check(
            lambda on: on.inventory.select_coins(contact_ids, tier),
            lambda _, inventory: {
                contact_id: _outcome(partial(inventory.select, contact_id, tier, self.now))
                for contact_id in contact_ids
            },
            fault,
        )
        self._keep(outcome.values() if isinstance(outcome, dict) else ())

    def release(self, number: int, fault: Fault) -> None:
        """A coin that was selected some time ago is released, maybe not for the first time."""
        if self.entries:
            entry = _chosen(self.entries[::-1], number)
            self._check(
                lambda on: on.inventory.release_coin(entry),
                lambda _, inventory: inventory.release(entry, self.now),
                fault,
            )

    def consume(self, contact_id: str, number: int, fault: Fault) -> None:
        """A coin is removed."""
        key_id = _chosen([*self._rows(contact_id), "c"], number)
        self._check(
            lambda on: on.inventory.consume_key(contact_id, key_id),
            lambda _, inventory: inventory.consume(contact_id, key_id, self.now),
            fault,
        )

    def read_inventory(self, fault: Fault) -> None:
        """Everything is read."""

        async def read(on: Client) -> Any:
            return (
                await on.inventory.get_inventory(),
                [await _caught(on.inventory.get_inventory(c)) for c in CONTACT_IDS],
                [await _caught(on.inventory.get_contact_meta(c)) for c in CONTACT_IDS],
                [await on.inventory.get_available_tiers(c) for c in CONTACT_IDS],
                [await on.inventory.has_keys_for(c) for c in CONTACT_IDS],
            )

        def expected(_: VaultModel, inventory: InventoryModel) -> Any:
            summaries = [_outcome(partial(inventory.summary, c)) for c in CONTACT_IDS]
            tiers = [inventory.tiers(c) for c in CONTACT_IDS]
            return (
                {s.contact_id: s for s in summaries if not isinstance(s, AQMDatabaseError)},
                summaries,
                [_outcome(partial(inventory.meta, c)) for c in CONTACT_IDS],
                tiers,
                [bool(each) for each in tiers],
            )

        self._check(read, expected, fault)

    # The garbage collector ---------------------------------------------------------------------

    def collect(self, days: int, fault: Fault) -> None:
        """Garbage is counted, and collected; a count whose reply was lost may be too low."""
        self._check(
            lambda on: on.gc.dry_run(days),
            lambda _, inventory: inventory.dry_run(days, self.now),
            fault,
        )
        self._check(
            lambda on: on.gc.garbage_collect(days),
            lambda _, inventory: inventory.collect(days, self.now),
            fault,
            counts=True,
        )

    def collect_one(self, contact_id: str, fault: Fault) -> None:
        """All coins of one contact are removed."""
        self._check(
            lambda on: on.gc.collect_single_contact(contact_id),
            lambda _, inventory: inventory.collect_one(contact_id, self.now),
            fault,
            counts=True,
        )

    # Time and damage ---------------------------------------------------------------------------

    def clock_moves(self, ms: int) -> None:
        """Time passes, or the clock is set back."""
        self.place.clock.advance(ms=ms)

    def server_expires(self, number: int) -> None:
        """The server's time for tombstones, and for the keys that it expires first, is up."""
        due = expiries(self.place.admin)
        last = max(sorted(due.values())[:number], default=0)
        for key_id in [key_id for key_id, at in due.items() if at <= last]:
            self.vault.expire(key_id)
            self.place.admin.pexpire(_key_name(key_id), -1)
        self._compare()

    def key_is_damaged(self, key_id: str, how: str) -> None:
        """A private half's row is overwritten."""
        row = self.vault.rows.get(key_id)
        if row and row.get("status") != b"BURNED":
            self.vault.rows[key_id] = KEY_DAMAGE[how](row)
            self._overwrite(_key_name(key_id), self.vault.rows[key_id])

    def coin_is_damaged(self, contact_id: str, number: int, how: str) -> None:
        """A coin's row is overwritten or lost, or its place in the queue is lost."""
        rows = self._rows(contact_id)
        if not rows:
            return
        key_id = _chosen(list(rows), number)
        name = _coin_name(contact_id, key_id)
        # Who has looked through a full queue by now doesn't look again: it was so before.
        looked = [f"looked_{tier}" for tier in TIERS]
        self.place.admin.hdel(f"inv:v1:meta:{_encoded(contact_id)}", *looked)
        if how in COIN_DAMAGE and rows[key_id]:
            rows[key_id] = COIN_DAMAGE[how](rows[key_id])
            self._overwrite(name, rows[key_id])
        elif how == LOSSES[0]:
            del rows[key_id]
            self.place.admin.delete(name)
        elif how == LOSSES[1]:
            self.inventory.contacts[contact_id].unlist(key_id)
            for tier in TIERS:
                self.place.admin.zrem(f"inv:v1:idx:{_encoded(contact_id)}:{tier}", key_id)
            # As a check does that finds it: what no index lists is met by nothing else.
            self.place.admin.zadd("inv:v1:aside", {name.removeprefix("inv:v1:key:"): 0})
        self._compare()

    def contact_is_damaged(self, contact_id: str) -> None:
        """A contact's priority is overwritten."""
        if contact_id in self.inventory.contacts:
            self.inventory.contacts[contact_id].priority = "FRIEND"
            self.place.admin.hset(f"inv:v1:meta:{_encoded(contact_id)}", "priority", "FRIEND")
        self._compare()

    def teardown(self) -> None:
        """Counts the run."""
        if self.tally is not None:
            self.tally.add("model: runs")

    def _check(
        self,
        call: Call,
        effect: Effect,
        fault: Fault,
        *,
        counts: bool = False,
    ) -> Any:
        """Makes a call, and its effect on the model; returns how the call ended.

        Args:
            call: what is called.
            effect: what it is to do, and to return.
            fault: what happens meanwhile.
            counts: whether the call counts what it removes, so that a second run counts nothing.
        """
        outcome = self.place.run(call, fault)
        before = self.vault, self.inventory
        expected = self._apply(effect)
        if isinstance(outcome, asyncio.CancelledError):
            self._take_back(expected)
            if stored(self.place.admin) == modelled(*before):
                self.vault, self.inventory = before
        elif isinstance(outcome, UnavailableError):
            assert isinstance(fault, Unanswered)
            assert outcome.outcome_unknown
        elif isinstance(fault, Overtaken) and isinstance(expected, AQMDatabaseError):
            # What was refused wasn't done, so the call is what it is when it's asked again.
            self.vault, self.inventory = before
            self._overtake(fault.contact_id)
            _agree(outcome, self._apply(effect))
        else:
            if not (counts and isinstance(fault, RepliesLost)):
                _agree(outcome, expected)
            if isinstance(fault, Overtaken):
                self._overtake(fault.contact_id)
        self._compare()
        if self.tally is not None:
            self.tally.add(f"model: {fault}")
        return outcome

    def _apply(self, effect: Effect) -> Any:
        """Makes an effect on the model, and keeps the model before it as it was."""
        self.vault, self.inventory = deepcopy((self.vault, self.inventory))
        return _outcome(lambda: effect(self.vault, self.inventory))

    def _take_back(self, taken: Any) -> None:
        """What was on its way to a cancelled caller goes back."""
        for entry in taken.values() if isinstance(taken, dict) else (taken,):
            if isinstance(entry, InventoryEntry):
                self.inventory.release(entry, self.now)

    def _overtake(self, contact_id: str) -> None:
        for taken in self.place.taken:
            expected = _outcome(partial(self.inventory.select, contact_id, "GOLD", self.now))
            _agree(taken, expected)
            self._keep([taken])

    def _compare(self) -> None:
        seen, expected = stored(self.place.admin), modelled(self.vault, self.inventory)
        assert seen == expected, {
            part: (seen[part], expected[part]) for part in seen if seen[part] != expected[part]
        }

    def _keep(self, taken: Any) -> None:
        self.entries += [entry for entry in taken if isinstance(entry, InventoryEntry)]

    def _rows(self, contact_id: str) -> dict[str, Row]:
        contact = self.inventory.contacts.get(contact_id)
        return {} if contact is None else contact.rows

    def _overwrite(self, name: str, row: Row) -> None:
        """Changes a row, and keeps its expiry."""
        admin = self.place.admin
        if row:
            fields: Any = admin.hkeys(name)
            gone = [field for field in fields if field.decode() not in row.keys() | OWN_FIELDS]
            admin.hset(name, items=[part for item in row.items() for part in item])
            if gone:
                admin.hdel(name, *gone)
        else:
            admin.set(name, "no hash", keepttl=True)
        self._compare()

    def _new_key(self, key_id: str, tier: CoinCategory) -> NewKey:
        serial = self._serial()
        return NewKey(key_id, tier, b"blob %d" % serial, b"iv %d" % serial, b"tag %d" % serial)

    def _new_coin(
        self, contact_id: str, key_id: str, tier: CoinCategory, life: int | None
    ) -> NewCoin:
        serial = self._serial()
        expires_at = None if life is None else self.now + life
        return NewCoin(
            contact_id, key_id, tier, b"public %d" % serial, b"signature %d" % serial, expires_at
        )

    def _serial(self) -> int:
        self.serial += 1
        return self.serial


class _BlockError(Exception):
    """A message that could not be decrypted."""


def _decrypt(*, cleanly: bool) -> None:
    if not cleanly:
        raise _BlockError


def _chosen(values: Sequence[T], number: int) -> T:
    return values[number % len(values)]


def _encoded(value: str) -> str:
    return value.replace(":", "%3A").replace("*", "%2A")


def _key_name(key_id: str) -> str:
    return f"vault:v1:key:{_encoded(key_id)}"


def _coin_name(contact_id: str, key_id: str) -> str:
    return f"inv:v1:key:{_encoded(contact_id)}:{_encoded(key_id)}"


def _without(row: Row, name: str) -> Row:
    return {field: value for field, value in row.items() if field != name}


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except AQMDatabaseError as error:
        return error


async def _caught(call: Any) -> Any:
    try:
        return await call
    except AQMDatabaseError as error:
        return error


def _agree(outcome: Any, expected: Any) -> None:
    assert _told(outcome) == _told(expected), (outcome, expected)


def _told(outcome: Any) -> Any:
    """What a caller learns: of an error its class and attributes, its text may be anything."""
    if isinstance(outcome, AQMDatabaseError):
        return type(outcome), vars(outcome)
    if isinstance(outcome, dict):
        return {key: _told(value) for key, value in outcome.items()}
    if isinstance(outcome, list | tuple):
        return [_told(value) for value in outcome]
    return outcome
