"""An embedded database on a full disk: nothing that was acknowledged is lost by closing it."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest
import redis
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from aqm_db import connect, sync
from aqm_db._io.gate import Gates
from aqm_db.embedded import SETTINGS, EmbeddedServer, _files, _server, _settling, _share, _space
from aqm_db.embedded._mending import is_whole
from aqm_db.errors import EmbeddedServerError, NotWritableError
from aqm_db.types import NewCoin
from tests.support.diagnoses import FACES, diagnose, pick_finding
from tests.support.full_disks import LIMITED_SERVER, NEEDS_LIMITS, FullDisk, read_all
from tests.support.layers import Passing
from tests.support.samples import always

pytestmark = NEEDS_LIMITS

MIB: Final = 1 << 20
PATIENCE: Final = 20.0


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a database may be made, whose disk can be filled."""
    monkeypatch.setattr(_server, "ServerProcess", LIMITED_SERVER)
    with tempfile.TemporaryDirectory(prefix="t") as path:
        yield Path(path).resolve() / "db"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the embedded server's part of the library logs."""
    caplog.set_level(logging.INFO, logger="aqm_db.embedded")
    return caplog


def pick_record(log: pytest.LogCaptureFixture, event: str) -> dict[str, Any]:
    """The one record of an event."""
    [record] = [record for record in log.records if record.msg == event]
    return vars(record)


def make_room_by(monkeypatch: pytest.MonkeyPatch, disk: FullDisk) -> None:
    """Has the ballast be what takes the room on this disk."""
    give_up = _space.give_up_ballast

    def give_up_and_free(directory: Path) -> None:
        give_up(directory)
        assert (directory / "aqm_db.ballast").stat().st_size == 0
        disk.free()

    monkeypatch.setattr(_settling, "give_up_ballast", give_up_and_free)


# Closing ----------------------------------------------------------------------------------


