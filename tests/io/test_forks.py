"""Processes that are forked: what belongs to the parent is left to it."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from aqm_db import AsyncSecureVault
from aqm_db._io.redispy.async_loops import get_channels
from aqm_db.errors import VaultUnavailableError
from tests.support.backends import REDIS_8, VALKEY_8, VALKEY_9, RunningServer, Servers
from tests.support.clusters import RunningCluster, RunningSentinels

Forked = Callable[..., dict[str, Any]]
PROGRAM = Path(__file__).parent.parent / "support" / "forking_program.py"


@pytest.fixture
def forked(measured: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Runs a program that forks, and says what came of it."""

    def run(url: str, face: str = "aio") -> dict[str, Any]:
        ran = subprocess.run(
            [sys.executable, "-W", "error", str(PROGRAM), face, url],
            capture_output=True,
            env=measured,
            timeout=100,
            check=False,
        )
        assert (ran.returncode, ran.stderr.decode()) == (0, "")
        told: dict[str, Any] = json.loads(ran.stdout)
        return told

    return run


@pytest.mark.parametrize("backend", [VALKEY_9, VALKEY_8, REDIS_8], ids=lambda it: it.name)
def test_a_child_has_a_connection_of_its_own(forked: Forked, backend: Any) -> None:
    """It gets its own coin, and ends: the parent gets its own, on the connection that it had."""
    with RunningServer(backend) as server:
        assert forked(f"unix://{server.socket_path}") == {
            "child": {"key_id": "carols"},
            "parent": {"key_id": "bobs"},
            "same connection": True,
        }


def test_a_child_of_an_embedded_database(forked: Forked, tmp_path: Path) -> None:
    """The server is the parent's; the child uses it, and leaves it running."""
    assert forked(f"embedded://{tmp_path}/db") == {
        "child": {"key_id": "carols"},
        "parent": {"key_id": "bobs"},
        "same connection": True,
    }


def test_a_child_of_a_database_in_memory(forked: Forked) -> None:
    """It has a copy of all there is."""
    assert forked("memory://") == {
        "child": {"key_id": "carols"},
        "parent": {"key_id": "bobs"},
        "same connection": True,
    }


@pytest.mark.parametrize("kind", ["cluster", "sentinels"])
def test_a_child_of_many_servers(forked: Forked, kind: str) -> None:
    """What their clients know of connections can't be left behind: the child is told so at once."""
    make: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "cluster": lambda: RunningCluster(VALKEY_9, with_replicas=False),
        "sentinels": lambda: RunningSentinels(VALKEY_9),
    }
    with make[kind]() as running:
        told = forked(running.url)
    assert "the process which forked this one" in told["child"].pop("error")
    assert told == {
        "child": {"outcome_unknown": False},
        "parent": {"key_id": "bobs"},
        "same connection": True,
    }


@pytest.mark.parametrize(
    ("way", "outcome"),
    [
        ("in flight", {"parent": {"key_id": "bobs"}, "left": 0}),
        ("idle", {"child": {"key_id": "carols"}, "same connection": True}),
        ("lent", {"parent": {"key_id": "bobs"}, "same connection": True}),
    ],
)
def test_what_a_child_must_leave_alone(forked: Forked, way: str, outcome: dict[str, Any]) -> None:
    """Calls in flight, connections that wait in a pool, and those that were given back to it."""
    with RunningServer(VALKEY_9) as server:
        assert forked(f"unix://{server.socket_path}", way) == outcome


@pytest.mark.asyncio
async def test_the_parents_loop_is_the_parents(servers: Servers) -> None:
    """A call of a copied task sends nothing; what the parent's user has closed is left alone."""
    client = servers[VALKEY_9].client(0)
    vault = AsyncSecureVault(client)
    assert await vault.exists("k") is False
    get_channels(client).leave_to_parent()
    with pytest.raises(VaultUnavailableError, match="which forked this one") as caught:
        await vault.exists("k")
    assert caught.value.outcome_unknown is False
    await client.aclose()
    lent = servers[VALKEY_9].client(0, max_connections=1)
    assert await AsyncSecureVault(lent).exists("k") is False
    await lent.aclose()
    get_channels(lent).leave_to_parent()


def test_a_child_of_the_synchronous_face(forked: Forked) -> None:
    """redis-py's synchronous pools tell the processes apart."""
    with RunningServer(VALKEY_9) as server:
        assert forked(f"unix://{server.socket_path}", "sync") == {
            "child": {"key_id": "carols"},
            "parent": {"key_id": "bobs"},
        }
