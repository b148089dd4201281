"""A file that outlives its process: one JSON value a line, only ever appended to."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Journal:
    """Records that were written before a process was killed are there when it's started again.

    One call of the operating system writes a record, so that a kill leaves all of it, or at most
    a last line without an end, which never counted. That the machine may lose power isn't thought
    of here: a real client calls ``fsync`` too.

    Args:
        path: made if it isn't there.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        written = path.read_bytes()
        os.truncate(self._file, written.rfind(b"\n") + 1)
        self._path = path

    def append(self, record: Any) -> None:
        """Writes a record; it's there when this returns.

        Raises:
            OSError: it can't be written.
        """
        os.write(self._file, json.dumps(record).encode() + b"\n")

    def __iter__(self) -> Iterator[Any]:
        with self._path.open("rb") as lines:
            yield from map(json.loads, lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)
