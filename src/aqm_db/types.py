"""What the library returns: frozen dataclasses, and the names of their values.

Times are milliseconds since the epoch. Fields with key material never show in ``repr``.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, TypedDict, cast

CoinCategory: TypeAlias = Literal["GOLD", "SILVER", "BRONZE"]
"""A coin's tier, as it's returned; whatever takes one takes any ``str``, and checks it."""
Priority: TypeAlias = Literal["BESTIE", "MATE", "STRANGER"]
"""How many coins a contact is worth (``config.BUDGET_CAPS``), as it's returned; the same holds."""
KeyStatus: TypeAlias = Literal["ACTIVE", "BURNED"]


class _Record:
    """What all dataclasses here share; making it anew for each would take half of this import."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = (f"{each.name}={getattr(self, each.name)!r}" for each in _fields(self) if each.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash(_values(self))


def _fields(record: _Record) -> tuple[Any, ...]:
    return fields(cast("Any", record))


def _values(record: Any) -> tuple[object, ...]:
    return tuple(getattr(record, each.name) for each in _fields(record) if each.compare)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class VaultEntry(_Record):
    """A private half, as its owner encrypted it.

    Attributes:
        key_id: the coin's id.
        coin_category: its tier.
        encrypted_blob: the private half, encrypted by the caller.
        encryption_iv: the nonce it was encrypted with.
        auth_tag: the tag that authenticates it.
        status: ACTIVE, as ``fetch_key`` and ``use_key`` give nothing else.
        created_at: when it was stored.
        coin_version: what kind of key it is.
    """

    key_id: str
    coin_category: CoinCategory
    encrypted_blob: bytes = field(repr=False)
    encryption_iv: bytes = field(repr=False)
    auth_tag: bytes = field(repr=False)
    status: KeyStatus
    created_at: int
    coin_version: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class InventoryEntry(_Record):
    """A contact's public half.

    Attributes:
        contact_id: whose coin it is.
        key_id: the coin's id.
        coin_category: its tier.
        public_key: the key to encrypt for.
        signature: the contact's signature over it.
        fetched_at: when it was stored.
        expires_at: until when it may be encrypted for; None means until 30 days after
            ``fetched_at``.
        used_at: when ``select_coin`` handed it out; the receipt that ``release_coin`` asks for.
        origin: where it was taken from, for ``release_coin`` too; it's opaque, and two entries that
            differ in nothing else are equal.
    """

    contact_id: str
    key_id: str
    coin_category: CoinCategory
    public_key: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    fetched_at: int
    expires_at: int | None = None
    used_at: int | None = None
    origin: bytes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class NewKey(_Record):
    """A private half to be stored with others: the arguments of the vault's ``store_key``.

    Attributes:
        key_id: the coin's id, the same as of its public half.
        coin_category: its tier.
        encrypted_blob: the private half, encrypted by the caller.
        encryption_iv: the nonce it was encrypted with.
        auth_tag: the tag that authenticates it.
        coin_version: what kind of key it is.
    """

    key_id: str
    coin_category: str
    encrypted_blob: bytes = field(repr=False)
    encryption_iv: bytes = field(repr=False)
    auth_tag: bytes = field(repr=False)
    coin_version: str = "kyber768_v1"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class NewCoin(_Record):
    """A public half to be stored with others: the arguments of the inventory's ``store_key``.

    Attributes:
        contact_id: whose coin it is.
        key_id: the coin's id.
        coin_category: its tier.
        public_key: the key to encrypt for.
        signature: the contact's signature over it.
        expires_at: until when it may be encrypted for; None means until 30 days after it was
            stored.
    """

    contact_id: str
    key_id: str
    coin_category: str
    public_key: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    expires_at: int | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ContactMeta(_Record):
    """A contact.

    Attributes:
        contact_id: who it is.
        priority: how many coins to cache for them.
        last_msg_at: when a coin of theirs was selected last, or they were registered.
        display_name: what to show for them.
    """

    contact_id: str
    priority: Priority
    last_msg_at: int
    display_name: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StorageReport(_Record):
    """Bytes of cached coins against the budget.

    Attributes:
        total_bytes: payload of all cached coins.
        per_contact: the same by contact id.
        budget_bytes: the inventory's budget.
        utilization_pct: total in percent of the budget.
    """

    total_bytes: int
    per_contact: dict[str, int]
    budget_bytes: int
    utilization_pct: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class GCResult(_Record):
    """What a garbage collection removed, or would remove.

    Attributes:
        contacts_cleaned: inactive contacts, who became STRANGERs.
        keys_deleted: coins.
        bytes_freed: their payload (``config.COIN_SIZE_BYTES``).
    """

    contacts_cleaned: int
    keys_deleted: int
    bytes_freed: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class VaultStats(_Record):
    """The vault's counters.

    Attributes:
        active_gold: GOLD keys that are there.
        active_silver: SILVER ones.
        active_bronze: BRONZE ones.
        total_burned: keys that were burned, ever.
        total_expired: keys that expired or were purged, ever.
    """

    active_gold: int
    active_silver: int
    active_bronze: int
    total_burned: int
    total_expired: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class InventorySummary(_Record):
    """How many coins of each tier are cached for a contact."""

    contact_id: str
    gold_count: int
    silver_count: int
    bronze_count: int
    priority: Priority


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class HealthStatus(_Record):
    """Whether both databases answer, how many Redis keys they hold, and the server's uptime.

    Attributes:
        vault_connected: whether all of the vault's servers answer.
        inventory_connected: the same of the inventory.
        vault_key_count: how many Redis keys are on those that do.
        inventory_key_count: the same of the inventory.
        uptime_seconds: for how long all of the vault's that answer have been running; 0 if they
            don't tell, as where the user may not ask (INFO).
        unreachable: those that don't answer in time, or let nobody in: ``host:port``, the path of
            a socket, or what sentinels call them; it's left out of comparisons.
    """

    vault_connected: bool
    inventory_connected: bool
    vault_key_count: int
    inventory_key_count: int
    uptime_seconds: float
    unreachable: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MaintenanceProgress(_Record):
    """How far a round of maintenance over all owners is, of all programs that take part in it.

    Attributes:
        began_at: when it began.
        ended_at: when it ended; None while it's under way, or if it was given up.
        owners_cared_for: how many owners were cared for.
        owners_failed: how many couldn't be; the log says which.
        owners_expected: how many the round before had, failures included; 0 if there was none.
    """

    began_at: int
    ended_at: int | None
    owners_cared_for: int
    owners_failed: int
    owners_expected: int

    @property
    def owners_left(self) -> int:
        """How many owners are left, as far as is known: as many as the round before had."""
        if self.ended_at is not None:
            return 0
        return max(self.owners_expected - self.owners_cared_for - self.owners_failed, 0)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PrefetchCounts(_Record):
    """What a prefetcher has done, and what it has, each by tier.

    Attributes:
        hits: coins that were handed out without a round trip, by the tier that was wanted.
        misses: calls that asked the database, by the tier that was wanted.
        at_hand: coins that are at hand now.
    """

    hits: dict[str, int]
    misses: dict[str, int]
    at_hand: dict[str, int]


class Dashboard(TypedDict):
    """All reports in one."""

    vault: VaultStats
    inventory_storage: StorageReport
    replenish_needs: dict[str, dict[str, int]]
    contacts: list[InventorySummary]
