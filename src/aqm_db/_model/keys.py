r"""Every key name, and how an id stands in it. No I/O.

In a name, the characters that carry structure or patterns (``% : { } * ? [ ] \`` and control
characters) are percent-encoded (RFC 3986), so ``a`` + ``b:c`` and ``a:b`` + ``c`` are different
keys, and an ordinary id reads as itself. ``_lua/shared/encode.lua`` does the same on the server.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from aqm_db import config

from .checks import check_id
from .tiers import TIERS

_STRUCTURE = re.compile(r"[%:{}*?\[\]\\\x00-\x1f\x7f]")


def encode_id(value: str) -> str:
    """An id as it stands in a key name."""
    return _STRUCTURE.sub(lambda found: f"%{ord(found[0]):02X}", value)


def parse_id(value: bytes) -> str | None:
    """The id that some bytes are; None for what no call would have taken as one."""
    if not 0 < len(value) <= config.MAX_ID_BYTES:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def parse_ids(values: Iterable[bytes]) -> list[str]:
    """The ids that many are, without what is none."""
    return [found for each in values if (found := parse_id(each)) is not None]


class Keys:
    """The key names of one owner.

    An owner's names begin with ``aqm:{owner}:``. The braces are a hash tag (Redis Cluster
    specification), so that all of them sit in one slot; without an owner the names are those of
    the specification, literally.
    """

    def __init__(self, owner: str | None = None) -> None:
        prefix = "" if owner is None else f"aqm:{{{encode_id(check_id('owner', owner))}}}:"
        self.prefix: str = prefix
        self.vault_prefix: str = f"{prefix}{config.VAULT_KEY_PREFIX}:"
        self.vault_stats: str = prefix + config.VAULT_STATS_KEY
        self.vault_expiry: str = prefix + config.VAULT_EXPIRY_KEY
        self.vault_spent: str = prefix + config.VAULT_SPENT_KEY
        self.confirm: str = prefix + config.CONFIRM_KEY
        self.maintenance: str = prefix + config.INV_MAINTENANCE_KEY
        self.round: str = prefix + config.INV_ROUND_KEY
        self.vault_unpublished: str = prefix + config.VAULT_UNPUBLISHED_KEY
        self.inv_leases: str = prefix + config.INV_LEASES_KEY
        self.inv_leases_until: str = prefix + config.INV_LEASES_UNTIL_KEY
        self.inv_coming: str = prefix + config.INV_COMING_KEY
        self.inv_totals: str = prefix + config.INV_TOTALS_KEY
        self.inv_watch: str = prefix + config.INV_WATCH_KEY
        self.vault_watch: str = prefix + config.VAULT_WATCH_KEY
        self.vault_schema: str = prefix + config.VAULT_SCHEMA_KEY
        self.inv_contacts: str = prefix + config.INV_CONTACTS_KEY
        self.inv_forgotten: str = prefix + config.INV_FORGOTTEN_KEY
        self.inv_aside: str = prefix + config.INV_ASIDE_KEY
        self.inv_schema: str = prefix + config.INV_SCHEMA_KEY
        self.rows: str = f"{prefix}{config.INV_KEY_PREFIX}:"
        self.queues: str = f"{prefix}{config.INV_IDX_PREFIX}:"
        self.metas: str = f"{prefix}{config.INV_META_PREFIX}:"
        self.useds: str = f"{prefix}{config.INV_USED_PREFIX}:"
        self.used_untils: str = f"{prefix}{config.INV_USED_UNTIL_PREFIX}:"
        self._used = f"{prefix}{config.INV_USED_PREFIX}"

    def pattern(self) -> str:
        """All that is kept of the owner, for SCAN."""
        return pattern_of(self.prefix)

    def vault(self, key_id: str) -> str:
        """A private half."""
        return self.vault_prefix + encode_id(key_id)

    def vault_pattern(self) -> str:
        """All private halves, for SCAN."""
        return pattern_of(self.vault_prefix)

    def vault_id(self, key: bytes) -> str | None:
        """The key id in the name of a private half; None if the name isn't one of ours."""
        return _decode_rest(key, self.vault_prefix)

    def of(self, contact_id: str) -> "ContactKeys":
        """All that is kept of one contact."""
        return _name_contact_keys(self.prefix, contact_id)

    def list_metas(self, contact_ids: Sequence[str]) -> list[str]:
        """Contacts, of which nothing else is named."""
        # Most are ordinary, and one look at all of them takes a tenth of a look at each.
        if _STRUCTURE.search("".join(contact_ids)) is None:
            return [self.metas + contact_id for contact_id in contact_ids]
        return [self.metas + encode_id(contact_id) for contact_id in contact_ids]

    def inv_pattern(self) -> str:
        """All public halves, for SCAN."""
        return pattern_of(self.rows)

    def inv_ids(self, key: bytes) -> tuple[str, str] | None:
        """The contact id and the key id in the name of a public half; None if it isn't ours."""
        contact, _, coin = key.removeprefix(self.rows.encode()).partition(b":")
        contact_id, key_id = decode_id(contact), decode_id(coin)
        return None if contact_id is None or key_id is None else (contact_id, key_id)

    def aside_row(self, member: bytes) -> bytes:
        """The name of the public half that a member of the index of those set aside stands for."""
        return self.rows.encode() + member

    def meta_pattern(self) -> str:
        """All contacts, for SCAN."""
        return pattern_of(self.metas)

    def meta_id(self, key: bytes) -> str | None:
        """The contact id in the name of a contact; None if the name isn't one of ours."""
        return _decode_rest(key, self.metas)

    def used_pattern(self) -> str:
        """The used coins of all contacts, by use and by their own end, for SCAN."""
        return pattern_of(self._used)

    def used_id(self, key: bytes) -> str | None:
        """The contact id in the name of one of these; None if the name isn't one of ours."""
        prefix, _, contact = key.rpartition(b":")
        known = (self._used, f"{self.prefix}{config.INV_USED_UNTIL_PREFIX}")
        return decode_id(contact) if prefix in map(str.encode, known) else None


