"""The minter and a server: what others have claimed is minted anew, and no more than that."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSecureVault, config
from aqm_db.errors import InvalidArgumentError, VaultUnavailableError
from aqm_db.minter import AsyncMinter, FreshCoin, PublicHalf, Synced
from aqm_db.types import CoinCategory, NewKey
from tests.support.samples import DAY_MS, Clock, halves, sample_key

pytestmark = pytest.mark.asyncio

TARGETS = {"GOLD": 5, "SILVER": 3}
CEILINGS = {"GOLD": 12, "SILVER": 6}


class CoinServer:
    """Hands out each coin once, and takes each once.

    Attributes:
        coins: those that nobody has claimed, by id.
        lies: what it says of its stock, if that isn't true.
        failures: what it raises next, one after another.
    """

    def __init__(self) -> None:
        self.coins: dict[str, PublicHalf] = {}
        self.lies: Any = None
        self.failures: list[Exception] = []
        self._taken: set[str] = set()

    async def count(self) -> Any:
        """How many it has, by tier."""
        self._fail()
        if self.lies is not None:
            return self.lies
        return Counter(half.coin_category for half in self.coins.values())

    async def publish(self, halves: Sequence[PublicHalf]) -> None:
        """Takes coins that it never had."""
        self._fail()
        for half in halves:
            if half.key_id not in self._taken:
                self._taken.add(half.key_id)
                self.coins[half.key_id] = half

    def claim(self, tier: str, most: int) -> list[str]:
        """Hands out coins, the oldest first."""
        found = [half.key_id for half in self.coins.values() if half.coin_category == tier]
        for key_id in found[:most]:
            del self.coins[key_id]
        return found[:most]

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture
def vault(vault_client: Redis, clock: Clock) -> AsyncSecureVault:
    """An empty vault."""
    return AsyncSecureVault(vault_client, clock=clock)


@pytest.fixture
def coin_server() -> CoinServer:
    """A server without any coin."""
    return CoinServer()


@pytest.fixture
def minter(vault: AsyncSecureVault) -> AsyncMinter:
    """A minter of small batches."""
    return make_minter(vault)


def make_minter(vault: AsyncSecureVault, name: str = "mint", **settings: Any) -> AsyncMinter:
    """A minter."""
    numbers = count(1)

    def mint(tier: CoinCategory) -> FreshCoin:
        return FreshCoin(NewKey(**sample_key(f"{name}-{next(numbers)}", tier)), *halves(tier))

    settings = {"targets": TARGETS, "ceilings": CEILINGS, "batch": 2, **settings}
    return AsyncMinter(vault, mint, **settings)


async def test_what_the_server_lacks_is_minted(
    minter: AsyncMinter, vault: AsyncSecureVault, coin_server: CoinServer
) -> None:
    """Claimed coins are no stock, though their private halves are there until they are used."""
    synced = await minter.sync(coin_server.count, coin_server.publish)
    assert synced == Synced(
        stock={"GOLD": 0, "SILVER": 0},
        minted={"GOLD": 5, "SILVER": 3, "BRONZE": 0},
        held_back={"GOLD": 0, "SILVER": 0, "BRONZE": 0},
        published=8,
    )
    assert len(coin_server.coins) == 8
    coin_server.claim("GOLD", 5)
    synced = await minter.sync(coin_server.count, coin_server.publish)
    assert synced.stock == {"GOLD": 0, "SILVER": 3}
    assert synced.minted == {"GOLD": 5, "SILVER": 0, "BRONZE": 0}
    assert await vault.count_active("GOLD") == 10
    synced = await minter.sync(coin_server.count, coin_server.publish)
    assert (synced.published, sum(synced.minted.values())) == (0, 0)
    assert await minter.pending_upload() == []


async def test_a_server_that_has_more_than_enough(
    vault: AsyncSecureVault, minter: AsyncMinter, coin_server: CoinServer
) -> None:
    """Nothing is minted, nor of a tier that has no target."""
    other = make_minter(vault, "other", targets={"GOLD": 8, "SILVER": 3})
    await other.sync(coin_server.count, coin_server.publish)
    coin_server.lies = {"GOLD": 8, "SILVER": 3, "BRONZE": 7}
    synced = await minter.sync(coin_server.count, coin_server.publish)
    assert synced.stock == {"GOLD": 8, "SILVER": 3}
    assert set(synced.minted.values()) == set(synced.held_back.values()) == {0}


async def test_a_server_that_offers_what_nobody_can_read(
    minter: AsyncMinter, coin_server: CoinServer
) -> None:
    """Of a vault that was lost, say: that is no stock."""
    coin_server.lies = {"GOLD": 50, "SILVER": 3}
    synced = await minter.sync(coin_server.count, coin_server.publish)
    assert synced.stock == {"GOLD": 0, "SILVER": 0}
    assert synced.minted == {"GOLD": 5, "SILVER": 3, "BRONZE": 0}


async def test_a_server_that_says_for_ever_that_it_has_none(
    minter: AsyncMinter,
    vault: AsyncSecureVault,
    coin_server: CoinServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is a ceiling, which is told; keys that are used make room."""
    coin_server.lies = {}
    for _ in range(4):
        await minter.sync(coin_server.count, coin_server.publish)
    synced = await minter.sync(coin_server.count, coin_server.publish)
    assert await vault.count_active() == {"GOLD": 12, "SILVER": 6, "BRONZE": 0}
    assert synced.held_back == {"GOLD": 5, "SILVER": 3, "BRONZE": 0}
    assert "ceiling_reached" in caplog.messages
    await vault.burn_key("mint-1")
    assert (await minter.sync(coin_server.count, coin_server.publish)).minted["GOLD"] == 1


