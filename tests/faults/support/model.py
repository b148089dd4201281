"""The vault, the inventory and the garbage collector in plain Python: what they do without faults.

Every method returns what the library's returns, and raises an error of the same class. The time is
an argument, so that nothing happens by itself. Rows are held as the database holds them, since
what a damaged row means is part of what is modelled.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field

from aqm_db import config
from aqm_db.errors import (
    BudgetExceededError,
    CoinExpiredError,
    ContactNotRegisteredError,
    CorruptEntryError,
    KeyAlreadyBurnedError,
    KeyAlreadyExistsError,
    KeyAlreadyUsedError,
    KeyExpiredError,
    KeyNotFoundError,
)
from aqm_db.types import (
    CoinCategory,
    ContactMeta,
    GCResult,
    InventoryEntry,
    InventorySummary,
    NewCoin,
    NewKey,
    Priority,
    VaultEntry,
    VaultStats,
)

DAY_MS = 86_400_000
LIFE_MS = 30 * DAY_MS
"""How long a key is kept, a coin is good, and a use is remembered."""
ABOUT_MS = 600_000
"""More than the server's clock goes on by in a run."""
FATES = ("gone", "purged", "burned")
"""How a key may have gone, in the order in which the vault keeps it."""
TIERS: tuple[CoinCategory, ...] = ("GOLD", "SILVER", "BRONZE")
LOWER: dict[str, set[Priority]] = {"BESTIE": {"MATE", "STRANGER"}, "MATE": {"STRANGER"}}
"""What a priority can be lowered to."""
Row = dict[str, bytes]
"""The fields of a row; one without any stands for a key of another type."""


