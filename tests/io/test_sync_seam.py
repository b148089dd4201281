"""The synchronous seam: threads, fork, a running loop, interrupts, retries and lost replies."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from redis import Redis, UnixDomainSocketConnection
from redis.backoff import ConstantBackoff, NoBackoff
from redis.connection import ConnectionPool
from redis.retry import Retry

from aqm_db import AsyncSmartInventory, GarbageCollector, SecureVault, SmartInventory, sync
from aqm_db._io import answers
from aqm_db._io.redispy.retries import FirmRetry
from aqm_db._model.tiers import PRIORITIES, TIERS
from aqm_db._operations.stock import SELECT
from aqm_db.errors import (
    AccessDeniedError,
    CorruptEntryError,
    InventoryUnavailableError,
    NotWritableError,
    VaultUnavailableError,
)
from tests.support.backends import FAKEREDIS, VALKEY_9, Backend, RunningServer, Servers
from tests.support.peers import ScriptedServer, answer_select, listening, tell_time
from tests.support.samples import BOB, halves, sample_key

DB = 11
THREADS = 8
RETRIES = 2


@pytest.fixture
def server(servers: Servers) -> RunningServer:
    """A real server."""
    return servers[VALKEY_9]


@pytest.fixture
def client(server: RunningServer) -> Iterator[Redis]:
    """A client of an empty database."""
    with server.sync_client(DB) as made:
        made.flushdb()
        yield made
        made.flushdb()


def stocked(client: Redis, contact_id: str = BOB, coins: int = 1) -> SmartInventory:
    """An inventory with a contact who has SILVER coins named 0, 1, 2..."""
    inventory = SmartInventory(client)
    inventory.register_contact(contact_id, "MATE")
    for number in range(coins):
        inventory.store_key(contact_id, str(number), "SILVER", *halves("SILVER"))
    return inventory


def echoes(client: Redis) -> bool:
    """Whether the client's connections are in step."""
    return all(client.echo(text) == text.encode() for text in ("a", "b", "c"))


# Threads, processes and event loops --------------------------------------------------------


@pytest.mark.parametrize("backend", [VALKEY_9, FAKEREDIS], ids=lambda backend: backend.name)
def test_threads_share_one_object(servers: Servers, backend: Backend) -> None:
    """Eight threads get their own answers, and no coin twice."""
    with servers[backend].sync_client(DB) as client:
        client.flushdb()
        vault, inventory = SecureVault(client), stocked(client, coins=6)
        start = threading.Barrier(THREADS)

        def work(thread: int) -> str | None:
            start.wait()
            for number in range(20):
                key_id = f"{thread}-{number}"
                vault.store_key(key_id, "GOLD", key_id.encode(), b"iv", b"tag")
                entry = vault.fetch_key(key_id)
                assert entry is not None
                assert entry.encrypted_blob == key_id.encode()
            coin = inventory.select_coin(BOB, "SILVER")
            return coin.key_id if coin else None

        with ThreadPoolExecutor(THREADS) as pool:
            found = [key_id for key_id in pool.map(work, range(THREADS)) if key_id]
        assert sorted(found) == list("012345")
        assert vault.count_active("GOLD") == THREADS * 20
        client.flushdb()


FORKING = """
import os, sys, redis
from aqm_db import SecureVault

vault = SecureVault(redis.Redis(unix_socket_path=sys.argv[1], db=int(sys.argv[2])))
vault.store_key("before", "GOLD", b"blob", b"iv", b"tag")
if (child := os.fork()) == 0:
    vault.store_key("child", "GOLD", b"blob", b"iv", b"tag")
    os._exit(0 if vault.exists("before") else 1)
for number in range(50):
    assert vault.exists("before")
_, status = os.waitpid(child, 0)
assert status == 0
assert sorted(vault.get_all_active_ids()) == ["before", "child"]
"""


def test_fork_after_use(server: RunningServer, client: Redis) -> None:
    """Parent and child go on with the same object, each on connections of its own."""
    subprocess.run([sys.executable, "-c", FORKING, str(server.socket_path), str(DB)], check=True)
    assert SecureVault(client).count_active("GOLD") == 2