async def test_a_ceiling_that_nobody_set(vault: AsyncSecureVault, coin_server: CoinServer) -> None:
    """It's twenty times the target, whatever that is."""
    coin_server.lies = {}
    minter = make_minter(vault, targets={"BRONZE": 12}, ceilings=None, batch=100)
    for _ in range(21):
        await minter.sync(coin_server.count, coin_server.publish)
    assert await vault.count_active("BRONZE") == 240


async def test_what_waits_goes_first(
    minter: AsyncMinter, vault: AsyncSecureVault, coin_server: CoinServer
) -> None:
    """A program that died before it published has minted enough; and so may another one have."""
    await minter.top_up()
    synced = await minter.sync(coin_server.count, coin_server.publish)
    assert (synced.published, sum(synced.minted.values())) == (8, 0)
    coin_server.claim("GOLD", 4)
    other = make_minter(vault, "other", targets={"GOLD": 12, "SILVER": 3})

    async def count_late() -> Any:
        counted = await coin_server.count()
        await other.top_up()
        return counted

    synced = await minter.sync(count_late, coin_server.publish)
    assert sum(synced.minted.values()) == 0
    assert len(coin_server.coins) == 4 + 7


async def test_many_coins_are_published_in_portions(
    vault: AsyncSecureVault, coin_server: CoinServer
) -> None:
    """As many at once as a server may be asked to take."""
    portions: list[int] = []

    async def publish(offered: Sequence[PublicHalf]) -> None:
        portions.append(len(offered))
        await coin_server.publish(offered)

    minter = make_minter(vault, targets={"BRONZE": 130}, ceilings={"BRONZE": 130}, batch=50)
    await minter.sync(coin_server.count, publish)
    assert portions == [100, 30]


@pytest.mark.parametrize("place", [0, 1], ids=["publish", "count"])
async def test_a_server_that_fails(
    minter: AsyncMinter, coin_server: CoinServer, place: int
) -> None:
    """What it raises comes through as itself, and the next sync goes on where it was."""
    await minter.top_up()
    if place:
        await minter.sync(coin_server.count, coin_server.publish)
        coin_server.claim("GOLD", 1)
    coin_server.failures.append(ZeroDivisionError("of the server"))
    with pytest.raises(ZeroDivisionError, match="of the server"):
        await minter.sync(coin_server.count, coin_server.publish)
    await minter.sync(coin_server.count, coin_server.publish)
    assert len(coin_server.coins) == 8


