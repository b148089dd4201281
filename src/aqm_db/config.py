"""The specification's constants: defaults that constructors take, never changed at run time."""

from collections.abc import Mapping
from typing import Final, NamedTuple

# Tiers and priorities ------------------------------------------------------------------------


class _Tier(NamedTuple):
    """A tier of coins.

    Attributes:
        name: what it's called, in capital letters.
        coin_bytes: the size of a public half with its signature.
        vault_target: active keys that a minter keeps in the vault.
        caps: coins cached per contact, in the order of the priorities.
    """

    name: str
    coin_bytes: int
    vault_target: int
    caps: tuple[int, ...]


_PRIORITIES: Final = ("BESTIE", "MATE", "STRANGER")
"""Highest first. The lowest one is what a contact becomes who doesn't write any more."""
_TIERS: Final = (
    _Tier("GOLD", coin_bytes=3_604, vault_target=10, caps=(5, 0, 0)),
    _Tier("SILVER", coin_bytes=1_248, vault_target=20, caps=(4, 6, 0)),
    _Tier("BRONZE", coin_bytes=96, vault_target=10, caps=(1, 4, 0)),
)
"""Best first. At most four: the vault's expiry index keeps a key's tier, its place here, as
quarters of a ms. One that comes before others moves these, which a check with ``repair`` mends."""

# Connections -------------------------------------------------------------------------------

REDIS_HOST: Final = "localhost"
REDIS_PORT: Final = 6379
REDIS_VAULT_DB: Final = 0
"""Logical database of the Secure Vault."""
REDIS_INVENTORY_DB: Final = 1
"""Logical database of the Smart Inventory."""
REDIS_SOCKET_TIMEOUT: Final = 5
"""Seconds without an answer after which a call fails."""
SENTINEL_TIMEOUT: Final = 1
"""Seconds without an answer after which the next sentinel is asked."""
REDIS_RETRY_ATTEMPTS: Final = 3
REDIS_FAILOVER_ATTEMPTS: Final = 40
"""Attempts on a cluster, or with sentinels: another server takes over within some 20 seconds."""
REDIS_RETRY_DELAY: Final = 0.5
"""Seconds between two attempts."""
HEALTH_TIMEOUT: Final = 1.8
"""Seconds after which whoever is silent is told to be unreachable."""

CONFIRM_TIMEOUT: Final = 1000
"""Milliseconds that replicas have to confirm a change, if they are asked to."""

# Key names ---------------------------------------------------------------------------------

VAULT_KEY_PREFIX: Final = "vault:v1:key"
"""``vault:v1:key:{key_id}``: a private half, or the tombstone of a burned one."""
VAULT_STATS_KEY: Final = "vault:v1:stats"
"""The counters."""
VAULT_EXPIRY_KEY: Final = "vault:v1:expiry"
"""Active key ids by the time they expire."""
VAULT_SPENT_KEY: Final = "vault:v1:spent"
"""Ids of keys that were burned or have expired, by when they would have expired."""
VAULT_UNPUBLISHED_KEY: Final = "vault:v1:unpublished"
"""Ids of keys whose public half still has to be published, by the time they were minted."""
VAULT_WATCH_KEY: Final = "vault:v1:watch"
"""What the server's clock showed when it was last looked at, and where it has jumped from."""
VAULT_SCHEMA_KEY: Final = "vault:v1:schema"
"""Which version of the layout these keys have."""

INV_KEY_PREFIX: Final = "inv:v1:key"
"""``inv:v1:key:{contact_id}:{key_id}``: a public half."""
INV_IDX_PREFIX: Final = "inv:v1:idx"
"""``inv:v1:idx:{contact_id}:{coin_category}``: the queue of one tier, oldest first."""
INV_META_PREFIX: Final = "inv:v1:meta"
"""``inv:v1:meta:{contact_id}``: a contact."""
INV_USED_PREFIX: Final = "inv:v1:used"
"""``inv:v1:used:{contact_id}``: coins that were handed out, for 30 days."""
INV_USED_UNTIL_PREFIX: Final = "inv:v1:used_until"
"""``inv:v1:used_until:{contact_id}``: those of them that outlive the 30 days, until their end."""
INV_CLAIM_PREFIX: Final = "inv:v1:claim"
"""``inv:v1:claim:{contact_id}:{request_id}``: what one request took, for 30 seconds."""
CONFIRM_KEY: Final = "inv:v1:confirm"
"""Written with each change that replicas have to confirm, and gone a second later."""
INV_MAINTENANCE_KEY: Final = "inv:v1:maintenance"
"""Who cares for the database, until the next round is due."""
INV_ROUND_KEY: Final = "inv:v1:round"
"""How far a round of maintenance over all owners is."""
INV_LEASES_KEY: Final = "inv:v1:leases"
"""Slots reserved for coins that are on their way."""
INV_LEASES_UNTIL_KEY: Final = "inv:v1:leases_until"
"""Their names, by when they end."""
INV_COMING_KEY: Final = "inv:v1:coming"
"""Of these slots those that are not filled, by tier and contact."""
INV_TOTALS_KEY: Final = "inv:v1:totals"
"""By tier the coins that were ever stored, those that are known to be gone, and unfilled slots."""
INV_WATCH_KEY: Final = "inv:v1:watch"
"""What the server's clock showed when it was last looked at, and where it has jumped from."""
INV_CONTACTS_KEY: Final = "inv:v1:contacts"
"""Ids of all contacts."""
INV_FORGOTTEN_KEY: Final = "inv:v1:forgotten"
"""Ids of contacts that are not registered and have used coins, by when these are forgotten."""
INV_ASIDE_KEY: Final = "inv:v1:aside"
"""Rows that no queue lists: ``{contact_id}:{key_id}``, in the order of their bytes."""
INV_SCHEMA_KEY: Final = "inv:v1:schema"
"""Which version of the layout these keys have."""

