"""A proxy that puts a longer way between client and server.

``python benchmarks/delay.py SERVER PROXY MILLISECONDS [PROXY MILLISECONDS ...]`` listens on the
unix sockets PROXY, writes a line when it does, and ends with its standard input. It's a process of
its own, so that it takes no time of the client's event loop.
"""

import asyncio
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast


class _Side(asyncio.Protocol):
    """One side of a connection: what it receives reaches the other one later."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._under_way: deque[bytes] = deque()
        self._other: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def lead_to(self, other: asyncio.Transport) -> None:
        """Tells which side the other one is; what came before that follows now."""
        self._other = other
        for _ in self._under_way:
            self._loop.call_later(self._delay, self._arrive)

    def data_received(self, data: bytes) -> None:
        self._under_way.append(data)
        if self._other is not None:
            self._loop.call_later(self._delay, self._arrive)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        if self._other is not None:
            self._other.close()

    def _arrive(self) -> None:
        assert self._other is not None
        self._other.write(self._under_way.popleft())


class _ClientSide(_Side):
    """The side that a client connects to; it opens the other one."""

    def __init__(self, server: str, delay: float) -> None:
        super().__init__(delay)
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._opening = self._loop.create_task(self._open(cast("asyncio.Transport", transport)))

    async def _open(self, client: asyncio.Transport) -> None:
        server, side = await self._loop.create_unix_connection(
            lambda: _Side(self._delay), self._server
        )
        side.lead_to(client)
        self.lead_to(server)


async def _serve(server: str, delays: Mapping[str, float]) -> None:
    loop = asyncio.get_running_loop()
    for path, milliseconds in delays.items():
        one_way = milliseconds / 2 / 1000
        await loop.create_unix_server(partial(_ClientSide, server, one_way), path)
    print("listening", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def delayed(server: Path, delays: tuple[float, ...]) -> Generator[dict[float, Path]]:
    """Runs the proxy: the sockets by the milliseconds of round trip that they add."""
    with TemporaryDirectory(prefix="aqm-") as directory:
        paths = {delay: Path(directory) / f"{delay:g}ms" for delay in delays}
        words = [word for delay, path in paths.items() for word in (str(path), str(delay))]
        with subprocess.Popen(  # noqa: S603 - this very file
            [sys.executable, __file__, str(server), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n", "the proxy didn't start"
            yield paths


if __name__ == "__main__":
    arguments = sys.argv[2:]
    # This one waits in microseconds, where the others round up to whole milliseconds.
    selector = selectors.SelectSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        ways = {
            path: float(delay) for path, delay in zip(arguments[::2], arguments[1::2], strict=True)
        }
        runner.run(_serve(sys.argv[1], ways))
