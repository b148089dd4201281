"""A connection that goes back to its pool: its reply counts, whatever comes of that."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import pytest
import pytest_asyncio
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.event import (
    AfterConnectionReleasedEvent,
    AsyncAfterConnectionReleasedEvent,
    AsyncEventListenerInterface,
    EventDispatcher,
    EventListenerInterface,
)
from redis.exceptions import RedisError, TimeoutError as RedisTimeoutError
from redis.retry import Retry

from aqm_db import AsyncSmartInventory, close_all
from aqm_db.errors import AccessDeniedError
from tests.support.faces import ASYNC, Face
from tests.support.peers import ScriptedServer, answer_select, listening_on_loopback
from tests.support.samples import BOB
from tests.support.tokens import BrokenToken, Provider, Token

pytestmark = pytest.mark.asyncio

COIN = (b"k1", b"BRONZE", b"p", b"s", b"1800000000000", None, b"1800000000000")
WRONG = b"-WRONGPASS invalid username-password pair\r\n"
PATIENCE = 60.0


@contextmanager
def unheard() -> Generator[None]:
    """Makes sure that no task ends with an error of redis-py's, of which nobody would hear."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Any]] = []

    def make_task(
        loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        tasks.append(asyncio.Task(work, loop=loop, **options))
        return tasks[-1]

    loop.set_task_factory(cast("Any", make_task))
    yield
    loop.set_task_factory(None)
    ended = [task for task in tasks if task.done() and not task.cancelled()]
    assert not [task for task in ended if isinstance(task.exception(), RedisError)]


@pytest_asyncio.fixture(autouse=True)
async def _unheard() -> AsyncGenerator[None]:
    """The same for each test."""
    with unheard():
        yield


class Login(ScriptedServer):
    """A server of one coin after another, whose password changes.

    Attributes:
        accepted: the password that it takes.
        during: runs once, when it's asked for a coin.
        refusal: what it says of any other password; None hangs up.
    """

    def __init__(self, during: Callable[[], object]) -> None:
        super().__init__(self._answer)
        self.accepted = b"old"
        self.during: Callable[[], object] = during
        self.refusal: bytes | None = WRONG

    def logins(self) -> list[bytes]:
        """The passwords that it was sent, in order."""
        return [request[-1] for request in self.requests if request[0] == b"AUTH"]

    def _answer(self, command: list[bytes]) -> bytes | None:
        if command[0] == b"AUTH":
            return b"+OK\r\n" if command[-1] == self.accepted else self.refusal
        during, self.during = self.during, lambda: None
        during()
        return answer_select(command, *COIN)


@asynccontextmanager
async def selling(
    face: Face, port: int, pool: Any = None, **options: Any
) -> AsyncGenerator[AsyncSmartInventory]:
    """An inventory over a pool of one connection."""
    is_async = face is ASYNC
    package: Any = redis.asyncio if is_async else redis
    policy = (AsyncRetry if is_async else Retry)(NoBackoff(), 1)
    connections = (pool or package.ConnectionPool)(
        port=port,
        protocol=2,
        max_connections=1,
        retry=policy,
        **options,
    )
    provider = options.get("credential_provider")
    client = package.Redis(connection_pool=connections, credential_provider=provider)
    yield face.inventory(client)
    if is_async:
        await close_all(client, client)
        await connections.aclose()
    else:
        connections.close()


@asynccontextmanager
async def changing(
    face: Face, token: Token, pool: Any = None
) -> AsyncGenerator[tuple[AsyncSmartInventory, Login]]:
    """The same, where a token is replaced while the first coin is selected."""
    provider = Provider("old")

    def during() -> None:
        provider.password = "new"
        provider.change(token)

    server = Login(during)
    async with (
        listening_on_loopback(server, None) as port,
        selling(face, port, pool, credential_provider=provider) as inventory,
    ):
        yield inventory, server


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the library logged; redis-py has its own to say of providers."""
    return [record.msg for record in caplog.records if record.name == "aqm_db"]


async def select(inventory: AsyncSmartInventory) -> str:
    """The id of the coin that comes."""
    async with asyncio.timeout(PATIENCE):
        coin = await inventory.select_coin(BOB, "BRONZE")
    assert coin is not None
    return coin.key_id


async def test_a_new_token(face: Face) -> None:
    """It's what the server is told before the next call."""
    async with changing(face, Token("new")) as (inventory, server):
        await it_is_told(inventory, server)


async def test_a_new_token_in_a_pool_that_waits() -> None:
    """The same; redis-py's synchronous one can't be told of any."""
    pool = redis.asyncio.BlockingConnectionPool
    async with changing(ASYNC, Token("new"), pool) as (inventory, server):
        await it_is_told(inventory, server)


def accept_later(server: Login) -> None:
    """Has the server take the new password from the first call on."""
    change = server.during

    def during() -> None:
        server.accepted = b"new"
        change()

    server.during = during


async def it_is_told(inventory: AsyncSmartInventory, server: Login) -> None:
    """A server that takes the new password from the first call on is sent it."""
    accept_later(server)
    for _ in range(3):
        assert await select(inventory) == "k1"
    assert (server.clients, server.logins()) == (1, [b"old", b"new"])


@pytest.mark.parametrize("refusal", [WRONG, None], ids=["refused", "hung_up"])
async def test_a_new_token_that_the_server_does_not_take(
    face: Face, refusal: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The coin is its caller's; the next one is told that the password is wrong."""
    async with changing(face, Token("new")) as (inventory, server):
        server.refusal = refusal
        assert await select(inventory) == "k1"
        server.refusal = WRONG
        for _ in range(2):
            with pytest.raises(AccessDeniedError):
                await select(inventory)
        server.accepted = b"new"
        assert await select(inventory) == "k1"
    assert logged(caplog) == ["login_not_renewed"]


async def test_a_token_that_can_not_be_read(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    """The coin is its caller's; what is told of it holds nothing of the token."""
    async with changing(face, BrokenToken(KeyError("no password"))) as (inventory, _):
        assert await select(inventory) == "k1"
    assert logged(caplog) == ["login_not_renewed"]


class InterruptionError(BaseException):
    """What a signal's handler raises."""


async def test_an_interrupted_login(face: Face) -> None:
    """What is still on its way is nobody's reply."""
    error = asyncio.CancelledError() if face is ASYNC else InterruptionError()
    async with changing(face, BrokenToken(error)) as (inventory, server):
        accept_later(server)
        if face is ASYNC:
            # It's a task of its own that is cancelled, where an event loop ends.
            assert await select(inventory) == "k1"
        else:
            with pytest.raises(InterruptionError):
                await select(inventory)
        assert await select(inventory) == "k1"
        assert (server.clients, server.logins()) == (2, [b"old", b"new"])


async def test_a_token_that_changes_before_the_link_fails(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that is gone isn't made anew to be told of it, but for the call."""
    provider = Provider("old")
    server = Login(lambda: None)
    answer = server.answer

    def fail_once(command: list[bytes]) -> bytes | None:
        if command[0] == b"AUTH":
            return answer(command)
        server.answer, server.accepted = answer, b"new"
        provider.password = "new"
        provider.change(Token("new"))
        return None

    server.answer = fail_once
    async with (
        listening_on_loopback(server, None) as port,
        selling(face, port, credential_provider=provider) as inventory,
    ):
        assert await select(inventory) == "k1"
    assert (server.clients, server.logins()[:2]) == (2, [b"old", b"new"])
    assert logged(caplog) == []


class Listener(EventListenerInterface):
    """Fails when a connection goes back."""

    def listen(self, event: object) -> None:
        """Fails."""
        raise LookupError(str(event))


class AsyncListener(AsyncEventListenerInterface):
    """The same."""

    async def listen(self, event: object) -> None:
        """Fails."""
        raise LookupError(str(event))


async def test_a_listener_that_fails(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    """What somebody has run when a connection goes back costs no reply, either."""
    dispatcher = EventDispatcher()
    dispatcher.register_listeners(
        {
            AfterConnectionReleasedEvent: [Listener()],
            AsyncAfterConnectionReleasedEvent: [AsyncListener()],
        }
    )
    server = Login(lambda: None)
    async with (
        listening_on_loopback(server, None) as port,
        selling(face, port, event_dispatcher=dispatcher) as inventory,
    ):
        assert await select(inventory) == "k1"
        assert await select(inventory) == "k1"
    assert set(logged(caplog)) == {"login_not_renewed"}


class Reluctant(redis.asyncio.ConnectionPool):
    """One whose peers don't take leave in time."""

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002
        """Closes its connections, and is told so by nobody."""
        await super().disconnect(inuse_connections)
        raise RedisTimeoutError("Timed out closing connection after 5")


async def test_a_peer_that_does_not_take_leave() -> None:
    """A client is closed all the same, from its own event loop or from another one."""
    server = Login(lambda: None)
    async with listening_on_loopback(server, None) as port:
        client = redis.asyncio.Redis.from_pool(Reluctant(port=port, protocol=2, max_connections=1))
        assert await select(AsyncSmartInventory(client)) == "k1"
        await close_all(client, client)
