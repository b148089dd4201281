"""Replies that are another call's: a link that is out of step hands nothing out, on either face."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aqm_db import AsyncSmartInventory
from aqm_db.errors import InventoryUnavailableError
from tests.faults.support.furnished_database import library_client
from tests.support.faces import Face
from tests.support.peers import ScriptedServer, answer_select, claim_of, encode_reply, listening
from tests.support.samples import BOB

pytestmark = pytest.mark.asyncio

CANARY = b"canary-key-material"
COIN = (b"k1", b"GOLD", CANARY, CANARY, b"1", b"99999999999999", b"2 1 r")
Command = list[bytes]


def to_another_contact(command: Command) -> bytes:
    """Carol's coin, of a request of the same id."""
    return encode_reply([0, claim_of(command).replace(BOB.encode(), b"carol"), [], *COIN])


def to_another_request(command: Command) -> bytes:
    """Bob's coin, which another call took."""
    return encode_reply([0, claim_of(command) + b"0", [], *COIN])


FOREIGN: dict[str, Callable[[Command], bytes]] = {
    "another contact's coin": to_another_contact,
    "another request's coin": to_another_request,
    "another's empty queue": lambda command: encode_reply([0, claim_of(command) + b"0", []]),
    "a coin without a name": lambda _: encode_reply([0, [], *COIN]),
    "another's refusal": lambda command: encode_reply([5, claim_of(command) + b"0"]),
    "a refusal of another script": lambda _: encode_reply([5]),
    "a receipt": lambda _: encode_reply([0, 1]),
    "an empty row": lambda _: encode_reply([]),
    "a number": lambda _: encode_reply(1),
    "a value": lambda _: encode_reply(CANARY),
    "nothing": lambda _: encode_reply(None),
}


@pytest.mark.parametrize("reply", FOREIGN.values(), ids=FOREIGN)
async def test_a_reply_to_another_call_hands_nothing_out(
    tmp_path: Path, face: Face, reply: Callable[[Command], bytes]
) -> None:
    """It's an error of unknown outcome, alone and in a batch, and says nothing of what it held."""
    server = ScriptedServer(reply)
    async with listening(server, tmp_path / "s"), library_client(face, tmp_path / "s") as client:
        inventory = face.inventory(client)
        with pytest.raises(InventoryUnavailableError, match="the link is out of step") as caught:
            await inventory.select_coin(BOB, "GOLD")
        outcomes = await inventory.select_coins([BOB], "GOLD")
    for error in (caught.value, outcomes[BOB]):
        assert isinstance(error, InventoryUnavailableError)
        assert error.outcome_unknown
        assert CANARY.decode() not in str(error)
    # None of them was asked again: its own reply may be on its way to somebody else.
    assert len(server.requests) == 2
    # And nobody reads on where replies are out of step.
    assert server.clients == 2


async def test_a_batch_of_which_two_replies_changed_places(tmp_path: Path, face: Face) -> None:
    """Each of them is refused, and the others' coins are handed out."""
    held: list[bytes] = []

    def answer(command: Command) -> bytes:
        held.append(answer_select(command, *COIN))
        if len(held) < 3:
            return b""
        first, second, third = held
        return second + first + third

    server = ScriptedServer(answer)
    async with listening(server, tmp_path / "s"), library_client(face, tmp_path / "s") as client:
        outcomes = await face.inventory(client).select_coins([BOB, "carol", "dave"], "GOLD")
    dave: Any = outcomes.pop("dave")
    assert dave.contact_id == "dave"
    assert [type(outcome) for outcome in outcomes.values()] == [InventoryUnavailableError] * 2


async def test_what_a_cancelled_caller_is_told_of_another_call_is_not_taken_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The coin isn't theirs to release; the log says that nobody knows what became of their own."""
    asked = asyncio.Event()

    def answer(command: Command) -> bytes:
        first = not asked.is_set()
        asked.set()
        return b"" if first else to_another_contact(command) * 2

    server = ScriptedServer(answer)
    async with listening(server, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"), protocol=2, retry=Retry(NoBackoff(), 0)
        )
        task = asyncio.ensure_future(AsyncSmartInventory(client).select_coin(BOB, "GOLD"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.aclose()
    first, again = server.requests
    assert again != first
    assert [each.removeprefix(b"+") for each in again] == first
    [record] = caplog.records
    assert record.msg == "outcome_unknown"
    assert record.__dict__["error"] == InventoryUnavailableError.__name__
