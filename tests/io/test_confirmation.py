"""A change that is asked for again, since an embedded server wasn't set to what confirms it."""

from collections.abc import Sequence
from typing import Any

import pytest

from aqm_db._io.confirming import Confirmation, Confirming
from aqm_db._io.failures import ErrorKind, ErrorReply
from aqm_db._io.request import Request, ServerClock
from aqm_db._io.seam import Command
from aqm_db.errors import VaultUnavailableError

pytestmark = pytest.mark.asyncio

VALKEY = [b"server", b"valkey", b"version", b"9.1.2"]
FORGOTTEN = ErrorReply(ErrorKind.NO_SCRIPT, "NOSCRIPT No matching script")
CHANGE: Command = ("EVALSHA", "sha", 0)
DELETION: Command = ("UNLINK", "key")


class Server:
    """An embedded server that another process started.

    Attributes:
        policy: its appendfsync.
        again: what it says to each change that it's asked for again; an error is raised.
        requests: what it was asked.
    """

    def __init__(self, *again: Any) -> None:
        self.policy = b"everysec"
        self.again = again
        self.requests: list[list[Command]] = []

    async def ask(self, commands: Sequence[Command], _: Request) -> list[Any]:
        """See :data:`~aqm_db._io.answers.Ask`."""
        self.requests.append([*commands])
        told = {
            "SET": b"OK",
            "WAITAOF": [1, 0],
            "HELLO": VALKEY,
            "EVALSHA": [0, b"first"],
            "UNLINK": 3,
        }
        if commands[0][:2] == ("CONFIG", "SET"):
            self.policy = b"always"
            if isinstance(self.again[0], Exception):
                raise self.again[0]
            told["EVALSHA"], told["UNLINK"] = self.again[0], self.again[-1]
        told["CONFIG"] = [b"appendfsync", self.policy]
        return [told[str(command[0])] for command in commands]


async def confirm(server: Server, *commands: Command) -> list[Any]:
    """The replies to commands, once they are confirmed."""
    confirmation = Confirmation(Confirming(fsync=True, is_embedded=True), "mark")
    ask = confirmation.wrap_ask(server.ask, VaultUnavailableError)
    return await ask(commands, Request(ServerClock(), VaultUnavailableError))


async def test_the_change_is_asked_for_again() -> None:
    """The server may have been started anew without it; what counts deletions counts once."""
    server = Server([0, b"again"], 0)
    assert await confirm(server, CHANGE, DELETION) == [[0, b"again"], 3]
    assert server.requests[1][:3] == [
        ("CONFIG", "SET", "appendfsync", "always"),
        CHANGE,
        DELETION,
    ]


async def test_a_server_that_was_started_anew() -> None:
    """It doesn't know the script any more, and is sent it by who asked."""
    assert await confirm(Server(FORGOTTEN), CHANGE) == [FORGOTTEN]


async def test_a_server_that_is_gone_by_then() -> None:
    """The change was made before, whatever became of the second request."""
    with pytest.raises(VaultUnavailableError, match="gone") as caught:
        await confirm(Server(VaultUnavailableError("gone")), CHANGE)
    assert caught.value.outcome_unknown
