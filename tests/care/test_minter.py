"""The minter: a vault at its targets, and no public half stranded, lost or offered for nothing."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncSecureVault, config
from aqm_db._io.seam import Call, Command
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    CorruptEntryError,
    InvalidArgumentError,
    InvalidCoinCategoryError,
    InvalidIdentifierError,
    KeyAlreadyExistsError,
    VaultUnavailableError,
)
from aqm_db.minter import AsyncMinter, FreshCoin, PublicHalf
from aqm_db.types import CoinCategory, NewKey
from tests.conftest import VAULT_DB
from tests.support.backends import REDIS_6, VALKEY_9, Backend, RunningServer, Servers
from tests.support.peers import Cutter, ScriptedServer, listening
from tests.support.samples import Clock, halves, sample_key

pytestmark = pytest.mark.asyncio

TTL_MS = config.VAULT_KEY_TTL_SECONDS * 1000
LIFE_MS = TTL_MS - config.VAULT_DELIVERY_MARGIN_SECONDS * 1000
"""For how long a public half may be encrypted for."""
TARGETS = {"GOLD": 3, "SILVER": 2}


class Mint:
    """Makes coins, and remembers them.

    Attributes:
        coins: all that were made, by id.
        fails_at: the number of the coin that can't be made.
    """

    def __init__(self, name: str = "mint") -> None:
        self.coins: dict[str, FreshCoin] = {}
        self.fails_at: int | None = None
        self._name = name
        self._numbers = count(1)

    def __call__(self, tier: CoinCategory) -> FreshCoin:
        """The client's own."""
        number = next(self._numbers)
        if number == self.fails_at:
            raise ZeroDivisionError
        coin = FreshCoin(NewKey(**sample_key(f"{self._name}-{number}", tier)), *halves(tier))
        self.coins[coin.private.key_id] = coin
        return coin


@pytest.fixture
def vault(vault_client: Redis, clock: Clock) -> AsyncSecureVault:
    """An empty vault."""
    return AsyncSecureVault(vault_client, clock=clock)


@pytest.fixture
def mint() -> Mint:
    """A mint."""
    return Mint()


def ids(halves: list[PublicHalf]) -> list[str]:
    """The coins' ids."""
    return [half.key_id for half in halves]


async def published(minter: AsyncMinter) -> list[str]:
    """Publishes everything; the ids in order."""
    found: list[str] = []
    while pending := await minter.pending_upload(limit=2):
        found += ids(pending)
        await minter.mark_published(ids(pending))
    return found


# Topping up --------------------------------------------------------------------------------


async def test_what_is_missing_is_minted(vault: AsyncSecureVault, mint: Mint) -> None:
    """By the counters, in batches, up to the targets and no further."""
    await vault.store_key(**sample_key("old", "GOLD"))
    batches: list[int] = []

    async def run(minting: Callable[[], list[FreshCoin]]) -> list[FreshCoin]:
        batches.append(len(coins := minting()))
        return coins

    minter = AsyncMinter(vault, mint, targets={"GOLD": 6, "BRONZE": 1}, batch=2, run=run)
    assert await minter.top_up() == {"GOLD": 5, "SILVER": 0, "BRONZE": 1}
    assert batches == [2, 2, 1, 1]
    assert await vault.count_active() == {"GOLD": 6, "SILVER": 0, "BRONZE": 1}
    assert await minter.top_up() == {"GOLD": 0, "SILVER": 0, "BRONZE": 0}
    await vault.burn_key("mint-1")
    assert await minter.top_up() == {"GOLD": 1, "SILVER": 0, "BRONZE": 0}
    entry = await vault.fetch_key("mint-2")
    assert entry is not None
    assert entry.encrypted_blob == mint.coins["mint-2"].private.encrypted_blob


async def test_it_mints_in_another_thread_to_targets_by_default(
    vault: AsyncSecureVault, mint: Mint
) -> None:
    """The event loop is free meanwhile."""
    loops: list[bool] = []

    def slow_mint(tier: CoinCategory) -> FreshCoin:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            loops.append(False)
        return mint(tier)

    await AsyncMinter(vault, slow_mint).top_up()
    assert await vault.count_active() == config.VAULT_TARGETS
    assert len(loops) == len(mint.coins) == sum(config.VAULT_TARGETS.values())