def test_in_a_running_loop(client: Redis) -> None:
    """It blocks a running loop, and works."""

    async def main() -> list[list[str]]:
        vault, inventory = SecureVault(client), stocked(client)
        vault.store_key(**sample_key("k", "GOLD"))
        with vault.use_key("k") as entry:
            assert entry.key_id == "k"
        assert vault.get_all_active_ids() == []
        next(inventory.contact_pages())
        return list(inventory.contact_pages())

    assert asyncio.run(main()) == [[BOB]]


# Interrupts --------------------------------------------------------------------------------


class Interruptible(UnixDomainSocketConnection):
    """A connection in whose calls a KeyboardInterrupt comes when it's told to."""

    sending: Iterator[bool] = iter(())
    """Whether each of the next requests is interrupted before it's sent."""
    reading = 0
    """How many more replies are interrupted, while they are still unread."""

    def check_health(self) -> None:
        """See redis-py."""
        if next(Interruptible.sending, False):
            raise KeyboardInterrupt

    def can_read(self, timeout: float = 0) -> bool:
        """See redis-py; it doesn't wait where it's asked with no timeout."""
        if timeout:
            self._interrupt()
        found: bool = super().can_read(timeout)
        return found

    def read_response(self, *args: Any, **options: Any) -> Any:
        """See redis-py."""
        self._interrupt()
        return super().read_response(*args, **options)

    def _interrupt(self) -> None:
        if Interruptible.reading:
            Interruptible.reading -= 1
            raise KeyboardInterrupt


@contextmanager
def interruptible(path: Path, **options: Any) -> Generator[Redis]:
    """A client with such connections: one, so that whoever comes next gets the same."""
    connection_class: Any = Interruptible
    pool = ConnectionPool(
        connection_class=connection_class, path=str(path), db=DB, max_connections=1, **options
    )
    pool.release(pool.get_connection())
    with Redis.from_pool(pool) as client:
        yield client


