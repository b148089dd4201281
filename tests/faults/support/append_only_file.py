"""What an append-only file says was done, against what callers were told."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from redis.asyncio import Redis

from aqm_db.embedded._units import read_units
from tests.faults.support.invariants import Ledger, kept, queued
from tests.support.backends import VALKEY_9, Backend

Kind = Literal["store", "select", "release", "consume", "keep", "burn"]
"""What a request is for; the last two are the vault's store and burn."""

REQUEST = re.compile(rb"w\d\dx\d{6}")
_TAKEN = re.compile(
    rb"RENAMENX\r\n\$\d+\r\ninv:v1:key:[^:\r]+:([^\r]+)\r\n\$\d+\r\ninv:v1:claim:[^:\r]+:(\w+)"
)


def request_id(worker: int, number: int) -> str:
    """An id that :data:`REQUEST` finds in the file."""
    return f"w{worker:02}x{number:06}"


@dataclass
class Request:
    """One call.

    Attributes:
        request_id: the id it was sent with, however often.
        kind: what it's for.
        begun: how many calls had begun before.
        life: how often the server had been killed then.
        key_id: its key or coin; of a select, the one that was handed out.
        told: what the caller heard of it.
        ended: how many calls had begun when the caller heard.
        last_life: how often the server had been killed then.
    """

    request_id: str
    kind: Kind
    begun: int
    life: int
    key_id: str = ""
    told: Literal["done", "nothing", "unknown"] = "unknown"
    ended: int = 0
    last_life: int = 0


class Evidence:
    """An append-only file as a witness.

    Args:
        content: the file.
    """

    def __init__(self, content: bytes) -> None:
        self._done = {found.decode() for found in REQUEST.findall(content)}
        self._taken: dict[str, str] = {
            request.decode(): key_id.decode() for key_id, request in _TAKEN.findall(content)
        }

    def has(self, request: Request) -> bool:
        """Whether a request had its effect."""
        return request.request_id in self._done

    def key_of(self, request: Request) -> str:
        """The coin that a request took."""
        return self._taken[request.request_id]


def cut_off_half(backend: Backend, path: Path) -> None:
    """Does what ``redis-check-aof --fix`` does, where a server needs it after a crash.

    All but Valkey 9.1.2 leave a transaction that breaks off in a command in the file, without its
    end, and take the next one's EXEC for it when they start again (``findings/``).
    """
    if backend is not VALKEY_9:
        reading = read_units(path.read_bytes())
        assert reading is not None
        os.truncate(path, reading.end)


def gone_with_the_buffer(requests: list[Request], evidence: Evidence) -> list[Request]:
    """What was acknowledged, and wasn't written when the server died: the end of each life.

    The ``everysec`` policy lets the server answer while it waits for an earlier fsync, and holds
    back what it would write for up to two seconds; ``always`` doesn't.
    """
    gone = [each for each in requests if each.told == "done" and not evidence.has(each)]
    for lost in gone:
        later = [each for each in requests if each.begun >= lost.ended]
        hole = any(
            evidence.has(each)
            for each in later
            if lost.life == lost.last_life == each.life == each.last_life
        )
        assert not hole, f"{lost} is gone, and what came later isn't"
    return gone


def untrue(requests: list[Request], evidence: Evidence) -> int:
    """How many callers were told that nothing happened, and were told wrong."""
    return sum(each.told == "nothing" and evidence.has(each) for each in requests)


async def balance(requests: list[Request], evidence: Evidence, client: Redis) -> tuple[int, int]:
    """How many keys and coins are lost, and how many are there twice.

    A request whose outcome is unknown counts as what the file says became of it, so that nothing
    is excused; what an acknowledged request did to a file that lost its end doesn't count.
    """
    coins, keys = Ledger(), Ledger()
    for each in filter(evidence.has, requests):
        match each.kind:
            case "store":
                coins.stored.add(each.key_id)
            case "keep":
                keys.stored.add(each.key_id)
            case "burn":
                keys.delivered.append(each.key_id)
            case "release":
                coins.delivered.remove(each.key_id)
            case "select" | "consume":
                assert each.key_id in ("", evidence.key_of(each))
                coins.delivered.append(evidence.key_of(each))
    lost_coins, twice_coins = coins.balance(await queued(client))
    lost_keys, twice_keys = keys.balance(await kept(client))
    return lost_coins + lost_keys, twice_coins + twice_keys
