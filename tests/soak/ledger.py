"""What became of every coin and of every message, added up each evening.

A coin is in exactly one place: on its owner's list of those to be published, at the coin server, in
somebody's cache, used, refused with a reason, or gone for a reason that the README names. What was
used, refused or gone never turns up again.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Record: TypeAlias = Mapping[str, Any]
"""A line of a journal; its first field says of what kind it is."""

DAY_MS = 86_400_000
LIFETIME_MS = 30 * DAY_MS
USED, BACK = "used", "back"


@dataclass(slots=True)
class Coin:
    """A coin, as journals tell of it.

    Attributes:
        owner: who minted it.
        expires: when its private half is gone (ms).
        offered: whether it was about to be published.
        holder: who claimed it from the server, or took it from their cache.
        state: whether it was handed out, or given back after that.
        refused: why it was claimed and not stored.
        gone: why it's nowhere.
        burned: whether its private half was.
        lost: whether its private half was lost with its owner's disk.
        opened_by: the message that it opened.
    """

    owner: str
    expires: int
    offered: bool = False
    holder: str = ""
    state: str = ""
    refused: str = ""
    gone: str = ""
    burned: bool = False
    lost: bool = False
    opened_by: str = ""


@dataclass(slots=True)
class Message:
    """A message, as journals tell of it.

    Attributes:
        recipient: whom it's for.
        key: the coin that it was encrypted with.
        is_accepted: whether the server has it for sure.
        reads: how often it was written down as new.
        refusals: why it couldn't be read, and when (ms).
    """

    recipient: str
    key: str
    is_accepted: bool = False
    reads: int = 0
    refusals: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Evening:
    """What there is at the end of a day.

    Attributes:
        now: the latest time that there ever was (ms).
        accounts: what each one's database has, by name; of who is away, what it had.
        at_server: ids of the coins that can be claimed.
        published: ids of all coins that the server ever had.
        waiting: ids of messages that weren't delivered yet.
    """

    now: int
    accounts: Mapping[str, Mapping[str, Any]]
    at_server: frozenset[str]
    published: frozenset[str]
    waiting: frozenset[str]


class Ledger:
    """Reads journals, and says what doesn't add up.

    Attributes:
        coins: all of them, by id.
        messages: all of them, by id.
        reasons: why coins are gone, and messages unread.
        events: what else happened, by its name.
    """

    def __init__(self) -> None:
        self.coins: dict[str, Coin] = {}
        self.messages: dict[str, Message] = {}
        self.reasons: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self._open: set[str] = set()
        self._unread: set[str] = set()
        self._used_keys: dict[str, str] = {}
        self._accidents: dict[str, str] = {}
        self._failed: set[str] = set()
        self._opened: dict[str, set[str]] = {}
        self._burned_before: dict[str, int] = {}
        self._faults: list[str] = []

    def note_accident(self, name: str, what: str) -> None:
        """Somebody's program dies today, and what was on its way to them is used up; or a server.

        A server that dies loses nothing but what a call is told of, which fails.
        """
        self._accidents[name] = what
        self.events[what] += 1

    def note_loss(self, name: str, left: Sequence[str], burned: int) -> None:
        """Somebody's disk died, and their vault was restored from a backup.

        Args:
            name: who.
            left: ids of the private halves that there are again.
            burned: how many the counters say were burned.
        """
        self.note_accident(name, "disk lost")
        kept = set(left)
        for key_id, coin in self.coins.items():
            if coin.owner == name and key_id not in kept:
                coin.lost = True
        self._opened[name] = set()
        self._burned_before[name] = burned

    def read(self, name: str, record: Mapping[str, Any]) -> None:
        """Takes note of a record of somebody's journal."""
        kind = next(iter(record))
        if kind == "failed" or "outcome_unknown" in str(record.get("warned")):
            self._failed.add(name)
        note = getattr(self, f"_note_{kind}", None)
        if note is None:
            detail = f" {record[kind]}" if kind in {"failed", "warned"} else ""
            self.events[f"{kind}{detail}"] += 1
        else:
            note(name, record[kind], record)

    def add_up(self, evening: Evening) -> list[str]:
        """What doesn't add up today, one sentence each; nothing if all is well."""
        faults, self._faults = self._faults, []
        faults += self._check_coins(evening)
        faults += self._check_messages(evening)
        for name, account in evening.accounts.items():
            faults += self._check_database(name, account)
        self._accidents.clear()
        self._failed.clear()
        return faults

    # Records: each method is called as the first field of those that it reads ---------------

    def _note_minted(self, name: str, key: str, record: Record) -> None:
        self.coins[key] = Coin(name, record["at"] + LIFETIME_MS)
        self._open.add(key)

    def _note_offered(self, _: str, key: str, record: Record) -> None:
        self.coins[key].offered = True
        self.coins[key].expires = record["expires"]

    def _note_claimed(self, name: str, key: str, _: Record) -> None:
        self.coins[key].holder = name

    def _note_refused(self, _: str, key: str, record: Record) -> None:
        self.coins[key].refused = record["why"]

    def _note_taken(self, name: str, key: str, _: Record) -> None:
        coin = self.coins[key]
        if coin.state == USED:
            self._faults.append(f"{key} was handed out to {coin.holder}, and again to {name}")
        coin.state, coin.holder = USED, name

    def _note_releasing(self, _: str, key: str, __: Record) -> None:
        self.coins[key].state = BACK

    def _note_released(self, _: str, key: str, record: Record) -> None:
        if record["back"]:
            self.events["released"] += 1
        else:
            self.events["not released"] += 1
            self.coins[key].state = USED

    def _note_sent(self, _: str, envelope: Mapping[str, Any], __: Record) -> None:
        message, key = envelope["message_id"], envelope["key_id"]
        if key in self._used_keys:
            self._faults.append(f"{key} encrypted {self._used_keys[key]} and {message}")
        self._used_keys[key] = message
        self.messages[message] = Message(envelope["recipient"], key)
        self._unread.add(message)

    def _note_accepted(self, _: str, message: str, __: Record) -> None:
        self.messages[message].is_accepted = True

    def _note_opened(self, name: str, key: str, record: Record) -> None:
        coin, message = self.coins[key], record["message"]
        if coin.burned:
            self._faults.append(f"{name} opened {message} with {key}, which was burned")
        if coin.opened_by not in {"", message}:
            self._faults.append(f"{name} opened {message} with {key}, as {coin.opened_by} before")
        coin.opened_by = message

    def _note_read(self, name: str, message: str, record: Record) -> None:
        self.messages[message].reads += 1
        self._opened.setdefault(name, set()).add(record["key"])

    def _note_burned(self, _: str, key: str, __: Record) -> None:
        self.coins[key].burned = True

    def _note_unread(self, _: str, message: str, record: Record) -> None:
        self.messages[message].refusals.append((record["why"], record["at"]))

    # Coins ---------------------------------------------------------------------------------

    def _check_coins(self, evening: Evening) -> Iterator[str]:
        places = _find_places(evening)
        active = {
            key
            for account in evening.accounts.values()
            for keys in account["active"].values()
            for key in keys
        }
        for key in places.keys() - self.coins.keys():
            yield f"nobody minted {key}, which is {' and '.join(places[key])}"
        for key in sorted(self._open | places.keys() & self.coins.keys()):
            coin, found = self.coins[key], list(places.get(key, ()))
            yield from self._check_places(key, coin, found, evening, is_active=key in active)
            if found and key not in active and not self._may_be_dead(coin, evening):
                yield f"{key} is {found[0]}, and its private half is gone"
            if coin.gone or coin.refused or coin.state == USED:
                self._open.discard(key)
        for key in active & self.coins.keys():
            if self.coins[key].burned:
                yield f"{key} was burned, and is active"

    def _check_places(
        self, key: str, coin: Coin, listed: Sequence[str], evening: Evening, *, is_active: bool
    ) -> Iterator[str]:
        found = [*listed]
        if coin.state == USED:
            found.append(f"used by {coin.holder}")
        # Whether it was stored isn't known where the server didn't answer.
        if coin.refused and not (found and coin.refused.endswith("UnavailableError")):
            found.append(f"refused ({coin.refused})")
        if coin.gone and found:
            yield f"{key} was gone ({coin.gone}), and is {' and '.join(found)}"
        elif len(found) > 1:
            yield f"{key} is {' and '.join(found)}"
        elif not found and not coin.gone:
            coin.gone = self._find_reason(key, coin, evening, is_active=is_active)
            if not coin.gone:
                yield f"{key} is nowhere: {coin}"
            self.reasons[f"coin: {coin.gone}"] += 1

    def _find_reason(self, key: str, coin: Coin, evening: Evening, *, is_active: bool) -> str:
        """Why a coin is nowhere; empty if there is no reason."""
        if evening.now >= coin.expires:
            return "expired"
        if key not in evening.published:
            if coin.lost or is_active:
                # Restored; it may have been published since, so it isn't offered again.
                return "disk lost" if coin.lost or coin.owner in self._burned_before else ""
            return self._find_accident("minting", coin.owner)
        if coin.holder:
            return self._find_accident("in hand", coin.holder)
        others = [name for name in self._accidents if name != coin.owner]
        return next(filter(None, (self._find_accident("claiming", name) for name in others)), "")

    def _find_accident(self, doing: str, name: str) -> str:
        """What happened to somebody today that explains it; empty if nothing does."""
        accident = self._accidents.get(name, "")
        if not accident or (accident.startswith("server") and name not in self._failed):
            return ""
        return f"{doing}, {accident}"

    def _may_be_dead(self, coin: Coin, evening: Evening) -> bool:
        return coin.lost or evening.now >= coin.expires

    # Messages ------------------------------------------------------------------------------

    def _check_messages(self, evening: Evening) -> Iterator[str]:
        for message_id in sorted(self._unread - evening.waiting):
            message = self.messages[message_id]
            if not message.is_accepted:
                continue
            self._unread.discard(message_id)
            if message.reads != 1:
                coin = self.coins[message.key]
                reason = "" if message.reads else self._find_why(message, coin)
                if reason:
                    self.reasons[f"message: {reason}"] += 1
                else:
                    yield f"{message_id} was read {message.reads} times: {message}, {coin}"

    def _find_why(self, message: Message, coin: Coin) -> str:
        """Why a message couldn't be read; empty if there is no reason."""
        if coin.lost:
            return "disk lost"
        if message.refusals and all(now >= coin.expires for _, now in message.refusals):
            return "expired on its way"
        return ""

    # Databases -----------------------------------------------------------------------------

    def _check_database(self, name: str, account: Mapping[str, Any]) -> Iterator[str]:
        for problem in account["problems"]:
            yield f"{name}'s {problem}"
        counters = account["counters"]
        for tier, keys in account["active"].items():
            count = counters[f"active_{tier.lower()}"]
            if count != len(keys):
                yield f"{name}'s counter says {count} active {tier} keys, of {len(keys)}"
        active = {key for keys in account["active"].values() for key in keys}
        gone = self._opened.get(name, set()) - active
        # Their message was read while the clock went on, and they had expired before its end.
        doubtful = {key: self.coins[key] for key in gone if not self.coins[key].burned}
        expired = {key for key, coin in doubtful.items() if self._was_late(coin)}
        burned = self._burned_before.get(name, 0) + len(gone - expired)
        if counters["total_burned"] != burned:
            said = f"{name}'s counter says {counters['total_burned']} burned keys, of {burned}"
            yield f"{said}; read, and not known to be burned: {doubtful}"

    def _was_late(self, coin: Coin) -> bool:
        refusals = self.messages[coin.opened_by].refusals
        return any(now >= coin.expires for _, now in refusals)


def _find_places(evening: Evening) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for name, account in evening.accounts.items():
        for key in account["pending"]:
            places.setdefault(key, []).append(f"on {name}'s list")
        for keys in account["cached"].values():
            for key in keys:
                places.setdefault(key, []).append(f"in {name}'s cache")
    for key in evening.at_server:
        places.setdefault(key, []).append("at the server")
    return places
