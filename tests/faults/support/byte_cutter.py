"""A link to a real server that is cut after a number of bytes: closed, reset, silent or late."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

Direction = Literal["request", "reply"]
How = Literal["FIN", "RST", "stall", "late"]
_NO_LINGERING = struct.pack("ii", 1, 0)
"""A socket that is closed with this setting resets its connection."""


@dataclass(frozen=True)
class Cut:
    """Where a line is cut, and how.

    Attributes:
        how: FIN closes the line and RST resets it, once the server has seen all that it will see.
            After a stall nothing passes any more, though the line stays open. What comes late is
            kept back likewise, until it's delivered.
        direction: whose bytes are counted.
        offset: how many of them still pass.
    """

    how: How
    direction: Direction
    offset: int


class ByteCutter:
    """A proxy on a port of this machine, for any number of connections.

    Attributes:
        severed: how many lines it has closed or reset since it was armed.
    """

    def __init__(self, target: Path) -> None:
        self.severed = 0
        self._target = target
        self._cut: Cut | None = None
        self._times = 0
        self._lines: list[_Line] = []

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[int]:
        """Lets it listen on a port, until the block ends."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._line, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for line in self._lines:
                line.end()
            while any(line.is_open() for line in self._lines):
                await asyncio.sleep(0)

    def arm(self, cut: Cut | None, times: int = 1) -> None:
        """Counts bytes from here on, and of new lines from their start.

        Args:
            cut: what becomes of a line; None counts only.
            times: how many lines are cut.
        """
        self._cut, self._times, self.severed = cut, times, 0
        self._lines = [line for line in self._lines if line.is_open()]
        for line in self._lines:
            line.passed = {"request": 0, "reply": 0}
            line.asked = 0

    def passed(self, direction: Direction) -> int:
        """How many bytes have passed."""
        return sum(line.passed[direction] for line in self._lines)

    def asked(self) -> int:
        """How many bytes of requests had passed when the first reply came."""
        return sum(line.asked for line in self._lines)

    def is_stalling(self) -> bool:
        """Whether a client waits on a line that is silent."""
        return any(line.is_stalling() for line in self._lines)

    async def deliver(self) -> int:
        """Passes on what is late; returns how many lines' requests the server has answered."""
        return sum([await line.deliver() for line in self._lines])

    def due(self, direction: Direction, passed: int) -> Cut | None:
        """The cut that a line has come to."""
        cut = self._cut
        if cut is None or cut.direction != direction or passed < cut.offset or not self._times:
            return None
        self._times -= 1
        return cut

    def _line(self) -> "_End":
        line = _Line(self, self._target)
        self._lines.append(line)
        return line.client


class _Line:
    """One client's connection, and the server's that belongs to it."""

    def __init__(self, cutter: ByteCutter, target: Path) -> None:
        self.passed: dict[Direction, int] = {"request": 0, "reply": 0}
        self.asked = 0
        self.client = _End(self, "request")
        self._server = _End(self, "reply")
        self._cutter = cutter
        self._target = target
        self._cut: Cut | None = None
        self._late = b""
        self._answered_late = False
        self._connecting: asyncio.Task[None] | None = None

    def is_open(self) -> bool:
        return self.client.is_open() or self._server.is_open()

    def is_stalling(self) -> bool:
        return (
            self._cut is not None and self._cut.how in {"stall", "late"} and self.client.is_open()
        )

    def end(self) -> None:
        for end in (self.client, self._server):
            if end.transport is not None:
                end.transport.abort()

    async def deliver(self) -> bool:
        if not self._late or self._server.transport is None:
            return False
        self._server.transport.write(self._late)
        self._server.transport.write_eof()
        while self._server.is_open():
            await asyncio.sleep(0)
        return self._answered_late

    def began(self, end: "_End") -> None:
        if end is self.client:
            cast("asyncio.Transport", end.transport).pause_reading()
            self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self._server, str(self._target))
        if self.client.transport is not None:
            self.client.transport.resume_reading()

    def relay(self, direction: Direction, data: bytes) -> None:
        other = (self._server if direction == "request" else self.client).transport
        if self._cut is not None:
            if direction == "request":
                self._late += data
            self._answered_late |= direction == "reply" and not data.startswith(b"-")
            return
        if direction == "reply" and not self.passed["reply"]:
            self.asked = self.passed["request"]
        before = self.passed[direction]
        self.passed[direction] += len(data)
        self._cut = cut = self._cutter.due(direction, self.passed[direction])
        if other is None:
            return
        if cut is None:
            other.write(data)
            return
        other.write(data[: cut.offset - before])
        if cut.how in {"FIN", "RST"} and self._server.transport is not None:
            self._server.transport.write_eof()
        elif direction == "request":
            self._late = data[cut.offset - before :]

    def ended(self, end: "_End") -> None:
        if end is self.client:
            late = self._cut is not None and self._cut.how == "late"
            if self._server.transport is not None and not late:
                self._server.transport.close()
        elif self.client.transport is not None:
            self._sever(self.client.transport)

    def _sever(self, transport: asyncio.Transport) -> None:
        how = None if self._cut is None else self._cut.how
        if how == "RST":
            client: socket.socket = transport.get_extra_info("socket")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
            transport.abort()
        elif how == "FIN":
            transport.write_eof()
        else:
            transport.close()
        self._cutter.severed += 1


class _End(asyncio.Protocol):
    """One end of a line; what comes in here goes out at the other."""

    def __init__(self, line: _Line, direction: Direction) -> None:
        self.transport: asyncio.Transport | None = None
        self._line = line
        self._direction: Direction = direction

    def is_open(self) -> bool:
        return self.transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._line.began(self)

    def data_received(self, data: bytes) -> None:
        self._line.relay(self._direction, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self.transport = None
        self._line.ended(self)
