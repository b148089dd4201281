"""Claims that are over: the server needn't keep them for as long as a request may be repeated.

A claim is a coin's whole row, and lives for 30 seconds, which are hundreds of megabytes under load,
that expire one by one. A request that was answered, and of which no other sending is under way,
will never ask for its claim again; so claims are deleted (UNLINK) before later calls, many at once
and in the same round trip.
What is left then, where no more calls come or a program ends, expires.
"""

from collections import deque
from contextlib import suppress
from typing import Final

from aqm_db._io.seam import Call, Command, Reply
from aqm_db._lua.loader import Code

_AT_ONCE: Final = 16
"""So few aren't worth a command."""
_AT_MOST: Final = 256
"""So many don't hold up the server: other callers wait for it."""
_KEPT: Final = 1024
"""So many are remembered, if many callers are answered in one turn of the loop."""
_WITHOUT_COIN: Final = 3
"""Items of a selection's reply that gives no coin."""


class Claims:
    """Claims of one owner that are over."""

    def __init__(self) -> None:
        self._over: deque[str] = deque(maxlen=_KEPT)

    def note(self, call: Call, reply: Reply) -> None:
        """See :class:`~aqm_db._io.seam.Answered`."""
        # One that was given nothing has no claim; one that isn't finished goes on about it.
        if names_claim(call, reply) and reply[0] == Code.OK and len(reply) > _WITHOUT_COIN:
            self._over.append(call.keys[0])

    def take_command(self) -> Command | None:
        """See :class:`~aqm_db._io.seam.Answered`; it may fail."""
        if len(self._over) < _AT_ONCE:
            return None
        names: list[str] = []
        # Threads of a synchronous program take from it, too.
        with suppress(IndexError):
            while len(names) < _AT_MOST:
                names.append(self._over.popleft())
        return ("UNLINK", *names)


def names_claim(call: Call, reply: object) -> bool:
    """Whether the reply of a selection is to this call.

    It names the claim, the first of the script's KEYS, after its code. On a link that is out of
    step (of a process that was forked, say) it's another call's reply, maybe of another script.
    """
    # It may be of any type, then.
    return isinstance(reply, list) and len(reply) > 1 and reply[1] == call.keys[0].encode()
