"""What is done for one owner, and for the server that all of them are on."""

import logging
from typing import NamedTuple

from aqm_db import config
from aqm_db._io.facts import is_refusal, read_facts
from aqm_db._io.seam import Seam
from aqm_db._model.checks import check_days
from aqm_db._operations import Scope
from aqm_db._operations.clock import read_clock_record
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import AQMDatabaseError
from aqm_db.gc import AsyncGarbageCollector
from aqm_db.vault import AsyncSecureVault

_log = logging.getLogger("aqm_db.maintenance")
_REWRITE_ATTEMPTS = 3


class Removed(NamedTuple):
    """What was removed of an owner's data.

    Attributes:
        keys_deleted: cached coins.
        keys_purged: private halves.
    """

    keys_deleted: int
    keys_purged: int


class Care:
    """What is garbage, and what is old.

    Args:
        inactive_days: days without a message after which a contact's coins are collected.
        max_age_days: days after which private halves are purged.

    Raises:
        InvalidArgumentError: a number is out of range.

    Attributes:
        inactive_days: the one.
        max_age_days: the other.
    """

    def __init__(
        self,
        inactive_days: int = config.INV_GC_INACTIVE_DAYS,
        max_age_days: int = config.VAULT_PURGE_MAX_AGE_DAYS,
    ) -> None:
        self.inactive_days: int = check_days("inactive_days", inactive_days)
        self.max_age_days: int = check_days("max_age_days", max_age_days)

    async def care_for(
        self, vault: AsyncSecureVault, gc: AsyncGarbageCollector, scope: Scope
    ) -> Removed:
        """Collects an owner's garbage, and purges old private halves.

        Args:
            vault: what is purged.
            gc: what collects garbage.
            scope: whose inventory it is.
        """
        collected = await gc.garbage_collect(self.inactive_days)
        await _look_at_clock(scope)
        return Removed(collected.keys_deleted, await vault.purge_expired(self.max_age_days))


async def care_for_server(server: EmbeddedServer | None, seam: Seam) -> bool:
    """Has an embedded server's log cut, and its append-only file written anew.

    So what was burned leaves the disk.

    Args:
        server: the server; None if it's another one, of which nothing is done.
        seam: asks it.

    Returns:
        Whether a rewrite was begun; not if one is going on.
    """
    if server is None:
        return False
    server.trim_log()
    attempts = _REWRITE_ATTEMPTS
    while not (await read_facts(seam, "persistence")).is_rewriting:
        attempts -= 1
        try:
            await seam.read(("BGREWRITEAOF",))
        except AQMDatabaseError as error:
            # The server's own may have begun since, or one that was in the way have ended.
            if not (attempts and is_refusal(error)):
                raise
        else:
            return True
    return False


async def _look_at_clock(scope: Scope) -> None:
    """Logs that the server's clock has jumped, since nothing is erased by it for a while."""
    record = await read_clock_record(scope.seam, scope.keys.inv_watch)
    if record is not None and record.jump:
        _log.warning("clock_jumped", extra={"seconds": record.jump // 1000})
