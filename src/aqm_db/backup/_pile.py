"""Lines of a backup, before they're written, or after they were read: bytes, in portions."""

from collections import deque
from collections.abc import Iterable, Iterator

from aqm_db._operations.batch import ROWS_AT_ONCE

from ._file import Record, make_line


class Pile:
    """Lines of one kind of records, in order, each with its end.

    A portion of them is one object, of bytes: the garbage collector passes over it, and it's freed
    in no time. Tens of thousands of objects stop every thread of the program, when they're looked
    at and when they're freed all at once.
    """

    def __init__(self) -> None:
        self._portions: deque[bytes] = deque()
        self._last: list[bytes] = []
        self._count = 0

    def __len__(self) -> int:
        """How many lines there were, whether or not they were taken."""
        return self._count

    def add(self, line: bytes) -> None:
        """Adds a line."""
        self._count += 1
        self._last.append(line)
        if len(self._last) == ROWS_AT_ONCE:
            self._close_portion()

    def add_all(self, records: Iterable[Record]) -> None:
        """Adds records: a portion, which was just read."""
        for record in records:
            self.add(make_line(record))

    def take(self) -> Iterator[bytes]:
        """All portions, each of some lines; they're kept no longer than until they're taken."""
        self._close_portion()
        while self._portions:
            yield self._portions.popleft()

    def _close_portion(self) -> None:
        if self._last:
            self._portions.append(b"".join(self._last))
            self._last.clear()
