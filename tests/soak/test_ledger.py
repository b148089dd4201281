"""The ledger says of each thing that must never be that it is."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.soak.ledger import LIFETIME_MS, Evening, Ledger

NOW = 1_800_000_000_000
KEY = "alice-1"
MESSAGE = "bob-1"
MINTED = {"minted": KEY, "at": NOW}
OFFERED = {"offered": KEY, "expires": NOW + LIFETIME_MS}
CLAIMED = {"claimed": KEY}
TAKEN: dict[str, Any] = {"taken": KEY}
RELEASED: list[dict[str, Any]] = [TAKEN, {"releasing": KEY}, {"released": KEY, "back": True}]
SENT = {"sent": {"message_id": MESSAGE, "key_id": KEY, "recipient": "alice"}}
ACCEPTED = {"accepted": MESSAGE}
OPENED = {"opened": KEY, "message": MESSAGE}
READ = {"read": MESSAGE, "key": KEY}
BURNED = {"burned": KEY}
UNREAD = {"unread": MESSAGE, "why": "KeyNotFoundError", "at": NOW}


@pytest.fixture
def ledger() -> Ledger:
    """One that knows of a coin."""
    made = Ledger()
    made.read("alice", MINTED)
    return made


def look(**places: Any) -> Evening:
    """An evening, with a coin in some places: each one's account, and the server's coins."""
    at_server = frozenset(places.pop("at_server", ()))
    published = at_server | frozenset(places.pop("published", ()))
    waiting = frozenset(places.pop("waiting", ()))
    now = places.pop("now", NOW)
    accounts = {name: account(**places.get(name, {})) for name in ("alice", "bob")}
    return Evening(now, accounts, at_server, published, waiting)


def account(
    active: tuple[str, ...] = (),
    pending: tuple[str, ...] = (),
    cached: tuple[str, ...] = (),
    problems: tuple[str, ...] = (),
    burned: int = 0,
    count: int | None = None,
) -> Mapping[str, Any]:
    """What somebody's database has."""
    return {
        "active": {"GOLD": active},
        "counters": {
            "active_gold": len(active) if count is None else count,
            "total_burned": burned,
        },
        "pending": pending,
        "cached": {"whoever": cached},
        "problems": problems,
    }


HERS: dict[str, Any] = {"active": (KEY,)}
HIS: dict[str, Any] = {"cached": (KEY,)}


def test_a_coin_goes_its_way(ledger: Ledger) -> None:
    """From its owner's list to a message that is read, day by day."""
    assert ledger.add_up(look(alice={"active": (KEY,), "pending": (KEY,)})) == []
    ledger.read("alice", OFFERED)
    assert ledger.add_up(look(alice=HERS, at_server=[KEY])) == []
    ledger.read("bob", CLAIMED)
    for record in RELEASED:
        ledger.read("bob", record)
    assert ledger.add_up(look(alice=HERS, bob=HIS, published=[KEY])) == []
    for record in (TAKEN, SENT, ACCEPTED):
        ledger.read("bob", record)
    assert ledger.add_up(look(alice=HERS, published=[KEY], waiting=[MESSAGE])) == []
    for record in (OPENED, READ, BURNED, UNREAD):
        ledger.read("alice", record)
    assert ledger.add_up(look(alice={"burned": 1}, published=[KEY])) == []
    assert not ledger.reasons


@pytest.mark.parametrize(
    ("evening", "fault"),
    [
        (look(alice=HERS, at_server=[KEY], bob=HIS), "is in bob's cache and at the server"),
        (look(alice=HERS), "is nowhere"),
        (look(alice=HERS, published=[KEY]), "is nowhere"),
        (look(at_server=[KEY]), "its private half is gone"),
        (look(alice=HERS, at_server=[KEY, "x"]), "nobody minted x"),
        (look(alice=HERS | {"count": 2}, at_server=[KEY]), "says 2 active GOLD keys, of 1"),
        (look(alice=HERS | {"burned": 1}, at_server=[KEY]), "says 1 burned keys, of 0"),
        (look(alice=HERS, at_server=[KEY], bob={"problems": ("queue: odd",)}), "bob's queue: odd"),
    ],
)
def test_a_coin_that_is_not_in_one_place(ledger: Ledger, evening: Evening, fault: str) -> None:
    """It's said where it is, or that it's nowhere, and what isn't as it must be."""
    ledger.read("alice", OFFERED)
    faults = ledger.add_up(evening)
    assert any(fault in each for each in faults), faults


