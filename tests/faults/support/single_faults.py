"""What can go wrong with one call, and a place where it does so on demand."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncGarbageCollector, AsyncSecureVault, AsyncSmartInventory
from aqm_db.errors import AQMDatabaseError
from aqm_db.sync import SmartInventory
from tests.conftest import INVENTORY_DB
from tests.faults.support.cancelled_callers import cancelled_at
from tests.support.backends import RunningServer
from tests.support.peers import Cutter, listening, tell_time
from tests.support.samples import Clock

RETRIES = 5


@dataclass(frozen=True)
class Client:
    """All that a caller has, over one client."""

    vault: AsyncSecureVault
    inventory: AsyncSmartInventory
    gc: AsyncGarbageCollector


Call = Callable[[Client], Awaitable[Any]]


@dataclass(frozen=True)
class Fault:
    """What happens to a call; here, nothing."""

    def __str__(self) -> str:
        return "no fault"


@dataclass(frozen=True)
class RepliesLost(Fault):
    """Some replies are lost, and the client asks again."""

    times: int

    def __str__(self) -> str:
        return "reply lost, asked again"


@dataclass(frozen=True)
class Unanswered(Fault):
    """The reply is lost, and the client gives up."""

    def __str__(self) -> str:
        return "reply lost, given up"


@dataclass(frozen=True)
class Overtaken(Fault):
    """The reply is lost, and before the client asks again, another one selects a coin."""

    contact_id: str

    def __str__(self) -> str:
        return "reply lost, overtaken"


@dataclass(frozen=True)
class Cancelled(Fault):
    """The caller is cancelled after some turns of the event loop, once or more often."""

    step: int
    times: int

    def __str__(self) -> str:
        return "cancelled"


@dataclass(frozen=True)
class Forgotten(Fault):
    """The server has forgotten its scripts."""

    def __str__(self) -> str:
        return "scripts forgotten"


class Place:
    """A server, and a link to it that loses replies; each of its clients is used again and again.

    Args:
        server: whose database is used.
        directory: where the link listens.
        budget_caps: of all inventories.

    Attributes:
        admin: a client on a good link.
        clock: the time of all objects.
        taken: what the other client of the last :class:`Overtaken` got, if it came to that.
    """

    def __init__(
        self, server: RunningServer, directory: Path, budget_caps: Mapping[str, Mapping[str, int]]
    ) -> None:
        self.admin = server.sync_client(INVENTORY_DB)
        self.clock = Clock()
        self.taken: list[Any] = []
        self._caps = budget_caps
        self._cutter = Cutter(server.socket_path)
        self._path = directory / "link"
        self._numbers = count()
        self._clients: list[Redis] = []
        self._other = SmartInventory(self.admin, budget_caps=budget_caps, clock=self.clock)
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        self._runner.run(self._stack.enter_async_context(listening(self._cutter, self._path)))
        self._patient, self._hasty = self._client(RETRIES), self._client(0)
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()
        self.admin.close()

    def empty(self) -> None:
        """Begins anew."""
        self.admin.flushdb()
        self.clock.now = Clock().now

    def run(self, call: Call, fault: Fault) -> Any:
        """Runs a call under a fault; returns how it ended, with the library's errors as values."""
        return self._runner.run(self._run(call, fault))

    async def _run(self, call: Call, fault: Fault) -> Any:
        self.taken = []
        for each in self._clients:
            # A reply that is lost is that of the call.
            tell_time(each)
        client = self._patient
        match fault:
            case RepliesLost(times):
                self._cutter.losing = times
            case Unanswered():
                self._cutter.losing = 1
                client = self._hasty
            case Overtaken(contact_id):
                self._cutter.losing = 1
                self._cutter.meanwhile = lambda: self._overtake(contact_id)
            case Forgotten():
                self.admin.script_flush()
            case _:
                pass
        try:
            if isinstance(fault, Cancelled):
                return await cancelled_at(fault.step, fault.times, call(client))
            return await call(client)
        except AQMDatabaseError as error:
            return error
        finally:
            self._cutter.losing = 0
            self._cutter.meanwhile = lambda: None

    def _overtake(self, contact_id: str) -> None:
        try:
            self.taken.append(self._other.select_coin(contact_id, "GOLD"))
        except AQMDatabaseError as error:
            self.taken.append(error)

    def _client(self, retries: int) -> Client:
        client = Redis(
            unix_socket_path=str(self._path), db=INVENTORY_DB, retry=Retry(NoBackoff(), retries)
        )
        self._stack.push_async_callback(client.aclose)
        self._clients.append(client)

        def request_ids() -> str:
            return f"request-{next(self._numbers)}"

        vault = AsyncSecureVault(client, clock=self.clock, request_ids=request_ids)
        inventory = AsyncSmartInventory(
            client, budget_caps=self._caps, clock=self.clock, request_ids=request_ids
        )
        return Client(vault, inventory, AsyncGarbageCollector(inventory, client))
