"""Minting: a vault kept at a number of keys per tier, and what of them is to be published.

An optional extra: ``pip install 'aqm-db[background]'``. It is for asyncio programs; there is no
synchronous counterpart.
"""

import logging
import random as random_module
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable
from typing import Any, TypeAlias

from . import config
from ._background import Raised, call_client, import_anyio, run_beside
from ._model.checks import (
    check_callable,
    check_count,
    check_ids,
    check_kind,
    check_seconds,
    check_tiers,
)
from ._model.defaults import Sleep
from ._model.tiers import TIERS
from ._operations.layout import prepare_vault
from ._operations.outcome import Progress
from ._operations.private_halves import list_births
from ._operations.publishing import (
    FreshCoin,
    PublicHalf,
    list_pending,
    list_published,
    store_fresh,
    take_off_published,
)
from .errors import AQMDatabaseError, InvalidArgumentError
from .types import CoinCategory
from .vault import AsyncSecureVault

__all__ = [
    "AsyncMinter",
    "FreshCoin",
    "Mint",
    "OnSynced",
    "PublicHalf",
    "Publish",
    "Reconciled",
    "Runner",
    "Stock",
    "Synced",
]

_log = logging.getLogger("aqm_db.minter")
Mint: TypeAlias = Callable[[CoinCategory], FreshCoin]
"""Makes a coin of a tier, with an id that was never used; it may take its time."""
Runner: TypeAlias = Callable[[Callable[[], list[FreshCoin]]], Awaitable[list[FreshCoin]]]
"""Runs a function off the event loop."""
Stock: TypeAlias = Callable[[], Awaitable[Mapping[CoinCategory, int] | Mapping[str, int]]]
"""Asks the server how many coins it has left for others, by tier: none whose end has passed."""
Publish: TypeAlias = Callable[[Sequence[PublicHalf]], Awaitable[object]]
"""Has the server take coins; one that it has taken before is no error."""
_IN_THREAD: Runner = import_anyio(__name__).to_thread.run_sync
_AT_ONCE = 100
"""Coins that are published in one go."""
_FIRST_PAUSE = 30.0
"""Seconds after the first failure, at most; twice as many each time."""
_JITTER = 0.1
"""By what share of itself a pause is shorter, at most: clients don't come to a server at once."""


