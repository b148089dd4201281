"""The whole I/O surface of the library.

Everything above it is coroutines that await a :class:`Seam`. ``AsyncSeam`` serves them on an
event loop; ``SyncSeam`` does its I/O before it returns, so they never suspend, and
``_sync_support.py`` drives them.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from aqm_db._lua.loader import Script
from aqm_db.errors import AQMDatabaseError

from .failures import Denial

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = Sequence[Argument]
"""A command's name, and its arguments."""


class SharedCommand(tuple[Argument, ...]):
    """A command at the end of a request that is about all that its connection was sent before.

    Requests that are sent together need it only once, behind all of them.
    """

    __slots__ = ()


Reply: TypeAlias = list[Any]
"""A script's reply: a :class:`~aqm_db._lua.loader.Code`, then what the script's header says."""


class Answered(Protocol):
    """What is sent before later calls, with them, once some have been answered."""

    def note(self, call: "Call", reply: Reply) -> None:
        """Takes note of a call that was answered, and of which no other sending is under way."""
        ...

    def take_command(self) -> Command | None:
        """What is to be sent before the next call, whatever becomes of it; None for nothing."""
        ...


class Call(NamedTuple):
    """One run of a script.

    Attributes:
        script: the script.
        keys: its KEYS.
        arguments: its ARGV.
        tier: the tier that it's about; None if it's about none, or about all.
        answered: what is told of its answer; None for nothing.
    """

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Argument]
    tier: str | None = None
    answered: Answered | None = None


Undo: TypeAlias = Callable[[Reply], Call | None]
"""The call that takes a reply's effect back, if it had any."""


SCAN_COUNT = 500
"""Keys or members per page of a walk: below a millisecond of the server's time."""


@runtime_checkable
class Seam(Protocol):
    """What the library asks of a Redis client.

    Every method raises only ``AQMDatabaseError``s; the first failure of the link that outlives
    the client's retries is the seam's own unavailable error.
    """

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """Runs one script in one round trip.

        A call that is cancelled after it was sent is settled first: its reply is awaited, and
        what ``undo`` says of it is run.
        """
        ...

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """Runs many scripts in one round trip; each is atomic, all of them together aren't.

        What the server refuses is an error in its place in the list. ``undos`` are those of the
        calls, as :meth:`run` takes one.
        """
        ...

    async def read(self, *commands: Command) -> list[Any]:
        """Runs reading commands in one round trip.

        A read of a row of the wrong type is a ``CorruptEntryError`` in its place in the list.
        """
        ...

    def scan(self, pattern: str, within: str | None = None) -> AsyncIterator[list[bytes]]:
        """Pages of key names (SCAN), or of a set's members (SSCAN): each at least once.

        ``within`` is the set; what is no set raises ``CorruptEntryError``.
        """
        ...

    def distrust(self) -> None:
        """Hangs up a link that is out of step: the replies that are still to come are others'."""
        ...

    async def aclose(self) -> None:
        """Waits for what is in flight, and gives connections back to the client's pool."""
        ...


class ClientSeam(Seam, Protocol):
    """The seam over a client, which can also delete, and tell what its user may do."""

    async def delete(self, *keys: Argument) -> int:
        """Deletes keys in one round trip (UNLINK), and says how many of them there were."""
        ...

    async def probe(self, *commands: Command) -> list[Denial | None]:
        """Tries commands in one round trip, for no more than whether they may be run.

        They are commands that change nothing; whatever else becomes of them is left out.
        """
        ...