def test_the_ballast_is_given_up(
    directory: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """With the room of the ballast, all that was acknowledged is written, and the file anew."""
    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    disk.rewrite()
    disk.fill(100)
    assert disk.told
    make_room_by(monkeypatch, disk)
    server.close()
    assert pick_record(log, "disk_was_full")["is_rewritten"] is True
    assert disk.find_file().read_bytes() == b""
    with EmbeddedServer.open(directory) as server:
        assert read_all(server) == disk.told
        assert (directory / "aqm_db.ballast").stat().st_size == 8 * MIB


def test_no_room(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that can't write goes on, with all in its memory; the next one to open joins it."""
    monkeypatch.setattr(_settling, "_REFUSED_SECONDS", 0.05)
    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    disk.rewrite()
    disk.fill(100)
    for _ in range(2):
        with pytest.raises(EmbeddedServerError, match="can't write what it acknowledged"):
            server.close()
        # Closing again does nothing.
        server.close()
        server = EmbeddedServer.open(directory)
        assert read_all(server) == disk.told
        assert FullDisk(directory).pid == disk.pid
    disk.free()
    disk.wait_for_writes()
    # Writes aren't held back for longer than it was tried.
    disk.store("later", b"value")
    server.close()
    with pytest.raises(ProcessLookupError):
        os.kill(disk.pid, 0)
    with EmbeddedServer.open(directory) as server:
        assert read_all(server) == disk.told


@pytest.mark.asyncio
@FACES
async def test_a_database_on_a_full_disk(
    face: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing says so on both faces; what the database handed out stays handed out."""
    monkeypatch.setattr(_settling, "_REFUSED_SECONDS", 0.05)
    url = f"embedded://{directory}"

    async def use() -> None:
        async with connect(url):
            await asyncio.to_thread(FullDisk(directory).fill)

    def use_synchronously() -> None:
        with sync.connect(url):
            FullDisk(directory).fill()

    with pytest.raises(EmbeddedServerError, match="make room, then open"):
        await (use() if face == "aio" else asyncio.to_thread(use_synchronously))
    pid = int((directory / "aqm_db.log").read_text().partition(":")[0])
    with EmbeddedServer.open(directory):
        joined = FullDisk(directory)
        assert joined.pid == pid
        assert joined.client.get("full-0")
        joined.free()
        joined.wait_for_writes()


def test_a_share_that_nobody_closes(
    directory: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """Where nobody can catch the error, it's logged."""
    monkeypatch.setattr(_settling, "_REFUSED_SECONDS", 0.05)
    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    disk.fill()
    del server
    assert "can't write what it acknowledged" in pick_record(log, "server_goes_on")["error"]
    disk.free()
    disk.wait_for_writes()
    EmbeddedServer.open(directory).close()


def test_the_end_of_a_program(directory: Path) -> None:
    """A program that ends without closing leaves the server to the next one, and says so."""
    program = """
import sys
from pathlib import Path
from aqm_db.embedded import EmbeddedServer, _server, _settling
from tests.support.full_disks import LIMITED_SERVER, FullDisk

_server.ServerProcess = LIMITED_SERVER
_settling._REFUSED_SECONDS = 0.05
server = EmbeddedServer.open(sys.argv[1])
FullDisk(Path(sys.argv[1])).fill()
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(directory)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert ran.stderr == "server_goes_on\n"
    with EmbeddedServer.open(directory):
        disk = FullDisk(directory)
        assert disk.client.get("full-0")
        disk.free()
        disk.wait_for_writes()


def test_the_disk_was_full_for_a_moment(directory: Path, log: pytest.LogCaptureFixture) -> None:
    """What an incident left in the file is gone once the database is closed."""
    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    disk.rewrite()
    disk.fill(100)
    disk.free()
    disk.wait_for_writes()
    disk.store("later", b"value")
    assert b"\0" in disk.find_file().read_bytes()
    server.close()
    assert pick_record(log, "disk_was_full")["is_rewritten"] is True
    with EmbeddedServer.open(directory) as server:
        assert read_all(server) == disk.told
    # It's closed without more ado from then on.
    assert pick_record(log, "disk_was_full")


@pytest.mark.parametrize("holes", [False, True])
def test_no_room_for_a_rewrite(
    holes: bool,  # noqa: FBT001
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    """A file in which zeroes were left has to be written anew; one that's whole hasn't."""
    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    disk.store("much", os.urandom(50_000))
    disk.rewrite()
    if not holes:
        server.close()
        server = EmbeddedServer.open(directory)
        disk = FullDisk(directory)
        disk.told = read_all(server)
    disk.fill(100)

    def make_room(_: Path) -> None:
        disk.limit(20_000)

    monkeypatch.setattr(_settling, "give_up_ballast", make_room)
    if holes:
        with pytest.raises(EmbeddedServerError, match="can't write"):
            server.close()
        disk.free()
        EmbeddedServer.open(directory).close()
    else:
        server.close()
        assert pick_record(log, "disk_was_full")["is_rewritten"] is False
    with EmbeddedServer.open(directory) as server:
        assert read_all(server) == disk.told
    assert EmbeddedServer.open(directory).examine_disk().cut_off == ()


def test_appendfsync_always(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a server ends instead of answering; all that it answered is there."""
    monkeypatch.setattr(_server, "SETTINGS", {**SETTINGS, "appendfsync": "always"})
    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    disk.rewrite()
    with pytest.raises(redis.ConnectionError):
        disk.fill(1000)
    assert disk.told
    server.close()
    with EmbeddedServer.open(directory) as server:
        assert read_all(server) == disk.told


# Whoever is connected besides, and servers that fail meanwhile ------------------------------


def do_while_closing(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Has something happen when all is written, before the server is told to end."""

    def act(directory: Path) -> None:
        action()
        _files.sync_files(directory)

    monkeypatch.setattr(_settling, "sync_files", act)


def test_nothing_is_acknowledged_meanwhile(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client's write, between the last look at the file and the end, isn't answered."""
    server = EmbeddedServer.open(directory)
    with Redis(
        unix_socket_path=str(server.socket_path), retry=Retry(NoBackoff(), 0), socket_timeout=0.1
    ) as other:
        other.set("early", "value")

        def write() -> None:
            with pytest.raises(Exception, match="Timeout"):
                other.set("late", "value")

        do_while_closing(monkeypatch, write)
        server.close()
    monkeypatch.undo()
    with EmbeddedServer.open(directory) as server:
        assert read_all(server) == {b"early": b"value"}


def test_the_disk_fails(
    directory: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """What a disk doesn't take, which the server has written, is written anew from memory."""

    def fail(_: Path) -> None:
        raise OSError(5, "Input/output error")

    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    disk.store("key", os.urandom(50_000))
    with monkeypatch.context() as patch:
        patch.setattr(_settling, "sync_files", fail)
        server.close()
    assert pick_record(log, "disk_was_full")["is_rewritten"] is True
    server = EmbeddedServer.open(directory)
    again = FullDisk(directory)
    again.limit(20_000)
    with monkeypatch.context() as patch:
        patch.setattr(_settling, "sync_files", fail)
        with pytest.raises(EmbeddedServerError, match="or fails"):
            server.close()
    again.free()
    with EmbeddedServer.open(directory) as server:
        assert FullDisk(directory).pid == again.pid
        assert read_all(server) == disk.told


def test_the_server_hangs_meanwhile(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that doesn't answer any more isn't killed: it may have something to write."""
    monkeypatch.setattr(_share, "_STOP_SECONDS", 0.2)
    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    disk.store("key", b"value")
    with monkeypatch.context() as patch:
        do_while_closing(patch, lambda: os.kill(disk.pid, signal.SIGSTOP))
        patch.setattr(_settling, "_tells_incident", always(value=True))
        with pytest.raises(EmbeddedServerError):
            server.close()
    os.kill(disk.pid, signal.SIGCONT)
    monkeypatch.undo()
    with EmbeddedServer.open(directory) as server:
        assert read_all(server) == disk.told


def test_an_fsync_takes_too_long(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that waits for its disk goes on, with what it has still to write."""
    monkeypatch.setattr(_share, "_STOP_SECONDS", 0.1)
    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    disk.store("key", b"value")
    with monkeypatch.context() as patch:
        patch.setattr(_settling, "_has_tried", always(value=False))
        with pytest.raises(EmbeddedServerError):
            server.close()
    monkeypatch.undo()
    with EmbeddedServer.open(directory) as server:
        assert read_all(server) == disk.told


def test_the_server_dies_meanwhile(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing is no place to hear of a server that died; all that it wrote is there."""
    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    disk.store("key", b"value")

    def kill() -> None:
        os.kill(disk.pid, signal.SIGKILL)
        _share._started[server._share._switch.identity].wait()

    with monkeypatch.context() as patch:
        do_while_closing(patch, kill)
        patch.setattr(_settling, "_tells_incident", always(value=True))
        server.close()
    with EmbeddedServer.open(directory) as server:
        assert read_all(server) == disk.told


def test_without_a_log(directory: Path, log: pytest.LogCaptureFixture) -> None:
    """Nothing is known of an incident whose log is gone, and that's no obstacle."""
    server = EmbeddedServer.open(directory)
    (directory / "aqm_db.log").unlink()
    server.close()
    assert "disk_was_full" not in [record.msg for record in log.records]


# The ballast, and warnings ------------------------------------------------------------------


def leave(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Has a disk have so many bytes left."""
    monkeypatch.setattr(_space, "_measure_free", always(free))


def test_ballast(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes real room, is taken once, and only where as much again is left."""
    leave(monkeypatch, 16 * MIB - 1)
    ballast = directory / "aqm_db.ballast"
    EmbeddedServer.open(directory).close()
    assert ballast.stat().st_size == 0
    leave(monkeypatch, 16 * MIB)
    EmbeddedServer.open(directory).close()
    status = ballast.stat()
    assert (status.st_size, status.st_mode & 0o777) == (8 * MIB, 0o600)
    assert status.st_blocks * 512 >= 8 * MIB
    EmbeddedServer.open(directory).close()
    assert ballast.stat().st_mtime_ns == status.st_mtime_ns


def test_no_ballast(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database opens and closes where the ballast can't be made."""
    directory.mkdir()
    (directory / "aqm_db.lock").touch()
    (directory / "aqm_db.ballast").mkdir()
    with EmbeddedServer.open(directory) as server:
        leave(monkeypatch, 0)
        server.relieve()
    assert (directory / "aqm_db.ballast").is_dir()


@pytest.mark.asyncio
@FACES
async def test_pieces_of_the_ballast(
    face: str, directory: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """What a full disk refuses gives the server a piece, up to the last half."""
    left: list[int] = []

    def note(free: int) -> None:
        left.append((directory / "aqm_db.ballast").stat().st_size // MIB)
        leave(monkeypatch, free)

    async def refuse_each() -> None:
        async with connect(f"embedded://{directory}") as database:
            disk = FullDisk(directory)
            await asyncio.to_thread(disk.fill)
            # Memory may be full as well, for example.
            for free in (MIB, MIB - 1, 0, 0, 0, 0):
                note(free)
                with pytest.raises(NotWritableError):
                    await database.inventory.register_contact("bob", "MATE")
            note(0)
            disk.free()

    def refuse_together() -> None:
        with sync.connect(f"embedded://{directory}") as database:
            inventory = database.for_owner("other").inventory
            coins = [NewCoin("bob", f"k{number}", "GOLD", b"p", b"s") for number in range(2)]
            inventory.register_contact("bob", "BESTIE")
            disk = FullDisk(directory)
            disk.fill()
            note(0)
            found = inventory.store_keys(coins)
            note(0)
            disk.free()
            assert {type(each) for each in found} == {NotWritableError}

    if face == "aio":
        await refuse_each()
        assert left == [8, 8, 7, 6, 5, 4, 4]
        assert [each.msg for each in log.records].count("disk_full") == 4
    else:
        await asyncio.to_thread(refuse_together)
        assert left == [8, 7]


@pytest.mark.asyncio
@FACES
async def test_low_space(
    face: str, directory: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """It's a warning of ``connect`` and of ``doctor``, before it hurts."""
    leave(monkeypatch, 64 * MIB)
    finding = pick_finding(await diagnose(face, f"embedded://{directory}"), "space")
    assert (finding.severity, finding.message) == ("ok", "The disk has 64 MiB left.")
    assert log.records == []
    leave(monkeypatch, 64 * MIB - 1)
    finding = pick_finding(await diagnose(face, f"embedded://{directory}"), "space")
    assert finding.severity == "warning"
    assert finding.message.startswith("The disk has 63 MiB left, and should have 64 MiB:")
    record = pick_record(log, "disk_space_low")
    assert (record["free"], record["wanted"]) == (64 * MIB - 1, 64 * MIB)


def test_much_data_wants_much_space(directory: Path) -> None:
    """A rewrite needs as much again as there is."""
    with EmbeddedServer.open(directory) as server:
        with (directory / "appendonlydir" / "appendonly.aof.9.base.rdb").open("wb") as file:
            file.truncate(50 * MIB)
        assert server.examine_disk().wanted >= 100 * MIB


def test_no_room_to_start(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that can't begin a file can't log why."""
    monkeypatch.setattr(_server, "SETTINGS", {**SETTINGS, "no-such-setting": "1"})
    leave(monkeypatch, 0)
    with pytest.raises(EmbeddedServerError, match="ended while it started, and the disk is full"):
        EmbeddedServer.open(directory)


@pytest.mark.asyncio
@FACES
async def test_the_directory_is_gone(face: str, directory: Path) -> None:
    """``doctor`` can't say how a disk is on which there's no directory any more."""
    database: Any
    if face == "aio":
        async with connect(f"embedded://{directory}") as database:
            shutil.rmtree(directory)
            with pytest.raises(EmbeddedServerError, match="can't use"):
                await database.doctor()
        return
    with sync.connect(f"embedded://{directory}") as database:
        shutil.rmtree(directory)
        with pytest.raises(EmbeddedServerError, match="can't use"):
            database.doctor()


# A second incident --------------------------------------------------------------------------


def meet_two_incidents(disk: FullDisk) -> None:
    """Has the server cut off what it wrote before: it forgets the zeroes that it left at first."""
    disk.rewrite()
    disk.fill(100)
    disk.free()
    disk.wait_for_writes()
    for number in range(9):
        disk.store(f"between-{number}", b"v" * 300)
    disk.fill(100)
    disk.free()
    disk.wait_for_writes()
    assert not is_whole(disk.directory)


def test_a_second_incident(directory: Path) -> None:
    """What the server destroys in its file, a rewrite from memory has."""
    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    meet_two_incidents(disk)
    server.close()
    with EmbeddedServer.open(directory) as server:
        assert read_all(server) == disk.told
        assert server.examine_disk().cut_off == ()


def test_a_second_incident_without_room(directory: Path) -> None:
    """A server whose file lacks something, and can't be written anew, goes on."""
    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    disk.store("much", os.urandom(50_000))
    meet_two_incidents(disk)
    disk.limit(20_000)
    with pytest.raises(EmbeddedServerError, match="can't write"):
        server.close()
    disk.free()
    EmbeddedServer.open(directory).close()
    with EmbeddedServer.open(directory) as server:
        assert read_all(server) == disk.told


def test_a_rewrite_takes_too_long(
    directory: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """It isn't waited for where the file is whole, though it was written on a full disk."""
    server = EmbeddedServer.open(directory)
    disk = FullDisk(directory)
    disk.fill()
    make_room_by(monkeypatch, disk)
    monkeypatch.setattr(_share, "_STOP_SECONDS", 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(_settling, "_has_ended", always(value=False))
        server.close()
    assert pick_record(log, "disk_was_full")["is_rewritten"] is False
    with EmbeddedServer.open(directory) as server:
        assert read_all(server) == disk.told


def test_a_server_that_dies_then(directory: Path, log: pytest.LogCaptureFixture) -> None:
    """All opens but what was destroyed, which is told."""
    with EmbeddedServer.open(directory):
        disk = FullDisk(directory)
        meet_two_incidents(disk)
        with Redis(unix_socket_path=str(directory / "aqm_db.sock"), db=1) as other:
            other.set("late", "value")
        os.kill(disk.pid, signal.SIGKILL)
    with EmbeddedServer.open(directory) as server:
        there = read_all(server)
        assert there.items() <= disk.told.items()
        assert len(server.examine_disk().cut_off) == 1
    assert pick_record(log, "file_cut_off")


def count_rewrites(disk: FullDisk) -> int:
    """How often a rewrite was asked for."""
    return int(disk.info("commandstats").get("cmdstat_bgrewriteaof", {"calls": 0})["calls"])


@pytest.mark.asyncio
@FACES
@pytest.mark.parametrize("layered", [False, True])
async def test_the_file_is_written_anew(face: str, layered: bool, directory: Path) -> None:  # noqa: FBT001
    """It is, once, when calls are let through again, so that a second incident does no harm."""
    url = f"embedded://{directory}"

    def begin() -> FullDisk:
        disk = FullDisk(directory)
        disk.fill()
        return disk

    def end(disk: FullDisk, gates: Gates) -> None:
        if layered:
            gates.add_layer(cast("Any", Passing))
        assert count_rewrites(disk) == 0
        disk.free()
        disk.wait_for_writes()

    async def use() -> None:
        async with connect(url) as database:
            inventory = database.inventory
            await inventory.register_contact("bob", "BESTIE")
            disk = await asyncio.to_thread(begin)
            for _ in range(2):
                with pytest.raises(NotWritableError):
                    await inventory.register_contact("carol", "MATE")
            await asyncio.to_thread(end, disk, database.gates)
            await inventory.register_contact("dave", "MATE")
            assert count_rewrites(disk) == 1
            [stored] = await inventory.store_keys([NewCoin("bob", "k", "GOLD", b"p", b"s")])
            assert stored is True
            assert count_rewrites(disk) == 1

    def use_synchronously() -> None:
        with sync.connect(url) as database:
            inventory = database.inventory
            inventory.register_contact("bob", "BESTIE")
            disk = begin()
            for _ in range(2):
                outcome = inventory.store_keys([NewCoin("bob", "k", "GOLD", b"p", b"s")])
                assert isinstance(outcome[0], NotWritableError)
            end(disk, database.asynchronous.gates)
            assert inventory.store_keys([NewCoin("bob", "k", "GOLD", b"p", b"s")]) == [True]
            assert count_rewrites(disk) == 1
            inventory.register_contact("dave", "MATE")
            assert count_rewrites(disk) == 1

    await (use() if face == "aio" else asyncio.to_thread(use_synchronously))