@dataclass(frozen=True, slots=True)
class Synced:
    """What became of a sync, by tier.

    Attributes:
        stock: coins that the server said it had, at most as many as there are private halves whose
            public halves may still be encrypted for.
        minted: coins that were stored.
        held_back: coins that are missing all the same, since the ceiling is reached.
        published: how many coins were published, of all tiers.
    """

    stock: Mapping[str, int]
    minted: Mapping[str, int]
    held_back: Mapping[str, int]
    published: int


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How the vault and a server differ.

    Attributes:
        unknown: ids that the server offers, and that no private half is left of: whatever is
            encrypted for them can't be read, so they had better be withdrawn.
        expired: ids that the server offers, and that nobody may encrypt for any more; they had
            better be withdrawn, too.
        claimed: private halves whose public halves the server doesn't offer: somebody has claimed
            them, or the server has lost them. By id when they were marked as published, in ms since
            the epoch; None where they never were on the list. Those that wait to be published
            aren't among them.
    """

    unknown: tuple[str, ...]
    expired: tuple[str, ...]
    claimed: Mapping[str, int | None]


OnSynced: TypeAlias = Callable[[Synced], Awaitable[object]]
"""Is told what became of a sync."""


class AsyncMinter:
    """Keeps a vault at its targets, and knows which public halves are still to be published.

    ::

        minter = AsyncMinter(db.vault, mint)
        await minter.sync(server.count, server.publish)

        async with minter.running(every=3600, count=server.count, publish=server.publish):
            ...

    What is missing is what the server lacks: a coin that somebody has claimed, and not used yet,
    has its private half still, and is no stock. Each coin is stored with its public half in one
    step, and its public half stays on the list until it's marked as published. A crash in between
    offers the same coins again, so the server must take a coin that it has already for what it is.
    A crash while minting loses coins that nobody has seen. Whoever syncs at once, in other programs
    or in this one, may each mint what is missing.

    Args:
        vault: what to fill.
        mint: the client's own; it runs off the event loop, in another thread.
        targets: unclaimed coins on the server by tier, or, of :meth:`top_up`, active keys whose
            public halves may still be encrypted for; a tier that isn't there is left alone.
        ceilings: active keys by tier, beyond which :meth:`sync` mints nothing, whatever a server
            says; for every tier of the targets, and no less. None is 20 times each target.
        delivery_margin: how much longer a private half is kept than its public half may be
            encrypted for, in seconds: what was encrypted on the last day is read when it arrives.
        batch: how many coins are minted, and then stored in one round trip.
        run: runs a batch off the event loop; by default in a thread of anyio's.

    Raises:
        TypeError: the vault is of the wrong kind.
        InvalidArgumentError: another argument is.

    Every method also raises what every method of the vault does.
    """

    def __init__(
        self,
        vault: AsyncSecureVault,
        mint: Mint,
        *,
        targets: Mapping[CoinCategory, int] | Mapping[str, int] = config.VAULT_TARGETS,
        ceilings: Mapping[CoinCategory, int] | Mapping[str, int] | None = None,
        delivery_margin: float = config.VAULT_DELIVERY_MARGIN_SECONDS,
        batch: int = 16,
        run: Runner = _IN_THREAD,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        check_kind("vault", vault, AsyncSecureVault)
        self._vault = vault
        self._mint = check_callable("mint", mint)
        self._targets = check_tiers("targets", targets)
        self._ceilings = _find_ceilings(self._targets, ceilings)
        margin = check_seconds("delivery_margin", delivery_margin)
        if margin >= config.VAULT_KEY_TTL_SECONDS:
            raise InvalidArgumentError(
                "delivery_margin", f"must be less than {config.VAULT_KEY_TTL_SECONDS} seconds"
            )
        self._life_ms = config.VAULT_KEY_TTL_SECONDS * 1000 - int(margin * 1000)
        self._batch = check_count("batch", batch, 1)
        self._run = check_callable("run", run)
        self._random = check_callable("random", random)

    async def sync(self, count: Stock, publish: Publish) -> Synced:
        """Publishes what waits for it, then mints and publishes what the server lacks.

        Args:
            count: a coroutine function that says how many unclaimed coins the server has, by
                tier, without those whose end has passed; none of a tier that it leaves out.
            publish: a coroutine function that has the server take some coins, in order. They stay
                on the list until it has returned.

        Raises:
            InvalidArgumentError: an argument isn't callable, or no coroutine function; ``count``
                gave something else than numbers by tier; or ``mint`` made something else than a
                coin of the tier.
            KeyAlreadyExistsError: ``mint`` gave a coin an id that is taken.
            CorruptEntryError: the stored counters are malformed, or the list, or the index of
                active keys.
            SchemaVersionError: a later version of this library has written the database.

        What ``count``, ``publish`` and ``mint`` raise comes through. What was stored before any of
        these stays on the list, and the next sync publishes it.
        """
        check_callable("count", count)
        check_callable("publish", publish)
        try:
            return await self._sync(count, publish)
        except _ClientError as raised:
            raise raised.error from None

    async def reconcile(self, server_ids: Collection[str]) -> Reconciled:
        """Compares the vault with what a server offers; it changes nothing.

        Args:
            server_ids: the ids of all coins that the server has for others.

        Raises:
            InvalidArgumentError: the ids aren't a collection.
            InvalidIdentifierError: one of them is no valid id.
            CorruptEntryError: the index of active keys is malformed.
            SchemaVersionError: a later version of this library has written the database.
        """
        offered = check_ids("server_ids", server_ids)
        births = await self._list_births()
        over = await self._list_expired(births)
        claimed = [key_id for key_id in births if key_id not in offered]
        return Reconciled(
            tuple(sorted(offered.difference(births))),
            tuple(sorted(offered.intersection(over))),
            await list_published(self._vault.scope, claimed),
        )

    @asynccontextmanager
    async def running(
        self,
        *,
        every: float,
        count: Stock,
        publish: Publish,
        on_synced: OnSynced | None = None,
        sleep: Sleep | None = None,
    ) -> AsyncGenerator[None]:
        """Syncs in the background, as long as the block runs.

        What fails is logged, and tried again sooner than the next time would be: within half a
        minute, and after twice as long each time that it fails again. What ``on_synced`` raises is
        logged, too.

        Args:
            every: seconds between two syncs, less up to a tenth of them.
            count: as of :meth:`sync`.
            publish: as of :meth:`sync`.
            on_synced: told what became of each sync.
            sleep: waits for some seconds; None is ``anyio.sleep``.

        Raises:
            InvalidArgumentError: an argument is of the wrong kind.

        An error that isn't the database's, nor of the client's own functions, ends the block, and
        comes out of it.
        """
        check_seconds("every", every)
        check_callable("count", count)
        check_callable("publish", publish)
        if on_synced is not None:
            check_callable("on_synced", on_synced)

        async def work(sleep: Sleep) -> None:
            failures = 0
            while True:
                failures = 0 if await self._sync_once(count, publish, on_synced) else failures + 1
                pause = min(every, _FIRST_PAUSE * 2 ** min(failures - 1, 30)) if failures else every
                await sleep(pause * (1 - _JITTER * self._random()))

        async with run_beside(work, sleep):
            yield

    async def top_up(self) -> dict[str, int]:
        """Mints what is missing to the targets, as the vault's counters say.

        A key whose public half nobody may encrypt for any more is no stock.

        Several minters may do so at once: together they store no coin beyond a target. It's for
        owners whose server can't be asked; :meth:`sync` asks it.

        Returns:
            How many coins were stored, by tier.

        Raises:
            InvalidArgumentError: ``mint`` made something else than a coin of the tier.
            KeyAlreadyExistsError: ``mint`` gave a coin an id that is taken.
            CorruptEntryError: the stored counters are malformed, or the index of active keys.
            SchemaVersionError: a later version of this library has written the database.

        What ``mint`` raises comes through. What was stored before any of these stays on the list.
        """
        stored: dict[str, int] = dict.fromkeys(TIERS, 0)
        births = await self._list_births()
        expired = Counter(births[key_id][0] for key_id in await self._list_expired(births))
        with Progress("top_up") as progress:
            for tier, target in self._targets.items():
                most = target + expired[tier]
                while (missing := most - await self._vault.count_active(tier)) > 0:
                    minting = partial(self._mint_coins, tier, min(missing, self._batch))
                    stored[tier] += await self._store(await self._run(minting), most, progress)
        return stored

    async def pending_upload(self, limit: int = 100) -> list[PublicHalf]:
        """Lists public halves to be published, oldest first.

        Coins that were burned or have expired leave the list; malformed ones are logged and left
        out, and so are those that nobody may encrypt for any more.

        Args:
            limit: how many at most.

        Raises:
            InvalidArgumentError: the limit is no whole number from 1 up.
            CorruptEntryError: the stored list is malformed.
        """
        return await list_pending(self._vault.scope, limit, self._life_ms)

    async def mark_published(self, key_ids: Sequence[str]) -> int:
        """Takes coins off the list, once the server has them.

        Returns:
            How many of them were on it.

        Raises:
            InvalidArgumentError: the ids aren't a sequence of ids; nothing was changed.
            CorruptEntryError: the stored list is malformed.
        """
        return await take_off_published(self._vault.scope, key_ids)

    async def _sync_once(self, count: Stock, publish: Publish, on_synced: OnSynced | None) -> bool:
        """Syncs; what fails is logged. Returns whether it came to its end."""
        try:
            synced = await self._sync(count, publish)
        except AQMDatabaseError as error:
            _warn("sync_failed", error)
            return False
        except _ClientError as raised:
            _warn("sync_failed", raised.error)
            return False
        if on_synced is not None:
            answer = await call_client(on_synced, synced)
            if isinstance(answer, Raised):
                _warn("on_synced_failed", answer.error)
        return True

    async def _sync(self, count: Stock, publish: Publish) -> Synced:
        """As :meth:`sync`; what the client's own functions raise is marked as theirs."""
        published = await self._publish_pending(publish)
        told = check_tiers("count", await _call("count", count))
        births = await self._list_births()
        expired = set(await self._list_expired(births))
        # A server that counts what nobody may use any more, or what can't be read, has no stock.
        good = Counter(tier for key_id, (tier, _) in births.items() if key_id not in expired)
        stock: dict[str, int] = {tier: min(told.get(tier, 0), good[tier]) for tier in self._targets}
        # Another program may have minted meanwhile.
        waiting = Counter(half.coin_category for half in await self.pending_upload(_AT_ONCE))
        minted: dict[str, int] = dict.fromkeys(TIERS, 0)
        held_back: dict[str, int] = dict.fromkeys(TIERS, 0)
        with Progress("sync") as progress:
            for tier, target in self._targets.items():
                missing = target - stock[tier] - waiting[tier]
                minted[tier] = await self._mint_below_ceiling(tier, missing, progress)
                held_back[tier] = max(missing, 0) - minted[tier]
        published += await self._publish_pending(publish)
        return Synced(stock, minted, held_back, published)

    async def _publish_pending(self, publish: Publish) -> int:
        published = 0
        while halves := await self.pending_upload(_AT_ONCE):
            await _call("publish", publish, halves)
            published += await self.mark_published([half.key_id for half in halves])
        return published

    async def _mint_below_ceiling(
        self, tier: CoinCategory, missing: int, progress: Progress
    ) -> int:
        """Mints and stores what is missing, as far as the ceiling allows; returns how much."""
        ceiling, stored = self._ceilings[tier], 0
        while stored < missing:
            room = ceiling - await self._vault.count_active(tier)
            if room <= 0:
                _log.warning("ceiling_reached", extra={"coin_category": tier, "ceiling": ceiling})
                break
            count = min(missing - stored, room, self._batch)
            coins = await _call("run", self._run, partial(self._mint_coins, tier, count))
            stored += await self._store(coins, ceiling, progress)
        return stored

    async def _list_births(self) -> dict[str, tuple[str, int]]:
        """Active keys: the tier and the time of each."""
        is_whole = await prepare_vault(self._vault.scope)
        return await list_births(self._vault.scope, is_whole=is_whole)

    async def _list_expired(self, births: Mapping[str, tuple[str, int]]) -> list[str]:
        """Those among them whose public halves nobody may encrypt for any more."""
        last = await self._vault.scope.ask_time() - self._life_ms
        return [key_id for key_id, (_, created_at) in births.items() if created_at <= last]

    def _mint_coins(self, tier: CoinCategory, count: int) -> list[FreshCoin]:
        coins: list[Any] = [self._mint(tier) for _ in range(count)]
        for coin in coins:
            if not isinstance(coin, FreshCoin):
                name = type(coin).__name__
                raise InvalidArgumentError("mint", f"must return a FreshCoin, not a {name}")
            if coin.private.coin_category != tier:
                raise InvalidArgumentError("mint", f"must return a FreshCoin of tier {tier}")
        return coins

    async def _store(self, coins: Sequence[FreshCoin], target: int, progress: Progress) -> int:
        outcomes = await store_fresh(self._vault.scope, coins, target)
        progress.add(outcomes)
        for outcome in outcomes:
            if isinstance(outcome, AQMDatabaseError):
                raise outcome
        return outcomes.count(True)


def _find_ceilings(
    targets: Mapping[CoinCategory, int], ceilings: object
) -> Mapping[CoinCategory, int]:
    if ceilings is None:
        return {tier: config.VAULT_CEILING_FACTOR * target for tier, target in targets.items()}
    checked = check_tiers("ceilings", ceilings)
    for tier, target in targets.items():
        if checked.get(tier, -1) < target:
            raise InvalidArgumentError("ceilings", f"must be {target} {tier} at least")
    return checked


async def _call(name: str, function: Callable[..., Any], *arguments: object) -> Any:
    """What a coroutine function of the client's own answers.

    Raises:
        _ClientError: it raised, or is another function: nobody would wait for what it begins.
    """

    async def await_answer() -> Any:
        answer = function(*arguments)
        if not isawaitable(answer):
            raise InvalidArgumentError(name, "must be a coroutine function")
        return await answer

    answer = await call_client(await_answer)
    if isinstance(answer, Raised):
        raise _ClientError(answer.error)
    return answer


def _warn(event: str, error: Exception) -> None:
    _log.warning(event, extra={"error": type(error).__name__})


class _ClientError(Exception):
    """What a function of the client's own raised.

    Attributes:
        error: that.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