async def test_a_mint_that_fails(vault: AsyncSecureVault, coin_server: CoinServer) -> None:
    """What it raises comes through, too."""

    def mint(_: CoinCategory) -> FreshCoin:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await AsyncMinter(vault, mint).sync(coin_server.count, coin_server.publish)


# Lifetimes ---------------------------------------------------------------------------------


async def test_a_private_half_outlives_its_public_half(
    minter: AsyncMinter, vault: AsyncSecureVault, coin_server: CoinServer, clock: Clock
) -> None:
    """What is encrypted on the last day can be read two weeks later."""
    minted_at = clock.now
    await minter.sync(coin_server.count, coin_server.publish)
    [end] = {half.expires_at for half in coin_server.coins.values()}
    assert end == minted_at + 16 * DAY_MS
    clock.now = end + 14 * DAY_MS - 1
    assert await vault.purge_expired() == 0
    assert await vault.fetch_key("mint-1") is not None


async def test_what_nobody_may_encrypt_for_is_not_published(
    vault: AsyncSecureVault, coin_server: CoinServer, clock: Clock
) -> None:
    """It waited for too long, and is no stock either."""
    minter = make_minter(vault, delivery_margin=20 * 86_400)
    await minter.top_up()
    clock.advance(ms=10 * DAY_MS - 1)
    assert len(await minter.pending_upload()) == 8
    clock.advance(ms=1)
    assert await minter.pending_upload() == []
    synced = await minter.sync(coin_server.count, coin_server.publish)
    assert (synced.published, sum(synced.minted.values())) == (8, 8)
    assert all(half.expires_at == clock.now + 10 * DAY_MS for half in coin_server.coins.values())


async def test_what_has_ended_is_no_stock(
    minter: AsyncMinter, coin_server: CoinServer, clock: Clock
) -> None:
    """Though the server counts it, and though private halves are there for two more weeks."""
    await minter.sync(coin_server.count, coin_server.publish)
    clock.advance(days=16)
    old = list(coin_server.coins)
    synced = await minter.sync(coin_server.count, coin_server.publish)
    assert synced.stock == {"GOLD": 0, "SILVER": 0}
    assert synced.minted == {"GOLD": 5, "SILVER": 3, "BRONZE": 0}
    found = await minter.reconcile(coin_server.coins)
    assert (found.unknown, found.claimed) == ((), {})
    assert sorted(found.expired) == sorted(old)


async def test_a_vault_that_is_topped_up_has_coins_to_publish(
    minter: AsyncMinter, vault: AsyncSecureVault, clock: Clock
) -> None:
    """As many as the targets say whose public halves haven't ended."""
    await minter.top_up()
    clock.advance(days=15)
    await make_minter(vault, "younger", targets={"GOLD": 6}, ceilings={"GOLD": 6}).top_up()
    clock.advance(days=1)
    assert await minter.top_up() == {"GOLD": 4, "SILVER": 3, "BRONZE": 0}
    assert await vault.count_active() == {"GOLD": 10, "SILVER": 6, "BRONZE": 0}
    assert await minter.top_up() == {"GOLD": 0, "SILVER": 0, "BRONZE": 0}


