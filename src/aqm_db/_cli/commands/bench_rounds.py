"""``select_coin`` against PING, round by round, in a namespace that is removed."""

import os
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

from aqm_db import AsyncClientDatabase, config, connect
from aqm_db._cli.errors import CommandError, clean_up
from aqm_db._cli.views.bench_view import Timings
from aqm_db._model.defaults import new_request_id, now_ms
from aqm_db._model.tiers import TIERS, Caps
from aqm_db.errors import AQMDatabaseError
from aqm_db.types import NewCoin

ROUND: Final = 50
"""Coins that are stored, and then selected one after another: what is on the server at a time."""
_CONTACT: Final = "contact"
_SIGNATURE_BYTES: Final = 2_420
"""ML-DSA-44 (FIPS 204)."""
_CAPS: Final[Caps] = {
    **config.BUDGET_CAPS,
    "BESTIE": {**dict.fromkeys(TIERS, 0), "GOLD": ROUND},
}
_HOUR_MS: Final = 3_600_000


class Bench:
    """A namespace on a server of the user's, and the calls that are measured in it.

    Args:
        url: the server.
    """

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._owner = f"aqm-bench-{secrets.token_hex(4)}"
        self._request_ids: list[str] = []
        self._behind_ms = 0

    async def measure(self, seconds: float, show_time: Callable[[float], None]) -> Timings:
        """Measures whole rounds until so many seconds have passed, and at least one.

        Args:
            seconds: how long.
            show_time: is told the seconds that have passed, between two rounds.

        Raises:
            CommandError: the namespace couldn't be removed.
            AQMDatabaseError: what the calls raise.
        """
        database = connect(
            self._url,
            owner=self._owner,
            budget_caps=_CAPS,
            clock=self._now_ms,
            request_ids=self._new_request_id,
            # To measure one that loses keys by design, it's safe.
            allow_unsafe=True,
        )
        async with database as db, clean_up(partial(self._clean, db)):
            return await self._measure_rounds(db, seconds, show_time)

    async def _measure_rounds(
        self, db: AsyncClientDatabase, seconds: float, show_time: Callable[[float], None]
    ) -> Timings:
        # The first round is lost on connecting, and on scripts that the server doesn't know.
        await self._run_round(db, Timings())
        timings = Timings()
        begin = perf_counter()
        passed = 0.0
        while not timings.ping or passed < seconds:
            await self._run_round(db, timings)
            passed = perf_counter() - begin
            show_time(passed)
        return timings

    async def _run_round(self, db: AsyncClientDatabase, timings: Timings) -> None:
        await self._store_stock(db)
        # The same connection that the inventory's calls take.
        read = db.gates.inventory.read
        for _ in range(ROUND):
            await _time_call(read(("PING",)), timings.ping)
            await _time_call(db.inventory.select_coin(_CONTACT, "GOLD"), timings.select_coin)
        await self._remove(db)

    async def _store_stock(self, db: AsyncClientDatabase) -> None:
        # Coins wait before they're used, as a rule; one of the last 30 seconds costs a write more.
        self._behind_ms = _HOUR_MS
        await db.inventory.register_contact(_CONTACT, "BESTIE")
        for outcome in await db.inventory.store_keys([_make_coin(each) for each in range(ROUND)]):
            if isinstance(outcome, AQMDatabaseError):
                raise outcome
        self._behind_ms = 0

    async def _clean(self, db: AsyncClientDatabase) -> None:
        try:
            await self._remove(db)
        except AQMDatabaseError as error:
            raise CommandError(
                f"{error}; keys are left on the server: delete aqm:{{{self._owner}}}:* in database "
                f"{config.REDIS_INVENTORY_DB}"
            ) from error

    async def _remove(self, db: AsyncClientDatabase) -> None:
        # By name: a search would walk over the user's own data, round after round.
        keys = db.inventory.keys
        names = keys.of(_CONTACT)
        await db.gates.inventory.read(
            (
                "UNLINK",
                *(keys.inv_contacts, keys.inv_totals),
                *(names.meta, names.used, names.used_until, *names.queues),
                *(names.row(_key_id(number)) for number in range(ROUND)),
                *(names.claims + request_id for request_id in self._request_ids),
            )
        )
        self._request_ids.clear()

    def _now_ms(self) -> int:
        return now_ms() - self._behind_ms

    def _new_request_id(self) -> str:
        self._request_ids.append(new_request_id())
        return self._request_ids[-1]


def _key_id(number: int) -> str:
    return f"coin-{number}"


def _make_coin(number: int) -> NewCoin:
    public_key = os.urandom(config.COIN_SIZE_BYTES["GOLD"] - _SIGNATURE_BYTES)
    return NewCoin(_CONTACT, _key_id(number), "GOLD", public_key, os.urandom(_SIGNATURE_BYTES))


async def _time_call(call: Awaitable[Any], times: list[float]) -> None:
    begin = perf_counter()
    await call
    times.append((perf_counter() - begin) * 1000)