class VaultModel:
    """Private halves.

    Attributes:
        rows: by key id, burned ones too.
        counted: the tiers of those that the counters call active.
        unnoticed: those of them that the server has expired.
        spent: of each that is gone, how it went and when it would have expired.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.counted: dict[str, str] = {}
        self.unnoticed: list[str] = []
        self.spent: dict[str, tuple[str, int]] = {}
        self.burned = 0
        self.expired = 0

    def store(self, key: NewKey, now: int) -> bool:
        """Stores a key under an id that is free."""
        if row := self.rows.get(key.key_id):
            burned = row.get("status") == b"BURNED"
            raise KeyAlreadyBurnedError if burned else KeyAlreadyExistsError
        if key.key_id in self.rows:
            raise KeyAlreadyExistsError
        self._refuse_spent(key.key_id)
        self.rows[key.key_id] = {
            "status": b"ACTIVE",
            "coin_category": key.coin_category.encode(),
            "encrypted_blob": key.encrypted_blob,
            "encryption_iv": key.encryption_iv,
            "auth_tag": key.auth_tag,
            "coin_version": key.coin_version.encode(),
            "created_at": b"%d" % now,
        }
        self.counted[key.key_id] = key.coin_category
        return True

    def burn(self, key_id: str, now: int) -> bool:
        """Leaves a tombstone in place of a key."""
        row = self.rows.get(key_id)
        if row is None:
            self._refuse_spent(key_id)
            raise KeyNotFoundError
        if row.get("status") == b"BURNED":
            raise KeyAlreadyBurnedError
        if not _is_active(row):
            raise CorruptEntryError
        row["status"] = b"BURNED"
        for name in ("encrypted_blob", "encryption_iv", "auth_tag"):
            row.pop(name, None)
        del self.counted[key_id]
        self.burned += 1
        self._forget_spent(now)
        created_at = row.get("created_at", b"")
        life = int(created_at) if created_at.isdigit() else now
        self.spent[key_id] = ("burned", life + LIFE_MS)
        return True

    def fetch(self, key_id: str) -> VaultEntry | None:
        """Reads an active key."""
        row = self.rows.get(key_id)
        if row is None or row.get("status") == b"BURNED":
            return None
        try:
            if not _is_active(row) or not row["created_at"].isdigit():
                raise CorruptEntryError
            return VaultEntry(
                key_id=key_id,
                coin_category=_tier(row["coin_category"]),
                encrypted_blob=row["encrypted_blob"],
                encryption_iv=row["encryption_iv"],
                auth_tag=row["auth_tag"],
                status="ACTIVE",
                created_at=int(row["created_at"]),
                coin_version=row["coin_version"].decode(),
            )
        except (KeyError, ValueError):
            raise CorruptEntryError from None

    def use(self, key_id: str, now: int, *, cleanly: bool) -> VaultEntry:
        """Fetches a key, and burns it if all goes well."""
        entry = self.fetch(key_id)
        if entry is None:
            if key_id in self.rows:
                raise KeyAlreadyBurnedError
            self._refuse_spent(key_id)
            raise KeyNotFoundError
        if cleanly:
            self.burn(key_id, now)
        return entry

    def active_ids(self, tier: CoinCategory | None) -> set[str]:
        """Lists active keys."""
        return {
            key_id
            for key_id, row in self.rows.items()
            if row.get("status") == b"ACTIVE"
            and (tier is None or row.get("coin_category") == tier.encode())
        }

    def purge(self, days: int, now: int) -> int:
        """Deletes old keys."""
        before = now - days * DAY_MS
        purged = self._notice(now)
        for key_id, row in list(self.rows.items()):
            age = row.get("created_at", b"")
            if _is_active(row) and age.isdigit() and int(age) < before:
                del self.rows[key_id]
                self._take_off(key_id, "purged", int(age) + LIFE_MS)
                purged += 1
        return purged

    def stats(self, now: int) -> VaultStats:
        """Reads the counters."""
        self._notice(now)
        return self.counters()

    def counters(self) -> VaultStats:
        """The counters as they stand, whatever the server has expired meanwhile."""
        tiers = list(self.counted.values())
        gold, silver, bronze = (tiers.count(tier) for tier in TIERS)
        return VaultStats(gold, silver, bronze, self.burned, self.expired)

    def expire(self, key_id: str) -> None:
        """The server expires a key, or a tombstone."""
        del self.rows[key_id]
        if key_id in self.counted:
            self.unnoticed.append(key_id)

    def _notice(self, now: int) -> int:
        gone = len(self.unnoticed)
        for key_id in self.unnoticed:
            # The server's clock says when it would have ended: a month after it was stored.
            self._take_off(key_id, "gone", now + LIFE_MS - ABOUT_MS)
        self.unnoticed = []
        if gone:
            self._forget_spent(now)
        return gone

    def _take_off(self, key_id: str, fate: str, ends: int) -> None:
        del self.counted[key_id]
        self.expired += 1
        self.spent[key_id] = (fate, ends)

    def _refuse_spent(self, key_id: str) -> None:
        """What is said of an id that has no row any more."""
        fate, _ = self.spent.get(key_id, ("", 0))
        if fate == "burned":
            raise KeyAlreadyBurnedError
        if fate or key_id in self.unnoticed:
            raise KeyExpiredError

    def _forget_spent(self, now: int) -> None:
        """Forgets what ended over 30 days ago; how it went is a part of a ms."""
        self.spent = {
            key_id: (fate, ends)
            for key_id, (fate, ends) in self.spent.items()
            if ends + FATES.index(fate) / 4 > now - LIFE_MS
        }


@dataclass
class Contact:
    """A contact, and the public halves of their coins.

    Attributes:
        queues: key ids, oldest first; some may lack their row.
        rows: coins by key id; some may be in no queue.
        used: when each coin was used.
        until: when those that outlive 30 days of memory end.
        places: where each coin stands in its queue; a larger one is later.
        lent: the places of coins that were handed out, by what their receipts say.
    """

    priority: str
    last_msg_at: int
    display_name: str
    queues: dict[str, list[str]] = field(default_factory=lambda: {tier: [] for tier in TIERS})
    rows: dict[str, Row] = field(default_factory=dict[str, Row])
    used: dict[str, int] = field(default_factory=dict[str, int])
    until: dict[str, int] = field(default_factory=dict[str, int])
    places: dict[str, int] = field(default_factory=dict[str, int])
    lent: dict[tuple[str, int | None], int] = field(
        default_factory=dict[tuple[str, int | None], int]
    )

    def fault(self, key_id: str, tier: str, now: int) -> str | None:
        """Why a queued coin can't be handed out."""
        row = self.rows.get(key_id)
        if row is None:
            return "dangling"
        if (
            row.get("coin_category") != tier.encode()
            or "public_key" not in row
            or "signature" not in row
            or not row.get("fetched_at", b"").isdigit()
            or not row.get("expires_at", b"0").isdigit()
        ):
            return "corrupt"
        return "stale" if _expiry(row) <= now else None

    def set_aside(self, tier: str, now: int) -> None:
        """Takes from a queue what can't be handed out; corrupt rows stay for inspection."""
        for key_id in list(self.queues[tier]):
            self.skip(key_id, tier, now)

    def skip(self, key_id: str, tier: str, now: int) -> bool:
        """Takes a coin from its queue if it can't be handed out, and says whether it did."""
        fault = self.fault(key_id, tier, now)
        if fault == "stale":
            del self.rows[key_id]
        if fault is not None:
            self.queues[tier].remove(key_id)
        return fault is not None

    def take(self, key_id: str, now: int) -> tuple[Row, int]:
        """Uses a coin; each use has a time of its own, and none is before it was fetched."""
        self.unlist(key_id)
        row = self.rows.pop(key_id)
        fetched_at = row.get("fetched_at", b"")
        earliest = int(fetched_at) if fetched_at.isdigit() else 0
        used_at = self.used[key_id] = max(now, earliest, self.used.get(key_id, 0) + 1)
        self.lent[key_id, used_at] = self.places[key_id]
        ends = row.get("expires_at", b"")
        if ends.isdigit() and int(ends) > now + LIFE_MS:
            self.until[key_id] = max(int(ends), self.until.get(key_id, 0))
        return row, used_at

    def was_used(self, key_id: str, now: int) -> bool:
        """Whether a coin is remembered as used."""
        return self.used.get(key_id, -LIFE_MS) > now - LIFE_MS or self.until.get(key_id, 0) > now

    def drop_use(self, key_id: str) -> None:
        """A coin that is dropped was not used, though it may have been released after a use."""
        self.used.pop(key_id, None)
        self.until.pop(key_id, None)

    def unlist(self, key_id: str) -> None:
        """Takes a key id from all queues."""
        for queue in self.queues.values():
            if key_id in queue:
                queue.remove(key_id)

    def forget_uses(self, now: int) -> None:
        """Forgets what was used so long ago that nobody could use it any more."""
        self.used = {key_id: at for key_id, at in self.used.items() if at > now - LIFE_MS}
        self.until = {key_id: ends for key_id, ends in self.until.items() if ends > now}


