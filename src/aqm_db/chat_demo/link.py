"""A person's link to the server."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from aqm_db import coins
from aqm_db.demo import DemoError
from aqm_db.minter import PublicHalf
from aqm_db.types import CoinCategory, NewCoin

from .envelope import Envelope, dump_envelope
from .published_coin import dump_coin, load_coin

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
    async def open(cls, path: str, name: str) -> AsyncGenerator[Self]:
        """Opens a link that is welcome; it hears of everything that happens from now on.

        Args:
            path: the server's unix socket.
            name: who it is.
        """
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
            session.ws_connect(_url_of("chat", name)) as socket,
        ):
            await socket.receive_json()
            yield cls(session, socket, name)

    async def introduce(self, identity: coins.PublicIdentity) -> None:
        """Says who this is.

        Raises:
            DemoError: somebody else has this name.
        """
        await self._ask("PUT", _url_of("people", self._name), msgspec.to_builtins(identity))

    async def publish(self, halves: Sequence[PublicHalf]) -> int:
        """Publishes coins; again, if nobody knows whether they arrived.

        Returns:
            How many of them were new to the server.

        Raises:
            DemoError: the server refused them, and took none.
        """
        answer = await self._ask(
            "POST", _url_of("coins", self._name), [dump_coin(half) for half in halves]
        )
        new: int = answer["new"]
        return new

    async def count(self) -> dict[str, int]:
        """How many of one's own coins nobody has claimed, by tier."""
        counts: dict[str, int] = await self._ask("GET", _url_of("coins", self._name))
        return counts

    async def claim(self, contact_id: str, tier: CoinCategory, count: int) -> list[NewCoin]:
        """Takes coins of a contact, which nobody else gets then: a replenisher's source."""
        answer = await self._ask(
            "POST", _url_of("coins", contact_id, tier, "claims"), {"count": count}
        )
        return [load_coin(contact_id, coin) for coin in answer]

    async def send(self, envelope: Envelope) -> None:
        """Sends a message; it's on its way for sure once ``accepted`` is heard."""
        await self._socket.send_json({"message": dump_envelope(envelope)})

    async def acknowledge(self, number: int) -> None:
        """Lets the server forget a delivery."""
        await self._socket.send_json({"acknowledged": number})

    async def read_frames(self) -> AsyncIterator[dict[str, Any]]:
        """What the server says.

        Raises:
            DemoError: it hung up.
        """
        async for frame in self._socket:
            yield frame.json()
        raise DemoError("the coin server hung up")

    async def _ask(self, method: str, url: URL, body: Any = None) -> Any:
        async with self._session.request(method, url, json=body) as response:
            if not response.ok:
                raise DemoError(f"the coin server: {await response.text()}")
            return await response.json()


def _url_of(*parts: str) -> URL:
    # A name may hold what means something in a url.
    return URL("/".join((_URL, *(quote(part, safe="") for part in parts))), encoded=True)
