"""The Lua scripts, each an atomic operation: a folder is what they are about, a file what they do.

A script's header is its contract, and names its KEYS and ARGV (``header.py``). ``-- Uses: a, b.c``
puts ``shared/a.lua`` and ``shared/b.lua`` before it, for the ``a`` and the ``c`` that they define.
The names of :class:`Code` are constants in every script. So are these, where it needs them:
``TIERS`` and ``PRIORITIES`` are lists of all of them, best first, and ``ACTIVE`` has the name of
each tier's counter of active keys.
"""

import hashlib
import re
from enum import IntEnum
from functools import cached_property
from pathlib import Path

from aqm_db._model.tiers import PRIORITIES, TIERS, active_field

from .header import Header, header_of, listed

_LUA = Path(__file__).parent
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
        self._place = place

    @cached_property
    def header(self) -> Header:
        """What its header says.

        Raises:
            ValueError: it isn't in the form of a header.
        """
        return header_of(_text_of(self._place))

    @cached_property
    def source(self) -> str:
        """The Lua text, as the server gets it."""
        text = _text_of(self._place)
        shared = "".join(_texts_used_by(text, []))
        return f"{_constants(shared + text)}{shared}{self.header.locals()}{text}"

    @cached_property
    def sha(self) -> str:
        """The SHA-1 of the source in hex, by which EVALSHA names it; it protects nothing."""
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def commands(self) -> tuple[str, ...]:
        """What it runs, shared files included: commands, each with the names of its keys."""
        return tuple(listed(self.source, "Runs"))


def scripts_in(folder: str) -> list[Script]:
    """All scripts of a folder."""
    return [Script(f"{folder}/{path.stem}") for path in sorted((_LUA / folder).glob("*.lua"))]


def _text_of(place: str) -> str:
    return (_LUA / f"{place}.lua").read_text("utf-8")


def _texts_used_by(text: str, seen: list[str]) -> list[str]:
    """The texts of the shared files that a file uses, each once and before its user."""
    texts: list[str] = []
    for item in listed(text, "Uses"):
        name, _, _ = item.partition(".")
        if name not in seen:
            seen.append(name)
            shared = _text_of(f"shared/{name}")
            texts += [*_texts_used_by(shared, seen), shared]
    return texts


def _constants(text: str) -> str:
    names = ", ".join(code.name for code in Code)
    values = ", ".join(str(code.value) for code in Code)
    tables = {
        "TIERS": ", ".join(f"'{tier}'" for tier in TIERS),
        "PRIORITIES": ", ".join(f"'{priority}'" for priority in PRIORITIES),
        "ACTIVE": ", ".join(f"{tier} = '{active_field(tier)}'" for tier in TIERS),
    }
    code = re.sub(r"--.*", "", text)
    needed = (
        f"local {name} = {{{items}}}\n"
        for name, items in tables.items()
        if re.search(rf"\b{name}\b", code)
    )
    return f"local {names} = {values}\n{''.join(needed)}"
