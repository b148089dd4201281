"""The kinds of keys, which tell what is ours in a database from what is foreign. No I/O."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from aqm_db import config

from .keys import Keys, decode_id, pattern_of

DatabaseName: TypeAlias = Literal["vault", "inventory"]
"""Which of an owner's two databases."""
DATABASES: Final[tuple[DatabaseName, ...]] = ("vault", "inventory")
"""Both, in the order of their clients."""


class Kind(NamedTuple):
    """A kind of key.

    Attributes:
        name: what a key of this kind is.
        prefix: what its name begins with, after the owner's part.
        ids: how many ids follow, each after a colon.
        type: the Redis type of its value.
    """

    name: str
    prefix: str
    ids: int
    type: Literal["hash", "string", "set", "zset", "any"]


VAULT_KINDS: Final = (
    Kind("private_half", config.VAULT_KEY_PREFIX, 1, "hash"),
    Kind("counters", config.VAULT_STATS_KEY, 0, "hash"),
    Kind("expiry_index", config.VAULT_EXPIRY_KEY, 0, "zset"),
    Kind("spent_ids", config.VAULT_SPENT_KEY, 0, "zset"),
    Kind("unpublished", config.VAULT_UNPUBLISHED_KEY, 0, "zset"),
    Kind("vault_watch", config.VAULT_WATCH_KEY, 0, "hash"),
    Kind("vault_schema", config.VAULT_SCHEMA_KEY, 0, "string"),
)
"""All that the vault's names stand for; a check calls every other name there foreign."""
INVENTORY_KINDS: Final = (
    Kind("public_half", config.INV_KEY_PREFIX, 2, "hash"),
    Kind("queue", config.INV_IDX_PREFIX, 2, "zset"),
    Kind("contact", config.INV_META_PREFIX, 1, "hash"),
    Kind("used_coins", config.INV_USED_PREFIX, 1, "zset"),
    Kind("used_coins_until", config.INV_USED_UNTIL_PREFIX, 1, "zset"),
    Kind("claim", config.INV_CLAIM_PREFIX, 2, "any"),
    Kind("maintenance", config.INV_MAINTENANCE_KEY, 0, "string"),
    Kind("round", config.INV_ROUND_KEY, 0, "hash"),
    Kind("confirmation", config.CONFIRM_KEY, 0, "string"),
    Kind("leases", config.INV_LEASES_KEY, 0, "hash"),
    Kind("leases_until", config.INV_LEASES_UNTIL_KEY, 0, "zset"),
    Kind("coming", config.INV_COMING_KEY, 0, "hash"),
    Kind("totals", config.INV_TOTALS_KEY, 0, "hash"),
    Kind("watch", config.INV_WATCH_KEY, 0, "hash"),
    Kind("contacts", config.INV_CONTACTS_KEY, 0, "set"),
    Kind("forgotten", config.INV_FORGOTTEN_KEY, 0, "zset"),
    Kind("aside", config.INV_ASIDE_KEY, 0, "zset"),
    Kind("schema", config.INV_SCHEMA_KEY, 0, "string"),
)
"""The same of the inventory."""


def all_pattern(keys: Keys, kinds: Sequence[Kind]) -> str:
    """All keys of these kinds, and what else stands among them, for SCAN."""
    version, _, _ = kinds[0].prefix.rpartition(":")
    return pattern_of(f"{keys.prefix}{version}:")


def list_fixed_names(keys: Keys, kinds: Sequence[Kind]) -> list[str]:
    """The names of those keys of some kinds that have no id."""
    return [f"{keys.prefix}{kind.prefix}" for kind in kinds if not kind.ids]


def parse_name(
    keys: Keys, key: bytes, kinds: Sequence[Kind]
) -> tuple[Kind, tuple[str, ...]] | None:
    """The kind of a key, and the ids in its name; None if the name isn't one of ours."""
    for kind in kinds:
        prefix = f"{keys.prefix}{kind.prefix}".encode()
        first, *encoded = key.removeprefix(prefix).split(b":")
        if key.startswith(prefix) and not first and len(encoded) == kind.ids:
            ids = tuple(found for part in encoded if (found := decode_id(part)) is not None)
            return (kind, ids) if len(ids) == kind.ids else None
    return None