def test_a_selection_that_is_interrupted_is_taken_back(
    server: RunningServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coin that was on its way is back, and the next reply is the right one."""
    expected = stocked(client, coins=2).get_inventory(BOB)
    with interruptible(server.socket_path) as interrupted:
        inventory = SmartInventory(interrupted)
        monkeypatch.setattr(Interruptible, "reading", 1)
        with pytest.raises(KeyboardInterrupt):
            inventory.select_coin(BOB, "SILVER")
        assert echoes(interrupted)
        assert inventory.get_inventory(BOB) == expected
        coin = inventory.select_coin(BOB, "SILVER")
        assert coin is not None
        assert coin.key_id == "0"


@pytest.mark.parametrize("position", [0, 1, 2])
def test_selections_that_are_interrupted_between_requests_are_taken_back(
    server: RunningServer, client: Redis, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    """Scripts that the server forgot need more than one request, and some may have run by then."""
    stocked(client)
    stocked(client, contact_id="carol")
    expected = SmartInventory(client).get_inventory()
    client.script_flush()
    with interruptible(server.socket_path) as interrupted:
        moments = [number == position for number in range(3)]
        monkeypatch.setattr(Interruptible, "sending", iter(moments))
        with pytest.raises(KeyboardInterrupt):
            SmartInventory(interrupted).select_coins([BOB, "carol"], "SILVER")
    assert SmartInventory(client).get_inventory() == expected


@pytest.mark.parametrize("name", ["run", "run_all"])
def test_an_interrupt_behind_the_answer(
    client: Redis, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its claim isn't over before it's settled, whatever other threads select meanwhile."""
    inventory = SmartInventory(
        client, budget_caps={str(each): dict.fromkeys(map(str, TIERS), 100) for each in PRIORITIES}
    )
    for contact_id, number in ((BOB, 2), ("carol", 40)):
        inventory.register_contact(contact_id, "BESTIE")
        for key_id in range(number):
            inventory.store_key(contact_id, str(key_id), "SILVER", *halves("SILVER"))
    for _ in range(15):
        inventory.select_coin("carol", "SILVER")
    answer = getattr(answers, name)

    async def answer_and_interrupt(*arguments: Any) -> Any:
        reply = await answer(*arguments)
        if threading.current_thread() is threading.main_thread():
            with ThreadPoolExecutor(1) as others:
                for _ in range(17):
                    others.submit(inventory.select_coin, "carol", "SILVER").result()
            raise KeyboardInterrupt
        return reply

    selects: dict[str, Callable[[], object]] = {
        "run": lambda: inventory.select_coin(BOB, "SILVER"),
        "run_all": lambda: inventory.select_coins([BOB], "SILVER"),
    }
    with monkeypatch.context() as patched:
        patched.setattr(answers, name, answer_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            selects[name]()
    assert inventory.get_inventory(BOB).silver_count == 2


def test_an_interrupt_by_a_signal(server: RunningServer, client: Redis) -> None:
    """Ctrl-C while the server is slow loses no coin."""
    expected = stocked(client).get_inventory(BOB)
    with server.sync_client(DB) as interrupted:
        inventory = SmartInventory(interrupted)
        client.client_pause(200, all=False)
        timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            inventory.select_coin(BOB, "SILVER")
        timer.join()
        assert echoes(interrupted)
        assert inventory.get_inventory(BOB) == expected


CALLS: dict[str, Callable[[SecureVault], object]] = {
    "run": lambda vault: vault.burn_key("k"),
    "read": lambda vault: vault.exists("k"),
    "scan": lambda vault: vault.get_all_active_ids(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_without_undo_that_is_interrupted_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """There is nothing to take back, and whoever presses Ctrl-C doesn't wait."""
    server = ScriptedServer(lambda _: b":0\r\n")
    with served(server, tmp_path / "s") as path, interruptible(path, protocol=2) as interrupted:
        tell_time(interrupted)
        monkeypatch.setattr(Interruptible, "reading", 1)
        with pytest.raises(KeyboardInterrupt):
            CALLS[call](SecureVault(interrupted))
        [connection] = interrupted.connection_pool._available_connections
        assert not connection.is_connected
        assert SecureVault(interrupted).exists("k") is False
    assert len(server.requests) == 2


def test_a_call_that_is_interrupted_before_it_is_sent_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was done, so nothing is asked."""
    server = ScriptedServer(answer_select)
    with served(server, tmp_path / "s") as path, interruptible(path, protocol=2) as interrupted:
        inventory = SmartInventory(interrupted)
        monkeypatch.setattr(Interruptible, "sending", iter([True]))
        with pytest.raises(KeyboardInterrupt):
            inventory.select_coin(BOB, "SILVER")
        assert server.requests == []
        assert inventory.select_coin(BOB, "SILVER") is None


def test_an_interrupted_selection_that_can_not_be_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the server takes no coin back, the log says so."""
    coin = [b"c", b"SILVER", b"public", b"signature", b"1", b"1", b"1 1 r"]
    server = ScriptedServer(
        lambda command: answer_select(command, *coin) if is_select(command) else b"-OOM\r\n"
    )
    with served(server, tmp_path / "s") as path, interruptible(path, protocol=2) as interrupted:
        tell_time(interrupted)
        monkeypatch.setattr(Interruptible, "reading", 1)
        with pytest.raises(KeyboardInterrupt):
            SmartInventory(interrupted).select_coin(BOB, "SILVER")
    [record] = [record for record in caplog.records if record.msg == "outcome_unknown"]
    assert record.__dict__["error"] == NotWritableError.__name__


def test_an_interrupted_selection_that_found_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing was done, nothing is taken back."""
    server = ScriptedServer(lambda _: b"*1\r\n:5\r\n")
    with served(server, tmp_path / "s") as path, interruptible(path, protocol=2) as interrupted:
        tell_time(interrupted)
        monkeypatch.setattr(Interruptible, "reading", 1)
        with pytest.raises(KeyboardInterrupt):
            SmartInventory(interrupted).select_coin(BOB, "SILVER")
    assert len(server.requests) == 2


def test_an_interrupted_selection_without_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where what was done can't be found out, the log says so; it's asked once."""
    server = ScriptedServer(lambda _: None)
    retry = Retry(NoBackoff(), RETRIES)
    with (
        served(server, tmp_path / "s") as path,
        interruptible(path, protocol=2, retry=retry) as interrupted,
    ):
        tell_time(interrupted)
        inventory = SmartInventory(interrupted)
        monkeypatch.setattr(Interruptible, "reading", 1)
        with pytest.raises(KeyboardInterrupt):
            inventory.select_coin(BOB, "SILVER")
    [record] = [record for record in caplog.records if record.msg == "outcome_unknown"]
    assert record.__dict__["operation"] == "inv_select"
    assert record.__dict__["error"] == InventoryUnavailableError.__name__
    assert len(server.requests) == 2


# Retries -----------------------------------------------------------------------------------


@contextmanager
def served(server: ScriptedServer, path: Path) -> Generator[Path]:
    """Lets a server listen in a thread, on an event loop of its own, until the block ends."""
    ready = threading.Event()
    stops: list[Callable[[], object]] = []

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        async with listening(server, path):
            ready.set()
            await stop.wait()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, main())
        ready.wait()
        try:
            yield path
        finally:
            stops[0]()
            running.result()


@contextmanager
def scripted(
    path: Path, *replies: bytes | None, **options: Any
) -> Generator[tuple[ScriptedServer, Any]]:
    """A server that gives these replies, the last again and again, and a client of it."""
    rest = list(replies)
    server = ScriptedServer(lambda _: rest.pop(0) if len(rest) > 1 else rest[0])
    options = {"retry": Retry(NoBackoff(), RETRIES), **options}
    with (
        served(server, path),
        Redis(unix_socket_path=str(path), protocol=2, **options) as client,
    ):
        yield server, client


BUSY = b"-BUSY Redis is busy running a script.\r\n"
OK = b"*2\r\n:0\r\n:1\r\n"
NO_SCRIPT = b"-NOSCRIPT No matching script.\r\n"
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"
WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"


@pytest.mark.parametrize(
    ("replies", "outcome_unknown"),
    [
        ([None], True),
        ([BUSY], False),
        ([None, BUSY], True),
        ([BUSY, BUSY, None], True),
    ],
)
def test_what_does_not_pass_is_unavailable(
    tmp_path: Path, replies: list[bytes | None], *, outcome_unknown: bool
) -> None:
    """A call is sent as often as the client's policy says, and tells what may have happened."""
    with scripted(tmp_path / "s", *replies) as (server, client):
        with pytest.raises(InventoryUnavailableError) as caught:
            SmartInventory(client).register_contact(BOB, "MATE")
        assert caught.value.outcome_unknown is outcome_unknown
        assert caught.value.__cause__ is None
        assert len(server.requests) == 1 + RETRIES


def test_what_passes_passes(tmp_path: Path) -> None:
    """A call outlives what its client's retries outlive, and a script that was forgotten."""
    with scripted(tmp_path / "s", None, BUSY, NO_SCRIPT, None, OK) as (server, client):
        assert SmartInventory(client).register_contact(BOB, "MATE") is True
        assert [request[0] for request in server.requests] == [b"EVALSHA"] * 3 + [b"EVAL"] * 2
        assert client.get_retry().get_retries() == RETRIES


def test_a_script_that_is_refused_twice_was_not_executed(tmp_path: Path) -> None:
    """A script that the server didn't have can't have done anything."""
    with scripted(tmp_path / "s", NO_SCRIPT, BUSY) as (_, client):
        with pytest.raises(InventoryUnavailableError) as caught:
            SmartInventory(client).register_contact(BOB, "MATE")
        assert caught.value.outcome_unknown is False


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"-NOPERM this user has no permissions\r\n", AccessDeniedError),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", NotWritableError),
    ],
)
def test_what_is_refused_is_raised_at_once(
    tmp_path: Path, line: bytes, error: type[Exception]
) -> None:
    """Another attempt wouldn't change it; among many, each is told in its place."""
    with scripted(tmp_path / "s", line) as (server, client):
        inventory = SmartInventory(client)
        with pytest.raises(error):
            inventory.register_contact(BOB, "MATE")
        with pytest.raises(error):
            inventory.get_contact_meta(BOB)
        assert [type(found) for found in inventory.select_coins([BOB], "GOLD").values()] == [error]
        assert len(server.requests) == 3


