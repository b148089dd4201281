"""The way from a database's parts to their server, which can be metered, and closed."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NoReturn, Protocol, runtime_checkable

from aqm_db.errors import AQMDatabaseError, NotWritableError, UnavailableError

from .confirming import Confirming
from .facts import read_facts
from .seam import Argument, Call, Reply, Seam, Undo

REASON = "the database was closed"


@runtime_checkable
class _Patient(Protocol):
    """A seam whose client is closed once what is under way has come to its end."""

    def delay_closing(self) -> AbstractContextManager[None]: ...


class Gate:
    """A seam that lets everything through to another, until it's closed.

    Args:
        seam: what is behind it.
        unavailable: what is raised once it's closed.
        confirming: what that seam confirms.
        relieve: what is done when the server takes no writes; None for nothing.

    Attributes:
        confirming: what has to have each change.
    """

    def __init__(
        self,
        seam: Seam,
        unavailable: type[UnavailableError],
        confirming: Confirming,
        relieve: Callable[[], None] | None = None,
    ) -> None:
        self.confirming: Confirming = confirming
        self._relieve = relieve
        self._behind: Seam = seam
        self._unavailable = unavailable
        self._seam = seam

    @contextmanager
    def hold(self) -> Generator[Seam]:
        """See :func:`hold_open`: what it gives stays open when this is closed."""
        held = _Held(self._behind, self._unavailable, self)
        try:
            with hold_open(self._seam):
                yield held
        finally:
            # What goes on in the background is shut out by closing.
            held.add_layer(lambda _: self)

    def is_patient(self) -> bool:
        """Whether closing waits for what is under way, and hasn't begun."""
        return isinstance(self._seam, _Patient) and not isinstance(self._behind, _Closed)

    def add_layer(self, layer: Callable[[Seam], Seam]) -> None:
        """Has all calls from now on go through what a layer makes of a seam."""
        self._behind = layer(self._behind)

    def close(self) -> None:
        """Lets nothing through any more; what is on its way comes to its end.

        redis-py's clients would connect again, and nobody would close that connection.
        """
        self._behind = _Closed(self._unavailable)

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """See :class:`~aqm_db._io.seam.Seam`."""
        try:
            return await self._behind.run(call, undo)
        except NotWritableError as error:
            self.note(error)
            raise

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        replies = await self._behind.run_all(calls, undos)
        self.note(*replies)
        return replies

    async def read(self, *commands: Sequence[Argument]) -> list[Any]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return await self._behind.read(*commands)

    def scan(self, pattern: str, within: str | None = None) -> AsyncIterator[list[bytes]]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return self._behind.scan(pattern, within)

    def distrust(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        self._behind.distrust()

    async def aclose(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        await self._behind.aclose()

    def note(self, *replies: object) -> None:
        """Takes note of replies that say that the server takes no writes."""
        if self._relieve is None or isinstance(self._behind, _Closed):
            return
        if any(isinstance(reply, NotWritableError) for reply in replies):
            self._relieve()
            if not isinstance(self._behind, _Damaged):
                self._behind = _Damaged(self._behind, self._recover)

    def _recover(self, seam: Seam) -> None:
        if isinstance(self._behind, _Damaged):
            self._behind = seam


class _Held(Gate):
    """A gate that stays open when another one is closed.

    Args:
        seam: what is behind it.
        unavailable: as of a gate.
        gate: the other one, which is told of replies.
    """

    def __init__(self, seam: Seam, unavailable: type[UnavailableError], gate: Gate) -> None:
        super().__init__(seam, unavailable, gate.confirming)
        self._gate = gate

    def note(self, *replies: object) -> None:
        """See :class:`Gate`."""
        self._gate.note(*replies)


@contextmanager
def hold_open(seam: Seam) -> Generator[Seam]:
    """What requests go through, until the block ends, of which later ones take back earlier ones.

    The client isn't closed before the end. A synchronous caller isn't cancelled, so nothing waits
    for one, and nothing of theirs goes through a gate that was closed.
    """
    if isinstance(seam, Gate) and seam.is_patient():
        with seam.hold() as held:
            yield held
    elif isinstance(seam, _Patient):
        with seam.delay_closing():
            yield seam
    else:
        yield seam


class Gates:
    """One database's ways to its vault and to its inventory.

    Args:
        vault: the one.
        inventory: the other.

    Attributes:
        vault: the one.
        inventory: the other.
        layers: what makes the layers that all calls go through.
    """

    def __init__(self, vault: Gate, inventory: Gate) -> None:
        self.vault = vault
        self.inventory = inventory
        self.layers: list[Callable[[Seam], Seam]] = []

    def add_layer(self, layer: Callable[[Seam], Seam]) -> None:
        """Has all calls from now on go through what a layer makes of a seam."""
        self.layers.append(layer)
        self.vault.add_layer(layer)
        self.inventory.add_layer(layer)


class _Damaged:
    """What stands behind a gate once the disk was full: the server's file may be damaged by that.

    It's written anew as soon as the server writes again, and before it meets a full disk another
    time: it would cut off what it wrote before.

    Args:
        seam: what stood there.
        recover: puts it there again.
    """

    def __init__(self, seam: Seam, recover: Callable[[Seam], None]) -> None:
        self._seam = seam
        self._recover = recover
        # Layers may be put over this one meanwhile, so that it stays.
        self._is_due = True
        self.scan = seam.scan
        self.read = seam.read
        self.distrust = seam.distrust
        self.aclose = seam.aclose

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """See :class:`~aqm_db._io.seam.Seam`."""
        # Before the call, not behind it: then a caller who is cancelled would lose what it got.
        await self._rewrite()
        return await self._seam.run(call, undo)

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        await self._rewrite()
        return await self._seam.run_all(calls, undos)

    async def _rewrite(self) -> None:
        if not self._is_due:
            return
        # What can't be asked now is asked before the next call; this one says what is wrong.
        with suppress(AQMDatabaseError):
            facts = await read_facts(self._seam, "persistence")
            if facts.has_written and not facts.unwritten and not facts.is_rewriting:
                await self._seam.read(("BGREWRITEAOF",))
                self._is_due = False
                self._recover(self._seam)


class _Closed:
    """What stands behind a gate that was closed."""

    def __init__(self, unavailable: type[UnavailableError]) -> None:
        self._unavailable = unavailable

    async def run(self, *_: object, **__: object) -> NoReturn:
        raise self._unavailable(REASON)

    run_all = read = run

    async def scan(
        self,
        pattern: str,  # noqa: ARG002 - as of a seam
        within: str | None = None,  # noqa: ARG002 - as of a seam
    ) -> AsyncGenerator[list[bytes]]:
        raise self._unavailable(REASON)
        yield []

    def distrust(self) -> None:
        """Nothing is sent any more, and so nothing out of step."""

    async def aclose(self) -> None:
        """Nothing is in flight."""
