"""``select_coin`` against PING, in a namespace that is removed."""

import os
import secrets
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final

from aqm_db import config
from aqm_db._cli.errors import CommandError
from aqm_db._cli.views.bench_view import Timings
from aqm_db._io.confirming import UNCONFIRMED
from aqm_db._io.redispy.clients import AsyncClient, make_seam
from aqm_db._io.seam import Seam
from aqm_db._model.defaults import new_request_id, now_ms
from aqm_db.database import AsyncClientDatabase
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import AQMDatabaseError, InventoryUnavailableError
from aqm_db.inventory import AsyncSmartInventory
from aqm_db.types import NewCoin

ROUND: Final = 50
"""Coins that are stored, and then selected one after another: what is on the server at a time."""
_CONTACT: Final = "contact"
_SIGNATURE_BYTES: Final = 2_420
"""ML-DSA-44 (FIPS 204)."""
_CAPS: Final = {
    **config.BUDGET_CAPS,
    "BESTIE": {"GOLD": ROUND, "SILVER": 0, "BRONZE": 0},
}


class Bench:
    """A namespace on a server of the user's, and the calls that are measured in it.

    Args:
        vault_client: the vault's client, which nothing is asked of.
        inventory_client: the inventory's.
        server: the embedded server, if it is one.
    """

    def __init__(
        self,
        vault_client: AsyncClient,
        inventory_client: AsyncClient,
        *,
        server: EmbeddedServer | None = None,
    ) -> None:
        self._owner = f"aqm-bench-{secrets.token_hex(4)}"
        self._requests: list[str] = []
        self._database = AsyncClientDatabase(
            vault_client,
            inventory_client,
            server=server,
            owner=self._owner,
            budget_caps=_CAPS,
            request_ids=self._request_id,
        )
        self._stocking = AsyncSmartInventory(
            inventory_client,
            owner=self._owner,
            budget_caps=_CAPS,
            clock=_an_hour_ago,
            request_ids=self._request_id,
        )
        # The same connection that the inventory's calls take.
        self._seam: Seam = make_seam(
            inventory_client, InventoryUnavailableError, "bench", confirming=UNCONFIRMED
        )

    async def aclose(self) -> None:
        """Closes the clients; the namespace was removed by then."""
        await self._database.aclose()

    async def measure(self, seconds: float, progress: Callable[[float], None]) -> Timings:
        """Measures whole rounds until so many seconds have passed, and at least one.

        Args:
            seconds: how long.
            progress: is told the seconds that have passed, between two rounds.

        Raises:
            CommandError: the namespace couldn't be removed.
            AQMDatabaseError: what the calls raise.
        """
        timings = Timings()
        try:
            # The first round is lost on connecting, and on scripts that the server doesn't know.
            await self._round(Timings())
            begin = perf_counter()
            passed = 0.0
            while not timings.ping or passed < seconds:
                await self._round(timings)
                passed = perf_counter() - begin
                progress(passed)
        finally:
            await self._clean()
        return timings

    async def _round(self, timings: Timings) -> None:
        await self._stocking.register_contact(_CONTACT, "BESTIE")
        for outcome in await self._stocking.store_keys(
            [_make_coin(number) for number in range(ROUND)]
        ):
            if isinstance(outcome, AQMDatabaseError):
                raise outcome
        for _ in range(ROUND):
            await _time_call(self._seam.read(("PING",)), timings.ping)
            await _time_call(
                self._database.inventory.select_coin(_CONTACT, "GOLD"), timings.select_coin
            )
        await self._remove()

    async def _clean(self) -> None:
        try:
            await self._remove()
        except AQMDatabaseError as error:
            raise CommandError(
                f"{error}; keys are left on the server: delete aqm:{{{self._owner}}}:* in database "
                f"{config.REDIS_INVENTORY_DB}"
            ) from error

    async def _remove(self) -> None:
        # By name: a search would walk over the user's own data, round after round.
        names = self._database.inventory.keys.of(_CONTACT)
        await self._seam.read(
            (
                "UNLINK",
                *(names.meta, names.used, *names.queues),
                *(names.row(_key_id(number)) for number in range(ROUND)),
                *(names.claims + request_id for request_id in self._requests),
            )
        )
        self._requests.clear()

    def _request_id(self) -> str:
        self._requests.append(new_request_id())
        return self._requests[-1]


def _an_hour_ago() -> int:
    # Coins wait before they're used, as a rule; one of the last 30 seconds costs a write more.
    return now_ms() - 3_600_000


def _key_id(number: int) -> str:
    return f"coin-{number}"


def _make_coin(number: int) -> NewCoin:
    public_key = os.urandom(config.COIN_SIZE_BYTES["GOLD"] - _SIGNATURE_BYTES)
    return NewCoin(_CONTACT, _key_id(number), "GOLD", public_key, os.urandom(_SIGNATURE_BYTES))


async def _time_call(call: Awaitable[Any], times: list[float]) -> None:
    begin = perf_counter()
    await call
    times.append((perf_counter() - begin) * 1000)