async def test_expired_keys_are_missing(
    vault: AsyncSecureVault, vault_client: Redis, mint: Mint
) -> None:
    """The counters are those of the keys that are there."""
    minter = AsyncMinter(vault, mint, targets=TARGETS)
    await minter.top_up()
    await vault_client.delete("vault:v1:key:mint-1")
    await vault_client.zadd("vault:v1:expiry", {"mint-1": 1})
    assert await minter.top_up() == {"GOLD": 1, "SILVER": 0, "BRONZE": 0}


async def test_minters_together_store_no_coin_beyond_a_target(
    vault: AsyncSecureVault, vault_client: Redis
) -> None:
    """However their steps mix; what is too much was never offered to anyone."""
    mints = [Mint(f"mint {number}") for number in range(3)]
    minters = [AsyncMinter(vault, mint, targets={"GOLD": 20}, batch=4) for mint in mints]
    stored = await asyncio.gather(*(minter.top_up() for minter in minters))
    assert sum(each["GOLD"] for each in stored) == 20
    assert await vault.count_active("GOLD") == 20
    assert sorted(ids(await minters[0].pending_upload())) == sorted(
        await vault.get_all_active_ids()
    )


async def test_a_minter_that_another_one_overtakes(vault: AsyncSecureVault, mint: Mint) -> None:
    """What it was about to store is too much by then, and is stored by neither."""
    loop = asyncio.get_running_loop()
    other = AsyncMinter(vault, Mint("other"), targets=TARGETS)

    def mint_late(tier: CoinCategory) -> FreshCoin:
        asyncio.run_coroutine_threadsafe(other.top_up(), loop).result(60)
        return mint(tier)

    late = AsyncMinter(vault, mint_late, targets=TARGETS)
    assert await late.top_up() == {"GOLD": 0, "SILVER": 0, "BRONZE": 0}
    assert await vault.count_active() == {"GOLD": 3, "SILVER": 2, "BRONZE": 0}
    assert not set(mint.coins) & set(await vault.get_all_active_ids())


# Publishing --------------------------------------------------------------------------------


async def test_a_coin_is_offered_until_it_is_marked(
    vault: AsyncSecureVault, vault_client: Redis, mint: Mint, clock: Clock
) -> None:
    """With all that the server needs, oldest first, and then no more."""
    minter = AsyncMinter(vault, mint, targets=TARGETS)
    minted_at = clock.now
    await minter.top_up()
    await vault.store_key(**sample_key("private", "BRONZE"))
    clock.advance(ms=5)
    await AsyncMinter(vault, mint, targets={"BRONZE": 2}).top_up()
    pending = await minter.pending_upload()
    assert ids(pending) == [f"mint-{number}" for number in range(1, 7)]
    made = mint.coins["mint-1"]
    assert pending[0] == PublicHalf(
        "mint-1", "GOLD", "kyber768_v1", made.public_key, made.signature, minted_at + LIFE_MS
    )
    assert await minter.pending_upload(limit=2) == pending[:2]
    assert await minter.mark_published(["mint-1", "mint-3", "unknown"]) == 2
    assert await minter.mark_published(["mint-1"]) == 0
    assert ids(await minter.pending_upload()) == ["mint-2", "mint-4", "mint-5", "mint-6"]
    row = await vault_client.hgetall("vault:v1:key:mint-1")
    assert {b"public_key", b"signature"}.isdisjoint(row)
    assert await vault.fetch_key("mint-1") is not None
    assert await minter.mark_published([]) == 0


async def test_burned_and_expired_keys_leave_the_list(
    vault: AsyncSecureVault, vault_client: Redis, mint: Mint
) -> None:
    """Nobody could use them; those behind them are offered all the same."""
    minter = AsyncMinter(vault, mint, targets={"GOLD": 6})
    await minter.top_up()
    await vault.burn_key("mint-1")
    await vault.burn_key("mint-3")
    await vault_client.delete("vault:v1:key:mint-2")
    assert ids(await minter.pending_upload(limit=2)) == ["mint-4", "mint-5"]
    assert await vault_client.zcard("vault:v1:unpublished") == 3
    await vault.burn_key("mint-4")
    assert await minter.mark_published(["mint-4"]) == 1
    assert await published(minter) == ["mint-5", "mint-6"]


