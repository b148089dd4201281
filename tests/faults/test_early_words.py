"""What is said too early, of a disk that has nothing yet, or too late, of a changed password.

Each test of this file has its mutant beside it.
"""

import errno
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.exceptions import RedisError

from aqm_db import AsyncClientDatabase, AsyncSecureVault
from aqm_db._io import facts, fsync
from aqm_db._io.confirming import Confirming
from aqm_db._io.redispy import async_sources, sync_sources
from aqm_db.backup import _file
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    InvalidArgumentError,
    VaultUnavailableError,
)
from tests.api.test_fsync import PATIENT, admin_of, client_of, opened
from tests.faults.support.fault_table import Tally
from tests.faults.support.mutants import is_noticed_as
from tests.io.test_returns import WRONG, changing, select, unheard
from tests.support.backends import REDIS_8, VALKEY_8, VALKEY_9, Backend, RunningServer
from tests.support.diagnoses import socket_url
from tests.support.faces import ASYNC, Face
from tests.support.fsyncs import Fsyncs
from tests.support.samples import BOB, halves, sample_key
from tests.support.tokens import BrokenToken, Token

pytestmark = pytest.mark.asyncio

EARLY = "a change confirmed before the disk has it"
TOKEN = "a password that changes during a call"
NOTICED = (AssertionError, AQMDatabaseError, RedisError, KeyError, pytest.fail.Exception)
"""How a test fails that notices a mutant."""
EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")
CHANGES: tuple[Callable[[AsyncClientDatabase], Awaitable[Any]], ...] = (
    lambda db: db.vault.store_key(**sample_key("k", "GOLD")),
    lambda db: db.vault.burn_key("k"),
    lambda db: db.inventory.register_contact(BOB, "BESTIE"),
    lambda db: db.inventory.store_key(BOB, "c1", "GOLD", *halves("GOLD")),
    lambda db: db.inventory.select_coin(BOB, "GOLD"),
    lambda db: db.inventory.set_contact_priority(BOB, "MATE"),
    lambda db: db.inventory.forget_contact(BOB),
)
"""One after the other, changes of each kind."""


async def count_unsynced(db: AsyncClientDatabase, fsyncs: Fsyncs) -> int:
    """How many changes were called confirmed before the disk had them."""
    unsynced = 0
    for change in CHANGES:
        fsyncs.start()
        await change(db)
        unsynced += not fsyncs.has_run()
    return unsynced


async def test_an_embedded_database(face: Face, tmp_path: Path, tally: Tally) -> None:
    """Another process started the server, and asks for nothing."""
    directory = tmp_path / uuid4().hex
    with EmbeddedServer.open(directory) as server, admin_of(server.socket_path) as admin:
        fsyncs = Fsyncs(admin)
        async with opened(face, f"embedded://{directory}", **PATIENT) as db:
            unsynced = await count_unsynced(db, fsyncs)
            tally.add(EARLY, runs=len(CHANGES), wrong=unsynced)
            await db.vault.store_key(**sample_key("k2", "GOLD"))
            admin.config_set("appendfsync", "everysec")
            fsyncs.start()
            await db.vault.burn_key("k2")
            tally.add(EARLY, wrong=int(not fsyncs.has_run()))


@pytest.mark.parametrize("kind", [VALKEY_9, VALKEY_8, REDIS_8], ids=lambda backend: backend.name)
async def test_a_server_of_ones_own(face: Face, kind: Backend, tally: Tally) -> None:
    """It's refused, and each change of a client of one's own raises, unless the disk has it."""
    with RunningServer(kind, *EVERYSEC) as server, server.sync_client(1) as admin:
        fsyncs = Fsyncs(admin)

        async def store(vault: AsyncSecureVault, key_id: str) -> None:
            fsyncs.start()
            await vault.store_key(**sample_key(key_id, "GOLD"))
            tally.add(EARLY, wrong=int(not fsyncs.has_run()))

        async with client_of(face, server) as client:
            vault = face.vault(client, **PATIENT)
            if kind is REDIS_8:
                async with opened(face, socket_url(server), **PATIENT) as db:
                    await store(db.vault, "k1")
                await store(vault, "k2")
                return
            with pytest.raises(InvalidArgumentError, match="^confirm_fsync: "):
                async with opened(face, socket_url(server), **PATIENT) as db:
                    await store(db.vault, "k1")
            with pytest.raises(VaultUnavailableError) as caught:
                await store(vault, "k2")
            tally.add(EARLY, runs=2, wrong=int(not caught.value.outcome_unknown))