class InventoryModel:
    """Public halves, and the garbage collector.

    Args:
        caps: coins per contact, by priority and tier.

    Attributes:
        contacts: by contact id.
        memories: of contacts that were forgotten, when coins were used and when they end.
    """

    def __init__(self, caps: Mapping[str, Mapping[str, int]]) -> None:
        self.caps = caps
        self.contacts: dict[str, Contact] = {}
        self.memories: dict[str, tuple[dict[str, int], dict[str, int]]] = {}

    def register(self, contact_id: str, priority: Priority, name: str, now: int) -> bool:
        """Registers a contact who is new."""
        if contact_id in self.contacts:
            return False
        used, until = self.memories.pop(contact_id, ({}, {}))
        self.contacts[contact_id] = Contact(priority, now, name, used=used, until=until)
        return True

    def forget(self, contact_id: str, now: int) -> int:
        """Removes a contact and their coins, and keeps what was used in mind."""
        contact = self._registered(contact_id)
        for queue in contact.queues.values():
            for key_id in queue:
                contact.drop_use(key_id)
        # Once the last of them has ended, there is nothing to keep.
        until = contact.until if max(contact.until.values(), default=0) > now else {}
        self.memories[contact_id] = contact.used, until
        del self.contacts[contact_id]
        return len(contact.rows)

    def set_priority(self, contact_id: str, priority: Priority) -> bool:
        """Changes a priority; a lower one drops the newest coins above its caps."""
        contact = self._registered(contact_id)
        before, contact.priority = contact.priority, priority
        if priority not in LOWER.get(before, ()):
            return True
        for tier, queue in contact.queues.items():
            for key_id in queue[self.caps[priority][tier] :]:
                queue.remove(key_id)
                contact.rows.pop(key_id, None)
                contact.drop_use(key_id)
        return True

    def store(self, coin: NewCoin, now: int) -> bool:
        """Caches a coin at the end of its queue."""
        contact = self._registered(coin.contact_id)
        if contact.priority not in self.caps:
            raise CorruptEntryError
        if coin.key_id in contact.rows:
            raise KeyAlreadyExistsError
        if contact.was_used(coin.key_id, now):
            raise KeyAlreadyUsedError
        if coin.expires_at is not None and coin.expires_at <= now:
            raise CoinExpiredError
        queue, cap = (
            contact.queues[coin.coin_category],
            self.caps[contact.priority][coin.coin_category],
        )
        if len(queue) >= cap > 0:
            contact.set_aside(coin.coin_category, now)
        if len(queue) >= cap:
            raise BudgetExceededError(coin.contact_id, coin.coin_category, len(queue), cap)
        contact.unlist(coin.key_id)
        queue.append(coin.key_id)
        contact.places[coin.key_id] = max(contact.places.values(), default=0) + 1
        contact.rows[coin.key_id] = _coin_row(
            coin.coin_category, coin.public_key, coin.signature, now, coin.expires_at
        )
        contact.forget_uses(now)
        return True

    def select(self, contact_id: str, tier: CoinCategory, now: int) -> InventoryEntry | None:
        """Hands out the oldest good coin of a tier, or of the next lower one that has any."""
        contact = self._registered(contact_id)
        for lower in TIERS[TIERS.index(tier) :]:
            queue = contact.queues[lower]
            while queue:
                key_id = queue[0]
                if contact.skip(key_id, lower, now):
                    continue
                row, used_at = contact.take(key_id, now)
                contact.last_msg_at = max(now, contact.last_msg_at)
                return InventoryEntry(
                    contact_id=contact_id,
                    key_id=key_id,
                    coin_category=lower,
                    public_key=row["public_key"],
                    signature=row["signature"],
                    fetched_at=int(row["fetched_at"]),
                    expires_at=int(row["expires_at"]) if "expires_at" in row else None,
                    used_at=used_at,
                )
        return None

    def release(self, entry: InventoryEntry, now: int) -> bool:
        """Puts a coin back to its place, if this use of it was the last one."""
        contact = self.contacts.get(entry.contact_id)
        if (
            contact is None
            or (entry.key_id, entry.used_at) not in contact.lent
            or contact.used.get(entry.key_id) != entry.used_at
            or entry.key_id in contact.rows
        ):
            return False
        tier = entry.coin_category
        row = _coin_row(tier, entry.public_key, entry.signature, entry.fetched_at, entry.expires_at)
        if not self.caps.get(contact.priority, {}).get(tier) or _expiry(row) <= now:
            return False
        contact.unlist(entry.key_id)
        contact.places[entry.key_id] = contact.lent[entry.key_id, entry.used_at]
        contact.queues[tier].append(entry.key_id)
        contact.queues[tier].sort(key=contact.places.__getitem__)
        contact.rows[entry.key_id] = row
        return True

    def consume(self, contact_id: str, key_id: str, now: int) -> bool:
        """Removes a coin in whatever state it is."""
        contact = self.contacts.get(contact_id)
        if contact is None or key_id not in contact.rows:
            return False
        contact.take(key_id, now)
        return True

    def meta(self, contact_id: str) -> ContactMeta | None:
        """Reads a contact."""
        contact = self.contacts.get(contact_id)
        if contact is None:
            return None
        return ContactMeta(
            contact_id, _priority(contact), contact.last_msg_at, contact.display_name
        )

    def summary(self, contact_id: str) -> InventorySummary:
        """Counts what is queued."""
        contact = self._registered(contact_id)
        gold, silver, bronze = (len(contact.queues[tier]) for tier in TIERS)
        return InventorySummary(contact_id, gold, silver, bronze, _priority(contact))

    def tiers(self, contact_id: str) -> list[CoinCategory]:
        """The tiers that have anything."""
        contact = self.contacts.get(contact_id)
        return [] if contact is None else [tier for tier in TIERS if contact.queues[tier]]

    def collect(self, days: int, now: int) -> GCResult:
        """Collects from all contacts."""
        cleaned, removed = 0, list[str]()
        for contact in self.contacts.values():
            inactive = contact.last_msg_at < now - days * DAY_MS
            was_cleaned, coins = _collected(contact, now, inactive=inactive)
            removed += coins
            cleaned += was_cleaned
        return _result(cleaned, removed)

    def collect_one(self, contact_id: str, now: int) -> GCResult:
        """Removes all coins of one contact."""
        contact = self._registered(contact_id)
        cleaned, removed = _collected(contact, now, inactive=True)
        return _result(int(cleaned), removed)

    def dry_run(self, days: int, now: int) -> GCResult:
        """What would be collected."""
        return deepcopy(self).collect(days, now)

    def _registered(self, contact_id: str) -> Contact:
        contact = self.contacts.get(contact_id)
        if contact is None:
            raise ContactNotRegisteredError
        return contact


