"""Processes that are forked: what belongs to the parent is left to it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from aqm_db import sync
from tests.backends import REDIS_8, VALKEY_8, VALKEY_9, RunningServer
from tests.clusters import RunningCluster, RunningSentinels

PROGRAM = Path(__file__).with_name("forking.py")


def forked(url: str) -> dict[str, Any]:
    """What came of a program that forked."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), url],
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert (ran.returncode, ran.stderr.decode()) == (0, "")
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


@pytest.mark.parametrize("backend", [VALKEY_9, VALKEY_8, REDIS_8], ids=lambda it: it.name)
def test_a_child_has_a_connection_of_its_own(backend: Any) -> None:
    """It gets its own coin, and ends: the parent gets its own, on the connection that it had."""
    with RunningServer(backend) as server:
        assert forked(f"unix://{server.socket_path}") == {
            "child": {"key_id": "carols"},
            "parent": {"key_id": "bobs"},
            "same connection": True,
        }


def test_a_child_of_an_embedded_database(tmp_path: Path) -> None:
    """The server is the parent's; the child uses it, and leaves it running."""
    assert forked(f"embedded://{tmp_path}/db") == {
        "child": {"key_id": "carols"},
        "parent": {"key_id": "bobs"},
        "same connection": True,
    }


def test_a_child_of_a_database_in_memory() -> None:
    """It has a copy of all there is."""
    assert forked("memory://") == {
        "child": {"key_id": "carols"},
        "parent": {"key_id": "bobs"},
        "same connection": True,
    }


@pytest.mark.parametrize("kind", ["cluster", "sentinels"])
def test_a_child_of_many_servers(kind: str) -> None:
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


def test_a_child_of_the_synchronous_face() -> None:
    """redis-py's synchronous pools tell the processes apart."""
    with (
        RunningServer(VALKEY_9) as server,
        sync.connect(f"unix://{server.socket_path}") as db,
    ):
        for contact_id in ("bob", "carol"):
            db.inventory.register_contact(contact_id, "MATE")
            db.inventory.store_key(contact_id, f"{contact_id}s", "BRONZE", b"p", b"s")
        child = os.fork()
        if child == 0:
            coin = db.inventory.select_coin("carol", "BRONZE")
            os._exit(coin is None or coin.key_id != "carols")
        assert os.waitpid(child, 0) == (child, 0)
        coin = db.inventory.select_coin("bob", "BRONZE")
        assert coin is not None
        assert coin.key_id == "bobs"
