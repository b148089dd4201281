"""What is confirmed together: many callers at once, and those that are cancelled meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncSmartInventory, close_all
from aqm_db._io import request
from aqm_db._io.redispy.async_loops import get_channels
from aqm_db.errors import ContactNotRegisteredError, InventoryUnavailableError
from aqm_db.sync import SmartInventory
from tests.faults.support.cancelled_callers import turns
from tests.io.test_async_sources import drop
from tests.support.backends import REDIS_8, VALKEY_9
from tests.support.clusters import Node, RunningPrimary
from tests.support.peers import ScriptedServer, answer_select, listening, tell_time
from tests.support.samples import BOB, stock
from tests.support.waiting import await_until, eventually

CALLERS = 50
COINS = [f"c{number:02}" for number in range(CALLERS)]
LIMITS = {"GOLD": CALLERS, "SILVER": 0, "BRONZE": 0}
CAPS: dict[str, Any] = {"budget_caps": dict.fromkeys(("BESTIE", "MATE", "STRANGER"), LIMITS)}
PATIENT: dict[str, Any] = {"confirm_replicas": 1, "confirm_timeout": 4000}
COIN = (b"k1", b"GOLD", b"p", b"s", b"1800000000000", None, b"1800000000000")

aio = pytest.mark.asyncio


@pytest.fixture(scope="module", params=[VALKEY_9, REDIS_8], ids=lambda backend: backend.name)
def running(request: pytest.FixtureRequest) -> Iterator[RunningPrimary]:
    """A primary and its replica."""
    with RunningPrimary(request.param, replicas=1) as servers:
        yield servers


@pytest.fixture
def pair(running: RunningPrimary) -> Iterator[RunningPrimary]:
    """The same, empty, and with a replica that answers in the end."""
    running.nodes[0].client.flushall()
    yield running
    running.nodes[1].thaw()
    eventually(lambda: running.nodes[0].client.execute_command("WAIT", 1, 1000) == 1)


@asynccontextmanager
async def ready_client(pair: RunningPrimary) -> AsyncGenerator[redis.asyncio.Redis]:
    """A client of the primary's, which knows what its clock shows; the server knows the scripts."""
    async with redis.asyncio.Redis(port=pair.nodes[0].port) as made:
        inventory = AsyncSmartInventory(made, **CAPS, **PATIENT)
        await inventory.register_contact(BOB, "BESTIE")
        await stock(inventory, BOB, "GOLD", "first")
        assert await inventory.select_coin(BOB, "GOLD") is not None
        await stock(inventory, BOB, "GOLD", *COINS)
        pair.nodes[0].client.config_resetstat()
        try:
            yield made
        finally:
            pair.nodes[1].thaw()
            await close_all(made, made)


@pytest_asyncio.fixture
async def client(pair: RunningPrimary) -> AsyncGenerator[redis.asyncio.Redis]:
    """Such a client."""
    async with ready_client(pair) as made:
        yield made


def count_waits(primary: Node) -> int:
    """How many WAITs a server was sent, other than by tests."""
    return int(primary.client.info("commandstats").get("cmdstat_wait", {"calls": 0})["calls"])


def list_left(primary: Node) -> list[str]:
    """The coins in the queue, in order."""
    queue: list[bytes] = primary.client.zrange(f"inv:v1:idx:{BOB}:GOLD", 0, -1)
    return [coin.decode() for coin in queue]


def is_blocked(primary: Node) -> bool:
    """Whether somebody waits for the replica."""
    return bool(primary.info("clients", "blocked_clients"))


@aio
async def test_many_at_once_are_confirmed_together(
    pair: RunningPrimary, client: redis.asyncio.Redis
) -> None:
    """One WAIT is sent for those that come together, and each gets a coin of its own."""
    inventory = AsyncSmartInventory(client, **CAPS, **PATIENT)
    coins = await asyncio.gather(*(inventory.select_coin(BOB, "GOLD") for _ in range(CALLERS)))
    assert sorted(coin.key_id for coin in coins if coin is not None) == COINS
    # Whoever finds a connection that nobody uses isn't held up for others.
    assert count_waits(pair.nodes[0]) <= 3
    assert await inventory.select_coin(BOB, "GOLD") is None


@aio
async def test_callers_who_come_again_and_again(
    pair: RunningPrimary, client: redis.asyncio.Redis
) -> None:
    """What comes while others are confirmed is confirmed together, too."""
    inventory = AsyncSmartInventory(client, **CAPS, **PATIENT)
    left = iter(range(40 * CALLERS))

    async def call() -> None:
        for _ in left:
            assert await inventory.select_coin(BOB, "SILVER") is None

    await asyncio.gather(*(call() for _ in range(2 * CALLERS)))
    assert count_waits(pair.nodes[0]) <= 4 * CALLERS
    # Two connections that wait, and one for all else.
    assert pair.nodes[0].info("clients", "connected_clients") <= 3 + 1


