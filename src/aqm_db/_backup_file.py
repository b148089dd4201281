"""The file of a backup: JSON, one record a line, between a header and a checksum."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from .errors import InvalidArgumentError

Record: TypeAlias = dict[str, Any]
FORMAT = "aqm_db backup"
VERSION = 1


def write(path: Path, header: Record, records: Iterable[Record]) -> None:
    """Writes a file that its owner alone can read (0600): all of it, or nothing.

    Raises:
        InvalidArgumentError: the file exists, or can't be written.
    """
    digest = hashlib.sha256()
    lines = [{"format": FORMAT, "version": VERSION, **header}, *records]
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
            for record in lines:
                line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
                digest.update(line)
                file.write(line)
            file.write(json.dumps({"sha256": digest.hexdigest()}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            # A link, where a rename would replace what is there.
            os.link(file.name, path)
    except OSError as error:
        raise _unusable(path, error) from None


def read(path: Path) -> list[Record]:
    """Reads the records of a file, after checking that it's whole.

    Raises:
        InvalidArgumentError: the file can't be read, is no backup, is of a later version, or was
            altered.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unusable(path, error) from None
    body, _, last = content.removesuffix(b"\n").rpartition(b"\n")
    try:
        lines = [json.loads(line) for line in body.splitlines()]
        header, checksum = lines[0], json.loads(last)["sha256"]
        known, version = header["format"] == FORMAT, header.get("version")
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise InvalidArgumentError("path", "is no backup, or was cut off") from None
    if not known:
        raise InvalidArgumentError("path", "is no backup")
    if version != VERSION:
        raise InvalidArgumentError("path", "was written by another version of aqm_db")
    if checksum != hashlib.sha256(body + b"\n").hexdigest():
        raise InvalidArgumentError("path", "was altered: its checksum differs")
    return lines[1:]


def _unusable(path: Path, error: OSError) -> InvalidArgumentError:
    return InvalidArgumentError("path", f"{str(path)!r} can't be used: {error.strerror}")
