"""The Lua scripts, each an atomic operation: a folder is what they are about, a file what they do.

A script's header is its contract, and names its KEYS and ARGV (``header.py``). ``-- Uses: a, b.c``
puts ``shared/a.lua`` and ``shared/b.lua`` before it, for the ``a`` and the ``c`` that they define.
The names of :class:`Code` are constants in every script. So are these, where it needs them:
``TIERS`` and ``PRIORITIES`` are lists of all of them, best first, ``ACTIVE`` has the name of each
tier's counter of active keys; the others are times (ms): how long coins, the memory of used ones,
and claims are kept, when a request is too old to be executed (``LATE``), and what there is about
clocks that err or jump.

What stands above a line ``-- Otherwise:`` runs before anything else is defined, which would take
the server a tenth of its time: it is what nearly all calls come to.
"""

import hashlib
import re
from collections.abc import Iterable, Set as AbstractSet
from enum import IntEnum
from functools import cached_property
from pathlib import Path

from aqm_db import config
from aqm_db._model.tiers import PRIORITIES, TIERS, name_active_counter

from .header import Header, list_items, read_header

_LUA = Path(__file__).parent
_PREFIXES = {"inventory": "inv", "vault": "vault", "turn": "turn", "layout": "layout"}
"""What the names of operations begin with, by folder."""
_SETTLING = "IS_SETTLING"
_OTHERWISE = "-- Otherwise:\n"
_FIRST = "local KEYS, ARGV = KEYS, ARGV\n"
"""What is global is looked up each time."""
CLOCK_SLACK_MS = 1000
"""By how much a client may err about a server's clock before it's told."""


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
    UNKNOWN = 10
    COIN_EXPIRED = 11
    EXPIRED = 12
    UNFINISHED = 13


class Script:
    """One atomic operation on the server; its file is read when it's first used.

    Args:
        place: its folder and its file's name: ``inventory/select``.

    Attributes:
        name: the name of the operation.
    """

    def __init__(self, place: str) -> None:
        folder, _, operation = place.partition("/")
        self.name: str = f"{_PREFIXES[folder]}_{operation}"
        self._place = place

    @cached_property
    def header(self) -> Header:
        """What its header says.

        Raises:
            ValueError: it isn't in the form of a header.
        """
        return read_header(_read_text(self._place))

    @cached_property
    def is_dated(self) -> bool:
        """Whether its first argument is when the request was first sent, by the server's clock."""
        return self.header.arguments[0].name == "sent"

    @cached_property
    def heeds_settling(self) -> bool:
        """Whether it does something else once its caller has gone: a sign before sent says so."""
        return _SETTLING in _read_text(self._place)

    @cached_property
    def is_reading(self) -> bool:
        """Whether it only reads, so that nothing is there to be confirmed."""
        return "\n-- Again: it only reads.\n" in _read_text(self._place)

    @cached_property
    def source(self) -> str:
        """The Lua text, as the server gets it."""
        text = _read_text(self._place)
        first, mark, rest = text.rpartition(_OTHERWISE)
        shared = "".join(_read_shared(text, []))
        words = set(re.findall(r"\w+", _strip_comments(first)))
        others = set(re.findall(r"\w+", _strip_comments(shared + rest))) - words
        return "".join(
            (
                _FIRST,
                *(
                    _write_constants(words),
                    self.header.write_locals(words.__contains__),
                    first,
                    mark,
                ),
                *(_write_constants(others), shared, self.header.write_locals(others.__contains__)),
                rest,
            )
        )

    @cached_property
    def sha(self) -> str:
        """The SHA-1 of the source in hex, by which EVALSHA names it; it protects nothing."""
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def commands(self) -> tuple[str, ...]:
        """What it runs, shared files included: commands, each with the names of its keys."""
        return tuple(list_items(self.source, "Runs"))


def list_scripts(folder: str) -> list[Script]:
    """All scripts of a folder."""
    return [Script(f"{folder}/{path.stem}") for path in sorted((_LUA / folder).glob("*.lua"))]


def _read_text(place: str) -> str:
    return (_LUA / f"{place}.lua").read_text("utf-8")


def _read_shared(text: str, seen: list[str]) -> list[str]:
    """The texts of the shared files that a file uses, each once and before its user."""
    texts: list[str] = []
    for item in list_items(text, "Uses"):
        name, _, _ = item.partition(".")
        if name not in seen:
            seen.append(name)
            shared = _read_text(f"shared/{name}")
            texts += [*_read_shared(shared, seen), shared]
    return texts


def _strip_comments(text: str) -> str:
    return re.sub(r"--.*", "", text)


def _write_constants(words: AbstractSet[str]) -> str:
    """Those that are among some words."""
    values_of = {
        "TIERS": _write_table(f"'{tier}'" for tier in TIERS),
        "PRIORITIES": _write_table(f"'{priority}'" for priority in PRIORITIES),
        "ACTIVE": _write_table(f"{tier} = '{name_active_counter(tier)}'" for tier in TIERS),
        "COIN_TTL": str(config.INV_COIN_TTL_SECONDS * 1000),
        "USED_TTL": str(config.INV_USED_TTL_SECONDS * 1000),
        # As text, which some servers write faster than a number.
        "CLAIM_TTL": f"'{config.INV_CLAIM_TTL_SECONDS * 1000}'",
        "LATE": str(config.INV_CLAIM_TTL_SECONDS * 1000 - 2 * CLOCK_SLACK_MS),
        "CLOCK_SLACK": str(CLOCK_SLACK_MS),
        "LONGEST_PAUSE": str(config.CLOCK_PAUSE_SECONDS * 1000),
        "CONFIRM_TIME": str(config.CLOCK_CONFIRM_SECONDS * 1000),
        _SETTLING: "string.sub(ARGV[1], 1, 1) == '+'",
        **{code.name: str(code.value) for code in Code},
    }
    return "".join(
        f"local {name} = {value}\n" for name, value in values_of.items() if name in words
    )


def _write_table(items: Iterable[str]) -> str:
    return f"{{{', '.join(items)}}}"
