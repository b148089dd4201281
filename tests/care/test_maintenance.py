"""Background care: rounds that come due, by one program at a time, and that outlive errors."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase, connect
from aqm_db._io.seam import Command
from aqm_db.errors import AQMDatabaseError, InvalidArgumentError
from tests.conftest import INVENTORY_DB, VAULT_DB
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.layers import Passing
from tests.support.samples import BOB, Clock, sample_key, stock

pytestmark = pytest.mark.asyncio


class Turns:
    """A sleep that a test ends, and that tells when a round is over."""

    def __init__(self) -> None:
        self.delays: asyncio.Queue[float] = asyncio.Queue()
        self._go = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        """Sleeps until the test says so."""
        self.delays.put_nowait(seconds)
        await self._go.acquire()

    async def next_round(self) -> float:
        """Lets the next round run; returns the delay after it."""
        self._go.release()
        return await self.delays.get()


@pytest.fixture
def turns() -> Turns:
    """The time of the background."""
    return Turns()


@pytest.fixture
def db(vault_client: Redis, inventory_client: Redis, clock: Clock) -> AsyncClientDatabase:
    """A database whose clients are the fixtures'."""
    return AsyncClientDatabase(vault_client, inventory_client, clock=clock)


def other(server: RunningServer, clock: Clock) -> AsyncClientDatabase:
    """The same database, opened by another program."""
    return AsyncClientDatabase(server.client(VAULT_DB), server.client(INVENTORY_DB), clock=clock)


def events(log: pytest.LogCaptureFixture) -> list[str]:
    """What maintenance logged since the last look."""
    found = [r.msg for r in log.records if r.name == "aqm_db.maintenance"]
    log.clear()
    return found


def middle(low: float, high: float) -> float:
    """No jitter."""
    return (low + high) / 2


async def test_a_round_collects_and_purges(
    db: AsyncClientDatabase, clock: Clock, turns: Turns
) -> None:
    """Inactive contacts' coins and old private halves are gone after the first round."""
    await db.inventory.register_contact(BOB, "BESTIE")
    await stock(db.inventory, BOB, "GOLD", "g1")
    await db.vault.store_key(**sample_key("k", "GOLD"))
    clock.advance(days=31)
    async with db.maintenance(every=10, sleep=turns, uniform=middle):
        assert await turns.delays.get() == 10
        assert await db.inventory.get_available_tiers(BOB) == []
        assert await db.vault.count_active("GOLD") == 0


async def test_rounds_come_again(
    db: AsyncClientDatabase, clock: Clock, turns: Turns, caplog: pytest.LogCaptureFixture
) -> None:
    """What is garbage by then is collected in a later round."""
    caplog.set_level(logging.INFO)
    await db.inventory.register_contact(BOB, "BESTIE")
    await stock(db.inventory, BOB, "GOLD", "g1")
    async with db.maintenance(every=10, sleep=turns, uniform=lambda _, high: high):
        assert await turns.delays.get() == pytest.approx(11)
        assert await db.inventory.get_available_tiers(BOB) == ["GOLD"]
        clock.advance(days=31)
        await turns.next_round()
        assert await db.inventory.get_available_tiers(BOB) == []
    assert events(caplog) == ["maintenance_completed"] * 2


async def test_the_days_are_passed_on(db: AsyncClientDatabase, clock: Clock, turns: Turns) -> None:
    """How old is too old is the program's to say."""
    await db.inventory.register_contact(BOB, "BESTIE")
    await stock(db.inventory, BOB, "GOLD", "g1")
    await db.vault.store_key(**sample_key("k", "GOLD"))
    clock.advance(days=3)
    async with db.maintenance(inactive_days=2, max_age_days=4, sleep=turns):
        await turns.delays.get()
        assert await db.inventory.get_available_tiers(BOB) == []
        assert await db.vault.count_active("GOLD") == 1


