"""Append-only files that aren't whole: an embedded database opens, and what is cut off is kept."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from redis import Redis

from aqm_db.embedded import EmbeddedServer, _mending
from aqm_db.embedded._mending import is_whole
from aqm_db.embedded._units import read_units
from aqm_db.errors import EmbeddedServerError
from tests.support.diagnoses import FACES, diagnose, pick_finding
from tests.support.full_disks import read_all

BLOCK: Final = bytes(4096)
VALUE: Final = b"v" * 4096


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where a database may be made."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        yield Path(path).resolve() / "db"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the embedded server's part of the library logs."""
    caplog.set_level(logging.INFO, logger="aqm_db.embedded")
    return caplog


def command(*words: bytes) -> bytes:
    """A command as it is in a file."""
    parts = [b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)]
    return b"".join(parts)


SET: Final = command(b"SET", b"a", b"1")
SELECT: Final = command(b"SELECT", b"1")
BOTH: Final = command(b"MULTI") + SET + command(b"DEL", b"b") + command(b"EXEC")


# What is whole ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "end", "holes"),
    [
        (b"", 0, []),
        (SET + BOTH, len(SET + BOTH), []),
        (b"#TS:1800000000\r\n" + SET, 16 + len(SET), []),
        (command(b"SET", b"a", BLOCK), len(command(b"SET", b"a", BLOCK)), []),
        (command(b"set", b"multi"), len(command(b"set", b"multi")), []),
        # The end is missing, or zeroes.
        *((SET + SET[:cut], len(SET), []) for cut in range(len(SET))),
        *((SET + BOTH[:cut], len(SET), []) for cut in range(0, len(BOTH), 3)),
        *((SET + SET[:cut] + bytes(9), len(SET), []) for cut in range(len(SET))),
        *((SET + BOTH[:cut] + BLOCK, len(SET), []) for cut in range(0, len(BOTH), 3)),
        (BLOCK, 0, []),
        # Zeroes in the middle: between units nothing is missing, in one there is.
        (SET + BLOCK + BOTH, len(SET + BLOCK + BOTH), [(len(SET), len(SET + BLOCK))]),
        (SET + b"\0" + SET, len(SET + b"\0" + SET), [(len(SET), len(SET) + 1)]),
        (SET + bytes(3) + b"#TS:1\r\n", len(SET) + 10, [(len(SET), len(SET) + 3)]),
        (BLOCK + SET, len(BLOCK + SET), [(0, len(BLOCK))]),
        (SET + BLOCK + SET[:9], len(SET), []),
        (SET + BLOCK + BOTH[:-9], len(SET), []),
        (SET + BLOCK + b"garbage", len(SET), []),
        (SET + BLOCK + b"*garbage\r\n" + SET, len(SET), []),
        (SET + SET[:5] + BLOCK + SET[5:] + SET, len(SET), []),
        # What runs into zeroes is lost; behind them it goes on only where a database is selected.
        *((SET + unit[:7] + BLOCK + SET + BOTH, len(SET), []) for unit in (SET, BOTH)),
        *(
            (
                SET + unit[:cut] + BLOCK + BOTH + next_one + SET,
                len(SET + unit[:cut] + BLOCK + BOTH + next_one + SET),
                [(len(SET), len(SET + unit[:cut] + BLOCK + BOTH))],
            )
            for unit in (SET, BOTH)
            for cut in range(1, len(unit), 9)
            for next_one in (SELECT, command(b"MULTI") + SELECT + SET + command(b"EXEC"))
        ),
        (
            SET + SET[:7] + BLOCK + SELECT + SET[:7] + BLOCK + BOTH,
            len(SET + SET[:7] + BLOCK + SELECT),
            [(len(SET), len(SET + SET[:7] + BLOCK))],
        ),
        (SET + SET[:7] + BLOCK + SET + b"garbage\r\n", len(SET), []),
    ],
)
def test_what_is_whole(content: bytes, end: int, holes: list[tuple[int, int]]) -> None:
    """All up to the last whole unit, without zeroes for which nothing is missing."""
    reading = read_units(content)
    assert reading is not None
    assert (reading.end, list(reading.holes)) == (end, holes)


