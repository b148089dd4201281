"""A person's link to the server."""

from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from aqm_db import coins
from aqm_db.demo import DemoError
from aqm_db.minter import PublicHalf
from aqm_db.types import CoinCategory, NewCoin

from .coin_json import to_coin, to_json
from .envelope import Envelope

# Over a unix socket there's no host, but a url has one.
_URL = "http://server"


class Link:
    """What a person asks of the server, and what they hear from it.

    Args:
        session: for requests.
        socket: the websocket.
        name: who it is.
    """

    def __init__(
        self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, name: str
    ) -> None:
        self._session = session
        self._socket = socket
        self._name = name

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: str, name: str) -> AsyncGenerator[Self]:
        """A link that is welcome; it hears of everything that happens from now on.

        Args:
            path: the server's unix socket.
            name: who it is.
        """
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
            session.ws_connect(_url("chat", name)) as socket,
        ):
            await socket.receive_json()
            yield cls(session, socket, name)

    async def introduce(self, identity: coins.PublicIdentity) -> None:
        """Says who this is.

        Raises:
            DemoError: somebody else has this name.
        """
        keys = [b64encode(key).decode() for key in (identity.ed25519, identity.ml_dsa_44)]
        await self._ask("PUT", _url("people", self._name), keys)

    async def publish(self, halves: Sequence[PublicHalf]) -> int:
        """Publishes coins; again, if nobody knows whether they arrived.

        Returns:
            How many of them were new to the server.

        Raises:
            DemoError: the server refused them, and took none.
        """
        answer = await self._ask(
            "POST", _url("coins", self._name), [to_json(half) for half in halves]
        )
        new: int = answer["new"]
        return new

    async def claim(self, contact_id: str, tier: CoinCategory, count: int) -> list[NewCoin]:
        """Takes coins of a contact, which nobody else gets then: a replenisher's source."""
        answer = await self._ask(
            "POST", _url("coins", contact_id, tier, "claims"), {"count": count}
        )
        return [to_coin(contact_id, coin) for coin in answer]

    async def send(self, envelope: Envelope) -> None:
        """Sends a message; it's on its way for sure once ``accepted`` is heard."""
        await self._socket.send_json({"message": envelope.as_json()})

    async def acknowledge(self, number: int) -> None:
        """Lets the server forget a delivery."""
        await self._socket.send_json({"acknowledged": number})

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        """What the server says.

        Raises:
            DemoError: it hung up.
        """
        async for frame in self._socket:
            yield frame.json()
        raise DemoError("the coin server hung up")

    async def _ask(self, method: str, url: URL, body: Any) -> Any:
        async with self._session.request(method, url, json=body) as response:
            if not response.ok:
                raise DemoError(f"the coin server: {await response.text()}")
            return await response.json()


def _url(*parts: str) -> URL:
    # A name may hold what means something in a url.
    return URL("/".join((_URL, *(quote(part, safe="") for part in parts))), encoded=True)
