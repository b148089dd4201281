"""A process of the chat demo, which :mod:`aqm_db.chat_demo.story` starts.

It works in the demo's directory, so that the socket's path is short, tells what happens on stdout,
and ends when stdin does: also when whoever started it was killed.
"""

import asyncio
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .party import take_part
from .person import load_person
from .server import serve_chat

SOCKET = "server.sock"
DATABASE = "server.sqlite"


def main(arguments: Sequence[str]) -> None:
    """Runs the server, or a party.

    Args:
        arguments: none for the server; a name, and how many messages, for a party.
    """
    asyncio.run(_run_party(*arguments) if arguments else _run_server())


async def _run_server() -> None:
    with _watch_stdin() as stopped:
        async with serve_chat(SOCKET, Path(DATABASE)):
            _tell("ready")
            await stopped.wait()


async def _run_party(name: str, messages: str) -> None:
    with _watch_stdin() as stopped:
        person = load_person(Path(), name)
        await take_part(person, SOCKET, int(messages), _tell, stopped)


@contextmanager
def _watch_stdin() -> Generator[asyncio.Event]:
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


if __name__ == "__main__":
    main(sys.argv[1:])