async def test_a_dead_key_that_lives_again_stays(
    vault: AsyncSecureVault,
    vault_client: Redis,
    mint: Mint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server looks again before it takes a key off."""
    minter = AsyncMinter(vault, mint, targets={"GOLD": 1})
    await minter.top_up()
    row: Any = await vault_client.hgetall("vault:v1:key:mint-1")
    await vault_client.delete("vault:v1:key:mint-1")
    run_all = vault.scope.seam.run_all

    async def revive(calls: list[Call]) -> Any:
        await vault_client.hset("vault:v1:key:mint-1", mapping=row)
        return await run_all(calls)

    monkeypatch.setattr(vault.scope.seam, "run_all", revive)
    assert ids(await minter.pending_upload()) == ["mint-1"]


@pytest.mark.parametrize("protocol", [2, 3])
async def test_what_another_one_publishes_meanwhile_is_passed_over(
    servers: Servers, mint: Mint, caplog: pytest.LogCaptureFixture, protocol: int
) -> None:
    """It's no malformed row, whenever it happens, and what is left is offered, all of it."""
    client = servers[VALKEY_9].client(VAULT_DB, protocol=protocol)
    await client.flushdb()
    vault = AsyncSecureVault(client)
    minter = AsyncMinter(vault, mint, targets={"BRONZE": 30})
    read, reads = vault.scope.seam.read, 0

    async def overtaken(*commands: Command) -> list[Any]:
        nonlocal reads
        reads += 1
        if reads == step:
            await AsyncMinter(AsyncSecureVault(client), mint).mark_published(gone)
        return await read(*commands)

    for step in range(1, 7):
        await client.flushdb()
        await minter.top_up()
        every = ids(await minter.pending_upload())
        # The first ones: what is behind them has another place in the list then.
        gone = every[:13]
        reads = 0
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(vault.scope.seam, "read", overtaken)
            offered = ids(await minter.pending_upload(limit=12))
        assert len(offered) == len(set(offered)) == 12
        left = [key_id for key_id in every if reads < step or key_id not in gone]
        assert await published(minter) == left
    assert caplog.records == []
    await client.flushdb()
    await client.aclose()


async def test_minters_that_publish_at_once_offer_each_coin(
    vault_client: Redis, mint: Mint, caplog: pytest.LogCaptureFixture
) -> None:
    """Together they offer every coin, and none of them says that anything is wrong."""
    minters = [
        AsyncMinter(AsyncSecureVault(vault_client), mint, targets={"GOLD": 60}) for _ in range(2)
    ]
    await minters[0].top_up()
    offered: list[list[str]] = await asyncio.gather(*map(published, minters))
    assert {key_id for each in offered for key_id in each} == {*mint.coins}
    assert await vault_client.zcard("vault:v1:unpublished") == 0
    assert caplog.records == []


async def test_places_that_many_share(
    vault: AsyncSecureVault, vault_client: Redis, mint: Mint, caplog: pytest.LogCaptureFixture
) -> None:
    """A list in which all were minted in one ms, most of them malformed, is offered as a whole."""
    minter = AsyncMinter(vault, mint, targets={"BRONZE": 20})
    await minter.top_up()
    every = ids(await minter.pending_upload())
    scores: Any = await vault_client.zrange("vault:v1:unpublished", 0, -1, withscores=True)
    assert len({score for _, score in scores}) == 1
    for key_id in every[:15]:
        await vault_client.hdel(f"vault:v1:key:{key_id}", "signature")
    assert ids(await minter.pending_upload(limit=1)) == every[15:16]
    caplog.clear()
    assert ids(await minter.pending_upload(limit=9)) == every[15:]
    told = [record.__dict__["key_id"] for record in caplog.records]
    assert told == every[:15]


async def test_what_nobody_publishes_does_not_pile_up(
    vault: AsyncSecureVault, vault_client: Redis, mint: Mint
) -> None:
    """Whoever only mints leaves a list of what there is to publish, however long it goes on."""
    minter = AsyncMinter(vault, mint, targets={"GOLD": 4, "BRONZE": 3})
    longest = 0
    for _ in range(10):
        await minter.top_up()
        longest = max(longest, await vault_client.zcard("vault:v1:unpublished"))
        for key_id in await vault.get_all_active_ids():
            # As the server does by itself.
            await vault_client.delete(f"vault:v1:key:{key_id}")
    assert longest <= 7 + 2
    await minter.top_up()
    assert len(await published(minter)) == 7


async def test_malformed_rows_stay_and_stop_nothing(
    vault: AsyncSecureVault,
    vault_client: Redis,
    mint: Mint,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are logged and left out."""
    minter = AsyncMinter(vault, mint, targets={"GOLD": 4})
    await minter.top_up()
    await vault_client.hdel("vault:v1:key:mint-1", "public_key")
    await vault_client.delete("vault:v1:key:mint-2")
    await vault_client.set("vault:v1:key:mint-2", "text")
    assert ids(await minter.pending_upload(limit=2)) == ["mint-3", "mint-4"]
    told = [r.__dict__["key_id"] for r in caplog.records if r.msg == "corrupt_entry"]
    assert told == ["mint-1", "mint-2"]
    assert await vault_client.zcard("vault:v1:unpublished") == 4
    assert await minter.mark_published(["mint-2"]) == 1


async def test_a_malformed_list(vault: AsyncSecureVault, vault_client: Redis, mint: Mint) -> None:
    """Nothing is stored that couldn't be published."""
    await vault_client.set("vault:v1:unpublished", "text")
    minter = AsyncMinter(vault, mint, targets=TARGETS)
    with pytest.raises(CorruptEntryError):
        await minter.pending_upload()
    with pytest.raises(CorruptEntryError):
        await minter.top_up()
    assert await vault.count_active() == {"GOLD": 0, "SILVER": 0, "BRONZE": 0}
    assert await vault.get_all_active_ids() == []
    assert await vault.store_key(**sample_key("k", "GOLD"))


# Crashes -----------------------------------------------------------------------------------


async def test_a_mint_that_fails_loses_only_what_nobody_has_seen(
    vault: AsyncSecureVault, mint: Mint
) -> None:
    """What was stored before is offered; its error comes through."""
    for fails_at in range(1, 8):
        mint.fails_at = fails_at
        with pytest.raises(ZeroDivisionError):
            await AsyncMinter(vault, mint, targets={"GOLD": 7}, batch=2).top_up()
    mint.fails_at = None
    minter = AsyncMinter(vault, mint, targets={"GOLD": 7}, batch=2)
    await minter.top_up()
    active = sorted(await vault.get_all_active_ids())
    assert len(active) == 7
    assert sorted(await published(minter)) == active


class Crash(BaseException):
    """The end of a program."""


@pytest.mark.parametrize("after", [False, True], ids=["before the server", "after the server"])
async def test_a_crash_at_any_step_strands_and_repeats_nothing(
    vault: AsyncSecureVault,
    mint: Mint,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,  # noqa: FBT001
) -> None:
    """A program that ends at any request, and starts again, publishes every coin, each id once."""
    run, run_all, read = vault.scope.seam.run, vault.scope.seam.run_all, vault.scope.seam.read
    left = 0

    def crashing(method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                raise Crash
            reply = await method(*arguments)
            if left == 0:
                raise Crash
            return reply

        return call

    monkeypatch.setattr(vault.scope.seam, "run", crashing(run))
    monkeypatch.setattr(vault.scope.seam, "run_all", crashing(run_all))
    monkeypatch.setattr(vault.scope.seam, "read", crashing(read))
    server: dict[str, PublicHalf] = {}
    marked: list[str] = []
    crashes = 0

    async def program() -> None:
        minter = AsyncMinter(vault, mint, targets=TARGETS, batch=2)
        await minter.top_up()
        while pending := await minter.pending_upload(limit=2):
            for half in pending:
                # The server takes the same coin again, and no other one of its id.
                assert server.setdefault(half.key_id, half) == half
                assert half.key_id not in marked
            await minter.mark_published(ids(pending))
            marked.extend(ids(pending))

    for step in range(1, 40):
        left = step
        try:
            await program()
        except Crash:
            crashes += 1
            continue
        finally:
            left = 0
        break
    assert crashes > 5
    assert sorted(server) == sorted(await vault.get_all_active_ids())
    assert len(server) == sum(TARGETS.values())
    assert all(half.public_key == mint.coins[key_id].public_key for key_id, half in server.items())


async def test_a_cancelled_top_up_strands_nothing(vault: AsyncSecureVault, mint: Mint) -> None:
    """Wherever it's cancelled, what is stored is offered, and the target holds."""
    minter = AsyncMinter(vault, mint, targets={"GOLD": 200}, batch=4)
    for step in range(40):
        task = asyncio.create_task(minter.top_up())
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        pending = sorted(ids(await minter.pending_upload(limit=1000)))
        assert pending == sorted(await vault.get_all_active_ids())
        assert await vault.count_active("GOLD") == len(pending) <= 200


PROGRAM = """
import asyncio, sys
from redis.asyncio import Redis
from aqm_db import AsyncMinter, AsyncSecureVault
from aqm_db.minter import FreshCoin
from aqm_db.types import NewKey

async def main():
    numbers = iter(range(100))
    def mint(tier):
        return FreshCoin(NewKey(f"{tier} {next(numbers)}", tier, b"b", b"i", b"t"), b"p", b"s")
    vault = AsyncSecureVault(Redis(unix_socket_path=sys.argv[1], db=int(sys.argv[2])))
    minter = AsyncMinter(vault, mint, targets={"GOLD": 3, "SILVER": 2})
    await minter.top_up()
    print(*(half.key_id for half in await minter.pending_upload()), sep=",", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", [VALKEY_9, REDIS_6], ids=lambda kind: kind.name)
async def test_a_program_that_is_killed_between_minting_and_publishing(
    servers: Servers, mint: Mint, kind: Backend
) -> None:
    """The next one offers the same coins, and mints no more."""
    client = servers[kind].client(VAULT_DB)
    await client.flushdb()
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(servers[kind].socket_path), str(VAULT_DB)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert program.stdout is not None
    offered = (await program.stdout.readline()).decode().strip().split(",")
    program.kill()
    await program.wait()
    minter = AsyncMinter(AsyncSecureVault(client), mint, targets=TARGETS)
    assert await minter.top_up() == {"GOLD": 0, "SILVER": 0, "BRONZE": 0}
    assert await published(minter) == offered
    assert len(offered) == 5
    await client.flushdb()
    await client.aclose()


@pytest_asyncio.fixture(params=[VALKEY_9, REDIS_6], ids=lambda kind: kind.name)
async def cut(
    request: pytest.FixtureRequest, servers: Servers, tmp_path: Path
) -> AsyncIterator[tuple[Cutter, Redis]]:
    """A link that loses replies, and a client on it."""
    cutter = Cutter(servers[request.param].socket_path)
    async with listening(cutter, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"), db=VAULT_DB, retry=Retry(NoBackoff(), 5)
        )
        await client.flushdb()
        yield cutter, client
        await client.flushdb()
        await client.aclose()


@pytest.mark.parametrize("losses", [1, 3])
async def test_replies_that_are_lost_store_once(
    cut: tuple[Cutter, Redis], mint: Mint, losses: int
) -> None:
    """A coin that was stored, though nobody heard of it, isn't taken for one too many."""
    cutter, client = cut
    vault = AsyncSecureVault(client)
    minter = AsyncMinter(vault, mint, targets={"GOLD": 1})

    async def losing(minting: Callable[[], list[FreshCoin]]) -> list[FreshCoin]:
        cutter.losing = losses
        return minting()

    minter = AsyncMinter(vault, mint, targets={"GOLD": 1}, run=losing)
    assert (await minter.top_up())["GOLD"] == 1
    assert cutter.losing == 0
    assert ids(await minter.pending_upload()) == ["mint-1"]


async def test_an_acl_that_forbids_the_list_stores_nothing(servers: Servers, mint: Mint) -> None:
    """Everything is rehearsed before the first write."""
    admin = servers[VALKEY_9].client(VAULT_DB)
    await admin.flushdb()
    await admin.acl_setuser(
        "minter",
        enabled=True,
        nopass=True,
        keys=["vault:v1:key:*", "vault:v1:stats", "vault:v1:expiry"],
        commands=["+@all"],
    )
    client = servers[VALKEY_9].client(VAULT_DB, username="minter", password="x")
    with pytest.raises(AccessDeniedError):
        await AsyncMinter(AsyncSecureVault(client), mint, targets=TARGETS).top_up()
    assert await admin.keys() == []
    await admin.acl_deluser("minter")
    await client.aclose()
    await admin.aclose()


async def test_a_server_that_takes_a_part_off_the_list(tmp_path: Path, mint: Mint) -> None:
    """Nobody is told that nothing was executed."""
    replies = [b"*2\r\n:0\r\n:1\r\n", b"-LOADING Redis is loading\r\n"]
    async with listening(ScriptedServer(lambda _: replies.pop(0)), tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"), protocol=2, retry=Retry(NoBackoff(), 0)
        )
        with pytest.raises(VaultUnavailableError) as caught:
            await AsyncMinter(AsyncSecureVault(client), mint).mark_published(["k1", "k2"])
        assert caught.value.outcome_unknown is True
        await client.aclose()


async def test_a_server_that_goes_away_once_coins_were_stored(mint: Mint) -> None:
    """Nobody is told that nothing was executed."""
    with RunningServer(VALKEY_9) as server:
        client = server.client(VAULT_DB, retry=Retry(NoBackoff(), 0))

        async def leaving(minting: Callable[[], list[FreshCoin]]) -> list[FreshCoin]:
            coins = minting()
            if len(mint.coins) == 2:
                server.kill()
                await client.connection_pool.disconnect()
                server.socket_path.unlink()
            return coins

        minter = AsyncMinter(
            AsyncSecureVault(client), mint, targets={"GOLD": 2}, batch=1, run=leaving
        )
        with pytest.raises(VaultUnavailableError) as caught:
            await minter.top_up()
        assert caught.value.outcome_unknown is True
        await client.aclose()


# Mistakes of the caller's ------------------------------------------------------------------


async def test_a_mint_that_is_no_plain_function(vault: AsyncSecureVault) -> None:
    """It runs in a thread, where nothing awaits; the error says what it made."""

    async def mint(_: CoinCategory) -> FreshCoin:
        raise AssertionError

    made: list[Any] = []

    def called(tier: CoinCategory) -> Any:
        made.append(mint(tier))
        return made[0]

    with pytest.raises(InvalidArgumentError, match="^mint: must return a FreshCoin, not a corou"):
        await AsyncMinter(vault, called, batch=1).top_up()
    made[0].close()


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (None, InvalidArgumentError),
        (FreshCoin(NewKey(**sample_key("k", "BRONZE")), b"p", b"s"), InvalidArgumentError),
        (FreshCoin(NewKey(**sample_key("", "GOLD")), b"p", b"s"), InvalidIdentifierError),
        (FreshCoin(NewKey(**sample_key("k", "GOLD")), b"", b"s"), InvalidArgumentError),
        (FreshCoin(NewKey(**sample_key("k", "GOLD")), b"p", b""), InvalidArgumentError),
        (FreshCoin(NewKey(**sample_key("taken", "GOLD")), b"p", b"s"), KeyAlreadyExistsError),
    ],
)
async def test_a_mint_that_makes_something_else(
    vault: AsyncSecureVault, made: Any, error: type[AQMDatabaseError]
) -> None:
    """It's told, and nothing of it is stored."""
    await vault.store_key(**sample_key("taken", "GOLD"))
    with pytest.raises(error):
        await AsyncMinter(vault, lambda _: made, targets={"GOLD": 2}).top_up()
    assert await vault.get_all_active_ids() == ["taken"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("mint", None), ("batch", 0), ("batch", None), ("run", 5), ("targets", None)),
        *(("targets", {"GOLD": -1}), ("targets", {"GOLD": True}), ("targets", {"GOLD": 1.5})),
    ],
)
async def test_bad_arguments(vault: AsyncSecureVault, mint: Mint, name: str, value: Any) -> None:
    """Each is refused by name."""
    arguments: dict[str, Any] = {"mint": mint, name: value}
    with pytest.raises(InvalidArgumentError, match=f"^{name}"):
        AsyncMinter(vault, **arguments)


