"""What makes a server unsafe for keys: asked when a database is opened, and by the doctor."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from aqm_db.errors import AccessDeniedError, AQMDatabaseError, UnsafeServerError

from .seam import Argument, Seam

Facts: TypeAlias = Mapping[str, str]
"""What a server tells of itself (INFO), by the names of its fields."""
Problem: TypeAlias = tuple[str, str]
"""A sentence of what is so, and one of what to do."""


async def check_safe(seam: Seam) -> None:
    """Refuses a server that is known to be unsafe; one that doesn't tell isn't.

    Raises:
        UnsafeServerError: it evicts keys, or is a replica.
    """
    facts = await facts_of(seam, "memory", "replication")
    problems = [problem for problem in (eviction_in(facts), replica_in(facts)) if problem]
    if problems:
        raise UnsafeServerError(" ".join(f"{message} {remedy}" for message, remedy in problems))


async def facts_of(seam: Seam, *sections: str) -> Facts:
    """Some sections of INFO; nothing if the user may not ask, or the server doesn't know it."""
    texts = await told(seam, *(("INFO", section) for section in sections))
    lines = b"\n".join(texts or []).decode("utf-8", "replace").splitlines()
    return {name: value for name, _, value in (line.partition(":") for line in lines)}


async def told(seam: Seam, *commands: Sequence[Argument]) -> list[Any] | None:
    """The replies to reading commands; None if the server refuses them."""
    try:
        return await seam.read(*commands)
    except AQMDatabaseError as error:
        if is_refusal(error) or isinstance(error, AccessDeniedError):
            return None
        raise


def is_refusal(error: AQMDatabaseError) -> bool:
    """Whether the server doesn't know a command, or can't run it: now, later, and for any user."""
    # Each other reason has a class of its own.
    return type(error) is AQMDatabaseError


def eviction_in(facts: Facts) -> Problem | None:
    """Whether the server deletes keys that are in use, to make room.

    A policy without a limit does nothing, so it's the two together.
    """
    if evicts_when_full(facts) and memory_limit(facts):
        policy = facts["maxmemory_policy"]
        return (
            f"The server deletes keys when its memory is full (maxmemory-policy is {policy}).",
            "Set maxmemory-policy to noeviction.",
        )
    return None


def replica_in(facts: Facts) -> Problem | None:
    """Whether the server is a replica; one that takes writes loses them to its primary's."""
    if facts.get("role") == "slave":
        return (
            "The server is a replica, which refuses writes, or loses them later (role is slave).",
            "Connect to its primary, or make it one (REPLICAOF NO ONE).",
        )
    return None


def evicts_when_full(facts: Facts) -> bool:
    """Whether its policy is another than to refuse writes."""
    return facts.get("maxmemory_policy", "noeviction") != "noeviction"


def memory_limit(facts: Facts) -> int:
    """The most bytes that it may use, 0 for no limit."""
    return number_in(facts, "maxmemory")


def number_in(facts: Facts, name: str) -> int:
    """A whole number of INFO; 0 for what is none."""
    value = facts.get(name, "")
    return int(value) if value.isdigit() else 0
