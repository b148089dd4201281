"""The file of a backup: JSON, one record a line, between a header and a checksum."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
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


def write_records(path: Path, header: Record, records: Iterable[Record]) -> None:
    """Writes a file that its owner alone can read (0600): all of it, or nothing.

    Raises:
        InvalidArgumentError: the file exists, or can't be written.
    """
    digest = hashlib.sha256()
    lines = chain([{"format": FORMAT, "version": VERSION, **header}], records)
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for record in lines:
                    line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
                    digest.update(line)
                    file.write(line)
                file.write(json.dumps({"sha256": digest.hexdigest()}).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            _publish(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise _make_error(path, error) from error


def read_records(path: Path) -> tuple[Record, list[Any]]:
    """Reads the header and the records of a file, after checking that it's as it was written.

    Raises:
        InvalidArgumentError: the file can't be read, is no backup, is of a later version, or was
            altered.
    """
    digest = hashlib.sha256()
    rows: list[Any] = []
    last = b""
    try:
        with path.open("rb") as file:
            # Line by line: what is done with all of them at once stops the event loop's thread.
            for line in file:
                if last:
                    digest.update(last)
                    rows.append(_parse_line(last, len(rows) + 1))
                last = line
    except OSError as error:
        raise _make_error(path, error) from error
    checksum = _find_field(_parse_line(last, len(rows) + 1), "sha256")
    header, *records = rows or [None]
    found = _find_field(header, "format")
    if found is None or checksum is None:
        raise InvalidArgumentError("path", _CUT_OFF)
    if found != FORMAT:
        raise InvalidArgumentError("path", "is no backup")
    if _find_field(header, "version") not in _READABLE:
        known = ", ".join(map(str, _READABLE))
        reason = f"is a backup of another version than this aqm_db reads: {known}"
        raise InvalidArgumentError("path", reason)
    if checksum != digest.hexdigest():
        raise InvalidArgumentError("path", "was altered: its checksum differs")
    return cast("Record", header), records


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
