"""A program that takes coins is killed: what it hadn't got is at most one coin for each caller."""

import subprocess
import sys
from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory
from aqm_db.types import NewCoin
from tests.conftest import INVENTORY_DB
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import queued
from tests.faults.support.tried_calls import HALVES
from tests.support.backends import RunningServer

pytestmark = pytest.mark.asyncio

CALLERS = 8
COINS = 300
CONTACTS = ("ann", "ben", "cem")
CAPS = {
    priority: {"GOLD": 0, "SILVER": 0, "BRONZE": COINS}
    for priority in ("BESTIE", "MATE", "STRANGER")
}

PROGRAMS = {
    "aio": """
import asyncio, itertools, os, sys
from redis.asyncio import Redis
from aqm_db import AsyncSmartInventory

async def call(client, number):
    asked = itertools.count()
    request = ""
    inventory = AsyncSmartInventory(client, request_ids=lambda: request)
    while True:
        request = f"{number}-{next(asked)}"
        os.write(1, f"ask {request}\\n".encode())
        entry = await inventory.select_coin(sys.argv[3 + number % 3], "BRONZE")
        os.write(1, f"got {request} {entry and entry.key_id}\\n".encode())

async def main():
    client = Redis(unix_socket_path=sys.argv[1], db=int(sys.argv[2]))
    await asyncio.gather(*(call(client, number) for number in range(8)))

asyncio.run(main())
""",
    "sync": """
import itertools, os, sys, threading
from redis import Redis
from aqm_db.sync import SmartInventory

def call(client, number):
    asked = itertools.count()
    request = ""
    inventory = SmartInventory(client, request_ids=lambda: request)
    while True:
        request = f"{number}-{next(asked)}"
        os.write(1, f"ask {request}\\n".encode())
        entry = inventory.select_coin(sys.argv[3 + number % 3], "BRONZE")
        os.write(1, f"got {request} {entry and entry.key_id}\\n".encode())

client = Redis(unix_socket_path=sys.argv[1], db=int(sys.argv[2]))
for number in range(8):
    threading.Thread(target=call, args=(client, number)).start()
""",
}
"""Eight callers, who say what they are about to ask for, and what they got."""


@pytest.mark.parametrize("face", PROGRAMS)
async def test_the_program_is_killed(
    direct: Redis, valkey: RunningServer, face: str, tally: Tally, *, thorough: bool
) -> None:
    """Each coin is got, or in its queue, or held for a request whose answer never arrived."""
    for number in range(15 if thorough else 1):
        await direct.flushdb()
        inventory = AsyncSmartInventory(direct, budget_caps=CAPS)
        for contact_id in CONTACTS:
            await inventory.register_contact(contact_id, "BESTIE")
        stored = {f"{contact_id} {n}" for contact_id in CONTACTS for n in range(COINS)}
        await inventory.store_keys(
            [NewCoin(key_id.split()[0], key_id, "BRONZE", *HALVES) for key_id in stored]
        )
        connected = len(await direct.client_list())
        asked, got = killed_after(20 + 13 * number, valkey, face)
        # What is on its way to the server when the program dies is executed all the same.
        while len(await direct.client_list()) > connected:
            pass
        outstanding = asked - got.keys()
        assert len({request.split("-")[0] for request in outstanding}) == len(outstanding)
        held = [await held_for(direct, request) for request in outstanding]
        claimed = [key_id for key_id in held if key_id is not None]
        remaining = await queued(direct)
        everything = [*got.values(), *claimed, *remaining]
        tally.add(
            f"kill -9 of a program ({face})",
            lost=len(stored - set(everything)),
            duplicated=len(everything) - len(set(everything)),
        )
        taken: list[str] = []
        for contact_id in CONTACTS:
            while (entry := await inventory.select_coin(contact_id, "BRONZE")) is not None:
                taken.append(entry.key_id)
        assert sorted(taken) == sorted(remaining)


def killed_after(coins: int, server: RunningServer, face: str) -> tuple[set[str], dict[str, str]]:
    """Kills the program when it got some coins; the requests it began, and what each has got."""
    arguments = (str(server.socket_path), str(INVENTORY_DB), *CONTACTS)
    asked: set[str] = set()
    got: dict[str, str] = {}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAMS[face], *arguments], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        # What it said before it died is read to the end.
        for line in program.stdout:
            word, request, *key_id = line.rstrip("\n").split(" ", 2)
            if word == "ask":
                asked.add(request)
            elif key_id == ["None"]:
                asked.remove(request)
            else:
                [got[request]] = key_id
            if len(got) == coins:
                program.kill()
    return asked, got


async def held_for(client: Redis, request: str) -> str | None:
    """The coin that a request took, if the server has executed it."""
    for contact_id in CONTACTS:
        found: Any = await client.hget(f"inv:v1:claim:{contact_id}:{request}", "key_id")
        if found is not None:
            return str(found, "utf-8")
    return None
