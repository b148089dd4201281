"""The files that a server keeps its data in: which there are, and what was cut off of them."""

import contextlib
import os
from pathlib import Path
from typing import Final

_FOLDER: Final = "appendonlydir"
_MANIFEST: Final = "appendonly.aof.manifest"
_CUT_OFF: Final = "*.cut-*"


def list_files(directory: Path) -> list[Path]:
    """The files of commands that a server reads when it starts, the oldest first."""
    try:
        lines = (directory / _FOLDER / _MANIFEST).read_text().splitlines()
    except FileNotFoundError:
        return []
    # A line is "file NAME seq NUMBER type b", i, or h: the base, a file of commands, or a past one.
    words = [line.split() for line in lines]
    paths = [directory / _FOLDER / line[1] for line in words if line[-1:] == ["i"]]
    return [path for path in paths if path.exists()]


def list_cut_off(directory: Path) -> list[Path]:
    """What was cut off of files that weren't whole."""
    return sorted((directory / _FOLDER).glob(_CUT_OFF))


def sync_files(directory: Path) -> None:
    """Has the disk keep what the server has written.

    Raises:
        OSError: the disk can't.
    """
    for path in list_files(directory):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def open_private(path: Path, flags: int = 0) -> int:
    """Opens a file for writing that only its user may read; it's made if it isn't there."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)


def measure_files(directory: Path) -> int:
    """How many bytes all of the data takes on the disk."""
    total = 0
    for path in (directory / _FOLDER).glob("*.aof"), (directory / _FOLDER).glob("*.rdb"):
        for each in path:
            # One may be removed meanwhile, by a rewrite.
            with contextlib.suppress(FileNotFoundError):
                total += each.stat().st_size
    return total
