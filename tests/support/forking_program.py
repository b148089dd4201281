"""A program that forks while its event loop runs, as a pool of worker processes does.

It opens the database of a url, forks, and waits for the child, which asks the same objects and
closes them; then it asks itself. A synchronous program does the same without a loop. It prints what
both got, and whether the parent's connection to a server is still the one that it had.

    python forking.py WAY URL
"""

import asyncio
import gc
import json
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase, AsyncSmartInventory, connect, sync
from aqm_db.errors import UnavailableError


async def stocked(url: str) -> AsyncClientDatabase:
    """A database with a coin of each contact."""
    db = await connect(url, owner="alice")
    for contact_id in ("bob", "carol"):
        await db.inventory.register_contact(contact_id, "MATE")
        await db.inventory.store_key(contact_id, f"{contact_id}s", "BRONZE", b"p", b"s")
    return db


async def selected(db: AsyncClientDatabase, contact_id: str) -> dict[str, Any]:
    """What comes of selecting a coin."""
    try:
        coin = await db.inventory.select_coin(contact_id, "BRONZE")
    except UnavailableError as error:
        return {"error": str(error), "outcome_unknown": error.outcome_unknown}
    return {"key_id": None if coin is None else coin.key_id}


async def ask(db: AsyncClientDatabase, contact_id: str) -> dict[str, Any]:
    """Selects a coin, and closes the database, and the clients as only their user would."""
    outcome = await selected(db, contact_id)
    await db.aclose()
    for client in db.resources._both:
        # redis-py waits on the parent's event loop for their ends.
        with suppress(RuntimeError):
            await client.aclose()
    return outcome


def child_says(child: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a child has to say that is forked now; it ends then."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, json.dumps(child()).encode())
        # As multiprocessing does.
        os._exit(0)
    # An event loop stands still meanwhile, so that a reply to the child would wait for the parent.
    os.waitpid(pid, 0)
    told: dict[str, Any] = json.loads(os.read(reading, 10_000))
    return told


async def fork_asynchronously(url: str) -> dict[str, Any]:
    """Forks between two calls."""
    closed = await connect(url, owner="alice")
    await closed.aclose()
    db = await stocked(url)
    seam: Any = db.inventory.scope.seam
    [before] = await seam.read(("CLIENT", "ID"))
    child = child_says(lambda: asyncio.run(ask(db, "carol")))
    parent = await selected(db, "bob")
    [after] = await seam.read(("CLIENT", "ID"))
    await db.aclose()
    await closed.aclose()
    return {"child": child, "parent": parent, "same connection": before == after}


async def fork_with_a_call_in_flight(url: str) -> dict[str, Any]:
    """The child ends at once, and so has the tasks cancelled that it has copies of."""
    db = await stocked(url)
    call = asyncio.ensure_future(selected(db, "bob"))
    await asyncio.sleep(0)
    pid = os.fork()
    if pid == 0:
        sys.exit()
    os.waitpid(pid, 0)  # noqa: ASYNC222 - see child_says
    told = {"parent": await call, "left": len(await db.inventory.list_coins("bob"))}
    await db.aclose()
    return told


async def fork_with_an_idle_connection(url: str) -> dict[str, Any]:
    """The child uses the client for the first time; it's the user who has used it before."""
    db = await stocked(url)
    client = Redis.from_url(url, db=1, max_connections=1)
    number = await client.client_id()

    async def select() -> dict[str, Any]:
        coin = await AsyncSmartInventory(client, owner="alice").select_coin("carol", "BRONZE")
        return {"key_id": None if coin is None else coin.key_id}

    child = child_says(lambda: asyncio.run(select()))
    told = {"child": child, "same connection": await client.client_id() == number}
    await client.aclose()
    await db.aclose()
    return told


async def fork_with_a_lent_connection(url: str) -> dict[str, Any]:
    """The only connection is the pool's again; the child drops all that it has."""
    db = await stocked(url)
    held: list[Any] = [client := Redis.from_url(url, db=1, max_connections=1)]
    held.append(inventory := AsyncSmartInventory(client, owner="alice"))
    number = await client.client_id()
    assert await inventory.has_keys_for("bob")

    def drop() -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            held.clear()
            gc.collect()
        return {}

    del client, inventory
    child_says(drop)
    client, inventory = held
    coin: Any = await inventory.select_coin("bob", "BRONZE")
    is_same = await client.client_id() == number
    told = {"parent": {"key_id": coin.key_id}, "same connection": is_same}
    await client.aclose()
    await db.aclose()
    return told


def fork_synchronously(url: str) -> dict[str, Any]:
    """The same without an event loop."""

    def key_id_of(contact_id: str) -> dict[str, Any]:
        coin = db.inventory.select_coin(contact_id, "BRONZE")
        return {"key_id": None if coin is None else coin.key_id}

    with sync.connect(url) as db:
        for contact_id in ("bob", "carol"):
            db.inventory.register_contact(contact_id, "MATE")
            db.inventory.store_key(contact_id, f"{contact_id}s", "BRONZE", b"p", b"s")
        return {"child": child_says(lambda: key_id_of("carol")), "parent": key_id_of("bob")}


WAYS: dict[str, Callable[[str], dict[str, Any]]] = {
    "aio": lambda url: asyncio.run(fork_asynchronously(url)),
    "sync": fork_synchronously,
    "in flight": lambda url: asyncio.run(fork_with_a_call_in_flight(url)),
    "idle": lambda url: asyncio.run(fork_with_an_idle_connection(url)),
    "lent": lambda url: asyncio.run(fork_with_a_lent_connection(url)),
}
_, way, address = sys.argv
print(json.dumps(WAYS[way](address)), flush=True)  # noqa: T201