def test_many_calls_that_fail_are_unavailable(tmp_path: Path) -> None:
    """Where no answer comes to any, there is one error."""
    with scripted(tmp_path / "s", None) as (server, client):
        with pytest.raises(InventoryUnavailableError) as caught:
            SmartInventory(client).select_coins([BOB, "carol"], "GOLD")
        assert caught.value.outcome_unknown is True
        assert len(server.requests) == 1 + RETRIES


def test_pages_come_until_the_last(tmp_path: Path) -> None:
    """SSCAN may give pages without members."""
    answers = [
        b"$1\r\n2\r\n",
        b"*2\r\n$1\r\n7\r\n*0\r\n",
        b"*2\r\n$1\r\n0\r\n*1\r\n$3\r\nbob\r\n",
    ]
    with scripted(tmp_path / "s", *answers) as (server, client):
        assert list(SmartInventory(client).contact_pages()) == [["bob"]]
        assert [request[2] for request in server.requests[1:]] == [b"0", b"7"]


def test_a_connection_keeps_its_policy(tmp_path: Path) -> None:
    """What is changed during a call is as it was after it."""
    with scripted(tmp_path / "s", OK) as (_, client):
        before = client.connection_pool.get_connection()
        policy = before.retry
        client.connection_pool.release(before)
        SmartInventory(client).register_contact(BOB, "MATE")
        after = client.connection_pool.get_connection()
        assert after is before
        assert after.retry is policy
        client.connection_pool.release(after)