async def test_one_program_at_a_time(
    db: AsyncClientDatabase,
    server: RunningServer,
    clock: Clock,
    inventory_client: Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of two programs one has the rounds, until it's gone for an interval."""
    caplog.set_level(logging.INFO)
    second = other(server, clock)
    first_turns, second_turns = Turns(), Turns()
    async with second.maintenance(sleep=second_turns):
        await second_turns.delays.get()
        async with db.maintenance(sleep=first_turns):
            await first_turns.delays.get()
            await first_turns.next_round()
            await second_turns.next_round()
    assert events(caplog) == ["maintenance_completed"] * 2
    # The interval passes: the lease expires.
    await inventory_client.delete(db.inventory.keys.maintenance)
    async with db.maintenance(sleep=first_turns):
        await first_turns.delays.get()
    assert events(caplog) == ["maintenance_completed"]
    assert 0 < await inventory_client.pttl(db.inventory.keys.maintenance) <= 3_600_000
    await second.aclose()


async def test_a_round_that_fails_is_tried_again(
    db: AsyncClientDatabase,
    server: RunningServer,
    vault_client: Redis,
    inventory_client: Redis,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error is logged, without what it's about, and leaves the next round to whoever comes."""
    caplog.set_level(logging.INFO)
    await vault_client.set("vault:v1:stats", "x")
    turns = Turns()
    async with db.maintenance(sleep=turns, uniform=middle):
        assert await turns.delays.get() == 60
        assert not await inventory_client.exists(db.inventory.keys.maintenance)
        [record] = [r for r in caplog.records if r.msg == "maintenance_failed"]
        assert record.__dict__["error"] == "CorruptEntryError"
        assert record.__dict__["carried_out"] == 0
        await vault_client.delete("vault:v1:stats")
        assert await turns.next_round() == 3600
    assert events(caplog) == ["maintenance_failed", "maintenance_completed"]


async def test_the_block_ends_while_a_round_runs(
    db: AsyncClientDatabase, inventory_client: Redis, turns: Turns
) -> None:
    """A round that is stopped gives its lease back."""
    for number in range(20):
        async with db.maintenance(sleep=turns):
            for _ in range(number):
                await asyncio.sleep(0)
        if turns.delays.empty():
            assert not await inventory_client.exists(db.inventory.keys.maintenance)
        else:
            await turns.delays.get()
        await inventory_client.delete(db.inventory.keys.maintenance)


async def test_what_the_block_raises_is_raised_as_it_is(
    db: AsyncClientDatabase, turns: Turns
) -> None:
    """No group of exceptions is put around it."""
    error = LookupError("the program's own")
    with pytest.raises(LookupError) as caught:
        async with db.maintenance(sleep=turns):
            raise error
    assert caught.value is error
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), db.maintenance(sleep=turns):
            await asyncio.Event().wait()


@pytest.mark.parametrize("kind", [VALKEY_9], ids=lambda kind: kind.name)
async def test_who_may_not_walk_has_rounds_where_nothing_is_to_be_adopted(
    own_server: RunningServer, turns: Turns, caplog: pytest.LogCaptureFixture
) -> None:
    """What came without indexes takes a walk: that's told while nobody has the turn."""
    caplog.set_level(logging.INFO)
    async with own_server.client(0) as admin, own_server.client(1) as second:
        rules = ("on", ">pw", "~*", "+@all", "-scan")
        await admin.execute_command("ACL", "SETUSER", "blind", *rules)  # type: ignore[no-untyped-call]
        async with connect(f"unix://blind:pw@{own_server.socket_path}") as db:
            for marked in ((), (admin,), (second,), (admin, second)):
                await admin.flushall()
                for client in marked:
                    name = "vault:v1:schema" if client is admin else "inv:v1:schema"
                    await client.set(name, 2)
                async with db.maintenance(sleep=turns):
                    await turns.delays.get()
                    is_held = await second.exists(db.inventory.keys.maintenance)
                if len(marked) == 2:
                    assert is_held
                    assert events(caplog) == ["maintenance_completed"]
                else:
                    assert not is_held
                    assert [r.__dict__.get("error") for r in caplog.records] == [
                        "AccessDeniedError"
                    ]
                    assert events(caplog) == ["maintenance_failed"]


async def test_bad_input(db: AsyncClientDatabase) -> None:
    """Each number is checked before anything starts."""
    wrong: list[tuple[str, Any]] = [
        *(("every", value) for value in ("1", None, True, 0, -1, float("nan"), float("inf"))),
        *(("inactive_days", value) for value in ("1", -1, 36_501)),
        *(("max_age_days", value) for value in ("1", -1, 36_501)),
    ]
    for argument, value in wrong:
        with pytest.raises(InvalidArgumentError, match=f"^{argument}: ") as caught:
            db.maintenance(**{argument: value})
        assert caught.value.argument == argument


async def test_without_anyio(db: AsyncClientDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "anyio", None)
    with pytest.raises(
        InvalidArgumentError, match="pip install 'aqm-db\\[background\\]'"
    ) as caught:
        async with db.maintenance():
            pass
    assert isinstance(caught.value.__cause__, ImportError)


async def test_an_embedded_file_is_rewritten(tmp_path: Path, turns: Turns) -> None:
    """What was burned leaves the disk."""
    secret = b"burned-key-material" * 3
    async with connect(f"embedded://{tmp_path}/db") as db:
        await db.vault.store_key("k", "GOLD", secret, b"nonce", b"tag")
        await db.vault.burn_key("k")
        assert secret in kept_on_disk(tmp_path)
        client = cast("Redis", db.resources.clients[0])
        async with db.maintenance(sleep=turns, every=0.001):
            await turns.delays.get()
            await asyncio.wait_for(_rewritten(client), 30)
            assert secret not in kept_on_disk(tmp_path)


async def test_an_embedded_log_is_cut(tmp_path: Path, turns: Turns) -> None:
    """It doesn't grow from round to round, whoever writes what to it."""
    log = tmp_path / "db" / "aqm_db.log"
    async with connect(f"embedded://{tmp_path}/db") as db:
        log.write_bytes(b"a line\n" * 100_000)
        async with db.maintenance(sleep=turns):
            await turns.delays.get()
            assert log.stat().st_size < 5000


async def test_a_rewrite_that_is_going_on_is_left_alone(
    tmp_path: Path, turns: Turns, caplog: pytest.LogCaptureFixture
) -> None:
    """A second one would be refused, and the round isn't a failure for that."""
    caplog.set_level(logging.INFO)
    async with connect(f"embedded://{tmp_path}/db") as db:
        await db.vault.store_key(**sample_key("k", "GOLD"))
        client = db.resources.clients[0]
        # A minute for each key: it goes on until the server is stopped.
        await client.config_set("rdb-key-save-delay", 60_000_000)
        async with db.maintenance(sleep=turns, every=0.001):
            await turns.delays.get()
            await turns.next_round()
    rewritten = [
        r.__dict__["rewritten"] for r in caplog.records if r.msg == "maintenance_completed"
    ]
    assert rewritten == [True, False]


async def test_a_rewrite_that_begins_meanwhile(
    tmp_path: Path, turns: Turns, caplog: pytest.LogCaptureFixture
) -> None:
    """The server's own may, between a look at it and the request: that's no failure."""
    caplog.set_level(logging.INFO)
    async with connect(f"embedded://{tmp_path}/db") as db:
        await db.vault.store_key(**sample_key("k", "GOLD"))
        client = db.resources.clients[0]
        await client.config_set("rdb-key-save-delay", 60_000_000)

        class Beginning(Passing):
            """One begins just before the library's would."""

            async def read(self, *commands: Command) -> list[Any]:
                if commands == (("BGREWRITEAOF",),):
                    await client.bgrewriteaof()
                return await super().read(*commands)

        db.gates.add_layer(cast("Any", Beginning))
        async with db.maintenance(sleep=turns, every=0.001):
            await turns.delays.get()
    assert events(caplog) == ["maintenance_completed"]


@pytest.mark.parametrize(
    ("refusals", "expected"), [(2, "maintenance_completed"), (3, "maintenance_failed")]
)
async def test_a_rewrite_that_is_refused_and_not_going_on(
    tmp_path: Path,
    turns: Turns,
    caplog: pytest.LogCaptureFixture,
    refusals: int,
    expected: str,
) -> None:
    """The one that was in the way may have ended; if the server just doesn't, that's a failure."""
    caplog.set_level(logging.INFO)
    left = iter(range(refusals))

    class Refusing(Passing):
        """The server can't fork, for example."""

        async def read(self, *commands: Command) -> list[Any]:
            if commands == (("BGREWRITEAOF",),) and next(left, None) is not None:
                raise AQMDatabaseError("the server refused BGREWRITEAOF (ERR)")
            return await super().read(*commands)

    async with connect(f"embedded://{tmp_path}/db") as db:
        db.gates.add_layer(cast("Any", Refusing))
        async with db.maintenance(sleep=turns, every=0.001):
            await turns.delays.get()
    assert events(caplog) == [expected]


def kept_on_disk(directory: Path) -> bytes:
    """The content of all append-only files."""
    return b"".join(
        path.read_bytes() for path in directory.rglob("*") if path.suffix in {".aof", ".rdb"}
    )


async def _rewritten(client: Redis) -> None:
    while True:
        info = await client.info("persistence")
        if not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]):
            return


@pytest.mark.parametrize("reason", [SystemExit(3), KeyboardInterrupt(), ValueError("x")])
async def test_what_ends_the_block_comes_through_as_it_is(
    db: AsyncClientDatabase, turns: Turns, reason: BaseException
) -> None:
    """In no group: an exit code is lost in one."""
    with pytest.raises(type(reason)) as caught:
        async with db.maintenance(sleep=turns):
            raise reason
    assert caught.value is reason