def _tier(text: bytes) -> CoinCategory:
    """Raises ValueError for what is no tier."""
    return TIERS[[tier.encode() for tier in TIERS].index(text)]


def _is_active(row: Row) -> bool:
    return row.get("status") == b"ACTIVE" and row.get("coin_category", b"").decode() in TIERS


def _priority(contact: Contact) -> Priority:
    match contact.priority:
        case "BESTIE" | "MATE" | "STRANGER":
            return contact.priority
        case _:
            raise CorruptEntryError


def _coin_row(
    tier: str, public_key: bytes, signature: bytes, fetched_at: int, expires_at: int | None
) -> Row:
    row = {
        "coin_category": tier.encode(),
        "public_key": public_key,
        "signature": signature,
        "fetched_at": b"%d" % fetched_at,
    }
    return row if expires_at is None else {**row, "expires_at": b"%d" % expires_at}


def _expiry(row: Row) -> int:
    return int(row["expires_at"]) if "expires_at" in row else int(row["fetched_at"]) + LIFE_MS


def _collected(contact: Contact, now: int, *, inactive: bool) -> tuple[bool, list[str]]:
    """Collects a contact's garbage: whether they were cleaned, and the tier of each coin."""
    removed = list[str]()
    touched = False
    for tier, queue in contact.queues.items():
        for key_id in list(queue):
            fault = contact.fault(key_id, tier, now)
            if inactive or fault == "stale":
                touched = True
                queue.remove(key_id)
                contact.rows.pop(key_id, None)
                contact.drop_use(key_id)
                if fault != "dangling":
                    removed.append(tier)
    contact.forget_uses(now)
    orphans = _orphans(contact) if inactive else []
    removed += orphans
    cleaned = inactive and (touched or bool(orphans) or contact.priority != "STRANGER")
    if cleaned:
        contact.priority = "STRANGER"
    return cleaned, removed


def _orphans(contact: Contact) -> list[str]:
    """Deletes the rows that no queue lists: the tier that each of them says it is of."""
    listed = {key_id for queue in contact.queues.values() for key_id in queue}
    orphans = [key_id for key_id in contact.rows if key_id not in listed]
    return [contact.rows.pop(key_id).get("coin_category", b"").decode() for key_id in orphans]


def _result(cleaned: int, removed: list[str]) -> GCResult:
    return GCResult(
        contacts_cleaned=cleaned,
        keys_deleted=len(removed),
        bytes_freed=sum(config.COIN_SIZE_BYTES.get(tier, 0) for tier in removed),
    )
