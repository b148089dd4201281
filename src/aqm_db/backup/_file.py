"""The file of a backup: JSON, one record a line, between a header and a checksum."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, cast

from aqm_db.errors import InvalidArgumentError

Record: TypeAlias = dict[str, Any]
FORMAT = "aqm_db backup"
VERSION = 3
_READABLE = (1, 2, VERSION)
"""Files of version 1 don't say what was used, burned or has expired, and neither they nor those of
version 2 say how much they should hold; else they are the same."""
_CUT_OFF = "is no backup, or was cut off"
_encode = json.JSONEncoder(separators=(",", ":")).encode
_RECORDS_AT_ONCE = 100
_PAUSE = 0.0001
"""Seconds of rest after so many records: a thread that runs Python all the time lets the event loop
wait for 5 ms whenever that comes back from the system, and so for some 30 ms in one turn."""


def make_line(record: Record) -> bytes:
    """A record as it stands in a file."""
    return _encode(record).encode() + b"\n"


def write_records(path: Path, header: Record, lines: Iterable[bytes]) -> None:
    """Writes a file that its owner alone can read (0600): all of it, or nothing.

    Args:
        path: where to.
        header: what stands before the records.
        lines: the records, as :func:`make_line` makes them; many in one are hashed and written
            while other threads run.

    Raises:
        InvalidArgumentError: the file exists, or can't be written.
    """
    digest = hashlib.sha256()
    first = make_line({"format": FORMAT, "version": VERSION, **header})
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for some in chain([first], lines):
                    digest.update(some)
                    file.write(some)
                file.write(json.dumps({"sha256": digest.hexdigest()}).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            _publish(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise _make_error(path, error) from error


def read_records(path: Path, take: Callable[[int, object, bytes], None]) -> Record:
    """Reads a file, and checks that it's as it was written; returns its header.

    Args:
        path: which file.
        take: takes each record as it comes, before it's known whether the file is as it was
            written: the number of its line, what it says, and the line. It raises
            InvalidArgumentError where it doesn't understand one, and is given none after that.

    Raises:
        InvalidArgumentError: the file can't be read, is no backup, is of a later version, or was
            altered; or else what ``take`` has raised.
    """
    digest = hashlib.sha256()
    header: object = None
    fault: InvalidArgumentError | None = None
    number, last = 0, b""
    with closing(_read_lines(path)) as lines:
        for line in lines:
            if last:
                number += 1
                digest.update(last)
                value = _parse_line(last, number)
                if number == 1:
                    header = value
                elif fault is None:
                    fault = _try_to_take(take, number, value, last)
                if number % _RECORDS_AT_ONCE == 0:
                    time.sleep(_PAUSE)
            last = line
    checksum = _find_field(_parse_line(last, number + 1), "sha256")
    _check_header(header, checksum, digest.hexdigest())
    # What isn't as it was written needn't be understood.
    if fault is not None:
        raise fault
    return cast("Record", header)


def parse_lines(some: bytes) -> Iterator[Any]:
    """What some lines say that were read before."""
    # Line by line, as the file was: a carriage return ends none.
    return map(json.loads, BytesIO(some))


def _try_to_take(
    take: Callable[[int, object, bytes], None], number: int, value: object, line: bytes
) -> InvalidArgumentError | None:
    """What is wrong with a record; None if it was taken."""
    try:
        take(number, value, line)
    except InvalidArgumentError as error:
        return error
    return None


def _check_header(header: object, checksum: object, digest: str) -> None:
    """Refuses a file that is no backup, or not as it was written."""
    found = _find_field(header, "format")
    if found is None or checksum is None:
        raise InvalidArgumentError("path", _CUT_OFF)
    if found != FORMAT:
        raise InvalidArgumentError("path", "is no backup")
    if _find_field(header, "version") not in _READABLE:
        known = ", ".join(map(str, _READABLE))
        reason = f"is a backup of another version than this aqm_db reads: {known}"
        raise InvalidArgumentError("path", reason)
    if checksum != digest:
        raise InvalidArgumentError("path", "was altered: its checksum differs")


def _read_lines(path: Path) -> Generator[bytes]:
    """The lines of a file: no error of whoever takes them is the file's."""
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise _make_error(path, error) from error


def _publish(draft: Path, path: Path) -> None:
    """Gives a file its name, if no other has it."""
    try:
        # A link, where a rename would replace what is there.
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:
        # There are no links on a memory stick, and on many network shares, and each says so in its
        # way. If it's something else, what follows says that.
        _rename(draft, path)


def _rename(draft: Path, path: Path) -> None:
    """The same with an empty file, which takes the name first: nobody takes that for a backup."""
    path.touch(mode=0o600, exist_ok=False)
    try:
        draft.replace(path)
    except BaseException:
        path.unlink()
        raise


def _parse_line(line: bytes, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        # The error holds what stands there.
        raise InvalidArgumentError("path", f"{_CUT_OFF}: line {number} is no JSON") from None


def _find_field(value: object, name: str) -> object:
    """What an object has of this name; None if it's none, or has nothing."""
    return cast("dict[str, object]", value).get(name) if isinstance(value, dict) else None


def _make_error(path: Path, error: OSError) -> InvalidArgumentError:
    return InvalidArgumentError("path", f"{str(path)!r} can't be used: {error.strerror}")
