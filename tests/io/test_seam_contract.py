"""The seams of the library, and one over another client library, keep the contract."""

import importlib
import sys
from collections.abc import Iterator
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest
import redis
import redis.asyncio
import valkey
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from aqm_db import AsyncClientDatabase, AsyncSecureVault, AsyncSmartInventory, sync
from aqm_db._io.confirming import UNCONFIRMED
from aqm_db._io.driving import drive
from aqm_db._io.redispy.clients import close_client, make_seam, wrap_client
from aqm_db._io.seam import ClientSeam, Seam
from aqm_db.errors import InvalidArgumentError, VaultUnavailableError
from aqm_db.testing import Address, ClientSeamContract, SeamContract, SeamSettings
from aqm_db.testing._relay import Relay
from tests.conftest import VAULT_DB
from tests.support.backends import REDIS_8, VALKEY_9, Servers
from tests.support.samples import sample_key
from tests.support.valkey_seam import ValkeySeam


class TestAsyncSeam(ClientSeamContract):
    """The one over ``redis.asyncio``."""

    clients: ClassVar[dict[Seam, redis.asyncio.Redis]] = {}

    async def make_seam(self, settings: SeamSettings) -> ClientSeam:
        """See :class:`ClientSeamContract`."""
        retry = AsyncRetry(NoBackoff(), settings.retries)
        client = redis.asyncio.Redis(**options_of(settings), retry=retry)
        seam = make_seam(client, settings.unavailable, "test", confirming=UNCONFIRMED)
        self.clients[seam] = client
        return seam

    async def close_seam(self, seam: Seam) -> None:
        """See :class:`ClientSeamContract`."""
        await seam.aclose()
        await close_client(self.clients.pop(seam))


class TestSyncSeam(ClientSeamContract):
    """The one over ``redis``."""

    suspends = False
    clients: ClassVar[dict[Seam, redis.Redis]] = {}

    async def make_seam(self, settings: SeamSettings) -> ClientSeam:
        """See :class:`ClientSeamContract`."""
        retry = Retry(NoBackoff(), settings.retries)
        client = redis.Redis(**options_of(settings), retry=retry)
        wrapped = wrap_client(client, "test")
        seam = make_seam(wrapped, settings.unavailable, "test", confirming=UNCONFIRMED)
        self.clients[seam] = client
        return seam

    async def close_seam(self, seam: Seam) -> None:
        """See :class:`ClientSeamContract`."""
        self.clients.pop(seam).close()


class TestValkeySeam(ClientSeamContract):
    """One over ``valkey``."""

    suspends = False

    async def make_seam(self, settings: SeamSettings) -> ClientSeam:
        """See :class:`ClientSeamContract`."""
        client = valkey.Valkey(**options_of(settings))
        return ValkeySeam(client, settings.unavailable, retries=settings.retries)


class TestAnotherServer(TestAsyncSeam):
    """The same at a server of Redis, which listens on a port."""

    @pytest.fixture
    def server_address(self, servers: Servers) -> Iterator[Address]:
        """See :class:`ClientSeamContract`."""
        with Relay(str(servers[REDIS_8].socket_path)) as server:
            yield "127.0.0.1", server.port


def test_the_synchronous_face_takes_a_seam(servers: Servers) -> None:
    """One whose coroutines don't suspend, in the place of a client."""
    path = str(servers[VALKEY_9].socket_path)
    with valkey.Valkey(unix_socket_path=path, db=VAULT_DB) as client:
        vault = sync.SecureVault(ValkeySeam(client, VaultUnavailableError), owner="seam")
        assert vault.store_key(**sample_key("k", "GOLD")) is True
        assert vault.burn_key("k") is True
        client.flushdb()


def options_of(settings: SeamSettings) -> dict[str, Any]:
    """What a client is made with."""
    return {
        "host": "127.0.0.1",
        "port": settings.port,
        "username": settings.username,
        "password": settings.password,
        "socket_timeout": settings.timeout,
    }


def test_a_class_that_makes_no_seam() -> None:
    """It fails, where a test runner would pass over an abstract one in silence."""
    settings: Any = None
    with pytest.raises(NotImplementedError, match=r"^SeamContract has no make_seam$"):
        drive(SeamContract().make_seam(settings))


def test_a_database_takes_clients() -> None:
    """Whose connections it closes; a seam is for a vault and for an inventory."""
    seam = some_seam()
    with pytest.raises(
        TypeError, match=r"^client: ClientDatabase takes a redis.Redis, not SyncSeam$"
    ):
        sync.ClientDatabase(seam, seam)
    with pytest.raises(
        TypeError, match=r"^client: AsyncClientDatabase takes a redis.asyncio.Redis, "
    ):
        AsyncClientDatabase(seam, seam)


@pytest.mark.parametrize("options", [{"confirm_replicas": 1}, {"confirm_fsync": True}])
@pytest.mark.parametrize(
    "part", [AsyncSecureVault, AsyncSmartInventory, sync.SecureVault, sync.SmartInventory]
)
def test_a_seam_confirms_by_itself(part: Any, options: dict[str, Any]) -> None:
    """Who wants a change confirmed is told that nobody here would see to it."""
    with pytest.raises(InvalidArgumentError, match=r"^confirm_replicas: .* a seam confirms by its"):
        part(some_seam(), **options)


@pytest.mark.parametrize("imposter", [Mock(), type(Mock()), ValkeySeam])
@pytest.mark.parametrize("part", [AsyncSecureVault, AsyncSmartInventory])
def test_what_is_no_seam(part: Any, imposter: Any) -> None:
    """Whatever has everything, or is only a class, is refused before the first call."""
    with pytest.raises(TypeError, match=rf"^client: {part.__name__} takes a redis.asyncio.Redis"):
        part(imposter)


def test_without_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "pytest", None)
    monkeypatch.delitem(sys.modules, "aqm_db.testing")
    with pytest.raises(ImportError, match=r"^aqm_db\.testing needs .*'aqm-db\[testing\]'$"):
        importlib.import_module("aqm_db.testing")


def some_seam() -> Any:
    """A seam that nobody asks."""
    client = wrap_client(redis.Redis(), "test")
    return make_seam(client, VaultUnavailableError, "test", confirming=UNCONFIRMED)
