"""A server that refuses some commands, and passes all others on to a real one."""

import socket
from collections.abc import Callable
from pathlib import Path

import hiredis

from aqm_db._io.redispy.replies import pack_command
from tests.support.peers import ScriptedServer, undate

Command = list[bytes]


class Refusing(ScriptedServer):
    """A server before a real one.

    Args:
        target: the real server's socket.
        db: its database.
    """

    def __init__(self, target: Path, db: int) -> None:
        super().__init__(self._answer)
        self._refuses: Callable[[Command], bool] = lambda _: False
        self._reply: bytes | None = None
        self._silent: int | None = None
        self._real = socket.socket(socket.AF_UNIX)
        self._real.connect(str(target))
        self._pass_on([b"SELECT", str(db).encode()])

    def arm(self, refuses: Callable[[Command], bool], reply: bytes | None) -> None:
        """Forgets what was asked, and refuses commands from here on.

        Args:
            refuses: which commands aren't passed on; it gets them without the time at which they
                were first sent.
            reply: what they get instead; None hangs up. After none at all, nothing is said on
                this connection any more.
        """
        self._silent = None
        self.requests.clear()
        self._refuses, self._reply = (lambda command: refuses(undate(command))), reply

    def refused(self) -> int:
        """How many commands were."""
        return sum(map(self._refuses, self.requests))

    def close(self) -> None:
        """Leaves the real server."""
        self._real.close()

    def _answer(self, command: Command) -> bytes | None:
        if self._silent == self.clients:
            return b""
        if not self._refuses(command):
            return self._pass_on(command)
        if self._reply == b"":
            self._silent = self.clients
        return self._reply

    def _pass_on(self, command: Command) -> bytes:
        self._real.sendall(pack_command(command))
        reply, parser = b"", hiredis.Reader()
        while parser.gets() is False:
            data = self._real.recv(65_536)
            parser.feed(data)
            reply += data
        return reply
