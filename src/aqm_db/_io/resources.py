"""What the databases of several owners share: clients, and the server that they talk to."""

from collections.abc import Callable
from typing import TypeVar
from weakref import WeakSet

from aqm_db._model.keys import Keys
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import (
    InventoryUnavailableError,
    UnavailableError,
    VaultUnavailableError,
)

from .confirming import UNCONFIRMED, Confirming
from .gate import REASON, Gate, Gates
from .redispy.clients import AnyAsyncClient, close_client, make_seam
from .redispy.faces import find_face

T = TypeVar("T")


class Resources:
    """The clients of a database, and of those of other owners that were made from it.

    Args:
        vault_client: of the vault's logical database.
        inventory_client: of the inventory's; it may be the same client.
        server: the embedded server that both talk to.

    Attributes:
        server: the embedded server that both talk to.
        is_closed: whether all was given back.
    """

    def __init__(
        self,
        vault_client: AnyAsyncClient,
        inventory_client: AnyAsyncClient,
        server: EmbeddedServer | None,
    ) -> None:
        self._both = (vault_client, inventory_client)
        self.server = server
        self.is_closed: bool = False
        self._gates: WeakSet[Gate] = WeakSet()

    @property
    def clients(self) -> tuple[AnyAsyncClient, AnyAsyncClient]:
        """The vault's client, and the inventory's.

        Raises:
            VaultUnavailableError: they were closed.
        """
        self.check_open()
        return self._both

    def list_databases(self) -> list[tuple[AnyAsyncClient, type[UnavailableError]]]:
        """Each logical database, and what is raised when it can't be reached.

        Raises:
            VaultUnavailableError: the clients were closed.
        """
        vault, inventory = self.clients
        found: list[tuple[AnyAsyncClient, type[UnavailableError]]] = [
            (vault, VaultUnavailableError),
            (inventory, InventoryUnavailableError),
        ]
        return found[:1] if vault == inventory else found

    def open_gates(self, user: str, keys: Keys, confirming: Confirming) -> Gates:
        """One owner's ways to the vault and to the inventory.

        Args:
            user: the class that the clients were passed to.
            keys: the names of the owner's keys.
            confirming: what has to have each change.

        Raises:
            VaultUnavailableError: the clients were closed.
        """
        vault_client, inventory_client = self.clients
        relieve = self.server.relieve if self.server is not None else None
        vault = make_seam(vault_client, VaultUnavailableError, user, keys, confirming=confirming)
        inventory = make_seam(
            inventory_client, InventoryUnavailableError, user, keys, confirming=confirming
        )
        gates = Gates(
            Gate(vault, VaultUnavailableError, confirming, relieve),
            Gate(inventory, InventoryUnavailableError, confirming, relieve),
        )
        self._gates.update((gates.vault, gates.inventory))
        return gates

    def check_open(self) -> None:
        """Refuses to go on once the clients were closed.

        Raises:
            VaultUnavailableError: they were.
        """
        if self.is_closed:
            raise VaultUnavailableError(REASON)

    async def run_blocking(self, work: Callable[[], T]) -> T:
        """Does what blocks, to its end: beside the event loop, where there is one."""
        return await find_face(self._both[0]).run_blocking(work)

    async def aclose(self) -> None:
        """Shuts all gates, and closes the clients and the server; again, it does nothing.

        Raises:
            EmbeddedServerError: what an embedded server acknowledged can't be written.
        """
        self.is_closed = True
        for gate in tuple(self._gates):
            gate.close()
        await find_face(self._both[0]).finish(self._close())

    async def _close(self) -> None:
        await close_clients(*self._both)
        if self.server is not None:
            await find_face(self._both[0]).close_server(self.server)


async def close_clients(vault_client: AnyAsyncClient, inventory_client: AnyAsyncClient) -> None:
    """Closes both clients, once what is in flight is answered."""
    for client, unavailable in (
        (vault_client, VaultUnavailableError),
        (inventory_client, InventoryUnavailableError),
    ):
        # Whose seam it is makes no difference to what it closes.
        seam = make_seam(client, unavailable, "close_all", Keys("any"), confirming=UNCONFIRMED)
        await seam.aclose()
        await close_client(client)
