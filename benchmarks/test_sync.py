"""What the synchronous face costs over plain redis-py.

Each call of the library is followed, or preceded, by the same work done with a plain
``redis.Redis``, on the same server: the same script with arguments made beforehand, or HGETALL.
So the difference is all that the library does: checks, key names, the seam and the result.
"""

import gc
import tempfile
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from time import perf_counter_ns
from typing import Any, cast

import pytest
import redis

from aqm_db import SecureVault, SmartInventory, config
from aqm_db._io.seam import Call
from aqm_db._lua.loader import Code
from aqm_db._sync_support import unwrap
from aqm_db.embedded import EmbeddedServer
from benchmarks.conftest import AsyncBenchmark
from benchmarks.measuring import checks, names
from benchmarks.measuring.scripts import dated

PAIRS = 5000
WARM_UP = 200
LIBRARY = "aqm_db.sync"
PLAIN = "plain redis.Redis"
Pair = tuple[Callable[[], object], Callable[[], object]]


@pytest.fixture
def clients() -> Iterator[tuple[redis.Redis, redis.Redis]]:
    """The library's client and a plain one, of a server of their own."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedServer.open(directory) as server:
        path = str(server.socket_path)
        with (
            redis.Redis(unix_socket_path=path) as client,
            redis.Redis(unix_socket_path=path) as plain,
        ):
            yield client, plain


def test_select_coin(
    async_benchmark: AsyncBenchmark, clients: tuple[redis.Redis, redis.Redis]
) -> None:
    """The hot path."""
    record(async_benchmark, names.SYNC_SELECT, selecting(*clients))


def test_fetch_key(
    async_benchmark: AsyncBenchmark, clients: tuple[redis.Redis, redis.Redis]
) -> None:
    """The simplest read."""
    record(async_benchmark, names.SYNC_FETCH, fetching(*clients))


def record(benchmark: AsyncBenchmark, group: str, pair: Pair) -> None:
    """Measures one operation both ways."""
    ours, theirs = paired(*pair)
    more = median(mine - other for mine, other in zip(ours, theirs, strict=True))
    for name, times in ((LIBRARY, ours), (PLAIN, theirs)):
        benchmark.record(
            group, name, (time / 1e6 for time in times), p50_us=median(times), more_us=more
        )


class Recorder:
    """In the place of a seam: notes what would be sent, and sends nothing."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def run(self, call: Call, _undo: object) -> list[Any]:
        """Answers that there is no coin."""
        self.calls.append(call)
        return [Code.OK, call.keys[0].encode(), []]


def paired(
    first: Callable[[], object], second: Callable[[], object]
) -> tuple[list[float], list[float]]:
    """Microseconds of each call, made in pairs whose order alternates."""
    times: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    gc.freeze()
    for number in range(WARM_UP + PAIRS):
        order = ((first, times[0]), (second, times[1]))
        for call, kept in order if number % 2 else reversed(order):
            begin = perf_counter_ns()
            result = call()
            elapsed = perf_counter_ns() - begin
            assert result
            if number >= WARM_UP:
                kept.append(elapsed / 1000)
    gc.unfreeze()
    return times


def selecting(client: redis.Redis, plain: redis.Redis) -> Pair:
    """The library's select_coin, and its script with arguments made beforehand."""
    count = WARM_UP + PAIRS
    tiers = dict.fromkeys(config.VALID_COIN_CATEGORIES, 2 * count)
    inventory = SmartInventory(client, budget_caps=dict.fromkeys(config.VALID_PRIORITIES, tiers))
    inventory.register_contact("bob", "BESTIE")
    for number in range(2 * count):
        inventory.store_key("bob", str(number), "GOLD", bytes(1184), bytes(2420))
    calls = iter(recorded(client, count))
    plain.script_load(recorded(client, 1)[0][0].source)

    def evalsha() -> object:
        script, keys, arguments, *_ = next(calls)
        reply = plain.evalsha(script.sha, len(keys), *keys, *cast("Any", arguments))
        checks.script_coins([reply])
        return reply

    return lambda: inventory.select_coin("bob", "GOLD"), evalsha


def recorded(client: redis.Redis, count: int) -> Sequence[Call]:
    """What select_coin would send."""
    inventory, recorder = SmartInventory(client), Recorder()
    own = unwrap("inventory", inventory, SmartInventory)
    own.scope = own.scope.replace_seam(cast("Any", recorder))
    for _ in range(count):
        inventory.select_coin("bob", "GOLD")
    return dated(recorder.calls)


def fetching(client: redis.Redis, plain: redis.Redis) -> Pair:
    """The library's fetch_key, and HGETALL."""
    vault = SecureVault(client)
    vault.store_key("k", "GOLD", bytes(2400), bytes(12), bytes(16))
    return lambda: vault.fetch_key("k"), lambda: plain.hgetall("vault:v1:key:k")