@aio
async def test_a_silent_replica_delays_nobody_twice(
    pair: RunningPrimary, client: redis.asyncio.Redis
) -> None:
    """All who come together wait for the replica together."""
    hasty: dict[str, Any] = {"confirm_replicas": 1, "confirm_timeout": 50}
    inventory = AsyncSmartInventory(client, **CAPS, **hasty)
    pair.nodes[1].freeze()
    for _ in range(2):
        before = count_waits(pair.nodes[0])
        calls = (inventory.select_coin(BOB, "GOLD") for _ in range(CALLERS // 2))
        errors = await asyncio.gather(*calls, return_exceptions=True)
        for error in errors:
            assert isinstance(error, InventoryUnavailableError)
            assert error.outcome_unknown
        assert count_waits(pair.nodes[0]) <= before + 2


@aio
async def test_what_changes_nothing_waits_for_no_replica(
    pair: RunningPrimary, client: redis.asyncio.Redis
) -> None:
    """A read is answered while a change waits for a replica."""
    inventory = AsyncSmartInventory(client, **CAPS, **PATIENT)
    pair.nodes[1].freeze()
    selecting = asyncio.create_task(inventory.select_coin(BOB, "GOLD"))
    await asyncio.to_thread(eventually, lambda: is_blocked(pair.nodes[0]))
    assert len(await inventory.list_coins(BOB)) == CALLERS - 1
    assert not selecting.done()
    pair.nodes[1].thaw()
    assert await selecting is not None


@aio
async def test_who_waits_for_a_turn_is_waited_for(
    pair: RunningPrimary, client: redis.asyncio.Redis
) -> None:
    """Closing a client ends no call, neither of those that were sent nor of those that were not."""
    inventory = AsyncSmartInventory(client, **CAPS, **PATIENT)
    pair.nodes[1].freeze()
    tasks = []
    for _ in range(4):
        tasks += [asyncio.create_task(inventory.select_coin(BOB, "GOLD")) for _ in range(3)]
        await asyncio.to_thread(eventually, lambda: is_blocked(pair.nodes[0]))
    closing = asyncio.create_task(close_all(client, client))
    gone = tasks.pop()
    gone.cancel()
    await asyncio.wait((gone,))
    pair.nodes[1].thaw()
    coins = await asyncio.gather(*tasks)
    await closing
    assert len({coin.key_id for coin in coins if coin is not None}) == len(tasks)
    assert list_left(pair.nodes[0]) == COINS[len(tasks) :]


# Callers who are gone -------------------------------------------------------------------------


@aio
async def test_a_cancelled_caller_waits_for_no_replica(
    pair: RunningPrimary, client: redis.asyncio.Redis
) -> None:
    """Its coin is back while the replica is silent still, and is confirmed to be so afterwards."""
    inventory = AsyncSmartInventory(client, settle_timeout=50, **CAPS, **PATIENT)
    pair.nodes[1].freeze()
    tasks = [asyncio.create_task(inventory.select_coin(BOB, "GOLD")) for _ in range(CALLERS)]
    await asyncio.to_thread(eventually, lambda: is_blocked(pair.nodes[0]))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await asyncio.to_thread(eventually, lambda: list_left(pair.nodes[0]) == COINS)
    assert is_blocked(pair.nodes[0])
    pair.nodes[1].thaw()
    await close_all(client, client)
    assert list_left(pair.nodes[1]) == COINS


class Interrupted(redis.Connection):
    """A connection in which a KeyboardInterrupt comes when a reply is read."""

    is_due = False

    def read_response(self, *args: Any, **options: Any) -> Any:
        """See redis-py."""
        if Interrupted.is_due:
            Interrupted.is_due = False
            raise KeyboardInterrupt
        return super().read_response(*args, **options)


def test_an_interrupted_caller_waits_for_no_replica(
    pair: RunningPrimary, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same on the synchronous face, where nobody confirms later that the coin is back."""
    primary, replica = pair.nodes
    pool = redis.ConnectionPool(connection_class=Interrupted, port=primary.port)
    with redis.Redis.from_pool(pool) as made:
        inventory = SmartInventory(made, settle_timeout=200, **CAPS, **PATIENT)
        inventory.register_contact(BOB, "BESTIE")
        for coin in ("c1", "c2"):
            inventory.store_key(BOB, coin, "GOLD", b"public", b"signature")
        assert inventory.select_coin(BOB, "SILVER") is None
        replica.freeze()
        monkeypatch.setattr(Interrupted, "is_due", True)
        with pytest.raises(KeyboardInterrupt):
            inventory.select_coin(BOB, "GOLD")
    assert list_left(primary) == ["c1", "c2"]
    assert [record.msg for record in caplog.records] == ["outcome_unknown"]


# Odd servers ----------------------------------------------------------------------------------


class Server(ScriptedServer):
    """One that hands out a coin each time, and waits for nothing.

    Args:
        ends: at how many WAITs it hangs up, before it's all right.
        is_silent: whether it never answers.
    """

    def __init__(self, ends: int = 0, *, is_silent: bool = False) -> None:
        super().__init__(self._tell)
        self.ends = ends
        self.is_silent = is_silent

    def _tell(self, command: list[bytes]) -> bytes | None:
        if self.is_silent:
            return b""
        if command[0] == b"WAIT" and self.ends:
            self.ends -= 1
            return None
        said = {b"SET": b"+OK\r\n", b"WAIT": b":1\r\n"}
        return said.get(command[0]) or answer_select(command, *COIN)

    def names(self) -> list[bytes]:
        """The names of the commands that it was sent."""
        return [request[0] for request in self.requests]


@asynccontextmanager
async def client_of(
    server: ScriptedServer, path: Path, retries: int = 0
) -> AsyncGenerator[redis.asyncio.Redis]:
    """A client of such a server, which knows what its clock shows."""
    async with listening(server, path):
        made = redis.asyncio.Redis(
            unix_socket_path=str(path), protocol=2, retry=Retry(NoBackoff(), retries)
        )
        tell_time(made)
        yield made
        await close_all(made, made)


@aio
async def test_several_owners_and_demands_at_once(tmp_path: Path) -> None:
    """Each owner's key is written before anything waits, and each demand is waited for."""
    server = Server()
    async with client_of(server, tmp_path / "s") as made:
        demands: list[dict[str, Any]] = [{"confirm_replicas": 1}, {"confirm_replicas": 2}]
        inventories = [
            AsyncSmartInventory(made, owner=owner, confirm_timeout=70, **demand)
            for owner in ("alice", "carol")
            for demand in demands
        ]
        results = await asyncio.gather(
            *(inventory.select_coin(BOB, "GOLD") for inventory in inventories),
            return_exceptions=True,
        )
    for result, enough in zip(results, (True, False, True, False), strict=True):
        assert isinstance(result, InventoryUnavailableError) is not enough
    assert server.names()[4:] == [b"SET", b"SET", b"WAIT", b"WAIT"]
    tails = [request[1] for request in server.requests[4:]]
    assert tails == [b"aqm:{alice}:inv:v1:confirm", b"aqm:{carol}:inv:v1:confirm", b"1", b"2"]


@aio
async def test_each_caller_is_told_what_the_server_said_to_it(
    pair: RunningPrimary, client: redis.asyncio.Redis
) -> None:
    """One that is refused changes nothing of what the others get."""
    inventory = AsyncSmartInventory(client, **CAPS, **PATIENT)
    names = [BOB, "nobody", BOB]
    calls = (inventory.select_coin(name, "GOLD") for name in names)
    first, refused, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(refused, ContactNotRegisteredError)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)


@aio
@pytest.mark.parametrize("retries", [0, 1])
async def test_a_connection_that_ends_before_its_changes_are_confirmed(
    tmp_path: Path, retries: int
) -> None:
    """Nothing that another connection's WAIT says counts for them: they are sent again."""
    server = Server(ends=1)
    async with client_of(server, tmp_path / "s", retries) as made:
        inventory = AsyncSmartInventory(made, confirm_replicas=1)
        calls = [inventory.select_coin(BOB, "GOLD") for _ in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if retries:
            assert not isinstance(result, BaseException)
        else:
            assert isinstance(result, InventoryUnavailableError)
            assert result.outcome_unknown
    burst = [b"EVALSHA"] * 3 + [b"SET", b"WAIT"]
    assert server.names() == burst * (1 + retries)


@aio
@pytest.mark.parametrize("retries", [0, 1])
async def test_a_connection_that_ends_while_a_burst_is_collected(
    tmp_path: Path, retries: int
) -> None:
    """What confirms it isn't sent on the next one, unless the changes are sent there again."""
    server = Server()
    async with client_of(server, tmp_path / "s", retries) as made:
        inventory = AsyncSmartInventory(made, confirm_replicas=1)
        await asyncio.gather(*(inventory.select_coin(BOB, "GOLD") for _ in range(2)))
        server.requests.clear()
        calls = [asyncio.create_task(inventory.select_coin(BOB, "GOLD")) for _ in range(3)]
        asyncio.get_running_loop().call_soon(get_channels(made).hang_up, "it ends")
        results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if retries:
            assert not isinstance(result, BaseException)
        else:
            assert isinstance(result, InventoryUnavailableError)
            assert not result.outcome_unknown
    assert server.names() == retries * ([b"EVALSHA"] * 3 + [b"SET", b"WAIT"])


@aio
async def test_a_server_that_allows_for_one_connection_only(
    pair: RunningPrimary, client: redis.asyncio.Redis
) -> None:
    """Whoever finds it in use waits for it."""
    inventory = AsyncSmartInventory(client, **CAPS, **PATIENT)
    primary, replica = pair.nodes
    assert await inventory.select_coin(BOB, "SILVER") is None
    most = primary.client.config_get("maxclients")["maxclients"]
    replica.freeze()
    tasks = [asyncio.create_task(inventory.select_coin(BOB, "GOLD"))]
    await asyncio.to_thread(eventually, lambda: is_blocked(primary))
    primary.client.config_set("maxclients", 1)
    tasks += [asyncio.create_task(inventory.select_coin(BOB, "GOLD")) for _ in range(3)]
    refused = "rejected_connections"
    await asyncio.to_thread(eventually, lambda: primary.info("stats", refused) > 0)
    replica.thaw()
    coins = await asyncio.gather(*tasks)
    primary.client.config_set("maxclients", most)
    assert sorted(coin.key_id for coin in coins if coin is not None) == COINS[:4]


@aio
async def test_nobody_who_listens(tmp_path: Path) -> None:
    """It's said at once: no other connection is worth waiting for."""
    made = redis.asyncio.Redis(unix_socket_path=str(tmp_path / "s"), retry=Retry(NoBackoff(), 0))
    inventory = AsyncSmartInventory(made, confirm_replicas=1)
    tell_time(made)
    for result in await asyncio.gather(
        *(inventory.select_coin(BOB, "GOLD") for _ in range(3)), return_exceptions=True
    ):
        assert isinstance(result, InventoryUnavailableError)
        assert not result.outcome_unknown
    await close_all(made, made)


@aio
async def test_one_of_a_burst_who_is_gone(tmp_path: Path) -> None:
    """The others are confirmed all the same."""
    server = Server()
    async with client_of(server, tmp_path / "s") as made:
        inventory = AsyncSmartInventory(made, confirm_replicas=1)
        calls = [asyncio.create_task(inventory.select_coin(BOB, "GOLD")) for _ in range(3)]
        branch: Any = get_channels(made).get_channel()
        while branch._confirming._count() < len(calls):
            await asyncio.sleep(0)
        calls[0].cancel()
        await asyncio.wait(calls)
    assert calls[0].cancelled()
    assert None not in [await call for call in calls[1:]]


@aio
async def test_a_dropped_client_whose_calls_were_confirmed(tmp_path: Path) -> None:
    """It's warned of, whichever connection it has left open."""
    async with listening(Server(), tmp_path / "s"):
        made = redis.asyncio.Redis(unix_socket_path=str(tmp_path / "s"), protocol=2)
        tell_time(made)
        inventories = [AsyncSmartInventory(made, confirm_replicas=1)]
        del made
        assert await inventories[0].select_coin(BOB, "GOLD") is not None
        with pytest.warns(ResourceWarning, match="a client was dropped"):
            drop(inventories)
        await turns(20)


@aio
async def test_answers_that_come_while_a_burst_is_collected(tmp_path: Path) -> None:
    """Nothing is confirmed before what confirms it has been sent."""
    server = Server()
    async with client_of(server, tmp_path / "s") as made:
        inventory = AsyncSmartInventory(made, confirm_replicas=1)
        await asyncio.gather(*(inventory.select_coin(BOB, "GOLD") for _ in range(2)))
        calls = [asyncio.create_task(inventory.select_coin(BOB, "GOLD")) for _ in range(2)]
        branch: Any = get_channels(made).get_channel()
        for channel in branch._confirming._channels:
            asyncio.get_running_loop().call_soon(channel.rest)
        assert None not in await asyncio.gather(*calls)


@aio
async def test_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits beyond the deadline of the call, whether its request was sent or not."""
    monkeypatch.setattr(request, "REPEATABLE_SECONDS", 0.5)
    server = Server(is_silent=True)
    async with client_of(server, tmp_path / "s") as made:
        inventory = AsyncSmartInventory(made, confirm_replicas=1)
        calls: list[asyncio.Task[Any]] = []
        for count in (1, 2):
            calls.append(asyncio.create_task(inventory.select_coin(BOB, "GOLD")))
            await await_until(partial(_has_waited, server, count))
        calls += [asyncio.create_task(inventory.select_coin(BOB, "GOLD")) for _ in range(2)]
        results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        assert isinstance(result, InventoryUnavailableError)
    doubts = [getattr(result, "outcome_unknown", None) for result in results]
    assert doubts == [True, True, False, False]


async def _has_waited(server: Server, times: int) -> bool:
    """Whether a server was asked so often whether replicas have something."""
    return server.names().count(b"WAIT") == times
