"""Servers and links that misbehave: one that answers by a script, and one that cuts the line."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from functools import cache
from pathlib import Path
from typing import Any

import hiredis
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from aqm_db._io.redispy.async_loops import get_channels
from aqm_db._io.redispy.sync_exchange import find_server_clock
from aqm_db._lua.loader import Code, list_scripts
from aqm_db._model.defaults import now_ms

Answer = Callable[[list[bytes]], bytes | None]
"""The raw reply to a command; None hangs up instead."""

_HANDSHAKE = {b"HELLO", b"CLIENT", b"SELECT"}


class ScriptedServer:
    """A server that greets every client and answers as it's told.

    Attributes:
        greeting: the reply to every command with which a client introduces itself.
        clients: how many clients there were.
        requests: the commands that were answered by the script, in order.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.greeting: bytes | None = b"+OK\r\n"
        self.clients = 0
        self.requests: list[list[bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one client until it, or the script, hangs up."""
        parser = hiredis.Reader()
        self.clients += 1
        while data := await reader.read(65_536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                if command[0] in _HANDSHAKE:
                    reply = self.greeting
                elif is_undated(command):
                    reply = encode_reply([Code.UNKNOWN, now_ms()])
                else:
                    self.requests.append(command)
                    reply = self.answer(command)
                if reply is None:
                    return
                writer.write(reply)


def is_undated(command: list[bytes]) -> bool:
    """Whether a command runs a script, and doesn't say when it was first sent, as it has to.

    That's what a client sends that hasn't heard yet what the server's clock shows.
    """
    if command[0] != b"EVALSHA" or command[1].decode() not in _list_dated():
        return False
    return command[3 + int(command[2])] == b""


def undate(command: list[bytes]) -> list[bytes]:
    """A command without the time at which it was first sent: what is asked, whenever that is."""
    if command[0] != b"EVALSHA" or command[1].decode() not in _list_dated():
        return command
    place = 3 + int(command[2])
    return [*command[:place], b"", *command[place + 1 :]]


@cache
def _list_dated() -> set[str]:
    """The scripts that ask when they were first sent, by their names on the server."""
    scripts = [script for folder in ("inventory", "vault") for script in list_scripts(folder)]
    return {script.sha for script in scripts if script.is_dated}


def tell_time(client: Redis | AsyncRedis) -> None:
    """Has a client know what its server's clock shows, as if it had heard it before."""
    if isinstance(client, Redis):
        find_server_clock(client).note(now_ms())
    else:
        get_channels(client).server_clock.note(now_ms())


def encode_reply(value: bytes | int | list[Any] | None) -> bytes:
    """A reply as it goes over the wire (RESP2)."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%s\r\n" % (len(value), value)
    return b"*%d\r\n" % len(value) + b"".join(map(encode_reply, value))


def answer_select(command: list[bytes], *coin: bytes | None) -> bytes:
    """What a server says to a command that selects a coin: the coin, or nothing."""
    return encode_reply([0, claim_of(command), [], *coin])


def claim_of(command: list[bytes]) -> bytes:
    """The claim that such a command names, after its name, the script and the number of KEYS."""
    return command[3]


class Cutter:
    """A link to a real server that loses the replies to some requests, and is cut each time.

    Attributes:
        losing: how many more replies are lost.
        sparing: how many come through before.
        meanwhile: runs after the server has answered, before the line is cut.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self.losing = self.sparing = 0
        self.meanwhile: Callable[[], object] = lambda: None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relays one connection."""
        server_reader, server_writer = await asyncio.open_unix_connection(str(self._target))
        forward = asyncio.create_task(_relay(reader, server_writer))
        parser = hiredis.Reader()
        try:
            while data := await server_reader.read(65_536):
                parser.feed(data)
                answers = 0
                while (reply := parser.gets()) is not False:
                    answers += _is_answer(reply)
                if self.sparing:
                    self.sparing -= min(answers, self.sparing)
                elif answers and self.losing:
                    self.losing -= 1
                    self.meanwhile()
                    return
                writer.write(data)
        finally:
            forward.cancel()
            server_writer.close()


def _is_answer(reply: object) -> bool:
    """Whether a reply is a script's or a row, rather than part of a greeting."""
    return isinstance(reply, list) or (isinstance(reply, dict) and b"proto" not in reply)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)


Peer = ScriptedServer | Cutter


@asynccontextmanager
async def listening(peer: Peer, path: Path) -> AsyncGenerator[None]:
    """Lets a peer listen on a unix socket, until the block ends."""
    async with _accepting(peer) as accept:
        # Its end doesn't wait for connections, as from Python 3.12 on that of a block does: those
        # that are still there are ended after it.
        with closing(await asyncio.start_unix_server(accept, path)):
            yield


@asynccontextmanager
async def listening_on_loopback(peer: Peer, context: ssl.SSLContext | None) -> AsyncGenerator[int]:
    """Lets a peer listen on a port of this machine, with TLS or without."""
    async with _accepting(peer) as accept:
        with closing(await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)) as server:
            yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def _accepting(
    peer: Peer,
) -> AsyncGenerator[Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]]:
    """Serves connections until the block ends, and waits for them then."""
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(peer.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)
        # Not by the task itself: cancelled before its first step, it has none.
        task.add_done_callback(lambda _: writer.close())

    try:
        yield accept
    finally:
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