def test_a_policy_is_optional(tmp_path: Path) -> None:
    """A client that never retries asks once."""
    with scripted(tmp_path / "s", None, retry=None) as (server, client):
        client.connection_pool.connection_kwargs["retry"] = None
        with pytest.raises(VaultUnavailableError):
            SecureVault(client).exists("k")
        assert len(server.requests) == 1


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting is tried as often as the client's policy says, not more."""
    attempts: list[object] = []

    def refused(connection: object) -> None:
        attempts.append(connection)
        raise ConnectionRefusedError

    monkeypatch.setattr(UnixDomainSocketConnection, "_connect", refused)
    client = Redis(unix_socket_path=str(tmp_path / "s"), retry=Retry(NoBackoff(), RETRIES))
    with pytest.raises(VaultUnavailableError) as caught:
        SecureVault(client).exists("k")
    assert caught.value.outcome_unknown is False
    assert len(attempts) == 1 + RETRIES


def test_a_server_that_is_gone_after_the_first_attempt(tmp_path: Path) -> None:
    """A request that was sent once may have been executed, whatever came after."""
    path = tmp_path / "s"

    def vanish(_: object) -> None:
        path.unlink()

    with (
        served(ScriptedServer(vanish), path),
        Redis(unix_socket_path=str(path), protocol=2, retry=Retry(NoBackoff(), 1)) as client,
        pytest.raises(InventoryUnavailableError) as caught,
    ):
        SmartInventory(client).register_contact(BOB, "MATE")
    assert caught.value.outcome_unknown is True


class Refusing(ScriptedServer):
    """A server that refuses every client from some connection on."""

    def __init__(self, line: bytes, welcome: int) -> None:
        super().__init__(lambda _: None)
        self.line = line
        self.welcome = welcome
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one client."""
        self.connections += 1
        if self.connections <= self.welcome:
            await super().serve(reader, writer)
            return
        await reader.read(65_536)
        writer.write(self.line)


@pytest.mark.parametrize(
    ("policy", "line", "welcome", "connections"),
    [
        (FirmRetry, WRONGPASS, 0, 1),
        (Retry, WRONGPASS, 0, 1),
        (Retry, WRONGPASS, 1, 2),
        (FirmRetry, LOADING, 0, 1 + RETRIES),
        (Retry, LOADING, 0, 1 + RETRIES),
        (Retry, LOADING, 1, 1 + RETRIES),
    ],
)
def test_a_refused_handshake(
    tmp_path: Path, policy: type[Retry], line: bytes, welcome: int, connections: int
) -> None:
    """A wrong password isn't tried again, at first or after a link failed; loading passes."""
    error = VaultUnavailableError if line is LOADING else AccessDeniedError
    server = Refusing(line, welcome)
    with (
        served(server, tmp_path / "s") as path,
        Redis(
            unix_socket_path=str(path),
            protocol=2,
            client_name="x",
            driver_info=None,
            retry=policy(NoBackoff(), RETRIES),
        ) as client,
        pytest.raises(error),
    ):
        SecureVault(client).exists("k")
    assert server.connections == connections


def test_a_silent_server_times_out(tmp_path: Path) -> None:
    """A server that never answers is given up after the client's own socket timeout."""
    with scripted(tmp_path / "s", b"", socket_timeout=0.05) as (server, client):
        with pytest.raises(VaultUnavailableError) as caught:
            SecureVault(client).exists("k")
        assert caught.value.outcome_unknown is True
        assert len(server.requests) == 1 + RETRIES


