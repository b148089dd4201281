"""The coin server: takes coins and hands out each once, and relays messages.

Messages go over a websocket for each person, and stay until their recipient acknowledges them: who
was killed gets them again. The frames of ``/chat/{name}`` are JSON:

===================================== ========================================================
from the person                       to the person
===================================== ========================================================
``{"message": envelope}``             ``{"accepted": message_id}``: it's kept for the recipient
``{"acknowledged": number}``
..                                    ``{"welcome": name}``: before all others
..                                    ``{"delivery": number, "envelope": envelope}``
..                                    ``{"published": owner}``: there are new coins
===================================== ========================================================
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec
from aiohttp import web

from aqm_db import coins
from aqm_db.errors import InvalidArgumentError, InvalidCoinError

from .mallory import intercept_message
from .published_coin import load_coin, verify_coin
from .store import Store

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@asynccontextmanager
async def serve_chat(socket: str, database: Path) -> AsyncGenerator[None]:
    """Serves while the block runs.

    Args:
        socket: the path of the unix socket to listen on.
        database: a file that isn't there yet.
    """
    # SQLite blocks, and a connection serves one call at a time: so it has a thread of its own.
    with ThreadPoolExecutor(1) as thread:
        server = Server(Store(database), thread)
        runner = web.AppRunner(server.make_app())
        await runner.setup()
        try:
            await web.UnixSite(runner, socket).start()
            yield
        finally:
            await runner.cleanup()
            await server.aclose()


class Server:
    """What the server does for each request.

    Args:
        store: what it keeps.
        thread: where calls of the store run.
    """

    def __init__(self, store: Store, thread: ThreadPoolExecutor) -> None:
        self._store = store
        self._thread = thread
        self._people: dict[str, coins.PublicIdentity] = {}
        self._connections: list[_Connection] = []
        self._messages: Counter[str] = Counter()

    def make_app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.add_routes(
            [
                web.put("/people/{name}", self.introduce),
                web.post("/coins/{name}", self.publish),
                web.get("/coins/{name}", self.count),
                web.post("/coins/{name}/{tier}/claims", self.claim),
                web.get("/chat/{name}", self.chat),
            ]
        )
        app.on_shutdown.append(self._hang_up)
        return app

    async def introduce(self, request: web.Request) -> web.Response:
        """Takes somebody's public identity, and nobody else's in its place."""
        identity = msgspec.convert(await request.json(), coins.PublicIdentity)
        if self._people.setdefault(request.match_info["name"], identity) != identity:
            raise web.HTTPConflict(text="somebody else has this name")
        return web.json_response({})

    async def publish(self, request: web.Request) -> web.Response:
        """Takes coins, if all of them are by whom they are said to be."""
        owner = request.match_info["name"]
        identity = self._people.get(owner)
        if identity is None:
            raise web.HTTPNotFound(text="refused: nobody has this name")
        published = await request.json()
        try:
            for coin in published:
                verify_coin(load_coin(owner, coin), identity)
        except (InvalidArgumentError, InvalidCoinError) as error:
            raise web.HTTPBadRequest(text=f"refused: {type(error).__name__}") from error
        new = await self._run(self._store.publish, owner, published)
        if new:
            await self._tell_all({"published": owner})
        return web.json_response({"new": new})

    async def count(self, request: web.Request) -> web.Response:
        """Tells how many coins of a person are left, by tier."""
        return web.json_response(await self._run(self._store.count, request.match_info["name"]))

    async def claim(self, request: web.Request) -> web.Response:
        """Hands out coins of a person and tier, at most as many as are asked for."""
        owner, tier = request.match_info["name"], request.match_info["tier"]
        count = (await request.json())["count"]
        return web.json_response(await self._run(self._store.claim, owner, tier, count))

    async def chat(self, request: web.Request) -> web.WebSocketResponse:
        """Somebody's websocket, until they hang up."""
        connection = _Connection(request.match_info["name"])
        await connection.socket.prepare(request)
        self._connections.append(connection)
        try:
            # Who was killed doesn't hang up: then a frame finds nobody.
            with suppress(ConnectionResetError):
                await connection.socket.send_json({"welcome": connection.name})
                async with asyncio.TaskGroup() as group:
                    delivering = group.create_task(self._deliver(connection))
                    async for frame in connection.socket:
                        await self._take_frame(connection, frame.json())
                    delivering.cancel()
        finally:
            self._connections.remove(connection)
        return connection.socket

    async def aclose(self) -> None:
        """Closes the store."""
        await self._run(self._store.close)

    async def _take_frame(self, connection: "_Connection", frame: dict[str, Any]) -> None:
        if "acknowledged" in frame:
            await self._run(self._store.acknowledge, connection.name, frame["acknowledged"])
            return
        envelope = frame["message"]
        envelopes = intercept_message(self._messages[connection.name], envelope)
        self._messages[connection.name] += 1
        await self._run(self._store.post, envelope["recipient"], envelopes)
        await connection.send({"accepted": envelope["message_id"]})
        for other in self._connections:
            if other.name == envelope["recipient"]:
                other.mail.set()

    async def _deliver(self, connection: "_Connection") -> None:
        after = 0
        while True:
            connection.mail.clear()
            for number, envelope in await self._run(
                self._store.list_waiting, connection.name, after
            ):
                await connection.send({"delivery": number, "envelope": envelope})
                after = number
            await connection.mail.wait()

    async def _tell_all(self, frame: dict[str, Any]) -> None:
        for connection in tuple(self._connections):
            await connection.send(frame)

    async def _hang_up(self, _: web.Application) -> None:
        for connection in tuple(self._connections):
            await connection.socket.close()

    async def _run(
        self,
        call: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Result:
        return await asyncio.wrap_future(self._thread.submit(call, *arguments, **options))


@dataclass(eq=False, slots=True)
class _Connection:
    """Somebody who is there.

    Attributes:
        name: who it is.
        socket: their websocket.
        mail: set when there may be messages for them.
    """

    name: str
    socket: web.WebSocketResponse = field(
        default_factory=lambda: web.WebSocketResponse(compress=False)
    )
    mail: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, frame: dict[str, Any]) -> None:
        """Sends a frame; who was killed doesn't hang up, and gets it again."""
        with suppress(ConnectionResetError):
            await self.socket.send_json(frame)
