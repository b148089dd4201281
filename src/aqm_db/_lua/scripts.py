"""The Lua scripts, each an atomic operation: a folder is what they are about, a file what they do.

A script's header comment is its contract. ``-- Uses: a, b`` puts ``shared/a.lua`` and ``b.lua``
before it, and the names of :class:`Code` are constants in every script.
"""

import hashlib
import re
from enum import IntEnum
from functools import cached_property
from pathlib import Path

_LUA = Path(__file__).parent
_KEYS_LINE = r"(?m)^-- KEYS: (.+)$"
_USES_LINE = r"(?m)^-- Uses: (.+)\n"
_PREFIXES = {"inventory": "inv", "vault": "vault", "turn": "turn"}
"""What the names of operations begin with, by folder."""


class Code(IntEnum):
    """The first item of every reply: how the operation ended."""

    OK = 0
    NOT_FOUND = 1
    EXISTS = 2
    USED = 3
    BURNED = 4
    NOT_REGISTERED = 5
    BUDGET = 6
    CORRUPT = 7
    STALE = 8
    NO_SLOT = 9


class Script:
    """One atomic operation on the server; its file is read when it's first used.

    Args:
        place: its folder and its file's name: ``inventory/select``.

    Attributes:
        name: the name of the operation.
    """

    def __init__(self, place: str) -> None:
        folder, _, operation = place.partition("/")
        self.name = f"{_PREFIXES[folder]}_{operation}"
        self._file = f"{place}.lua"

    @cached_property
    def key_count(self) -> int:
        """How many KEYS it takes, as its header says."""
        return len(_listed_keys(_LUA / self._file))

    @cached_property
    def source(self) -> str:
        """The Lua text, as the server gets it."""
        path = _LUA / self._file
        return _constants() + "".join(_with_shared(path, []))

    @cached_property
    def sha(self) -> str:
        """The SHA-1 of the source in hex, by which EVALSHA names it; it protects nothing."""
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


def _listed_keys(path: Path) -> list[str]:
    """The names of a script's KEYS.

    Raises:
        ValueError: its header doesn't list them.
    """
    listed = re.search(_KEYS_LINE, path.read_text("utf-8"))
    if listed is None:
        raise ValueError(f"{path.name}: the header must list KEYS")
    return listed[1].split(", ")


def _with_shared(path: Path, seen: list[str]) -> list[str]:
    """The texts of what a file uses, each once and before its user, and the file's own."""
    text = path.read_text("utf-8")
    uses = re.search(_USES_LINE, text)
    parts: list[str] = []
    for name in uses[1].split(", ") if uses else []:
        if name not in seen:
            seen.append(name)
            parts += _with_shared(_LUA / "shared" / f"{name}.lua", seen)
    return [*parts, text]


def _constants() -> str:
    names = ", ".join(code.name for code in Code)
    values = ", ".join(str(code.value) for code in Code)
    return f"local {names} = {values}\n"


VAULT_STORE = Script("vault/store")
VAULT_BURN = Script("vault/burn")
VAULT_PURGE = Script("vault/purge")
VAULT_COUNTERS = Script("vault/counters")
VAULT_PUBLISHED = Script("vault/published")
VAULT_CHECK_COUNTERS = Script("vault/check_counters")
VAULT_CHECK_KEY = Script("vault/check_key")
INV_REGISTER = Script("inventory/register")
INV_SET_PRIORITY = Script("inventory/set_priority")
INV_FORGET = Script("inventory/forget")
INV_STORE = Script("inventory/store")
INV_SELECT = Script("inventory/select")
INV_CONSUME = Script("inventory/consume")
INV_RELEASE = Script("inventory/release")
INV_COUNT_STALE = Script("inventory/count_stale")
INV_COLLECT = Script("inventory/collect")
INV_DROP_ORPHAN = Script("inventory/drop_orphan")
TURN_TAKE = Script("turn/take")
TURN_DROP = Script("turn/drop")
INV_RESERVE = Script("inventory/reserve")
INV_UNRESERVE = Script("inventory/unreserve")
INV_CHECK_COIN = Script("inventory/check_coin")
INV_CHECK_CLAIM = Script("inventory/check_claim")