async def test_malformed_keys_are_no_stock(
    minter: AsyncMinter,
    vault_client: Redis,
    coin_server: CoinServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are logged, and stop nothing; what is gone or burned by now isn't malformed."""
    await minter.sync(coin_server.count, coin_server.publish)
    rows = [f"vault:v1:key:mint-{number}" for number in range(1, 6)]
    await vault_client.hset(rows[0], "created_at", "yesterday")
    await vault_client.hdel(rows[1], "coin_category")
    await vault_client.delete(rows[2], rows[3])
    await vault_client.set(rows[2], "x")
    await vault_client.hset(rows[4], "status", "BURNED")
    caplog.clear()
    found = await minter.reconcile(coin_server.coins)
    assert found.unknown == tuple(f"mint-{number}" for number in range(1, 6))
    malformed = [record for record in caplog.records if record.message == "corrupt_entry"]
    assert {vars(record)["key_id"] for record in malformed} == {"mint-1", "mint-2", "mint-3"}


# Reconciling -------------------------------------------------------------------------------


async def test_what_the_server_and_the_vault_do_not_share(
    minter: AsyncMinter, vault: AsyncSecureVault, coin_server: CoinServer, clock: Clock
) -> None:
    """What can't be opened, and what isn't offered; of what waits nobody knows yet."""
    clock.advance(ms=5)
    published_at = clock.now
    await minter.sync(coin_server.count, coin_server.publish)
    clock.advance(ms=5)
    claimed = coin_server.claim("GOLD", 1)
    await vault.burn_key("mint-2")
    await vault.store_key(**sample_key("by hand", "BRONZE"))
    await make_minter(vault, "later", targets={"BRONZE": 2}, ceilings={"BRONZE": 2}).top_up()
    found = await minter.reconcile([*coin_server.coins, "a foreign one"])
    assert found.unknown == ("a foreign one", "mint-2")
    assert found.claimed == {claimed[0]: published_at, "by hand": None}


async def test_a_coin_is_published_once(
    minter: AsyncMinter, coin_server: CoinServer, vault_client: Redis, clock: Clock
) -> None:
    """The first time counts; and what is malformed stops nothing."""
    await minter.sync(coin_server.count, coin_server.publish)
    clock.advance(ms=5)
    await minter.mark_published(["mint-1", "mint-2"])
    await vault_client.hset("vault:v1:key:mint-2", "published_at", "yesterday")
    await vault_client.delete("vault:v1:key:mint-3")
    await vault_client.set("vault:v1:key:mint-3", "x")
    found = await minter.reconcile([])
    assert found.unknown == ()
    assert found.claimed.keys() == {f"mint-{number}" for number in range(1, 9)} - {"mint-3"}
    assert (await minter.reconcile({"mint-1"})).claimed.keys() == found.claimed.keys() - {"mint-1"}
    assert (found.claimed["mint-1"], found.claimed["mint-2"]) == (clock.now - 5, None)


@pytest.mark.parametrize("wrong", ["mint-1", b"mint-1", [1], ["\ud800"], None, 7])
async def test_ids_that_are_none(minter: AsyncMinter, wrong: Any) -> None:
    """The argument is named."""
    with pytest.raises(InvalidArgumentError, match="server_ids"):
        await minter.reconcile(wrong)


# In the background -------------------------------------------------------------------------


class Pauses:
    """Ends a block after some pauses.

    Attributes:
        seconds: of each.
    """

    def __init__(self, most: int) -> None:
        self.seconds: list[float] = []
        self._most = most

    async def __call__(self, seconds: float) -> None:
        """Instead of ``anyio.sleep``."""
        self.seconds.append(seconds)
        if len(self.seconds) == self._most:
            raise KeyError("enough")


async def run(
    minter: AsyncMinter, coin_server: CoinServer, pauses: Pauses, **settings: Any
) -> None:
    """Has it sync until the pauses are over."""
    settings = {
        "every": 3600,
        "count": coin_server.count,
        "publish": coin_server.publish,
        **settings,
    }
    with pytest.raises(KeyError, match="enough"):
        async with minter.running(sleep=pauses, **settings):
            await forever()


async def forever() -> None:
    """Waits for a cancellation."""
    await asyncio.Event().wait()


async def test_running(vault: AsyncSecureVault, coin_server: CoinServer) -> None:
    """It syncs again and again, a little earlier than it would have to, and tells of each."""
    told: list[Synced] = []

    async def on_synced(synced: Synced) -> None:
        told.append(synced)
        coin_server.claim("GOLD", len(told))

    pauses = Pauses(3)
    minter = make_minter(vault, random=iter([0.0, 0.5, 0.999, 0.0]).__next__)
    await run(minter, coin_server, pauses, on_synced=on_synced)
    assert [synced.minted["GOLD"] for synced in told] == [5, 1, 2]
    assert pauses.seconds == pytest.approx([3600, 3420, 3240.36])


async def test_a_server_that_is_down(
    vault: AsyncSecureVault, coin_server: CoinServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked again soon, then less and less often, and never less than it would be."""
    coin_server.failures = [OSError("down")] * 9
    pauses = Pauses(11)
    minter = make_minter(vault, random=lambda: 0.0)
    await run(minter, coin_server, pauses, every=3600)
    assert pauses.seconds == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    failed = [record for record in caplog.records if record.message == "sync_failed"]
    assert [vars(record)["error"] for record in failed] == ["OSError"] * 9
    assert len(coin_server.coins) == 8


async def test_a_database_that_is_down(coin_server: CoinServer) -> None:
    """It's an error of the database, which the next time may be better."""
    async with Redis(unix_socket_path="/nowhere/s") as client:
        pauses = Pauses(2)
        await run(make_minter(AsyncSecureVault(client)), coin_server, pauses)
        with pytest.raises(VaultUnavailableError):
            await make_minter(AsyncSecureVault(client)).sync(coin_server.count, coin_server.publish)
    assert max(pauses.seconds) <= 60


async def test_whoever_is_told_fails(
    minter: AsyncMinter, coin_server: CoinServer, caplog: pytest.LogCaptureFixture
) -> None:
    """That's logged, and everything is in its place."""

    async def on_synced(_: Synced) -> None:
        raise ZeroDivisionError

    pauses = Pauses(1)
    await run(minter, coin_server, pauses, on_synced=on_synced)
    assert "on_synced_failed" in caplog.messages
    assert len(coin_server.coins) == 8


# Arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ceilings", {"GOLD": 4, "SILVER": 3}),
        ("ceilings", {"GOLD": 5}),
        ("ceilings", 7),
        ("delivery_margin", 0),
        ("delivery_margin", config.VAULT_KEY_TTL_SECONDS),
        ("random", 0.5),
    ],
)
async def test_bad_settings(vault: AsyncSecureVault, name: str, value: Any) -> None:
    """The argument is named."""
    with pytest.raises(InvalidArgumentError, match=name):
        make_minter(vault, **{name: value})


