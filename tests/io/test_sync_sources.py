"""Where the synchronous seam borrows its connections, and what becomes of spoiled ones."""

import socket
from pathlib import Path
from typing import Any

import pytest
import redis
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from aqm_db import SecureVault, config, sync
from aqm_db._io.redispy import private_parts
from aqm_db.errors import AccessDeniedError, UnavailableError, VaultUnavailableError
from tests.io.test_sync_seam import DB, RETRIES, WRONGPASS, Refusing, served
from tests.support.backends import VALKEY_9, RunningServer, Servers


@pytest.fixture
def server(servers: Servers) -> RunningServer:
    """A real server."""
    return servers[VALKEY_9]


def client_of(server: RunningServer, **options: Any) -> Redis:
    """A client that never tries again."""
    once = Retry(NoBackoff(), 0)
    return Redis(unix_socket_path=str(server.socket_path), db=DB, retry=once, **options)


def test_a_connection_that_the_server_has_closed(server: RunningServer) -> None:
    """It's opened anew before anything is sent."""
    with client_of(server) as client, server.sync_client(DB) as other:
        vault, number = SecureVault(client), client.client_id()
        assert vault.exists("k") is False
        assert other.client_kill_filter(_id=str(number)) == 1
        assert vault.exists("k") is False
        assert client.client_id() != number


def test_a_client_that_is_made_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """It's closed, where no event loop runs, too."""
    monkeypatch.setattr(config, "REDIS_RETRY_DELAY", 0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(VaultUnavailableError):
            sync.create_vault_client(host="127.0.0.1", port=probe.getsockname()[1])


def test_an_interrupt_while_a_connection_is_looked_at(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool has it back."""

    def interrupt(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    with client_of(server, max_connections=1) as client:
        vault = SecureVault(client)
        assert vault.exists("k") is False
        with monkeypatch.context() as patched:
            patched.setattr(redis.UnixDomainSocketConnection, "can_read", interrupt)
            with pytest.raises(KeyboardInterrupt):
                vault.exists("k")
        assert vault.exists("k") is False


@pytest.mark.parametrize(
    ("line", "error", "connections"),
    [
        (WRONGPASS, AccessDeniedError, 1 + RETRIES),
        (b"-LOADING not yet\r\n", VaultUnavailableError, 1 + RETRIES),
    ],
)
def test_a_pool_that_connects_by_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: bytes,
    error: type[Exception],
    connections: int,
) -> None:
    """It does so by its client's policy, and then nothing is tried again."""
    monkeypatch.setattr(private_parts, "IDLE", private_parts.IDLE._replace(name="gone"))
    server = Refusing(line, 0)
    policy = Retry(NoBackoff(), RETRIES)
    with (
        served(server, tmp_path / "s") as path,
        Redis(unix_socket_path=str(path), protocol=2, client_name="x", retry=policy) as client,
        pytest.raises(error),
    ):
        SecureVault(client).exists("k")
    assert server.connections == connections


def test_a_pool_that_connects_by_itself_and_is_exhausted(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It's said so."""
    monkeypatch.setattr(private_parts, "IDLE", private_parts.IDLE._replace(name="gone"))
    with client_of(server, max_connections=1) as client:
        pool: Any = client.connection_pool
        taken = pool.get_connection()
        with pytest.raises(UnavailableError, match="Too many connections"):
            SecureVault(client).exists("k")
        pool.release(taken)
        assert SecureVault(client).exists("k") is False
