"""Private halves that are gone are remembered: none comes back, and it's said how each went."""

from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSecureVault
from aqm_db.errors import (
    AQMDatabaseError,
    InvalidArgumentError,
    KeyAlreadyBurnedError,
    KeyAlreadyExistsError,
    KeyExpiredError,
    KeyNotFoundError,
)
from aqm_db.types import NewKey, VaultEntry, VaultStats
from tests.support.samples import DAY_MS, Clock, sample_key

pytestmark = pytest.mark.asyncio

ROW = "vault:v1:key:k"
SPENT = "vault:v1:spent"
EXPIRY = "vault:v1:expiry"
LIFE_MS = 30 * DAY_MS


async def stored(vault: AsyncSecureVault) -> VaultEntry:
    """Stores the key k, and gives what a backup would hold of it."""
    await vault.store_key(**sample_key("k", "GOLD"))
    entry = await vault.fetch_key("k")
    assert entry is not None
    return entry


async def burn(vault: AsyncSecureVault, client: Redis, _clock: Clock) -> None:
    """Burns it, and lets the tombstone go as the server does after a minute."""
    await vault.burn_key("k")
    assert await client.delete(ROW) == 1


async def use(vault: AsyncSecureVault, client: Redis, _clock: Clock) -> None:
    """The same at the end of a block."""
    async with vault.use_key("k"):
        pass
    assert await client.delete(ROW) == 1


async def burn_now(vault: AsyncSecureVault, _client: Redis, _clock: Clock) -> None:
    """Burns it; the tombstone stands."""
    await vault.burn_key("k")


async def purge(vault: AsyncSecureVault, _client: Redis, clock: Clock) -> None:
    """Deletes it long before its end."""
    clock.advance(days=2)
    assert await vault.purge_expired(1) == 1


async def expire(_vault: AsyncSecureVault, client: Redis, clock: Clock) -> None:
    """Lets the server expire it, and nobody look."""
    clock.advance(days=30)
    assert await client.delete(ROW) == 1


async def expire_and_look(vault: AsyncSecureVault, client: Redis, clock: Clock) -> None:
    """The same, and somebody reads the counters."""
    await expire(vault, client, clock)
    assert (await vault.get_stats()).total_expired == 1
    assert await client.zcard(EXPIRY) == 0


Ending = Callable[[AsyncSecureVault, Redis, Clock], Awaitable[None]]
ENDINGS: dict[str, tuple[Ending, type[AQMDatabaseError]]] = {
    "burned": (burn, KeyAlreadyBurnedError),
    "burned just now": (burn_now, KeyAlreadyBurnedError),
    "used": (use, KeyAlreadyBurnedError),
    "purged": (purge, KeyExpiredError),
    "expired": (expire, KeyExpiredError),
    "expired and counted": (expire_and_look, KeyExpiredError),
}
every_ending = pytest.mark.parametrize(
    ("end", "error"), [pytest.param(*ending, id=name) for name, ending in ENDINGS.items()]
)


@every_ending
async def test_a_late_message_hears_how_its_key_went(
    vault: AsyncSecureVault,
    vault_client: Redis,
    clock: Clock,
    end: Ending,
    error: type[AQMDatabaseError],
) -> None:
    """Burned or expired, and not that there never was such a key; both ways to use it say so."""
    await stored(vault)
    await end(vault, vault_client, clock)
    with pytest.raises(error, match="'k'"):
        await vault.burn_key("k")
    with pytest.raises(error, match="'k'"):
        async with vault.use_key("k"):
            pytest.fail("the block ran")
    assert await vault.fetch_key("k") is None
    with pytest.raises(KeyNotFoundError) as unknown:
        await vault.burn_key("nobody")
    assert unknown.type is KeyNotFoundError


@every_ending
async def test_it_does_not_come_back(
    vault: AsyncSecureVault,
    vault_client: Redis,
    clock: Clock,
    end: Ending,
    error: type[AQMDatabaseError],
) -> None:
    """Neither as a new key nor with its age; and the counters stay as they were."""
    entry = await stored(vault)
    await end(vault, vault_client, clock)
    before = await vault.get_stats()
    with pytest.raises(error):
        await vault.store_key(**sample_key("k", "SILVER"))
    [outcome] = await vault.store_keys([NewKey(**sample_key("k", "SILVER"))])
    assert type(outcome) is error
    [outcome] = await vault.restore_keys([entry])
    assert type(outcome) in (error, InvalidArgumentError)
    assert await vault.fetch_key("k") is None
    assert await vault.get_stats() == before


