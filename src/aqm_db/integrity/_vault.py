"""The integrity check of the vault."""

from contextlib import suppress

from aqm_db._io.seam import Argument, Call
from aqm_db._lua.loader import Script
from aqm_db._model.keys import parse_id
from aqm_db._operations.index import walk_index
from aqm_db._operations.private_halves import GRACE_MS, TTL_MS
from aqm_db.errors import CorruptEntryError
from aqm_db.vault import AsyncSecureVault

from ._walk import Inspection, Item, decode_name

CHECK_KEY = Script("vault/check_key")
CHECK_COUNTERS = Script("vault/check_counters")


async def check_vault(vault: AsyncSecureVault, inspection: Inspection) -> int:
    """Checks counters, private halves and the expiry index.

    Returns:
        How many private halves were looked at.
    """
    keys = inspection.keys

    def item(key_id: bytes) -> Item:
        name = keys.vault(decode_name(key_id))
        valid = int(parse_id(key_id) is not None)
        looking = (vault.scope.read_clock(), key_id, valid, inspection.mode, TTL_MS, GRACE_MS)
        call = Call(CHECK_KEY, (name, keys.vault_expiry, keys.vault_spent), looking)
        return Item(name, key_id, call)

    # A walk may come by a key twice.
    looked_at: set[str] = set()
    faulty: list[bytes] = []
    async for page in inspection.walk({"private_half"}):
        rows = page["private_half"]
        looked_at.update(row.name for row in rows)
        faulty += await inspection.examine(item(row.ids[0].encode()) for row in rows)
    # One of the wrong type has been noted.
    with suppress(CorruptEntryError):
        async for entries in walk_index(vault.scope, keys.vault_expiry):
            faulty += await inspection.examine_entries([item(member) for member, _ in entries])
    # At the end, since a key that isn't in the index as it should be counts all the same.
    arguments: tuple[Argument, ...] = (inspection.mode, keys.vault_prefix, *dict.fromkeys(faulty))
    call = Call(CHECK_COUNTERS, (keys.vault_stats, keys.vault_expiry), arguments)
    await inspection.examine([Item(keys.vault_stats, b"", call)])
    return len(looked_at)