async def test_bad_arguments_of_other_kinds(vault: AsyncSecureVault, mint: Mint) -> None:
    """The vault, a tier, a limit, and ids."""
    wrong: Any = "vault"
    with pytest.raises(TypeError, match="^vault: "):
        AsyncMinter(wrong, mint)
    with pytest.raises(InvalidCoinCategoryError, match="^targets key: "):
        AsyncMinter(vault, mint, targets={"PLATINUM": 1})
    minter = AsyncMinter(vault, mint, targets=TARGETS)
    await minter.top_up()
    for limit in (0, None, 1.5):
        with pytest.raises(InvalidArgumentError, match="^limit: "):
            await minter.pending_upload(limit=limit)  # type: ignore[arg-type]
    for key_ids in ("mint-1", None, [5], ["mint-1", ""]):
        with pytest.raises(InvalidArgumentError, match="^key_ids"):
            await minter.mark_published(key_ids)  # type: ignore[arg-type]
    assert len(await minter.pending_upload()) == 5


async def test_no_repr_shows_a_key(mint: Mint) -> None:
    """Neither of what is minted nor of what is published."""
    key = b"canary"
    coin = FreshCoin(NewKey("k", "GOLD", key, key, key), key, key)
    half = PublicHalf("k", "GOLD", "v", key, key, 5)
    assert "canary" not in f"{coin} {half}"