@pytest.mark.parametrize(
    "told", [None, 7, {"GOLD": -1}, {"GOLD": "5"}, {"GOLD": True}, {"gold": 3}, {"PLATINUM": 3}]
)
async def test_a_stock_that_is_none(
    minter: AsyncMinter, vault: AsyncSecureVault, coin_server: CoinServer, told: Any
) -> None:
    """Nothing is minted for it."""

    async def tell() -> Any:
        return told

    with pytest.raises(InvalidArgumentError, match="count"):
        await minter.sync(tell, coin_server.publish)
    assert await vault.count_active("GOLD") == 0


@pytest.mark.parametrize("name", ["count", "publish"])
async def test_a_function_that_nobody_would_wait_for(
    minter: AsyncMinter, vault: AsyncSecureVault, coin_server: CoinServer, name: str
) -> None:
    """It's named, and nothing counts as published."""
    functions: dict[str, Any] = {"count": coin_server.count, "publish": coin_server.publish}
    functions[name] = print
    with pytest.raises(InvalidArgumentError, match=f"{name}: must be a coroutine function"):
        await minter.sync(**functions)
    assert len(await minter.pending_upload()) == sum((await vault.count_active()).values())


@pytest.mark.parametrize("name", ["count", "publish", "on_synced", "every"])
async def test_bad_arguments(minter: AsyncMinter, coin_server: CoinServer, name: str) -> None:
    """The argument is named, before anything is asked."""
    functions: dict[str, Any] = {"count": coin_server.count, "publish": coin_server.publish}
    settings: dict[str, Any] = {"every": 1, **functions}
    settings[name] = "x"
    with pytest.raises(InvalidArgumentError, match=name):
        async with minter.running(**settings):
            pass
    if name in functions:
        functions[name] = "x"
        with pytest.raises(InvalidArgumentError, match=name):
            await minter.sync(**functions)
