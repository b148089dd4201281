"""Whether a server that says that a change is on its disk can be believed.

Redis can be from 8.0 on. Valkey (8.1.8, 9.1.2) and Redis 7.4 answer WAITAOF before the fsync if
that comes once a second, so they can be only where appendfsync is ``always``.
"""

from typing import Any, Final

from aqm_db.errors import AccessDeniedError, AQMDatabaseError, InvalidArgumentError

from .facts import Facts, is_refusal, parse_greeting, parse_settings, read_unless_refused
from .seam import Command, Seam

GREET: Final[Command] = ("HELLO",)
ASK_POLICY: Final[Command] = ("CONFIG", "GET", "appendfsync")
SET_ALWAYS: Final[Command] = ("CONFIG", "SET", "appendfsync", "always")
NEEDED: Final = "WAITAOF takes Redis 7.2, or Valkey, and an append-only file"
REMEDY: Final = (
    "Set appendfsync to always, at once (CONFIG SET appendfsync always) and in the server's "
    "configuration file, as on its replicas."
)


async def check_fsync(seam: Seam, *, is_embedded: bool) -> None:
    """Refuses a server that can't tell whether a change is on its disk, or isn't to be believed.

    Args:
        seam: asks the server.
        is_embedded: whether it's the library's own: its setting is changed, until it ends.

    Raises:
        InvalidArgumentError: it has no WAITAOF, or no append-only file; or it answers too early.
        AccessDeniedError: the user may not ask for what that depends on.
    """
    try:
        # Its own connection has written nothing, so this waits for nothing.
        await seam.read(("WAITAOF", 1, 0, 1))
    except AQMDatabaseError as error:
        if not is_refusal(error):
            raise
        raise InvalidArgumentError("confirm_fsync", f"{NEEDED}: {error}") from error
    if is_embedded:
        await seam.read(SET_ALWAYS)
    facts = await _greet(seam)
    if doubt := find_doubt(facts, await _read_policy(seam, facts)):
        raise InvalidArgumentError("confirm_fsync", f"{doubt} {REMEDY}")


def find_doubt(facts: Facts, policy: str | None) -> str:
    """Why nothing that a server says of its disk counts, as a sentence; empty if it does.

    Args:
        facts: of the server.
        policy: its appendfsync; None if it doesn't tell.
    """
    if policy == "always" or (facts.waits_for_fsync and policy != "no"):
        return ""
    name = facts.name or "the server"
    if policy is None:
        return f"{name} doesn't tell whether appendfsync is always, and else confirms too early."
    if policy == "no":
        return f"{name} never asks for its file to be on the disk (appendfsync is no)."
    return f"{name} confirms a change before its disk has it (appendfsync is {policy})."


def parse_policy(reply: Any) -> str | None:
    """What ``ASK_POLICY`` was answered; None if the server didn't tell."""
    return parse_settings([reply]).appendfsync


async def _greet(seam: Seam) -> Facts:
    replies = await read_unless_refused(seam, GREET)
    return parse_greeting(replies[0]) if replies else Facts({})


async def _read_policy(seam: Seam, facts: Facts) -> str | None:
    try:
        [reply] = await seam.read(ASK_POLICY)
    except AccessDeniedError as error:
        if facts.waits_for_fsync:
            return None
        # It's so for every change, until somebody gives the user the permission.
        raise AccessDeniedError(
            f"{error}, and nothing else tells whether {facts.name or 'the server'} confirms too "
            "early: give the user +config|get"
        ) from error
    except AQMDatabaseError as error:
        if not is_refusal(error):
            raise
        return None
    return parse_policy(reply)
