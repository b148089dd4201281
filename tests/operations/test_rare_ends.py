"""What ends in its middle, or is changed by others meanwhile."""

import asyncio
import pickle
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aqm_db import config, connect, gc
from aqm_db._io.confirming import UNCONFIRMED
from aqm_db._io.seam import SCAN_COUNT, Call, Undo
from aqm_db._lua.loader import Code, Script
from aqm_db._model.keys import Keys
from aqm_db._operations import Scope, batch, contacts
from aqm_db._operations.batch import TakeBack, run_batch
from aqm_db._operations.owners import scan_shares
from aqm_db._operations.reservations import Reservations
from aqm_db.errors import (
    AccessDeniedError,
    ContactNotRegisteredError,
    CorruptEntryError,
    SchemaVersionError,
    VaultUnavailableError,
)
from tests.support.backends import VALKEY_9, RunningServer

pytestmark = pytest.mark.asyncio
CALL = Call(Script("inventory/release"), (), ())
COUNTS = [Code.OK, b"BESTIE", 1, 2, 3]
"""What a summary of one contact says."""


class Told:
    """A seam that gives one answer after the other, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    async def run(self, *_: object) -> Any:
        """The next answer."""
        answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    run_all = run
    read = run


def scope_of(*answers: Any) -> Scope:
    """What operations are made with, over such a seam."""
    return Scope(cast("Any", Told(*answers)), Keys("alice"), None, lambda: "r", UNCONFIRMED)


def reservations_over(*answers: Any) -> Reservations:
    """Those of an inventory over such a seam."""
    budgeted = SimpleNamespace(
        scope=scope_of(*answers), budget_caps=config.BUDGET_CAPS, budget_bytes=9_000
    )
    return Reservations(cast("Any", budgeted))


async def test_a_link_that_fails_while_some_go_on() -> None:
    """Those that have come to their end are told as they ended."""
    lost = VaultUnavailableError("gone")
    seam: Any = Told([[Code.OK, 7], [Code.UNFINISHED]], lost)

    def finish(_: str, reply: Any) -> int:
        if isinstance(reply, VaultUnavailableError):
            raise reply
        return int(reply[1])

    assert await run_batch(seam, "ab", lambda _: CALL, finish) == [7, lost]


async def test_what_can_not_be_taken_back_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The cancellation goes on all the same."""
    monkeypatch.setattr(batch, "AT_ONCE", 1)
    seam: Any = Told([[Code.OK]], asyncio.CancelledError(), VaultUnavailableError("gone"))

    def undo(_: str) -> Undo:
        return lambda _: None

    def build(_: str) -> Call:
        return CALL

    take_back = TakeBack(undo, build, 1000)
    with pytest.raises(asyncio.CancelledError):
        await run_batch(seam, "ab", lambda _: CALL, lambda item, _: item, take_back)
    [record] = [each for each in caplog.records if each.msg == "outcome_unknown"]
    assert record.__dict__["operation"] == "inv_release"


async def test_a_contact_that_others_forget_meanwhile() -> None:
    """Their coins are gone, and whose portion was the last doesn't matter."""
    scope = scope_of([Code.OK, 3, 0, 1], [Code.NOT_REGISTERED])
    assert await contacts.forget(scope, "bob") == 3


async def list_bob_twice(_: Scope) -> AsyncIterator[list[str]]:
    """A walk may come by a contact twice, in one page too."""
    yield ["bob", "bob"]
    yield ["bob"]


async def test_totals_that_are_spoiled_while_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody guesses how much there is."""
    monkeypatch.setattr(contacts, "list_pages", list_bob_twice)
    with pytest.raises(CorruptEntryError, match="not a hash"):
        await reservations_over([CorruptEntryError("not a hash")])._measure()
    with pytest.raises(CorruptEntryError, match="totals are malformed"):
        await reservations_over([[b"many", None, None]], COUNTS)._measure()


async def test_a_contact_that_a_walk_comes_by_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It's counted once."""
    monkeypatch.setattr(contacts, "list_pages", list_bob_twice)
    measured = await reservations_over([[b"9", None, None]], COUNTS)._measure()
    assert (measured.added, measured.found) == ((9, 0, 0), (1, 2, 3))


async def test_contacts_that_go_while_garbage_is_collected() -> None:
    """One that is gone is passed over; what is forbidden is told."""
    gc._pass_over({"bob": ContactNotRegisteredError("gone")})
    with pytest.raises(AccessDeniedError):
        gc._pass_over({"bob": AccessDeniedError("no")})


async def test_an_index_of_the_wrong_type_hides_nothing() -> None:
    """Nobody knows what it should list, so an owner isn't told to be deleted."""
    with RunningServer(VALKEY_9) as server:
        client: Any = server.client(0)
        await client.set("aqm:{alice}:inv:v1:aside", "x")
        async with connect(f"unix://{server.socket_path}", owner="alice") as db:
            inventory = db.resources.clients[1]
            await inventory.set("aqm:{alice}:inv:v1:aside", "x")
            with pytest.raises(CorruptEntryError):
                await db.delete_owner("alice")
        await client.aclose()


async def test_many_rows_that_were_set_aside() -> None:
    """They go with their owner, page by page."""
    with RunningServer(VALKEY_9) as server:
        async with connect(f"unix://{server.socket_path}", owner="alice") as db:
            client = db.resources.clients[1]
            rows = {f"bob:{number}": 0 for number in range(SCAN_COUNT + 1)}
            await client.zadd("aqm:{alice}:inv:v1:aside", rows)
            await client.mset({f"aqm:{{alice}}:inv:v1:key:{row}": "x" for row in rows})
            assert await db.delete_owner("alice") == len(rows) + 1
            assert await client.dbsize() == 0


async def test_a_server_that_is_lost_while_it_is_walked() -> None:
    """That is told once the others are over."""

    class Lost:
        async def scan(self, _: str) -> AsyncIterator[list[bytes]]:
            yield [b"first"]
            raise VaultUnavailableError("lost")

    with RunningServer(VALKEY_9) as server:
        client: Any = server.client(0)
        lost: Any = Lost()
        pages = scan_shares(client, VaultUnavailableError, "test", "aqm:*", lambda _: lost)
        _, page = await anext(pages)
        assert page == [b"first"]
        with pytest.raises(VaultUnavailableError, match="lost"):
            await anext(pages)
        await client.aclose()


async def test_a_server_that_is_lost_to_whoever_takes_its_pages() -> None:
    """It's left alone, and told at the end."""
    with RunningServer(VALKEY_9) as server:
        client: Any = server.client(0)
        await client.mset({f"aqm:{{{number}}}:k": "" for number in range(2000)})
        pages = scan_shares(client, VaultUnavailableError, "test", "aqm:*")
        share, _ = await anext(pages)
        share.error = VaultUnavailableError("lost")
        with pytest.raises(VaultUnavailableError, match="lost"):
            await anext(pages)
        await client.aclose()


async def test_the_error_of_a_later_version_can_be_sent() -> None:
    """To another process, for example."""
    error = pickle.loads(pickle.dumps(SchemaVersionError("vault", 3, 2)))  # noqa: S301 - our own
    assert (error.database, error.found, error.known) == ("vault", 3, 2)
