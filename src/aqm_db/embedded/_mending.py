"""Files that a full disk or the end of the machine has damaged: how they become whole again."""

import contextlib
import itertools
import logging
import mmap
import os
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from ._files import list_cut_off, list_files, open_private
from ._units import Content, Reading, read_units

_log = logging.getLogger("aqm_db.embedded")

_LINE_END: Final = b"\r\n"
_COPY: Final = "temp-mended.aof"
"""What is called so is removed when the server starts, should it be left by a process that died."""
_ZEROES: Final = bytes(64)
_PIECE: Final = 1 << 20
_SELECT: Final = b"*2\r\n$6\r\nSELECT\r\n"
_BEGINNINGS: Final = (_SELECT, b"*1\r\n$5\r\nMULTI\r\n" + _SELECT)


def looks_whole(directory: Path) -> bool:
    """Whether each file begins and ends as a server begins and ends it.

    A server would take a value whose end is zeroes for a whole one, and what belongs to another
    database for what belongs to the first.
    """
    return all(map(_looks_whole, list_files(directory)))


def is_whole(directory: Path) -> bool:
    """Whether there's nothing to mend; where zeroes are, a second incident may have left them."""
    for path in list_files(directory):
        with _opened(path) as content:
            reading = read_units(content)
            if reading is None or reading[:3] != (len(content), (), 0):
                return False
    return True


def has_zeroes(directory: Path) -> bool:
    """Whether there may be zeroes between units; some values look the same."""
    for path in list_files(directory):
        with _opened(path) as content:
            if content.find(_ZEROES) >= 0:
                return True
    return False


def mend_files(directory: Path) -> bool:
    """Cuts off what isn't whole, and takes out zeroes, with units that run into them.

    What is cut off or taken out is kept beside the file, byte for byte, unless it's zeroes only
    that were taken out. Where an end was cut off, nothing is left of a newer file, either.

    Args:
        directory: of a database whose server doesn't run.

    Returns:
        Whether anything was mended; nothing is if a file is damaged in another way.

    Raises:
        OSError: there's no room for it, or the files can't be used.
    """
    wounds: list[_Wound] = []
    is_whole = True
    database: bytes | None = None
    for path in list_files(directory):
        with _opened(path) as content:
            size = len(content)
            reading = read_units(content) if is_whole else Reading(0, (), 0, None)
        if reading is None:
            return False
        wounds.append(_find_wound(path, size, reading, database))
        database = reading.database or database
        is_whole = is_whole and reading.end == size
    has_mended = False
    # The newest first: should this process die meanwhile, the next one finds the same end.
    for wound in reversed(wounds):
        has_mended |= _mend(directory, wound)
    return has_mended


class _Wound(NamedTuple):
    """What is to be mended of a file.

    Attributes:
        path: where it is.
        size: how long it is.
        end: where it's cut off.
        holes: what is taken out, as of a reading.
        beginning: what is put before it.
    """

    path: Path
    size: int
    end: int
    holes: tuple[tuple[int, int], ...]
    beginning: bytes


def _find_wound(path: Path, size: int, reading: Reading, database: bytes | None) -> _Wound:
    """What is to be mended of a file that begins with some database selected before it.

    It selects one before its first unit, unless the server couldn't write when it began the file:
    then it begins with what the server had still to write to the one before. If there's none
    before, a rewrite had all of that in memory, and it's in the base.
    """
    holes, beginning = reading.holes, b""
    if reading.selected:
        if database is None:
            later = [hole for hole in holes if hole[0] >= reading.selected]
            holes = ((0, reading.selected), *later)
        else:
            beginning = b"%s$%d\r\n%s\r\n" % (_SELECT, len(database), database)
    return _Wound(path, size, reading.end, holes, beginning)


def _mend(directory: Path, wound: _Wound) -> bool:
    if wound.end < wound.size:
        _keep(directory, wound.path, wound.end, wound.size)
        with wound.path.open("r+b") as file:
            file.truncate(wound.end)
            os.fsync(file.fileno())
    if wound.holes or wound.beginning:
        _write_anew(directory, wound)
    return wound.end < wound.size or bool(wound.holes or wound.beginning)


def _looks_whole(path: Path) -> bool:
    with _opened(path) as content:
        begins = content[: max(map(len, _BEGINNINGS))].startswith(_BEGINNINGS)
        return not len(content) or (begins and content[-len(_LINE_END) :] == _LINE_END)


def _write_anew(directory: Path, wound: _Wound) -> None:
    copied = directory / _COPY
    with _opened(wound.path) as content:
        for begin, end in wound.holes:
            if _strip(content, begin, end):
                _keep(directory, wound.path, begin, end)
        with os.fdopen(open_private(copied, os.O_TRUNC), "wb") as copy:
            copy.write(wound.beginning)
            begin = 0
            for hole, end in (*wound.holes, (wound.end, wound.end)):
                _copy(content, begin, hole, copy)
                begin = end
            _sync(copy)
    copied.replace(wound.path)
    _sync_directory(wound.path.parent)
    removed = sum(end - begin for begin, end in wound.holes)
    _log.warning("file_mended", extra={"path": str(wound.path), "bytes": removed})


def _keep(directory: Path, path: Path, begin: int, end: int) -> None:
    """Keeps what is about to be cut off a file, or to be taken out of it."""
    kept = _choose_name(directory, path)
    copied = directory / _COPY
    with _opened(path) as content, os.fdopen(open_private(copied, os.O_TRUNC), "wb") as copy:
        _copy(content, begin, end, copy)
        _sync(copy)
    copied.rename(kept)
    _sync_directory(path.parent)
    _log.warning(
        "file_cut_off",
        extra={"path": str(path), "position": begin, "bytes": end - begin, "kept_in": str(kept)},
    )


def _choose_name(directory: Path, path: Path) -> Path:
    taken = list_cut_off(directory)
    names = (path.with_name(f"{path.name}.cut-{number}") for number in itertools.count(1))
    return next(name for name in names if name not in taken)


@contextlib.contextmanager
def _opened(path: Path) -> Generator[Content]:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _strip(content: Content, begin: int, end: int) -> bytes:
    return content[begin:end].strip(b"\0")


def _copy(content: Content, begin: int, end: int, copy: BinaryIO) -> None:
    positions = range(begin, end, _PIECE)
    copy.writelines(content[position : min(end, position + _PIECE)] for position in positions)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
