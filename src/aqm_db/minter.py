"""Minting: a vault kept at a number of keys per tier, and what of them is to be published.

An optional extra: ``pip install 'aqm-db[background]'``. It is for asyncio programs; there is no
synchronous counterpart.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from . import config
from ._background import import_anyio
from ._model.checks import check_callable, check_count, check_kind, check_tiers
from ._model.tiers import TIERS
from ._operations.outcome import Progress
from ._operations.publishing import (
    FreshCoin,
    PublicHalf,
    list_pending,
    store_fresh,
    take_off_published,
)
from .errors import AQMDatabaseError, InvalidArgumentError
from .types import CoinCategory
from .vault import AsyncSecureVault

__all__ = ["AsyncMinter", "FreshCoin", "Mint", "PublicHalf", "Runner"]

Mint: TypeAlias = Callable[[CoinCategory], FreshCoin]
"""Makes a coin of a tier, with an id that was never used; it may take its time."""
Runner: TypeAlias = Callable[[Callable[[], list[FreshCoin]]], Awaitable[list[FreshCoin]]]
"""Runs a function off the event loop."""
_IN_THREAD: Runner = import_anyio(__name__).to_thread.run_sync


class AsyncMinter:
    """Keeps a vault at its targets, and knows which public halves are still to be published.

    ::

        minter = AsyncMinter(db.vault, mint)
        await minter.top_up()
        while coins := await minter.pending_upload():
            await server.publish(coins)
            await minter.mark_published([coin.key_id for coin in coins])

    Each coin is stored with its public half in one step, and its public half stays on the list
    until it's marked as published. A crash in between offers the same coins again, so the server
    must take a coin that it has already for what it is. A crash while minting loses coins that
    nobody has seen.

    Args:
        vault: what to fill.
        mint: the client's own; it runs off the event loop, in another thread.
        targets: active keys by tier; a tier that isn't there is left alone.
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
        batch: int = 16,
        run: Runner = _IN_THREAD,
    ) -> None:
        check_kind("vault", vault, AsyncSecureVault)
        self._vault = vault
        self._mint = check_callable("mint", mint)
        self._targets = check_tiers("targets", targets)
        self._batch = check_count("batch", batch, 1)
        self._run = check_callable("run", run)

    async def top_up(self) -> dict[str, int]:
        """Mints what is missing to the targets, as the vault's counters say.

        Several minters may do so at once: together they store no coin beyond a target.

        Returns:
            How many coins were stored, by tier.

        Raises:
            InvalidArgumentError: ``mint`` made something else than a coin of the tier.
            KeyAlreadyExistsError: ``mint`` gave a coin an id that is taken.
            CorruptEntryError: the stored counters are malformed.

        What ``mint`` raises comes through. What was stored before any of these stays on the list.
        """
        stored: dict[str, int] = dict.fromkeys(TIERS, 0)
        with Progress("top_up") as progress:
            for tier, target in self._targets.items():
                while (missing := target - await self._vault.count_active(tier)) > 0:
                    minting = partial(self._mint_coins, tier, min(missing, self._batch))
                    stored[tier] += await self._store(await self._run(minting), target, progress)
        return stored

    async def pending_upload(self, limit: int = 100) -> list[PublicHalf]:
        """Lists public halves to be published, oldest first.

        Coins that were burned or have expired leave the list; malformed ones are logged and left
        out.

        Args:
            limit: how many at most.

        Raises:
            InvalidArgumentError: the limit is no whole number from 1 up.
            CorruptEntryError: the stored list is malformed.
        """
        return await list_pending(self._vault.scope, limit)

    async def mark_published(self, key_ids: Sequence[str]) -> int:
        """Takes coins off the list, once the server has them.

        Returns:
            How many of them were on it.

        Raises:
            InvalidArgumentError: the ids aren't a sequence of ids; nothing was changed.
            CorruptEntryError: the stored list is malformed.
        """
        return await take_off_published(self._vault.scope, key_ids)

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