def test_an_exhausted_pool_is_waited_for(server: RunningServer, client: Redis) -> None:
    """A pool without a free connection passes when one is given back."""
    with server.sync_client(DB, max_connections=1) as small:
        taken = small.connection_pool.get_connection()
        small.set_retry(Retry(NoBackoff(), RETRIES))
        with pytest.raises(VaultUnavailableError, match="Too many connections") as caught:
            SecureVault(small).exists("k")
        assert caught.value.outcome_unknown is False
        small.set_retry(Retry(ConstantBackoff(0.01), 1000))
        timer = threading.Timer(0.05, small.connection_pool.release, [taken])
        timer.start()
        assert SecureVault(small).exists("k") is False
        timer.join()


def test_a_health_check_is_made_when_it_is_due(tmp_path: Path) -> None:
    """A client that wants idle connections checked has them checked, and nothing sent if dead."""
    answers: dict[bytes, bytes | None] = {b"PING": b"+PONG\r\n", b"EXISTS": b":0\r\n"}

    def answer(command: list[bytes]) -> bytes | None:
        return answers[command[0]]

    with scripted(tmp_path / "s", None, health_check_interval=1000) as (server, client):
        server.answer = answer
        assert SecureVault(client).exists("k") is False
        assert SecureVault(client).exists("k") is False
        assert [request[0] for request in server.requests] == [b"PING", b"EXISTS", b"EXISTS"]
        connection = client.connection_pool.get_connection()
        connection.next_health_check = 0
        client.connection_pool.release(connection)
        answers[b"PING"] = None
        with pytest.raises(VaultUnavailableError) as caught:
            SecureVault(client).exists("k")
        assert caught.value.outcome_unknown is False
        assert {request[0] for request in server.requests[3:]} == {b"PING"}


def test_one_write_for_many_commands(server: RunningServer, client: Redis) -> None:
    """Errors among many replies stay in their places, and the connection in step."""
    inventory = stocked(client)
    client.set("inv:v1:meta:broken", "x")
    client.set("inv:v1:idx:carol:GOLD", "x")
    client.script_flush()
    collected = GarbageCollector(inventory, client).dry_run()
    assert collected.contacts_cleaned == 0
    assert list(inventory.get_inventory()) == [BOB]
    with pytest.raises(CorruptEntryError):
        inventory.get_available_tiers("carol")
    assert echoes(client)


# Kinds of clients --------------------------------------------------------------------------


USERS: dict[str, Callable[[Any], Any]] = {
    "SecureVault": sync.SecureVault,
    "SmartInventory": sync.SmartInventory,
    "GarbageCollector": lambda client: sync.GarbageCollector(
        SmartInventory(Redis(unix_socket_path="nobody")), client
    ),
    "ClientDatabase": lambda client: sync.ClientDatabase(client, client),
    "health_check": lambda client: sync.health_check(client, client),
    "close_all": lambda client: sync.close_all(client, client),
}


@pytest.mark.parametrize("user", USERS)
def test_wrong_kinds_of_client(user: str) -> None:
    """Each names what it takes, and who takes what it was given."""
    counterpart = f"Async{user}" if user[0].isupper() else user
    with pytest.raises(
        TypeError,
        match=f"^client: {user} takes a redis.Redis; "
        f"for a redis.asyncio.Redis there is {counterpart} in aqm_db$",
    ):
        USERS[user](redis.asyncio.Redis())
    with pytest.raises(TypeError, match=f"^client: {user} takes a redis.Redis, not NoneType$"):
        USERS[user](None)
    with pytest.raises(ValueError, match="^client: must be made with decode_responses=False"):
        USERS[user](Redis(decode_responses=True))


def test_wrong_kinds_of_objects() -> None:
    """What wraps an inventory takes none of the other face."""
    wrong: Any = AsyncSmartInventory(redis.asyncio.Redis())
    with pytest.raises(
        TypeError, match="^inventory: must be of class SmartInventory, not AsyncSmartInventory$"
    ):
        GarbageCollector(wrong, Redis())


def is_select(command: list[bytes]) -> bool:
    """Whether a command selects a coin."""
    return command[1] == SELECT.sha.encode()
