"""The server is killed under load, and starts again on its append-only file."""

import asyncio

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff, NoBackoff

from aqm_db import AsyncSmartInventory
from aqm_db.errors import AQMDatabaseError, UnavailableError
from tests.faults.support.append_only_file import (
    Evidence,
    Request,
    balance,
    cut_off_half,
    gone_with_the_buffer,
    request_id,
    untrue,
)
from tests.faults.support.busy_callers import CONTACTS, Caller
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import assert_link_is_clean, assert_no_key_material
from tests.support.backends import REDIS_6, VALKEY_9, Backend, RunningServer

pytestmark = pytest.mark.asyncio

CALLERS = 8
LOSING = {"always": "appendfsync always", "everysec": "everysec, before its last two seconds"}
PATIENT = Retry(ConstantBackoff(0.01), 3000)
NEVER = Retry(NoBackoff(), 0)


class Load:
    """Callers at work on one server, which is killed meanwhile.

    Args:
        backend: the kind of that server.

    Attributes:
        requests: what they asked for, in order.
        errors: what was raised.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.requests: list[Request] = []
        self.errors: list[BaseException] = []
        self._life = 0
        self._up = asyncio.Event()
        self._over = False

    async def run(self, server: RunningServer, clients: list[Redis], kills: int) -> None:
        """Lets the callers work until the server was killed so often and is there again."""
        self._up.set()
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                caller = Caller(clients[number % len(clients)], number)
                group.create_task(self._work(caller))
            for number in range(kills):
                await self._kill(server, number)
            self._over = True

    async def _kill(self, server: RunningServer, number: int) -> None:
        goal = len(self.requests) + 30 + number % 7
        while len(self.requests) < goal:
            await asyncio.sleep(0)
        if number % 2:
            # What is sent now is never executed; else some of it is, and its replies are lost.
            server.freeze()
            for _ in range(20):
                await asyncio.sleep(0)
        self._up.clear()
        self._life += 1
        server.kill()
        cut_off_half(self._backend, server.append_only_file())
        await asyncio.to_thread(server.restart)
        self._up.set()

    async def _work(self, caller: Caller) -> None:
        while not self._over:
            await self._up.wait()
            number = len(self.requests)
            request = Request(
                request_id(caller.number, number), caller.choose(), number, self._life
            )
            self.requests.append(request)
            try:
                request.told = "done" if await caller.call(request) else "nothing"
            except AQMDatabaseError as error:
                self.errors.append(error)
                if not isinstance(error, UnavailableError) or not error.outcome_unknown:
                    request.told = "nothing"
            request.ended, request.last_life = len(self.requests), self._life


@pytest.mark.parametrize("policy", ["always", "everysec"])
@pytest.mark.parametrize("patience", [PATIENT, NEVER], ids=["patient", "impatient"])
@pytest.mark.parametrize("backend", [VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
async def test_the_server_is_killed(
    backend: Backend,
    patience: Retry,
    policy: str,
    tally: Tally,
    caplog: pytest.LogCaptureFixture,
    *,
    thorough: bool,
) -> None:
    """Whoever was told something was told the truth, and every coin is where it should be.

    The process dies, not the machine, so that what it gave to the kernel stays: with ``always``
    that is all. With ``everysec`` the server also answers while it waits for an fsync, and what it
    holds back meanwhile, for two seconds at most, dies with it: that doesn't count here.
    """
    kills = 25 if thorough else 3
    load = Load(backend)
    with RunningServer(backend, "--appendonly", "yes", "--appendfsync", policy) as server:
        clients = [server.client(0, retry=patience) for _ in range(2)]
        for contact_id in CONTACTS:
            await AsyncSmartInventory(clients[0]).register_contact(contact_id, "BESTIE")
        await load.run(server, clients, kills)
        # What a living server holds back is in its answers, and not in its file yet.
        server.kill()
        cut_off_half(backend, server.append_only_file())
        await asyncio.to_thread(server.restart)
        evidence = Evidence(server.append_only_file().read_bytes())
        gone = gone_with_the_buffer(load.requests, evidence)
        assert not gone or policy == "everysec"
        lost, duplicated = await balance(load.requests, evidence, clients[0])
        for client in clients:
            await assert_link_is_clean(client, AsyncSmartInventory(client))
            await client.aclose()
    assert_no_key_material(load.errors, caplog)
    unknown = [each for each in load.requests if each.told == "unknown"]
    assert bool(unknown) is (patience is NEVER)
    tally.add(
        f"kill -9 of the server, {LOSING[policy]}",
        runs=kills,
        lost=lost,
        duplicated=duplicated,
        wrong=untrue(load.requests, evidence),
    )