# Vault -------------------------------------------------------------------------------------

VAULT_KEY_TTL_SECONDS: Final = 2_592_000
"""30 days: how long a private half is kept."""
VAULT_BURN_GRACE_SECONDS: Final = 60
"""How long the tombstone of a burned key answers a replay."""
VAULT_SPENT_TTL_SECONDS: Final = 2_592_000
"""30 days: how long after its end of life a burned or expired key is remembered."""
VAULT_PURGE_MAX_AGE_DAYS: Final = 30
VAULT_TARGETS: Final[Mapping[str, int]] = {tier.name: tier.vault_target for tier in _TIERS}
"""Active keys that a minter keeps in the vault, or unclaimed coins on the server, by tier."""
VAULT_CEILING_FACTOR: Final = 20
"""How many times its target a minter keeps active keys of, at most, whatever a server says."""
VAULT_DELIVERY_MARGIN_SECONDS: Final = 1_209_600
"""14 days: how much longer a private half is kept than its public half may be encrypted for."""

# Inventory ---------------------------------------------------------------------------------

BUDGET_CAPS: Final[Mapping[str, Mapping[str, int]]] = {
    priority: {tier.name: tier.caps[column] for tier in _TIERS}
    for column, priority in enumerate(_PRIORITIES)
}
"""Coins cached per contact, by priority and tier (AQM paper, table 2)."""

INV_GC_INACTIVE_DAYS: Final = 30
INV_MAX_STORAGE_BYTES: Final = 65_536
"""64 KB: the budget of all cached coins together, in payload bytes (``COIN_SIZE_BYTES``)."""
INV_COIN_TTL_SECONDS: Final = 2_592_000
"""30 days: a coin without ``expires_at`` is stale this long after it was fetched."""
INV_USED_TTL_SECONDS: Final = 2_592_000
"""30 days: how long a used coin is remembered, so that it can't be stored again; or until its own
end, if that is later."""
INV_CLAIM_TTL_SECONDS: Final = 30
"""How long a request that is asked again gets the same coin."""
INV_LEASE_TTL_SECONDS: Final = 120
"""How long a slot stays reserved for a coin that doesn't come."""
CLOCK_PAUSE_SECONDS: Final = 600
"""What the server's clock may go on by, unseen: when it has gone on by more, it may have jumped."""
CLOCK_CONFIRM_SECONDS: Final = 3600
"""How long a clock that has jumped must stay before anything is erased by it."""
SETTLE_TIMEOUT: Final = 2000
"""Milliseconds that a cancelled call may take to find out what it did."""
INV_UNREPORTED_COINS: Final = 1000
"""Refused coins that a replenisher keeps while nobody takes its reports."""
INV_OPTIMISTIC_LOCK_RETRIES: Final = 3
"""Attempts that the specification's WATCH loop makes; scripts need none, a baseline does."""

TIER_FALLBACK: Final[Mapping[str, list[str]]] = {
    tier.name: [lower.name for lower in _TIERS[place:]] for place, tier in enumerate(_TIERS, 1)
}
"""Where ``select_coin`` looks next: only ever downwards."""

# Values that are accepted ------------------------------------------------------------------

VALID_COIN_CATEGORIES: Final[frozenset[str]] = frozenset(tier.name for tier in _TIERS)
VALID_PRIORITIES: Final[frozenset[str]] = frozenset(_PRIORITIES)
VALID_STATUSES: Final = frozenset({"ACTIVE", "BURNED"})
MAX_ID_BYTES: Final = 256
"""The longest contact id, key id or owner, in UTF-8."""
MAX_BLOB_BYTES: Final = 65_536
"""The longest blob, key or signature; the largest real one is 2,560 bytes."""

# Sizes -------------------------------------------------------------------------------------

COIN_SIZE_BYTES: Final[Mapping[str, int]] = {tier.name: tier.coin_bytes for tier in _TIERS}
"""Public half with its signature: ML-KEM-768 (FIPS 203, 1184) with ML-DSA-44 (FIPS 204, 2420),
ML-KEM-768 with Ed25519 (RFC 8032, 64), X25519 (RFC 7748, 32) with Ed25519."""
