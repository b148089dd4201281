"""What an append-only file consists of, and where it stops making sense.

A unit is a command, or a transaction from its MULTI to its EXEC: what is executed as a whole, or
not at all.
"""

import mmap
import re
from typing import Final, NamedTuple, TypeAlias

Content: TypeAlias = bytes | mmap.mmap

_LINE_END: Final = b"\r\n"
_LONGEST_LINE: Final = 1024
"""More than any line has that isn't a value: a count, a length, or a time."""
_LEAST_ZEROES: Final = 64
"""As many in a row stand for something that is missing; a disk's block has far more."""
_FEW: Final = 2
_NOT_ZERO: Final = re.compile(rb"[^\0]")


class Reading(NamedTuple):
    """What could be read of a file.

    Attributes:
        end: where its last whole unit ends; what comes behind it is cut off.
        holes: from where to where there are zeroes between whole units, before that end, and units
            that run into them.
        selected: where the first unit begins that selects a database.
        database: the last one that is selected; None if none is.
    """

    end: int
    holes: tuple[tuple[int, int], ...]
    selected: int
    database: bytes | None


def read_units(content: Content) -> Reading | None:
    """Reads a file to its end, or to where something is missing.

    Valkey that met a full disk leaves zeroes between two units, and nothing is missing there: it
    wrote again, behind them, what it couldn't write. When it meets one again, it cuts off as much
    as it left zeroes before, and of units that were whole: these are lost, and what was written
    again begins behind zeroes all the same. Behind all other zeroes, which a machine leaves that
    dies before it wrote a block, no unit begins, and nothing can be trusted.

    Returns:
        None if the file is damaged in another way.
    """
    walk = _Walk()
    while walk.position < len(content):
        try:
            walk.add(*_read_command(content, walk.position))
        except _MissingError as missing:
            if content[missing.end : missing.end + 1] not in {b"*", b"#"}:
                break
            walk.skip(missing.end, is_empty=missing.begin == walk.end)
        except ValueError:
            if walk.is_behind_hole:
                break
            return None
    return walk.finish()


class _Walk:
    """How far a file was read.

    Attributes:
        position: where the next command begins.
        end: where the last whole unit ended.
    """

    def __init__(self) -> None:
        self.position = self.end = 0
        self._selected: int | None = None
        self._database: bytes | None = None
        self._begin = 0
        self._holes: list[tuple[int, int]] = []
        self._in_transaction = self._has_selected = self._is_lost = False

    @property
    def is_behind_hole(self) -> bool:
        """Whether nothing whole was found yet behind a hole."""
        return self._is_lost or bool(self._holes and self._holes[-1][1] == self.end)

    def add(self, position: int, words: list[bytes]) -> None:
        """Takes a command, which ends there."""
        self.position = position
        match words:
            case [b"MULTI"]:
                self._in_transaction = True
            case [b"EXEC"]:
                self._in_transaction = False
            case [b"SELECT", database]:
                self._has_selected = True
                self._database = database
            case _:
                pass
        if self._in_transaction:
            return
        if self._has_selected and self._selected is None:
            self._selected = self._begin
        if self._is_lost and self._has_selected:
            self._holes.append((self.end, self._begin))
            self._is_lost = False
        if not self._is_lost:
            self.end = position
        self._begin_unit()

    def skip(self, position: int, *, is_empty: bool) -> None:
        """Goes on behind zeroes, where a unit begins.

        Where a unit was lost, another database may have been selected in it. So it goes on only
        where a database is selected.
        """
        if is_empty:
            self._holes.append((self.end, position))
            self.end = position
        else:
            self._is_lost = True
        self.position = position
        self._in_transaction = False
        self._begin_unit()

    def finish(self) -> Reading:
        """What was found; what is lost to the end isn't a hole."""
        if self._holes and self._holes[-1][1] == self.end:
            self.end = self._holes.pop()[0]
        selected = self.end if self._selected is None else min(self._selected, self.end)
        return Reading(self.end, tuple(self._holes), selected, self._database)

    def _begin_unit(self) -> None:
        self._begin = self.position
        self._has_selected = False


class _MissingError(Exception):
    """Something is missing: the file ends here, or has zeroes.

    Args:
        begin: where they begin.
        end: where they end.
    """

    def __init__(self, begin: int, end: int) -> None:
        super().__init__()
        self.begin = begin
        self.end = end


def _read_command(content: Content, position: int) -> tuple[int, list[bytes]]:
    """Where a command ends, and its words unless there are more than two.

    Raises:
        _MissingError: it isn't whole.
        ValueError: it's none.
    """
    # However few there are: no command begins so.
    _check_zeroes(content, position, content[position : position + 1], 1)
    line, position = _read_line(content, position)
    words: list[bytes] = []
    if line.startswith(b"#"):
        # A time, which the server writes if it's told to.
        return position, words
    count = _read_number(line, b"*")
    for _ in range(count):
        line, position = _read_line(content, position)
        begin, position = position, position + _read_number(line, b"$")
        ending = content[position : position + 2]
        if len(ending) < len(_LINE_END):
            raise _MissingError(len(content), len(content))
        _check_zeroes(content, position, ending)
        if count <= _FEW:
            words.append(content[begin:position])
        position += len(_LINE_END)
    return position, words


def _read_line(content: Content, position: int) -> tuple[bytes, int]:
    end = content.find(_LINE_END, position, position + _LONGEST_LINE)
    line = content[position : position + _LONGEST_LINE if end < 0 else end]
    _check_zeroes(content, position, line)
    if end < 0:
        if position + len(line) == len(content):
            raise _MissingError(len(content), len(content))
        raise ValueError
    return line, end + len(_LINE_END)


def _read_number(line: bytes, mark: bytes) -> int:
    digits = line.removeprefix(mark)
    if digits == line or not digits.isdigit():
        raise ValueError
    return int(digits)


def _check_zeroes(content: Content, position: int, text: bytes, least: int = _LEAST_ZEROES) -> None:
    """Refuses zeroes in a text, which is what the content has at a position."""
    if 0 not in text:
        return
    begin = position + text.index(0)
    found = _NOT_ZERO.search(content, begin)
    end = found.start() if found else len(content)
    if end - begin < least and end < len(content):
        raise ValueError
    raise _MissingError(begin, end)
