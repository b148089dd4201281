"""The Lua scripts: each an atomic operation in ``lua/NAME-N.lua``, N its number of KEYS.

A script's header comment is its contract. ``-- Uses: a, b`` puts ``lua/shared/a.lua`` and
``b.lua`` before it, and the names of :class:`Code` are constants in every script.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum
from importlib.resources import files
from importlib.resources.abc import Traversable

_LUA = files("aqm_db") / "lua"
_KEYS_LINE = re.compile(r"^-- KEYS: (.+)$", re.MULTILINE)
_USES_LINE = re.compile(r"^-- Uses: (.+)\n", re.MULTILINE)


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


@dataclass(frozen=True, slots=True)
class Script:
    """One atomic operation on the server.

    Attributes:
        name: its file name without ``-N.lua``.
        key_count: how many KEYS it takes.
        source: the Lua text, as the server gets it.
        sha: the SHA-1 of the source in hex, as EVALSHA asks for it.
    """

    name: str
    key_count: int
    source: str
    sha: str


def load(name: str) -> Script:
    """The script whose file is ``lua/NAME-N.lua``.

    Raises:
        ValueError: the header doesn't list as many KEYS as the file name says.
    """
    path = next(path for path in _LUA.iterdir() if path.name.rpartition("-")[0] == name)
    key_count = int(path.name.rpartition("-")[2].removesuffix(".lua"))
    text = path.read_text("utf-8")
    listed = _KEYS_LINE.search(text)
    if listed is None or listed[1].count(",") + 1 != key_count:
        raise ValueError(f"{path.name}: the header must list {key_count} KEYS")
    source = _constants() + "".join(_with_shared(path, []))
    return Script(name, key_count, source, _sha(source))


def _with_shared(path: Traversable, seen: list[str]) -> list[str]:
    """The texts of what a file uses, each once and before its user, and the file's own."""
    text = path.read_text("utf-8")
    uses = _USES_LINE.search(text)
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


def _sha(source: str) -> str:
    # Redis names scripts by SHA-1; it protects nothing.
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


VAULT_STORE = load("vault_store")
VAULT_BURN = load("vault_burn")
VAULT_PURGE = load("vault_purge")
VAULT_COUNTERS = load("vault_counters")
INV_REGISTER = load("inv_register")
INV_SET_PRIORITY = load("inv_set_priority")
INV_STORE = load("inv_store")
INV_SELECT = load("inv_select")
INV_CONSUME = load("inv_consume")
INV_RELEASE = load("inv_release")
INV_COLLECT = load("inv_collect")
INV_DROP_ORPHAN = load("inv_drop_orphan")