@pytest.mark.parametrize(
    "content",
    [
        SET + b"garbage\r\n" + SET,
        SET.replace(b"*3", b"*x"),
        SET.replace(b"$1", b"%1"),
        SET.replace(b"$3", b"$2"),
        SET.replace(b"SET\r\n", b"SET\0\n") + SET,
        SET.replace(b"$3", b"$\0") + SET,
        SET + b"*" + b"1" * 2000 + SET,
    ],
)
def test_other_damage(content: bytes) -> None:
    """What no disk does that was full or lost its power is told from what it does."""
    assert read_units(content) is None


# Databases ------------------------------------------------------------------------------------


def make_database(directory: Path, *, rewritten: bool = False) -> Path:
    """A database with two keys; its newest file."""
    with (
        EmbeddedServer.open(directory) as server,
        Redis(unix_socket_path=str(server.socket_path)) as client,
    ):
        if rewritten:
            client.bgrewriteaof()
        client.set("kept", "value")
        client.eval("redis.call('SET', 'late', 'x') redis.call('SET', 'later', ARGV[1])", 0, VALUE)
    [file] = (directory / "appendonlydir").glob("*.incr.aof")
    return file


def read_database(directory: Path) -> dict[bytes, bytes]:
    """What is in it, once it was opened."""
    with EmbeddedServer.open(directory) as server:
        return read_all(server)


def pick_record(log: pytest.LogCaptureFixture, event: str) -> dict[str, Any]:
    """The one record of an event."""
    [record] = [record for record in log.records if record.msg == event]
    return vars(record)


def find_late(content: bytes) -> int:
    """Where the transaction begins that a test spoils."""
    return content.index(command(b"MULTI"))


@pytest.mark.parametrize("zeroes", [1, 9, 100, 5000])
def test_an_end_of_zeroes(directory: Path, zeroes: int, log: pytest.LogCaptureFixture) -> None:
    """What a machine leaves that dies before it wrote its last blocks."""
    file = make_database(directory)
    whole = file.read_bytes()
    begin = find_late(whole)
    spoiled = whole[: max(begin, len(whole) - zeroes)].ljust(len(whole), b"\0")
    file.write_bytes(spoiled)
    assert read_database(directory) == {b"kept": b"value"}
    [kept] = (directory / "appendonlydir").glob("*.cut-*")
    assert kept.read_bytes() == spoiled[begin:]
    assert kept.stat().st_mode & 0o777 == 0o600
    record = pick_record(log, "file_cut_off")
    assert (record["path"], record["kept_in"]) == (str(file), str(kept))
    assert (record["position"], record["bytes"]) == (begin, len(whole) - begin)
    # It's whole from then on.
    assert read_database(directory) == {b"kept": b"value"}
    assert pick_record(log, "file_cut_off") == record