@pytest.mark.parametrize(
    ("records", "fault"),
    [
        ([TAKEN, TAKEN], "was handed out to bob, and again to bob"),
        ([TAKEN, SENT, SENT], "encrypted bob-1 and bob-1"),
        ([TAKEN, SENT, OPENED, BURNED, OPENED], "which was burned"),
        ([TAKEN, SENT, OPENED, {**OPENED, "message": "bob-2"}], "as bob-1 before"),
        ([TAKEN, SENT, ACCEPTED], "was read 0 times"),
        ([TAKEN, SENT, ACCEPTED, UNREAD], "was read 0 times"),
        ([TAKEN, SENT, ACCEPTED, OPENED, READ, READ], "was read 2 times"),
        ([TAKEN, SENT, BURNED], "was burned, and is active"),
        ([TAKEN, {"releasing": KEY}], "is nowhere"),
    ],
)
def test_what_is_done_twice_or_not_at_all(
    ledger: Ledger, records: list[dict[str, Any]], fault: str
) -> None:
    """It's said of the coin, or of the message."""
    for record in records:
        ledger.read("bob", record)
    faults = ledger.add_up(look(alice=HERS, published=[KEY]))
    assert any(fault in each for each in faults), faults


def test_reasons(ledger: Ledger) -> None:
    """A coin is gone when it has expired, or somebody met with an accident; not the day after."""
    assert ledger.add_up(look(now=NOW + LIFETIME_MS)) == []
    assert ledger.reasons == {"coin: expired": 1}
    faults = ledger.add_up(look(alice=HERS, at_server=[KEY], now=NOW + LIFETIME_MS))
    assert faults == [f"{KEY} was gone (expired), and is at the server"]


@pytest.mark.parametrize(
    ("records", "victim", "published", "reason"),
    [
        ([], "alice", [], "minting, killed"),
        ([], "bob", [KEY], "claiming, killed"),
        ([CLAIMED], "bob", [KEY], "in hand, killed"),
    ],
)
def test_accidents(
    records: list[dict[str, Any]], victim: str, published: list[str], reason: str
) -> None:
    """They explain what is gone on the same day, and nothing after that."""
    for is_same_day in (True, False):
        ledger = Ledger()
        ledger.read("alice", MINTED)
        for record in records:
            ledger.read("bob", record)
        ledger.note_accident(victim, "killed")
        if not is_same_day:
            ledger.add_up(look(alice=HERS | {"pending": (KEY,)}))
        faults = ledger.add_up(look(published=published))
        assert bool(faults) is not is_same_day
        assert ledger.reasons[f"coin: {reason}"] == is_same_day


@pytest.mark.parametrize("ms", [-1, 0])
def test_a_key_that_expires_while_its_message_is_read(ledger: Ledger, ms: int) -> None:
    """It's none that was burned; one that hasn't expired yet is."""
    ledger.read("alice", OFFERED)
    late = {**UNREAD, "at": NOW + LIFETIME_MS + ms}
    for name, record in (("bob", TAKEN), ("bob", SENT), ("bob", ACCEPTED)):
        ledger.read(name, record)
    for record in (OPENED, READ, late):
        ledger.read("alice", record)
    assert bool(ledger.add_up(look(published=[KEY], now=NOW + LIFETIME_MS))) is (ms < 0)


@pytest.mark.parametrize("is_told", [False, True])
def test_a_server_that_dies_explains_what_somebody_was_told_of(
    ledger: Ledger, *, is_told: bool
) -> None:
    """A call that fails may have lost its coin; one that doesn't, never."""
    ledger.read("bob", CLAIMED)
    ledger.note_accident("bob", "server SIGKILL")
    if is_told:
        ledger.read("bob", {"failed": "write", "unknown": True})
    assert bool(ledger.add_up(look(alice=HERS, published=[KEY]))) is not is_told


def test_a_disk_that_died(ledger: Ledger) -> None:
    """What no backup has is gone, and so are messages to it."""
    ledger.read("alice", OFFERED)
    for record in (TAKEN, SENT, ACCEPTED):
        ledger.read("bob", record)
    ledger.note_loss("alice", [], 0)
    ledger.read("alice", UNREAD)
    assert ledger.add_up(look(published=[KEY])) == []
    assert ledger.reasons == {"message: disk lost": 1}
