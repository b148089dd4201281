"""A furnished database behind a server that refuses something, and the calls on it."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis

from aqm_db._io.redispy import faces
from aqm_db._io.redispy.clients import unwrap_client
from aqm_db.errors import InventoryUnavailableError, UnavailableError, VaultUnavailableError
from aqm_db.types import InventoryEntry
from tests.conftest import INVENTORY_DB
from tests.faults.support.public_calls import CALLS, errors_of, furnish, objects_over
from tests.faults.support.refusing_server import Command, Refusing
from tests.faults.support.restored_database import Kept
from tests.support.backends import RunningServer
from tests.support.faces import ASYNC, Face
from tests.support.peers import listening, undate

Watch = Callable[[Awaitable[Any]], Awaitable[Any]]
"""Waits for a call, and sees to it that time passes meanwhile."""


@dataclass
class Ending:
    """How a call ended.

    Attributes:
        errors: what it raised, or returned among the outcomes of a batch.
        raised: whether it raised it.
        changed: whether the database isn't what it was before.
    """

    errors: list[BaseException]
    raised: bool
    changed: bool

    def kinds(self) -> set[type[BaseException]]:
        """The classes of the errors."""
        return set(map(type, self.errors))

    def outcomes_unknown(self) -> set[bool]:
        """What the errors say of that."""
        return {each.outcome_unknown for each in self.errors if isinstance(each, UnavailableError)}

    def is_honest(self) -> bool:
        """Whether nothing was executed where an error that was raised says so."""
        return not self.raised or not self.changed or self.outcomes_unknown() == {True}


@dataclass
class Scene:
    """A furnished database, and a server before it that refuses what it's told.

    Attributes:
        face: whose client calls.
        server: that server.
        path: its socket.
        kept: what is there before each call.
        before: the same, as it is read.
        entry: a coin that was selected.
        thorough: whether every command of a call is tried, or its first and its last.
        errors: all that was raised or returned.
    """

    face: Face
    server: Refusing
    path: Path
    kept: Kept
    before: dict[Any, Any]
    entry: InventoryEntry
    thorough: bool
    errors: list[BaseException] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def of(
        cls, face: Face, real: RunningServer, direct: Redis, directory: Path, *, thorough: bool
    ) -> AsyncGenerator[Self]:
        """Furnishes a database, and lets the server listen until the block ends."""
        entry = await furnish(objects_over(direct))
        kept = Kept(direct)
        await kept.keep()
        server = Refusing(real.socket_path, INVENTORY_DB)
        async with listening(server, directory / "s"):
            before = _lasting(await kept.content())
            yield cls(face, server, directory / "s", kept, before, entry, thorough)
        server.close()

    async def commands(self, name: str) -> list[Command]:
        """What a call asks of a server that knows its scripts, whenever it's asked."""
        for _ in range(2):
            await self.call(name, lambda _: False)
        asked = [undate(command) for command in self.server.requests]
        tried = asked if self.thorough else [asked[0], asked[-1]]
        # What a call asks twice, it would be refused twice: attempts couldn't be counted.
        return [command for command in _distinct(tried) if asked.count(command) == 1]

    async def call(
        self,
        name: str,
        refuses: Callable[[Command], bool],
        reply: bytes | None = None,
        watch: Watch | None = None,
    ) -> Ending:
        """Makes a call with a client of the library's own."""
        await self.kept.restore()
        self.server.arm(refuses, reply)
        returned: list[Any] = []

        async def outcome(client: Any) -> None:
            objects = objects_over(client, self.face, entry=self.entry, name="again")
            returned.append(await CALLS[name](objects))

        async with library_client(self.face, self.path) as client:
            call = errors_of(outcome(client))
            errors = await (call if watch is None else watch(call))
        raised = bool(errors)
        if not raised:
            errors = await errors_of(_given(returned[0]))
        self.errors += errors
        changed = _lasting(await self.kept.content()) != self.before
        return Ending(errors, raised, changed)


@asynccontextmanager
async def library_client(face: Face, path: Path) -> AsyncGenerator[Any]:
    """A client as ``connect`` makes them, of a server that speaks the older protocol."""
    place = {"unix_socket_path": str(path), "protocol": 2}
    if face is ASYNC:
        async with faces.ASYNC.make_client(INVENTORY_DB, **place) as client:
            yield client
    else:
        with unwrap_client(faces.SYNC.make_client(INVENTORY_DB, **place)) as client:
            yield client


def _lasting(content: dict[Any, Any]) -> dict[Any, Any]:
    """What is there, but for who reserves slots now: that is no part of what a call is for."""
    passing = {
        *(b"inv:v1:leases", b"inv:v1:leases_until", b"inv:v1:coming", b"inv:v1:totals"),
    }
    return {key: value for key, value in content.items() if key not in passing}


def _distinct(commands: list[Command]) -> list[Command]:
    return [command for place, command in enumerate(commands) if command not in commands[:place]]


def unavailable_at(command: Command) -> type[UnavailableError]:
    """The class that belongs to the database that a command is about."""
    vault = any(b"vault:v1" in part for part in command)
    return VaultUnavailableError if vault else InventoryUnavailableError


async def _given(value: Any) -> Any:
    return value