@pytest.mark.parametrize("refusal", [WRONG, None], ids=["refused", "hung_up"])
async def test_a_password_that_is_not_taken(
    face: Face, refusal: bytes | None, tally: Tally
) -> None:
    """The reply counts; the next call says what is wrong, and no task does."""
    with unheard():
        async with changing(face, Token("new")) as (inventory, server):
            server.refusal = refusal
            lost = 0 if await select(inventory) == "k1" else 1
            server.refusal = WRONG
            with pytest.raises(AccessDeniedError):
                await select(inventory)
            tally.add(TOKEN, runs=2, lost=lost)


async def test_a_password_that_can_not_be_read(face: Face, tally: Tally) -> None:
    """The same, whatever somebody's own class raises."""
    async with changing(face, BrokenToken(KeyError("no password"))) as (inventory, _):
        tally.add(TOKEN, lost=0 if await select(inventory) == "k1" else 1)


# Mutants ---------------------------------------------------------------------------------------


async def is_noticed(mutant: pytest.MonkeyPatch, test: Callable[[], Awaitable[None]]) -> None:
    """Makes sure that a test fails with a mutant, and passes without it."""
    await is_noticed_as(NOTICED, mutant, test)


@pytest.mark.parametrize("kind", [VALKEY_9, VALKEY_8], ids=lambda backend: backend.name)
async def test_a_mutant_that_believes_any_server(
    face: Face, kind: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Valkey's word counts with everysec: test_a_server_of_ones_own."""
    monkeypatch.setattr(facts.Facts, "waits_for_fsync", True)
    await is_noticed(monkeypatch, partial(test_a_server_of_ones_own, face, kind, Tally()))


async def test_a_mutant_that_asks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server was set to when it was opened is taken to stay: test_an_embedded_database."""
    monkeypatch.setattr(Confirming, "is_embedded", False)
    await is_noticed(monkeypatch, partial(test_an_embedded_database, ASYNC, tmp_path, Tally()))


async def test_a_mutant_that_sets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded server stays as it is: test_an_embedded_database."""
    monkeypatch.setattr(fsync, "SET_ALWAYS", ("PING",))
    await is_noticed(monkeypatch, partial(test_an_embedded_database, ASYNC, tmp_path, Tally()))


@pytest.mark.parametrize("refusal", [WRONG, None], ids=["refused", "hung_up"])
async def test_a_mutant_that_gives_back_plainly(
    face: Face, refusal: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What giving a connection back raises is raised: test_a_password_that_is_not_taken."""
    monkeypatch.setattr(async_sources, "give_back_async", _give_back_async)
    monkeypatch.setattr(sync_sources, "give_back", _give_back)
    await is_noticed(
        monkeypatch, partial(test_a_password_that_is_not_taken, face, refusal, Tally())
    )


async def test_a_mutant_that_takes_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup replaces what is there, where there are no links: write_over."""

    async def write_over() -> None:
        path = tmp_path / "alice.backup"
        path.write_bytes(b"precious")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "link", _refuse)
            with pytest.raises(InvalidArgumentError, match="File exists"):
                _file.write_records(path, {}, [])
        assert path.read_bytes() == b"precious"

    monkeypatch.setattr(_file, "_rename", Path.replace)
    await is_noticed(monkeypatch, write_over)


def _give_back(pool: Any, connection: Any) -> None:
    pool.release(connection)


async def _give_back_async(pool: Any, connection: Any) -> None:
    await pool.release(connection)


def _refuse(*_: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")
