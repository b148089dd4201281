"""A program that forks while its event loop runs, as a pool of worker processes does.

It opens the database of a url, forks, and waits for the child, which asks the same objects and
closes them; then it asks itself. It prints what both got, and whether the parent's connection to a
server is still the one that it had.

    python forking.py URL
"""

import asyncio
import json
import os
import sys
from contextlib import suppress
from typing import Any

from aqm_db import AsyncClientDatabase, connect
from aqm_db.errors import UnavailableError


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
    for client in db._both:
        # redis-py waits on the parent's event loop for their ends.
        with suppress(RuntimeError):
            await client.aclose()
    return outcome


async def main(url: str) -> None:
    """Forks between two calls."""
    db = await connect(url, owner="alice")
    for contact_id in ("bob", "carol"):
        await db.inventory.register_contact(contact_id, "MATE")
        await db.inventory.store_key(contact_id, f"{contact_id}s", "BRONZE", b"p", b"s")
    seam: Any = db.inventory._seam
    [before] = await seam.read(("CLIENT", "ID"))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, json.dumps(asyncio.run(ask(db, "carol"))).encode())
        # As multiprocessing does.
        os._exit(0)
    # The loop stands still, so that a reply to the child would wait here for the parent's call.
    os.waitpid(child, 0)  # noqa: ASYNC222 - and that's what it's for
    told = {"child": json.loads(os.read(reading, 10_000)), "parent": await selected(db, "bob")}
    [after] = await seam.read(("CLIENT", "ID"))
    print(json.dumps({**told, "same connection": before == after}), flush=True)  # noqa: T201
    await db.aclose()


asyncio.run(main(sys.argv[1]))