def test_a_value_that_ends_in_zeroes(directory: Path) -> None:
    """A command alone isn't taken for whole because a server would read its length of zeroes."""
    with (
        EmbeddedServer.open(directory) as server,
        Redis(unix_socket_path=str(server.socket_path)) as client,
    ):
        client.set("kept", "value")
        client.set("late", b"v" * 100)
    [file] = (directory / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(file.read_bytes()[:-60] + bytes(60))
    assert read_database(directory) == {b"kept": b"value"}


@pytest.mark.parametrize("cut", [1, 2, 30, 4100])
def test_an_end_that_is_missing(directory: Path, cut: int) -> None:
    """No half of a transaction is read, wherever it was cut."""
    file = make_database(directory)
    whole = file.read_bytes()
    begin = find_late(whole)
    file.write_bytes(whole[:-cut])
    assert read_database(directory) == {b"kept": b"value"}
    [kept] = (directory / "appendonlydir").glob("*.cut-*")
    assert kept.read_bytes() == whole[begin:-cut]


def test_one_cut_after_another(directory: Path) -> None:
    """What was cut off before stays as it is."""
    file = make_database(directory)
    for number in range(3):
        file.write_bytes(file.read_bytes() + b"*%d" % number)
        EmbeddedServer.open(directory).close()
    assert read_database(directory)[b"kept"] == b"value"
    kept = EmbeddedServer.open(directory).examine_disk().cut_off
    assert [path.read_bytes() for path in kept] == [b"*0", b"*1", b"*2"]
    assert [path.name for path in kept] == [f"{file.name}.cut-{number}" for number in (1, 2, 3)]


def test_zeroes_in_the_middle(directory: Path, log: pytest.LogCaptureFixture) -> None:
    """What a full disk leaves between two commands is taken out, and nothing is lost."""
    file = make_database(directory)
    whole = file.read_bytes()
    begin = find_late(whole)
    file.write_bytes(whole[:begin] + BLOCK + whole[begin:])
    assert read_database(directory) == {b"kept": b"value", b"late": b"x", b"later": VALUE}
    assert pick_record(log, "file_mended")["bytes"] == len(BLOCK)
    assert file.read_bytes() == whole
    assert file.stat().st_mode & 0o777 == 0o600
    assert EmbeddedServer.open(directory).examine_disk().cut_off == ()


def test_a_large_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It's copied by pieces."""
    monkeypatch.setattr(_mending, "_PIECE", 100)
    file = make_database(directory)
    whole = file.read_bytes()
    begin = find_late(whole)
    file.write_bytes(whole[:begin] + BLOCK + whole[begin:] + BLOCK + SET + BLOCK)
    assert read_database(directory) == {
        b"kept": b"value",
        b"late": b"x",
        b"later": VALUE,
        b"a": b"1",
    }
    assert file.read_bytes() == whole + SET
    [kept] = (directory / "appendonlydir").glob("*.cut-*")
    assert kept.read_bytes() == BLOCK


def test_zeroes_in_a_command(directory: Path) -> None:
    """Where something is missing, all behind it is cut off."""
    file = make_database(directory)
    whole = file.read_bytes()
    begin = find_late(whole)
    spoiled = whole[: begin + 40] + bytes(500) + whole[begin + 540 :] + SET
    file.write_bytes(spoiled)
    assert read_database(directory) == {b"kept": b"value"}
    [kept] = (directory / "appendonlydir").glob("*.cut-*")
    assert kept.read_bytes() == spoiled[begin:]


def test_several_files(directory: Path) -> None:
    """Behind an end that is missing nothing is read, of a newer file neither."""
    file = make_database(directory)
    whole = file.read_bytes()
    newer, empty = (file.with_name(f"appendonly.aof.{number}.incr.aof") for number in (2, 3))
    newer.write_bytes(command(b"SELECT", b"0") + SET)
    empty.touch()
    with (file.parent / "appendonly.aof.manifest").open("a") as manifest:
        for number, path in enumerate((newer, empty), 2):
            manifest.write(f"file {path.name} seq {number} type i\n")
    content = read_database(directory)
    assert content[b"a"] == b"1"
    file.write_bytes(whole[:-5])
    assert read_database(directory) == {b"kept": b"value"}
    kept = {path.name: path.read_bytes() for path in file.parent.glob("*.cut-*")}
    assert kept == {
        f"{file.name}.cut-1": whole[find_late(whole) : -5],
        f"{newer.name}.cut-1": command(b"SELECT", b"0") + SET,
    }


@pytest.mark.parametrize(
    ("content", "has"),
    [
        (b"", True),
        (SELECT + SET, True),
        (SELECT + BLOCK + SET, False),
        (BLOCK + SELECT + SET, False),
        (SELECT + SET[:-3], False),
        (SELECT + SET + b"garbage\r\n" + SET, False),
        (SELECT + SET[:-3] + BLOCK + SELECT + SET, False),
        (SET + SELECT, False),
    ],
)
def test_whether_all_is_there(directory: Path, content: bytes, has: bool) -> None:  # noqa: FBT001
    """Only then a server may end that couldn't write its file anew."""
    make_database(directory).write_bytes(content)
    assert is_whole(directory) is has


def add_file(file: Path, content: bytes) -> Path:
    """Adds a newer file to a database."""
    newer = file.with_name("appendonly.aof.2.incr.aof")
    newer.write_bytes(content)
    with (file.parent / "appendonly.aof.manifest").open("a") as manifest:
        manifest.write(f"file {newer.name} seq 2 type i\n")
    return newer


def test_what_a_rewrite_left_over(directory: Path) -> None:
    """A server that can't write while it begins a new file writes there what is of the last one."""
    file = make_database(directory)
    file.write_bytes(command(b"SELECT", b"1") + SET)
    newer = add_file(file, command(b"SET", b"b", b"2") + SELECT + BOTH)
    with (
        EmbeddedServer.open(directory) as server,
        Redis(unix_socket_path=str(server.socket_path), db=1) as client,
    ):
        assert read_all(server) == {}
        assert client.keys() == [b"a"]
    assert newer.read_bytes() == SELECT + command(b"SET", b"b", b"2") + SELECT + BOTH


def test_what_a_rewrite_has(directory: Path) -> None:
    """What such a server wrote late is in the base already, if there's no other file."""
    file = make_database(directory)
    twice = command(b"INCR", b"c") + BLOCK + command(b"INCR", b"c")
    file.write_bytes(twice + SELECT + SET)
    with (
        EmbeddedServer.open(directory) as server,
        Redis(unix_socket_path=str(server.socket_path), db=1) as client,
    ):
        assert read_all(server) == {}
        assert client.keys() == [b"a"]
        [kept] = server.examine_disk().cut_off
    assert file.read_bytes() == SELECT + SET
    assert kept.read_bytes() == twice


def test_no_room_to_keep_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be kept isn't cut off, and the error says why."""

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    file = make_database(directory)
    spoiled = file.read_bytes()[:-5]
    file.write_bytes(spoiled)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(EmbeddedServerError, match="can't use.*No space left"):
            EmbeddedServer.open(directory)
    assert file.read_bytes() == spoiled
    assert read_database(directory) == {b"kept": b"value"}
    assert [path.name for path in file.parent.glob("*.cut-*")] == [f"{file.name}.cut-1"]


def test_damage_that_is_not_mended(directory: Path) -> None:
    """Files that are damaged in another way are refused, as they are."""
    file = make_database(directory)
    spoiled = SET + b"garbage\r\n" + file.read_bytes() + BLOCK
    file.write_bytes(spoiled)
    with pytest.raises(EmbeddedServerError, match=r"ended while it started.*Bad file format"):
        EmbeddedServer.open(directory)
    assert file.read_bytes() == spoiled
    assert not list(file.parent.glob("*.cut-*"))


def test_a_file_that_is_gone(directory: Path) -> None:
    """A missing file is the server's to refuse."""
    make_database(directory).unlink()
    with pytest.raises(EmbeddedServerError, match="ended while it started"):
        EmbeddedServer.open(directory)


@pytest.mark.asyncio
@FACES
async def test_doctor(face: str, directory: Path) -> None:
    """It tells what was cut off, and where that is, until it was deleted."""
    url = f"embedded://{directory}"
    file = make_database(directory)
    assert pick_finding(await diagnose(face, url), "files").severity == "ok"
    file.write_bytes(file.read_bytes() + BLOCK)
    finding = pick_finding(await diagnose(face, url), "files")
    assert finding.severity == "warning"
    kept = file.with_name(f"{file.name}.cut-1")
    assert re.search(re.escape(str(kept)), finding.message)
    kept.unlink()
    assert pick_finding(await diagnose(face, url), "files").severity == "ok"
