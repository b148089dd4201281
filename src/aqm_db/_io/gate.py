"""The way from a database's parts to their server, which can be metered, and closed."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, NoReturn

from aqm_db.errors import AQMDatabaseError, UnavailableError

from .confirming import Confirming
from .seam import Argument, Call, Reply, Seam, Undo

REASON = "the database was closed"


class Gate:
    """A seam that lets everything through to another, until it's closed.

    Args:
        seam: what is behind it.
        unavailable: what is raised once it's closed.
        confirming: what that seam confirms.

    Attributes:
        confirming: what has to have each change.
    """

    def __init__(
        self, seam: Seam, unavailable: type[UnavailableError], confirming: Confirming
    ) -> None:
        self.confirming: Confirming = confirming
        self._behind: Seam = seam
        self._unavailable = unavailable

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
        return await self._behind.run(call, undo)

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return await self._behind.run_all(calls, undos)

    async def read(self, *commands: Sequence[Argument]) -> list[Any]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return await self._behind.read(*commands)

    def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return self._behind.scan(pattern)

    def distrust(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        self._behind.distrust()

    async def aclose(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        await self._behind.aclose()


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


class _Closed:
    """What stands behind a gate that was closed."""

    def __init__(self, unavailable: type[UnavailableError]) -> None:
        self._unavailable = unavailable

    async def run(self, *_: object, **__: object) -> NoReturn:
        raise self._unavailable(REASON)

    run_all = read = run

    async def scan(self, pattern: str) -> AsyncGenerator[list[bytes]]:  # noqa: ARG002 - as of a seam
        raise self._unavailable(REASON)
        yield []

    def distrust(self) -> None:
        """Nothing is sent any more, and so nothing out of step."""

    async def aclose(self) -> None:
        """Nothing is in flight."""
