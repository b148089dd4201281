"""The integrity check of the vault."""

from collections.abc import AsyncIterator

from aqm_db._io.seam import SCAN_COUNT, Argument, Call
from aqm_db._lua.loader import Script
from aqm_db._model.keys import parse_id
from aqm_db._operations.private_halves import GRACE_MS, TTL_MS
from aqm_db.errors import AQMDatabaseError
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
        call = Call(CHECK_KEY, (name, keys.vault_expiry), looking)
        return Item(name, key_id, call)

    looked_at = 0
    faulty: list[bytes] = []
    async for page in inspection.walk({"private_half"}):
        rows = page["private_half"]
        looked_at += len(rows)
        faulty += await inspection.examine(item(row.ids[0].encode()) for row in rows)
    async for members in _walk_index(inspection):
        faulty += await inspection.examine_entries([item(member) for member in members])
    # At the end, since a key that isn't in the index as it should be counts all the same.
    arguments: tuple[Argument, ...] = (inspection.mode, keys.vault_prefix, *dict.fromkeys(faulty))
    call = Call(CHECK_COUNTERS, (keys.vault_stats, keys.vault_expiry), arguments)
    await inspection.examine([Item(keys.vault_stats, b"", call)])
    return looked_at


async def _walk_index(inspection: Inspection) -> AsyncIterator[list[bytes]]:
    """Walks over the expiry index (ZSCAN), page by page; not if it has the wrong type."""
    cursor = b"0"
    while True:
        [reply] = await inspection.seam.read(
            ("ZSCAN", inspection.keys.vault_expiry, cursor, "COUNT", SCAN_COUNT)
        )
        if isinstance(reply, AQMDatabaseError):
            return
        cursor, page = reply
        yield page[::2]
        if cursor == b"0":
            return
