"""The Lua scripts: each an atomic operation in ``lua/NAME-N.lua``, N its number of KEYS.

A script's header comment is its contract. ``-- Uses: a, b`` puts ``lua/shared/a.lua`` and
``b.lua`` before it, and the names of :class:`Code` are constants in every script.
"""

import hashlib
import re
from enum import IntEnum
from functools import cached_property
from pathlib import Path

_LUA = Path(__file__).parent / "lua"
_KEYS_LINE = r"(?m)^-- KEYS: (.+)$"
_USES_LINE = r"(?m)^-- Uses: (.+)\n"


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
        name: its file name without ``.lua``: ``NAME-N``.

    Attributes:
        name: the name of the operation.
        key_count: how many KEYS it takes.
    """

    def __init__(self, name: str) -> None:
        self.name, _, key_count = name.rpartition("-")
        self.key_count = int(key_count)
        self._file = f"{name}.lua"

    @cached_property
    def source(self) -> str:
        """The Lua text, as the server gets it.

        Raises:
            ValueError: the header doesn't list as many KEYS as the file name says.
        """
        path = _LUA / self._file
        listed = re.search(_KEYS_LINE, path.read_text("utf-8"))
        if listed is None or listed[1].count(",") + 1 != self.key_count:
            raise ValueError(f"{self._file}: the header must list {self.key_count} KEYS")
        return _constants() + "".join(_with_shared(path, []))

    @cached_property
    def sha(self) -> str:
        """The SHA-1 of the source in hex, by which EVALSHA names it; it protects nothing."""
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


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


VAULT_STORE = Script("vault_store-4")
VAULT_BURN = Script("vault_burn-3")
VAULT_PURGE = Script("vault_purge-3")
VAULT_COUNTERS = Script("vault_counters-2")
VAULT_PUBLISHED = Script("vault_published-2")
VAULT_CHECK_COUNTERS = Script("vault_check_counters-2")
VAULT_CHECK_KEY = Script("vault_check_key-2")
INV_REGISTER = Script("inv_register-2")
INV_SET_PRIORITY = Script("inv_set_priority-6")
INV_FORGET = Script("inv_forget-6")
INV_STORE = Script("inv_store-8")
INV_SELECT = Script("inv_select-6")
INV_CONSUME = Script("inv_consume-6")
INV_RELEASE = Script("inv_release-5")
INV_COUNT_STALE = Script("inv_count_stale-3")
INV_COLLECT = Script("inv_collect-6")
INV_DROP_ORPHAN = Script("inv_drop_orphan-4")
LEASE_TAKE = Script("lease_take-1")
LEASE_DROP = Script("lease_drop-1")
INV_RESERVE = Script("inv_reserve-6")
INV_UNRESERVE = Script("inv_unreserve-2")
INV_CHECK_COIN = Script("inv_check_coin-5")
INV_CHECK_CLAIM = Script("inv_check_claim-1")
