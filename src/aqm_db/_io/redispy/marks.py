"""What stands for a connection as long as it's open: a mark, and another when it's opened again.

One server process is at its other end, and the same one till it ends. A second connection to the
same address may lead to another process.
"""

from typing import Any, Protocol
from weakref import WeakKeyDictionary


class Markable(Protocol):
    """What is asked of a connection, of either face."""

    def register_connect_callback(self, callback: Any) -> None: ...


def find_mark(connection: Markable) -> object:
    """The mark of a connection that is open."""
    mark = _marks.get(connection)
    if mark is None:
        mark = _marks[connection] = _Mark(connection)
    return mark.value


class _Mark:
    """Of one connection, however often it's opened.

    Attributes:
        value: equals itself alone.
    """

    def __init__(self, connection: Markable) -> None:
        self.value = object()
        # It keeps the method weakly, as the table below keeps the connection.
        connection.register_connect_callback(self._renew)

    def _renew(self, _: object) -> None:
        self.value = object()


_marks: WeakKeyDictionary[Markable, _Mark] = WeakKeyDictionary()
