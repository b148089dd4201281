"""A link to a server that breaks when a test says so. It runs in threads, beside whatever it tests.

It stands between a seam and its server, on a port of its own, and knows commands (RESP) from one
another, but not replies: what comes back first after a command is taken for its reply.
"""

import socket
import socketserver
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from threading import Condition, Event, Thread
from typing import BinaryIO, Final, NamedTuple, Self, TypeAlias, cast

Address: TypeAlias = str | tuple[str, int]
"""Where a server listens: the path of a unix socket, or a host and a port."""

_GREETINGS: Final = frozenset(
    {"AUTH", "CLIENT", "CLUSTER", "COMMAND", "HELLO", "INFO", "PING", "SELECT"}
)
"""What clients send of themselves."""
_HOST: Final = "127.0.0.1"
_POLL_SECONDS: Final = 0.01
PATIENCE: Final = 5.0
"""Seconds that whatever should come soon is waited for."""


class Request(NamedTuple):
    """A command that came over the link.

    Attributes:
        connection: the number of its connection, from 1 on.
        name: the command's.
        arguments: what follows.
    """

    connection: int
    name: str
    arguments: tuple[bytes, ...]


class Relay:
    """The link, for any number of connections; it's whole until something is asked of it.

    Args:
        address: where the server listens.

    Attributes:
        port: where the link begins, on 127.0.0.1.
        requests: the commands that came, but for those that clients send of themselves.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._server = _Server((_HOST, 0), _Connection, self)
        self._thread = Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,))
        self._changed = Condition()
        self._links: set[socket.socket] = set()
        self._connections = 0
        self._is_refusing = False
        self._answer: Callable[[Request], bytes | None] = _answer_nothing
        self._judge: Callable[[], bool] = _let_through
        self.port: int = self._server.server_address[1]
        self.requests: list[Request] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_down()
        self._server.server_close()
        self._thread.join()

    @property
    def names(self) -> list[str]:
        """The names of the commands that came."""
        return [request.name for request in self.requests]

    def answer(self, line: bytes, times: int) -> None:
        """Has the next commands answered here, instead of by the server.

        Args:
            line: the reply to each of them, without the end of its line.
            times: how many.
        """
        left = [line + b"\r\n"] * times
        self._answer = lambda _: left.pop() if left else None

    def lose(self, times: int) -> None:
        """Loses the replies to the next commands, and cuts their connections each time.

        The server has carried them out by then.
        """
        left = [False] * times
        self._judge = lambda: left.pop() if left else True

    def judge_replies(self, judge: Callable[[], bool]) -> None:
        """Has each reply judged, in a thread of its own connection.

        Args:
            judge: returns, at its leisure, whether the reply is let through; the connection is cut
                where it isn't.
        """
        self._judge = judge

    @contextmanager
    def hold_replies(self) -> Generator[Event]:
        """Holds all replies back until the block ends.

        Yields:
            What is set when the first of them was held.
        """
        is_held, is_released = Event(), Event()

        def hold() -> bool:
            is_held.set()
            return is_released.wait(PATIENCE)

        self.judge_replies(hold)
        try:
            yield is_held
        finally:
            is_released.set()

    def wait_for(self, count: int) -> int:
        """Waits until so many commands have come, some seconds are over, or no more can come.

        Returns:
            How many have.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: len(self.requests) >= count or self._is_refusing, PATIENCE
            )
        return len(self.requests)

    def cut(self) -> None:
        """Cuts all connections; others can be made."""
        with self._changed:
            for link in self._links:
                _hang_up(link)

    def refuse(self) -> None:
        """Refuses new connections; again, it does nothing."""
        self._server.shutdown()
        self._server.socket.close()
        with self._changed:
            self._is_refusing = True
            self._changed.notify_all()

    def go_down(self) -> None:
        """Cuts all connections, and refuses new ones; again, it does nothing."""
        self.refuse()
        self.cut()

    def serve(self, client: socket.socket) -> None:
        """Serves one connection until either end hangs up."""
        with _connect(self._address) as server, client.makefile("rb") as commands:
            with self._changed:
                self._connections += 1
                number = self._connections
                self._links |= {client, server}
            owed: list[Request] = []
            replies = Thread(target=self._pass_replies, args=(server, client, owed))
            replies.start()
            # It may be cut, and in the middle of a command.
            with suppress(OSError, ValueError):
                while parts := _read_command(commands):
                    self._pass_command(number, parts, server, client, owed)
            _hang_up(server)
            replies.join()
            with self._changed:
                self._links -= {client, server}

    def _pass_command(
        self,
        number: int,
        parts: Sequence[bytes],
        server: socket.socket,
        client: socket.socket,
        owed: list[Request],
    ) -> None:
        request = Request(number, parts[0].decode().upper(), tuple(parts[1:]))
        if request.name not in _GREETINGS:
            with self._changed:
                self.requests.append(request)
                self._changed.notify_all()
            answer = self._answer(request)
            if answer is not None:
                client.sendall(answer)
                return
            owed.append(request)
        server.sendall(_pack(parts))

    def _pass_replies(
        self, server: socket.socket, client: socket.socket, owed: list[Request]
    ) -> None:
        # It may be cut.
        with suppress(OSError):
            while data := server.recv(65_536):
                if owed:
                    owed.clear()
                    if not self._judge():
                        break
                client.sendall(data)
        _hang_up(client)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], handler: type["_Connection"], relay: Relay
    ) -> None:
        super().__init__(address, handler)
        self.relay = relay


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        cast("_Server", self.server).relay.serve(self.request)


def _answer_nothing(_: Request) -> bytes | None:
    return None


def _let_through() -> bool:
    return True


def _connect(address: Address) -> socket.socket:
    if not isinstance(address, str):
        return socket.create_connection(address)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    return connection


def _hang_up(connection: socket.socket) -> None:
    # The other end may be faster.
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _read_command(commands: BinaryIO) -> list[bytes]:
    """The next command; nothing if there is none any more.

    Raises:
        ValueError: it's cut off.
    """
    line = commands.readline()
    parts: list[bytes] = []
    for _ in range(int(line[1:]) if line else 0):
        size = int(commands.readline()[1:])
        parts.append(commands.read(size))
        commands.readline()
    return parts


def _pack(parts: Sequence[bytes]) -> bytes:
    packed = [b"$%d\r\n%s\r\n" % (len(part), part) for part in parts]
    return b"*%d\r\n%s" % (len(parts), b"".join(packed))