OWNERS_PATTERN = "aqm:{*}:*"
"""The keys of all owners, for SCAN."""
INDEXES_PATTERN = "aqm:{*}:*:v1:[ce][ox][np][ti]*"
"""The indexes of all owners' contacts and private halves, and some others, for SCAN."""
_INDEXES = frozenset({config.INV_CONTACTS_KEY.encode(), config.VAULT_EXPIRY_KEY.encode()})


def owner_of(key: bytes) -> str | None:
    """The owner in a key's name; None if the name isn't one of ours, or a claim's.

    A claim ends by itself, so that whoever has no more than claims has nothing.
    """
    begun, _, rest = key.partition(b"}:")
    is_claim = rest.startswith(f"{config.INV_CLAIM_PREFIX}:".encode())
    return None if is_claim else _decode_rest(begun, "aqm:{")


def indexed_owner_of(key: bytes) -> str | None:
    """The owner whose contacts or private halves a key lists; None if it isn't such an index."""
    _, _, name = key.partition(b"}:")
    return owner_of(key) if name in _INDEXES else None


class ContactKeys:
    """The key names of one contact, whose id is encoded once for all of them.

    Attributes:
        meta: the contact.
        used: its used coins, by when they were used.
        used_until: those that outlive 30 days of memory, by when they can't be used any more.
        queues: the queues of all tiers, best first.
        rows: what the names of its public halves begin with.
        claims: what the names of its claims begin with; a request id follows.
    """

    __slots__ = ("claims", "meta", "queues", "rows", "used", "used_until")

    def __init__(self, prefix: str, contact: str) -> None:
        queue = f"{prefix}{config.INV_IDX_PREFIX}:{contact}:"
        self.meta: str = f"{prefix}{config.INV_META_PREFIX}:{contact}"
        self.used: str = f"{prefix}{config.INV_USED_PREFIX}:{contact}"
        self.used_until: str = f"{prefix}{config.INV_USED_UNTIL_PREFIX}:{contact}"
        self.queues: tuple[str, ...] = tuple([queue + tier for tier in TIERS])
        self.rows: str = f"{prefix}{config.INV_KEY_PREFIX}:{contact}:"
        self.claims: str = f"{prefix}{config.INV_CLAIM_PREFIX}:{contact}:"

    def row(self, key_id: str) -> str:
        """A public half."""
        return self.rows + encode_id(key_id)


@lru_cache(maxsize=1024)
def _name_contact_keys(prefix: str, contact_id: str) -> ContactKeys:
    # Programs ask for the same contacts again and again, and this is a part of each call.
    return ContactKeys(prefix, encode_id(contact_id))


def pattern_of(prefix: str) -> str:
    """All names that begin with a prefix, for SCAN."""
    # An owner is percent-encoded, so the hash tag's braces are left, and they're no glob (KEYS).
    return f"{prefix}*"


def _decode_rest(key: bytes, prefix: str) -> str | None:
    return decode_id(key.removeprefix(prefix.encode()))


def decode_id(encoded: bytes) -> str | None:
    """The id in a key name; None for what no id is encoded as, such as what was written by hand."""
    decoded = parse_id(unquote_to_bytes(encoded))
    return decoded if decoded is not None and encode_id(decoded).encode() == encoded else None
