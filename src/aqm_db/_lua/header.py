"""A script's header comment: its contract, from which its KEYS and ARGV get their names.

::

    -- KEYS: row, meta, queues[tier]
    -- ARGV: now (ms), mode ('delete' or 'count'), caps[tier][priority] (count), lease?, ids ...
    -- Runs: EXISTS row, HGET meta, ZADD queues

Each name is a local variable of the script. One with ``[tier]`` or ``[priority]`` is a table that
has an item for each of them; ``?`` is nil if the call ends before it; ``...`` is a list of all
that are left. What has a unit is a number: ``ms``, ``bytes`` or ``count``, nil if it's empty.
A list that is too long for a line goes on in another line that begins as the first one.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

from aqm_db._model.tiers import PRIORITIES, TIERS

# Compiled when a script is first used, and kept by re: no import pays for it.
_ITEM = (
    r"(?P<name>[a-z_]+)(?P<indexes>(?:\[(?:tier|priority)\])*)\??"
    r"(?: \((?:(?P<unit>ms|bytes|count)|'[^)]+')\))?(?P<rest>(?: \.\.\.)?)"
)
_ROOM = 3
_INDEXES: dict[str, Sequence[str]] = {"tier": TIERS, "priority": PRIORITIES}


class Parameter(NamedTuple):
    """A name in a header.

    Attributes:
        name: the local variable.
        indexes: what its items are found by, from the outermost table to the innermost one:
            ``tier``, ``priority``; none if it is one value.
        is_number: whether each of its values is a number.
        is_rest: whether it's all that are left.
    """

    name: str
    indexes: tuple[str, ...]
    is_number: bool
    is_rest: bool


class Header(NamedTuple):
    """What a script's header says.

    Attributes:
        keys: its KEYS.
        arguments: its ARGV.
    """

    keys: tuple[Parameter, ...]
    arguments: tuple[Parameter, ...]

    def write_locals(self, is_wanted: Callable[[str], bool] = bool) -> str:
        """The Lua that gives values their names.

        Args:
            is_wanted: says of which names; of all, if nothing else is said.
        """
        return "".join(
            line
            for table, parameters in (("KEYS", self.keys), ("ARGV", self.arguments))
            for parameter, line in _write_locals(table, parameters)
            if is_wanted(parameter.name)
        )


def read_header(text: str) -> Header:
    """Reads the header of a script.

    Raises:
        ValueError: it doesn't list its KEYS and ARGV, or names none of the forms above.
    """
    keys, arguments = (
        tuple(map(_parse_parameter, list_items(text, part))) for part in ("KEYS", "ARGV")
    )
    if not keys or not arguments:
        raise ValueError("the header must list KEYS and ARGV")
    return Header(keys, arguments)


def list_items(text: str, part: str) -> list[str]:
    """The items of all lines of a header that begin with a word."""
    lines: list[str] = re.findall(rf"(?m)^-- {part}: (.+)$", text)
    return [item for line in lines for item in line.split(", ")]


def _parse_parameter(item: str) -> Parameter:
    found = re.fullmatch(_ITEM, item)
    if found is None:
        raise ValueError(f"{item!r} is no name of a key or an argument")
    return Parameter(
        found["name"],
        tuple(re.findall(r"\w+", found["indexes"])),
        is_number=found["unit"] is not None,
        is_rest=bool(found["rest"]),
    )


def _write_locals(table: str, parameters: Sequence[Parameter]) -> Iterator[tuple[Parameter, str]]:
    positions = count(1)
    for each in parameters:
        if each.is_rest:
            before = next(positions) - 1
            # A list that has room for some needn't grow for them.
            some = ", ".join(f"{table}[{before + place}]" for place in range(1, _ROOM + 1))
            loop = f"for place = {before + _ROOM + 1}, #{table} do\n"
            item = f"  {each.name}[place - {before}] = {table}[place]\n"
            yield each, f"local {each.name} = {{{some}}}\n{loop}{item}end\n"
        else:
            value = _write_value(table, each, each.indexes, positions)
            yield each, f"local {each.name} = {value}\n"


def _write_value(
    table: str, parameter: Parameter, indexes: Sequence[str], positions: Iterator[int]
) -> str:
    if indexes:
        items = (
            f"{index} = {_write_value(table, parameter, indexes[1:], positions)}"
            for index in _INDEXES[indexes[0]]
        )
        return f"{{{', '.join(items)}}}"
    value = f"{table}[{next(positions)}]"
    return f"tonumber({value})" if parameter.is_number else value
