"""What stands in for a server in tests leaves nothing behind that another test is blamed for."""

import asyncio
import gc
import warnings
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.faults.support.byte_cutter import ByteCutter
from tests.support.backends import VALKEY_9, Servers
from tests.support.peers import Cutter, ScriptedServer, listening_on_loopback

Listening = Callable[[Path], AbstractAsyncContextManager[int]]
PEERS: dict[str, Listening] = {
    "cutter": lambda target: listening_on_loopback(Cutter(target), None),
    "script": lambda _: listening_on_loopback(ScriptedServer(lambda _: b"+OK\r\n"), None),
    "byte-cutter": lambda target: ByteCutter(target).listening(),
}


@pytest.mark.parametrize("peer", PEERS)
def test_a_connection_that_came_last(servers: Servers, peer: str) -> None:
    """It's closed, however far its peer had got with it."""
    target = servers[VALKEY_9].socket_path

    async def connect_at_the_end(turns: int) -> None:
        async with PEERS[peer](target) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(turns):
                await asyncio.sleep(0)
        writer.close()

    with warnings.catch_warnings():
        # What other tests left is no fault of this one.
        warnings.simplefilter("ignore")
        gc.collect()
    for turns in range(6):
        asyncio.run(connect_at_the_end(turns))
    # What was left open says so when it's collected, and warnings are errors.
    gc.collect()
