"""The server alone: packed commands over a blocking socket, so many in flight, replies parsed."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hiredis import Reader

_CHUNK = 1 << 18


def connected(path: Path, database: int) -> socket.socket:
    """A socket to a server's database."""
    link = socket.socket(socket.AF_UNIX)
    link.connect(str(path))
    link.sendall(f"SELECT {database}\r\n".encode())
    assert link.recv(_CHUNK) == b"+OK\r\n", "the server refused"
    return link


async def ask(link: socket.socket, command: bytes) -> Any:
    """Sends a command, and returns its reply; it blocks the event loop, on purpose."""
    link.sendall(command)
    reader = Reader()
    while True:
        reader.feed(link.recv(_CHUNK))
        reply = reader.gets()
        if reply is not False:
            return reply


async def exchange(link: socket.socket, commands: Sequence[bytes], in_flight: int) -> list[Any]:
    """Sends commands, always a number of them at once, and returns their replies.

    It blocks the event loop, on purpose: nothing else has to happen meanwhile.
    """
    replies: list[Any] = []
    reader = Reader()
    with link:
        link.sendall(b"".join(commands[:in_flight]))
        sent = in_flight
        while len(replies) < len(commands):
            reader.feed(link.recv(_CHUNK))
            arrived = 0
            while (reply := reader.gets()) is not False:
                replies.append(reply)
                arrived += 1
            link.sendall(b"".join(commands[sent : sent + arrived]))
            sent += arrived
    return replies
