"""A disk that is full while coins are taken, and a database that is closed on it."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.support.fault_table import Tally

PATIENCE: Final = 60.0

PROGRAMS: Final = {
    "aio": """
async def main():
    async with connect(url, budget_caps=CAPS) as db:
        await db.inventory.register_contact("bob", "BESTIE")
        await db.inventory.store_keys(COINS)
        for key in KEYS:
            await db.vault.store_key(**key)
        fill()
        await asyncio.gather(*(take(db, number) for number in range(len(KEYS))))
    free()
    async with connect(url, budget_caps=CAPS) as db:
        left = await db.inventory.select_coins(["bob"], "GOLD"), await db.vault.get_all_active_ids()
        problems = (await db.check()).problems
    return left, problems

async def take(db, number):
    with suppress(NotWritableError):
        coin = await db.inventory.select_coin("bob", "GOLD")
        taken.append(coin.key_id)
    with suppress(NotWritableError):
        await db.vault.burn_key(f"p{number}")
        burned.append(f"p{number}")

left, problems = asyncio.run(main())
""",
    "sync": """
with sync.connect(url, budget_caps=CAPS) as db:
    db.inventory.register_contact("bob", "BESTIE")
    db.inventory.store_keys(COINS)
    for key in KEYS:
        db.vault.store_key(**key)
    fill()
    for number in range(len(KEYS)):
        with suppress(NotWritableError):
            taken.append(db.inventory.select_coin("bob", "GOLD").key_id)
        with suppress(NotWritableError):
            db.vault.burn_key(f"p{number}")
            burned.append(f"p{number}")
free()
with sync.connect(url, budget_caps=CAPS) as db:
    left = db.inventory.select_coins(["bob"], "GOLD"), db.vault.get_all_active_ids()
    problems = db.check().problems
""",
}

BEGINNING: Final = """
import asyncio, json, os, sys
from contextlib import suppress
from pathlib import Path
from aqm_db import connect, embedded, sync
from aqm_db.embedded import _share
from aqm_db.errors import NotWritableError
from aqm_db.types import NewCoin

disk = Path(sys.argv[1])
url = f"embedded://{disk}/db"
CAPS = {
    priority: {"GOLD": 500, "SILVER": 0, "BRONZE": 0} for priority in ("BESTIE", "MATE", "STRANGER")
}
COINS = [NewCoin("bob", f"k{number:03}", "GOLD", b"p", b"s") for number in range(200)]
KEYS = [
    dict(key_id=f"p{number}", coin_category="GOLD", encrypted_blob=bytes(2400),
         encryption_iv=bytes(12), auth_tag=bytes(16))
    for number in range(20)
]
taken, burned = [], []

def fill():
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))

def free():
    (disk / "filler").unlink()
"""

END: Final = """
[next_coin] = left[0].values()
print(json.dumps({
    "taken": taken,
    "burned": burned,
    "next": next_coin.key_id,
    "back": [each for each in left[1] if each in burned],
    "problems": [str(each) for each in problems],
}))
"""

PLAIN_END: Final = """
from aqm_db.embedded._server import send_command

def end_server(socket_path, directory, until):
    send_command(socket_path, b"SHUTDOWN", 10)

_share.end_server = end_server
embedded.give_up_piece = lambda directory: False
"""
"""Ends a server as any program would."""


def may_mount() -> bool:
    """Whether this user may have small disks of his own."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory() as path:
        return mount_and_run(path, "true").returncode == 0


def mount_and_run(path: str, *program: str) -> "subprocess.CompletedProcess[str]":
    """Runs a program that finds a small, empty disk at a path, which nobody else sees."""
    mount = 'mount -t tmpfs -o size=24m small "$0" && exec "$@"'
    return subprocess.run(
        ["unshare", "-Urm", "sh", "-c", mount, path, *program],  # noqa: S607 - it was looked for
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def run_program(face: str, mutation: str = "") -> Any:
    """Runs a program of a face on a small disk; what it says in the end."""
    if not may_mount():
        pytest.skip("this user may not mount a disk of his own (unshare -Urm)")
    program = f"{BEGINNING}{mutation}{PROGRAMS[face]}{END}"
    with tempfile.TemporaryDirectory(prefix="t") as path:
        ran = mount_and_run(str(Path(path).resolve()), sys.executable, "-c", program, path)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("face", PROGRAMS)
def test_a_full_disk(face: str, tally: Tally, *, thorough: bool) -> None:
    """What was handed out or burned on it, without an error, stays so when it's opened again."""
    for _ in range(10 if thorough else 1):
        said = run_program(face)
        assert said["taken"]
        assert said["problems"] == []
        tally.add(
            "disk full while a database is used and closed",
            duplicated=(said["next"] in said["taken"]) + len(said["back"]),
            case=said,
        )


@pytest.mark.parametrize("face", PROGRAMS)
def test_mutant_plain_end(face: str) -> None:
    """A server that is simply told to end forgets what it has acknowledged."""
    said = run_program(face, PLAIN_END)
    assert said["next"] in said["taken"] or said["back"]
