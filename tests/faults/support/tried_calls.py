"""The calls that every fault is tried on, and the state of the database around each of them.

Time and request ids are fixed, so that what a call leaves behind is the same to the byte each time
it runs: a fault may change when, how often and on which connection it was sent, and nothing else.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from aqm_db import AsyncSecureVault, AsyncSmartInventory
from aqm_db.types import InventoryEntry
from tests.support.faces import ASYNC, Face
from tests.support.samples import BOB, Clock

CANARY = b"canary-key-material"
"""Stands in every key and coin of these tests, and must show nowhere else."""
HALVES = (CANARY + b"-public".ljust(13), CANARY + b"-signature".ljust(45))
BLOB = CANARY.ljust(48)
CAPS = {
    "BESTIE": {"GOLD": 5, "SILVER": 5, "BRONZE": 5},
    "MATE": {"GOLD": 0, "SILVER": 2, "BRONZE": 2},
    "STRANGER": {"GOLD": 0, "SILVER": 0, "BRONZE": 0},
}
"""Room for several of the smallest coins: a fault at every byte has fewest bytes to try there."""
Pair = tuple[AsyncSecureVault, AsyncSmartInventory]


@dataclass(frozen=True)
class Operation:
    """A call, and what is there before it.

    Attributes:
        name: what it's called in test ids.
        prepare: makes the state it starts from; what it returns is passed to the call.
        call: the call under fault.
    """

    name: str
    prepare: Callable[[AsyncSecureVault, AsyncSmartInventory], Awaitable[Any]]
    call: Callable[[AsyncSecureVault, AsyncSmartInventory, Any], Awaitable[Any]]

    def __str__(self) -> str:
        return self.name


def pair_over(
    client: Any, request_id: str | Callable[[], str] | None = None, face: Face = ASYNC
) -> Pair:
    """A vault and an inventory in one database, at a time that stands still.

    Args:
        client: their client, of their face.
        request_id: the id of every request, or what makes them; None numbers them.
        face: which face of the library; its calls are awaited in either case.
    """
    clock, numbers = Clock(), count()

    def fresh() -> str:
        if callable(request_id):
            return request_id()
        return f"request-{next(numbers)}" if request_id is None else request_id

    inventory = face.inventory(client, clock=clock, request_ids=fresh, budget_caps=CAPS)
    _CLIENTS[inventory] = client
    return face.vault(client, clock=clock, request_ids=fresh), inventory


def client_of(inventory: Any) -> Any:
    """The client of an inventory of :func:`pair_over`."""
    return _CLIENTS[inventory]


_CLIENTS: WeakKeyDictionary[AsyncSmartInventory, Any] = WeakKeyDictionary()


async def stocked(vault: AsyncSecureVault, inventory: AsyncSmartInventory) -> None:
    """Two private halves, and a contact with three coins."""
    for key_id in ("k1", "k2"):
        await vault.store_key(key_id, "BRONZE", BLOB, b"nonce", b"tag")
    await inventory.register_contact(BOB, "BESTIE", "Bob")
    for key_id in ("b1", "b2", "b3"):
        await inventory.store_key(BOB, key_id, "BRONZE", *HALVES)


async def selected(vault: AsyncSecureVault, inventory: AsyncSmartInventory) -> InventoryEntry:
    """The same, with the first of the coins handed out; it is returned."""
    await stocked(vault, inventory)
    entry = await inventory.select_coin(BOB, "BRONZE")
    assert entry is not None
    return entry


OPERATIONS = (
    Operation(
        "vault.store_key",
        stocked,
        lambda vault, _i, _s: vault.store_key("k3", "BRONZE", BLOB, b"nonce", b"tag"),
    ),
    Operation("vault.fetch_key", stocked, lambda vault, _i, _s: vault.fetch_key("k1")),
    Operation("vault.burn_key", stocked, lambda vault, _i, _s: vault.burn_key("k1")),
    Operation(
        "inventory.register_contact",
        stocked,
        lambda _v, inventory, _s: inventory.register_contact("carol", "MATE", "Carol"),
    ),
    Operation(
        "inventory.store_key",
        stocked,
        lambda _v, inventory, _s: inventory.store_key(BOB, "b4", "BRONZE", *HALVES),
    ),
    Operation(
        "inventory.select_coin",
        stocked,
        lambda _v, inventory, _s: inventory.select_coin(BOB, "GOLD"),
    ),
    Operation(
        "inventory.consume_key",
        stocked,
        lambda _v, inventory, _s: inventory.consume_key(BOB, "b2"),
    ),
    Operation(
        "inventory.release_coin",
        selected,
        lambda _v, inventory, entry: inventory.release_coin(entry),
    ),
    Operation(
        "inventory.set_contact_priority",
        stocked,
        lambda _v, inventory, _s: inventory.set_contact_priority(BOB, "STRANGER"),
    ),
    Operation(
        "inventory.forget_contact",
        selected,
        lambda _v, inventory, _s: inventory.forget_contact(BOB),
    ),
)
