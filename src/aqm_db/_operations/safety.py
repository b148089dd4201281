"""What makes a server unsafe for keys: asked when a database is opened, and by the doctor."""

import logging
from typing import NamedTuple

from aqm_db._io.facts import Facts, read_facts
from aqm_db._io.seam import Seam
from aqm_db.errors import UnsafeServerError

_log = logging.getLogger("aqm_db")
NEARLY_FULL_PERCENT = 80
"""Of its memory limit: from here on a server may soon refuse to store keys."""


class Defect(NamedTuple):
    """What is wrong with a server, or with what its user may do.

    Attributes:
        message: a sentence of what is so.
        remedy: a sentence of what to do.
    """

    message: str
    remedy: str


async def check_safety(seam: Seam, *, is_shared: bool = False) -> None:
    """Refuses a server that is known to be unsafe; one that doesn't tell isn't.

    Args:
        seam: asks the server.
        is_shared: whether owners share it: then what may become unsafe is logged, too.

    Raises:
        UnsafeServerError: it evicts keys, or is a replica.
    """
    facts = await read_facts(seam, "memory", "replication")
    defects = [defect for defect in (find_eviction(facts), find_replica(facts)) if defect]
    if defects:
        raise UnsafeServerError(" ".join(f"{message} {remedy}" for message, remedy in defects))
    risk = find_memory_risk(facts) if is_shared else None
    if risk is not None:
        _log.warning("memory_at_risk", extra={"reason": risk.message, "remedy": risk.remedy})


def find_eviction(facts: Facts) -> Defect | None:
    """Whether the server deletes keys that are in use, to make room.

    A policy without a limit does nothing, so it's the two together.
    """
    if facts.evicts_when_full and facts.memory_limit:
        return Defect(
            "The server deletes keys when its memory is full (maxmemory-policy is "
            f"{facts.eviction_policy}).",
            "Set maxmemory-policy to noeviction.",
        )
    return None


def find_memory_risk(facts: Facts) -> Defect | None:
    """Whether the server would delete keys once it has a limit, or is about to refuse writes."""
    if facts.evicts_when_full:
        return Defect(
            "The server would delete keys once it has a memory limit (maxmemory-policy is "
            f"{facts.eviction_policy}, and maxmemory is 0).",
            "Set maxmemory-policy to noeviction.",
        )
    limit, used = facts.memory_limit, facts.used_memory or 0
    if limit and used * 100 >= limit * NEARLY_FULL_PERCENT:
        return Defect(
            "The server's memory is nearly full, and it will refuse all owners' writes "
            f"({used} of {limit} bytes).",
            "Raise maxmemory, or delete what isn't needed.",
        )
    return None


def find_replica(facts: Facts) -> Defect | None:
    """Whether the server is a replica; one that takes writes loses them to its primary's."""
    if facts.is_replica:
        return Defect(
            "The server is a replica, which refuses writes, or loses them later (role is slave).",
            "Connect to its primary, or make it one (REPLICAOF NO ONE).",
        )
    return None
