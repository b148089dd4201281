"""A process of the chat demo, which :mod:`aqm_db.chat_demo.story` starts.

It works in the demo's directory, so that the socket's path is short, tells what happens on stdout,
and ends when stdin does: also when whoever started it was killed.
"""

import asyncio
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aqm_db._cli.escaping import escape_stderr

from .party import take_part
from .person import person_in
from .server import serving

SOCKET = "server.sock"
DATABASE = "server.sqlite"


def main(arguments: Sequence[str]) -> None:
    """Runs the server, or a party.

    Args:
        arguments: none for the server; a name, and how many messages, for a party.
    """
    # What it writes there, the terminal of whoever started the demo shows as it is.
    escape_stderr()
    asyncio.run(_party(*arguments) if arguments else _server())


async def _server() -> None:
    with _end_of_stdin() as stopped:
        async with serving(SOCKET, Path(DATABASE)):
            _tell("ready")
            await stopped.wait()


async def _party(name: str, messages: str) -> None:
    with _end_of_stdin() as stopped:
        person = person_in(Path(), name)
        await take_part(person, SOCKET, int(messages), _tell, stopped)


@contextmanager
def _end_of_stdin() -> Generator[asyncio.Event]:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Nobody ever writes to it: what there is to read is its end.
    loop.add_reader(sys.stdin, ended.set)
    try:
        yield ended
    finally:
        loop.remove_reader(sys.stdin)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


main(sys.argv[1:])
