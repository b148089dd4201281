"""One of the two who chat: a process with a database of its own."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

from aqm_db import AsyncClientDatabase, connect

from .journal import Journal
from .link import Link
from .person import Person
from .publisher import Publisher
from .purse import Purse
from .receiver import Receiver
from .sender import Sender

Tell = Callable[[str], None]
"""Hears what happens: ``sent N``, ``received N``, and ``done``."""


async def take_part(
    person: Person, socket: str, messages: int, tell: Tell, stopped: asyncio.Event
) -> None:
    """Chats from where it was left, until it's told to stop.

    Args:
        person: who it is.
        socket: the server's unix socket.
        messages: how many to send, and to receive.
        tell: hears what happens.
        stopped: when it's set, that's the end.

    Raises:
        DemoError: the server is gone.
    """
    async with connect(person.url) as db, Link.open(socket, person.name) as link:
        with ExitStack() as files:
            outbox = files.enter_context(Journal(person.outbox))
            log = files.enter_context(Journal(person.log))
            await link.introduce(person.identity.public)
            await db.inventory.register_contact(person.friend, "BESTIE", person.friend.title())
            await Party(person, db, link, outbox, log, messages, tell).chat(stopped)


def text_of(name: str, number: int) -> str:
    """What somebody writes, counted from 1."""
    return f"{name.title()}'s message {number}"


class Party:
    """Sends, receives and mints at the same time."""

    def __init__(
        self,
        person: Person,
        db: AsyncClientDatabase,
        link: Link,
        outbox: Journal,
        log: Journal,
        messages: int,
        tell: Tell,
    ) -> None:
        self._person = person
        self._link = link
        self._messages = messages
        self._tell = tell
        self._purse = Purse(person, db.inventory, link)
        self._sender = Sender(person, self._purse, outbox, link)
        self._receiver = Receiver(person, db.vault, log)
        self._publisher = Publisher(person, db.vault, link)
        self._burned = asyncio.Event()

    async def chat(self, stopped: asyncio.Event) -> None:
        """Chats until it's told to stop."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work) for work in (self._listen(), self._write(), self._mint())
            ]
            await stopped.wait()
            for task in tasks:
                task.cancel()

    async def _write(self) -> None:
        await self._sender.resend()
        while self._sender.written < self._messages:
            await self._sender.send(text_of(self._person.name, self._sender.written + 1))
            self._tell(f"sent {self._sender.written}")
        self._tell_if_done()

    async def _listen(self) -> None:
        async for frame in self._link.read_frames():
            if "delivery" in frame:
                if await self._receiver.receive(frame["envelope"]):
                    self._tell(f"received {self._receiver.count}")
                    self._burned.set()
                await self._link.acknowledge(frame["delivery"])
            elif "accepted" in frame:
                self._sender.note_acceptance(frame["accepted"])
            else:
                self._purse.note_coins()
            self._tell_if_done()

    async def _mint(self) -> None:
        while True:
            self._burned.clear()
            await self._publisher.restock()
            await self._burned.wait()

    def _tell_if_done(self) -> None:
        done = self._sender.written, self._receiver.count
        if done == (self._messages, self._messages) and self._sender.is_idle:
            self._tell("done")