@pytest.mark.parametrize("end", [burn, purge])
async def test_a_restore_of_what_is_not_old_yet_is_refused(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock, end: Ending
) -> None:
    """What was burned or purged before its time, on its last day as on its first."""
    entry = await stored(vault)
    await end(vault, vault_client, clock)
    for _ in range(2):
        [outcome] = await vault.restore_keys([entry])
        assert isinstance(outcome, KeyAlreadyBurnedError | KeyExpiredError)
        clock.advance(ms=entry.created_at + LIFE_MS - 1 - clock.now)


async def test_what_the_server_lost_can_be_restored(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock
) -> None:
    """Its clock jumped 31 days for a moment, say: a backup helps, before or after a look."""
    entry = await stored(vault)
    clock.advance(days=1)
    for look in (False, True):
        await vault_client.delete(ROW)
        if look:
            await vault.get_stats()
        with pytest.raises(KeyExpiredError):
            await vault.burn_key("k")
        with pytest.raises(KeyExpiredError):
            await vault.store_key(**sample_key("k", "GOLD"))
        assert await vault.restore_keys([entry]) == [True]
        assert await vault.fetch_key("k") == entry
        assert await vault.count_active("GOLD") == 1
    assert await vault_client.zcard(SPENT) == 0
    await vault.burn_key("k")
    assert await vault.get_stats() == VaultStats(0, 0, 0, 1, 2)


async def test_handlers_of_what_is_not_there_hold() -> None:
    """An expired key is one that isn't found, and a burned one's id is taken."""
    assert issubclass(KeyExpiredError, KeyNotFoundError)
    assert issubclass(KeyAlreadyBurnedError, KeyAlreadyExistsError)


@pytest.mark.parametrize("end", [burn, purge])
async def test_the_memory_ends(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock, end: Ending
) -> None:
    """30 days after a key's own end, whenever it went: it doesn't grow for ever."""
    entry = await stored(vault)
    await end(vault, vault_client, clock)
    assert await vault_client.zcard(SPENT) == 1
    clock.advance(ms=entry.created_at + 2 * LIFE_MS - 1 - clock.now)
    await vault.store_key(**sample_key("other", "GOLD"))
    await vault.burn_key("other")
    with pytest.raises((KeyAlreadyBurnedError, KeyExpiredError)):
        await vault.burn_key("k")
    # How it went stands in the score, as part of a ms.
    clock.advance(ms=2)
    await vault.store_key(**sample_key("another", "GOLD"))
    await vault.burn_key("another")
    with pytest.raises(KeyNotFoundError) as unknown:
        await vault.burn_key("k")
    assert unknown.type is KeyNotFoundError
    assert await vault_client.zrange(SPENT, 0, -1) == [b"other", b"another"]


async def test_it_is_forgotten_in_portions(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock
) -> None:
    """One that burns a key waits for no more than ten others."""
    for number in range(25):
        await vault.store_key(**sample_key(f"old-{number}", "BRONZE"))
        await vault.burn_key(f"old-{number}")
    clock.advance(days=61)
    left: list[int] = []
    for number in range(4):
        await vault.store_key(**sample_key(f"new-{number}", "BRONZE"))
        await vault.burn_key(f"new-{number}")
        left.append(await vault_client.zcard(SPENT))
    assert left == [16, 7, 3, 4]


async def test_what_the_server_expired_is_forgotten_too(
    vault: AsyncSecureVault, vault_client: Redis, clock: Clock
) -> None:
    """In a vault where nobody burns a key: as more of them expire."""
    await vault.store_key(**sample_key("first", "BRONZE"))
    await vault_client.delete("vault:v1:key:first")
    await vault.get_stats()
    clock.advance(days=61)
    await vault.store_key(**sample_key("second", "BRONZE"))
    await vault_client.delete("vault:v1:key:second")
    await vault.get_stats()
    assert await vault_client.zrange(SPENT, 0, -1) == [b"second"]


async def test_a_key_that_the_index_lost_is_remembered(
    vault: AsyncSecureVault, vault_client: Redis
) -> None:
    """Its age says when it would have expired; a row without an age is as good as new."""
    entry = await stored(vault)
    await vault_client.delete(EXPIRY)
    await vault.burn_key("k")
    assert await vault_client.zscore(SPENT, "k") == entry.created_at + LIFE_MS + 0.5
    await vault.store_key(**sample_key("ageless", "GOLD"))
    await vault_client.delete(EXPIRY)
    await vault_client.hdel("vault:v1:key:ageless", "created_at")
    await vault.burn_key("ageless")
    assert await vault_client.zscore(SPENT, "ageless") == entry.created_at + LIFE_MS + 0.5
