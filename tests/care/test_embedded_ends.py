"""How an embedded server ends that nobody stops, how it's found, and what it leaves behind."""

import asyncio
import errno
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aqm_db
from aqm_db.embedded import EmbeddedServer, _log, _server, _server_file, _share, _socket_place
from aqm_db.errors import EmbeddedServerError
from tests.support.embedded_programs import (
    Program,
    call,
    exists,
    kill,
    pid_of,
    runs,
    wait_for_death,
)
from tests.support.waiting import eventually


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where a database may be made; its path is short enough for a socket on macOS, too."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        yield Path(path).resolve() / "db"


# With its last user -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.skipif(not hasattr(fcntl, "F_SETSIG"), reason="only Linux tells it")
def test_it_ends_with_its_last_user(directory: Path, number: signal.Signals) -> None:
    """However programs end, the last one takes the server with it, and nothing is lost."""
    with Program(directory) as starter, Program(directory) as other:
        pid = starter.open()
        assert other.open() == pid
        starter.die(number)
        with EmbeddedServer.open(directory) as server:
            call(server, "SET", "key", "value")
        assert exists(pid)
        other.die(number)
        wait_for_death(pid)
    assert not runs(directory)
    with EmbeddedServer.open(directory) as server:
        assert call(server, "GET", "key") == b"value"


@pytest.mark.skipif(not hasattr(fcntl, "F_SETSIG"), reason="only Linux tells it")
def test_its_starter_closes_before(directory: Path) -> None:
    """It's the last user that counts, not who started it."""
    with Program(directory) as other:
        with EmbeddedServer.open(directory):
            pid = other.open()
        other.die(signal.SIGKILL)
        wait_for_death(pid)


@pytest.mark.skipif(not hasattr(fcntl, "F_SETSIG"), reason="only Linux tells it")
def test_a_forked_worker_keeps_it_when_its_parent_dies(directory: Path) -> None:
    """A worker may be at work on the server after a parent that couldn't close."""
    with Program(directory) as program:
        pid = program.open()
        program.say("fork an orphan")
        worker = int(program.hear())
        program.die(signal.SIGKILL)
        assert exists(pid)
        os.kill(worker, signal.SIGKILL)
        wait_for_death(pid)


@pytest.mark.skipif(not hasattr(fcntl, "F_SETSIG"), reason="only Linux tells it")
def test_the_pipe_is_removed_meanwhile(directory: Path) -> None:
    """Whoever joins makes it anew; it's the next server that hangs on that one."""
    with EmbeddedServer.open(directory) as server, Program(directory) as other:
        (directory / "aqm_db.alive").unlink()
        pid = other.open()
        kill(pid)
        server.revive()
        second = pid_of(server)
        other.die(signal.SIGKILL)
        assert exists(second)


@pytest.mark.parametrize("missing", ["F_SETSIG", "F_SETOWN"])
def test_a_system_that_tells_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Where the kernel tells nobody, the server lives until it's stopped."""
    if missing == "F_SETSIG":
        monkeypatch.delattr(fcntl, missing, raising=False)
    else:
        monkeypatch.setattr(fcntl, missing, -1)
    with EmbeddedServer.open(directory) as server:
        pid = pid_of(server)
    assert not exists(pid)


@pytest.mark.skipif(not hasattr(fcntl, "F_SETSIG"), reason="only Linux tells it")
def test_who_comes_while_it_ends(directory: Path) -> None:
    """Whoever opens a directory just after its last user died gets a server that stays."""
    for _ in range(3):
        with Program(directory) as program:
            first = program.open()
            # It comes to its signals when it goes on.
            os.kill(first, signal.SIGSTOP)
            program.die(signal.SIGKILL)
        os.kill(first, signal.SIGCONT)
        with EmbeddedServer.open(directory) as server:
            wait_for_death(first)
            assert pid_of(server) != first


def test_a_lock_of_a_dead_process(directory: Path) -> None:
    """What a worker was forked with in the middle of a start holds up nobody."""
    with Program(directory) as program:
        program.open()
        program.say("take the switch")
        assert program.hear() == "taken"
        program.say("fork an orphan")
        worker = int(program.hear())
        program.die(signal.SIGKILL)
        try:
            with EmbeddedServer.open(directory, start_timeout=5) as server:
                assert call(server, "PING")
        finally:
            os.kill(worker, signal.SIGKILL)


# A server that can't be reached -----------------------------------------------------------


def test_the_socket_is_removed(directory: Path) -> None:
    """A living server without a socket ends in order, and another one takes its place."""
    with EmbeddedServer.open(directory) as older, Program(directory) as other:
        call(older, "SET", "key", "value")
        older.socket_path.unlink()
        assert other.open() == pid_of(older)
        assert call(older, "GET", "key") == b"value"


def test_something_else_is_in_the_place_of_the_socket(directory: Path) -> None:
    """A file that nobody listens on is as good as none."""
    with EmbeddedServer.open(directory) as older:
        older.socket_path.unlink()
        older.socket_path.touch()
        with EmbeddedServer.open(directory, start_timeout=5) as newer:
            assert pid_of(newer) == pid_of(older)


def test_a_database_whose_socket_is_removed(directory: Path) -> None:
    """A database makes do without the socket until it needs one."""

    async def work() -> None:
        async with aqm_db.connect(f"embedded://{directory}") as db:
            (directory / "aqm_db.sock").unlink()
            assert await db.vault.exists("k") is False
            clients: Any = db.resources.clients
            for client in clients:
                await client.connection_pool.disconnect()
            assert (await db.health()).vault_connected

    asyncio.run(work())
    assert not runs(directory)


def test_the_last_one_out_stops_it_without_a_socket(directory: Path) -> None:
    """A server that was joined ends though nobody can ask it to."""
    with Program(directory) as starter:
        pid = starter.open()
        with EmbeddedServer.open(directory) as server:
            starter.die(signal.SIGKILL)
            server.socket_path.unlink()
        assert not exists(pid)
    assert not runs(directory)


def test_a_rewrite_outlives_its_server(directory: Path) -> None:
    """What rewrites the file of a server that was killed has its lock; nobody waits for it."""
    with EmbeddedServer.open(directory) as server, Program(directory) as other:
        call(server, "SET", "key", "value")
        call(server, "CONFIG", "SET", "rdb-key-save-delay", 60_000_000)
        call(server, "BGREWRITEAOF")
        eventually(lambda: call(server, "INFO", "persistence")["aof_rewrite_in_progress"])
        first = pid_of(server)
        os.kill(first, signal.SIGKILL)
        assert runs(directory)
        assert other.open() != first
        assert call(server, "GET", "key") == b"value"


def test_a_process_that_ends_just_now(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be gone when it's told to end; and where nothing tells, whoever is there lives."""
    EmbeddedServer.open(directory).close()
    with _server_file.ServerFile(directory) as file:
        with subprocess.Popen([sys.executable, "-c", ""], start_new_session=True) as ended:
            pass
        file.note_server(ended.pid)
        file.end_server()
        with subprocess.Popen(["sleep", "60"]) as living:  # noqa: S607 - POSIX has it on the path
            file.note_server(living.pid)
            monkeypatch.setattr(Path, "read_bytes", refuse)
            file.end_server()
            assert living.wait() == -signal.SIGTERM


def refuse(_: object, *_args: object) -> Any:
    """Stand for what the system doesn't allow."""
    raise PermissionError(errno.EACCES, "Permission denied")


def test_nobody_knows_which_process_it_is(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that can't be told to end is waited for; a full disk takes no note of it."""
    monkeypatch.setattr(os, "ftruncate", refuse)
    monkeypatch.setattr(_share, "_STOP_SECONDS", 1.0)
    monkeypatch.setattr(_share, "_UNREACHABLE_SECONDS", 0.0)
    with EmbeddedServer.open(directory) as server:
        socket_path = server.socket_path.rename(directory / "elsewhere")
        with pytest.raises(EmbeddedServerError, match=r"didn't answer for 0\.1 seconds"):
            EmbeddedServer.open(directory, start_timeout=0.1)
        socket_path.rename(server.socket_path)
    assert not runs(directory)


def test_a_socket_that_is_not_to_be_connected_to(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this process may not do won't be allowed by waiting, and is said at once."""
    with EmbeddedServer.open(directory) as server, monkeypatch.context() as patch:

        class Socket(socket.socket):
            connect = refuse

        patch.setattr(socket, "socket", Socket)
        with pytest.raises(EmbeddedServerError, match="can't use .*: .*Permission denied"):
            EmbeddedServer.open(directory)
        patch.undo()
        assert call(server, "PING")


def test_a_socket_on_which_many_wait(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has no room for another connection is there."""
    with EmbeddedServer.open(directory) as server:

        class Socket(socket.socket):
            def connect(self, _: object) -> None:
                raise BlockingIOError

        monkeypatch.setattr(socket, "socket", Socket)
        assert _server.is_reachable(server.socket_path)
        monkeypatch.undo()


# Long paths -------------------------------------------------------------------------------


@pytest.fixture
def long_directory(tmp_path: Path) -> Path:
    """A path that doesn't fit a socket's address."""
    return tmp_path / ("d" * 120)


@pytest.fixture
def short_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of temporary files, so short that a socket fits in."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        monkeypatch.setattr(tempfile, "tempdir", path)
        yield Path(path)


@pytest.fixture
def no_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that has no short names for open directories."""
    monkeypatch.setattr(_socket_place, "_DESCRIPTORS", Path("/nowhere"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux has it")
def test_long_path(long_directory: Path, short_temp: Path) -> None:
    """The socket is in the directory, for programs with any environment."""
    with EmbeddedServer.open(long_directory) as server, Program(long_directory) as other:
        assert (long_directory / "aqm_db.sock").is_socket()
        assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o700
        call(server, "SET", "key", "value")
        assert other.open(TMPDIR="/nowhere") == pid_of(server)
        kill(pid_of(server))
        server.revive()
        assert call(server, "GET", "key") == b"value"
    assert not (long_directory / "aqm_db.sock").exists()
    assert list(short_temp.iterdir()) == []


@pytest.mark.usefixtures("no_shortcut")
def test_elsewhere(long_directory: Path, short_temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the path can't be shortened, whoever starts the server notes where the socket is."""
    note = long_directory / "aqm_db.place"
    with EmbeddedServer.open(long_directory) as server:
        folder = server.socket_path.parent
        assert folder.parent == short_temp
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(note.stat().st_mode) == 0o600
        call(server, "SET", "key", "value")
        with monkeypatch.context() as patch, tempfile.TemporaryDirectory(prefix="t") as other:
            patch.setattr(tempfile, "tempdir", other)
            with EmbeddedServer.open(long_directory) as joined:
                assert joined.socket_path == server.socket_path
                # What clears away temporary files leaves a server that nobody finds.
                server.socket_path.unlink()
                folder.rmdir()
                server.revive()
                joined.revive()
                assert server.socket_path == joined.socket_path
                assert call(joined, "GET", "key") == b"value"
            server.close()
            assert list(Path(other).iterdir()) == []
    assert list(short_temp.iterdir()) == []
    assert not note.exists()


@pytest.mark.usefixtures("no_shortcut")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"/etc/passwd",
        b"{folder}/of/another/database/aqm_db.sock",
        b"{folder}/another.sock",
        b"{gone}/aqm_db.sock",
    ],
)
def test_a_note_that_is_not_to_be_trusted(
    long_directory: Path, short_temp: Path, content: bytes
) -> None:
    """What is noted counts if it's where this directory's socket would be, in a private place."""
    with EmbeddedServer.open(long_directory) as server:
        folder = server.socket_path.parent
    names = {b"{folder}": os.fsencode(folder), b"{gone}": os.fsencode(f"/gone/{folder.name}")}
    for name, path in names.items():
        content = content.replace(name, path)
    (long_directory / "aqm_db.place").write_bytes(content)
    with EmbeddedServer.open(long_directory) as server:
        assert server.socket_path.parent == folder
        assert folder.parent == short_temp


@pytest.mark.usefixtures("no_shortcut")
@pytest.mark.parametrize("trap", ["link", "file", "open to others"])
def test_socket_folder_of_someone_else(
    tmp_path: Path, long_directory: Path, short_temp: Path, trap: str
) -> None:
    """A link, a file or an open directory where the socket would go is refused."""
    with EmbeddedServer.open(long_directory) as server:
        folder = server.socket_path.parent
    match trap:
        case "link":
            tmp_path.chmod(0o700)
            folder.symlink_to(tmp_path)
        case "file":
            folder.touch(0o700)
        case _:
            folder.mkdir()
            folder.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match="isn't a private directory of this user"):
        EmbeddedServer.open(long_directory)
    assert [path.name for path in short_temp.iterdir()] == [folder.name]


@pytest.mark.usefixtures("no_shortcut")
def test_socket_folder_of_another_user(
    long_directory: Path, short_temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A private directory of another user is refused."""
    user = os.geteuid()
    with EmbeddedServer.open(long_directory) as server:
        folder = server.socket_path.parent
    folder.mkdir(mode=0o700)
    real = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        status = real(path)
        return os.stat_result((*status[:4], user + 1, *status[5:])) if path == folder else status

    monkeypatch.setattr(Path, "lstat", lstat)
    with pytest.raises(EmbeddedServerError, match="isn't a private directory of this user"):
        EmbeddedServer.open(long_directory)
    assert list(short_temp.iterdir()) == [folder]


@pytest.mark.usefixtures("no_shortcut")
def test_no_short_path_at_all(
    tmp_path: Path, long_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the directory of temporary files is too long as well, the error says so."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("t" * 100)))
    with pytest.raises(EmbeddedServerError, match="too long a path for a socket"):
        EmbeddedServer.open(long_directory)


# The log ----------------------------------------------------------------------------------


def test_rewrites_leave_the_log_as_it_is(directory: Path) -> None:
    """A server that runs writes warnings, and nothing of what it does from day to day."""
    with EmbeddedServer.open(directory) as server:
        size = (directory / "aqm_db.log").stat().st_size
        for number in range(3):
            call(server, "SET", "key", number)
            call(server, "BGREWRITEAOF")
            eventually(lambda: is_rewritten(server))
        assert (directory / "aqm_db.log").stat().st_size == size


def is_rewritten(server: EmbeddedServer) -> bool:
    """Whether no rewrite is to come or under way."""
    facts = call(server, "INFO", "persistence")
    return not (facts["aof_rewrite_in_progress"] or facts["aof_rewrite_scheduled"])


def test_a_long_log_is_cut(directory: Path) -> None:
    """What a server writes is kept up to a size, and its last lines stay where they are."""
    with EmbeddedServer.open(directory) as server:
        log, before = directory / "aqm_db.log", directory / "aqm_db.log.1"
        lines = b"".join(b"%7d\n" % number for number in range(40_000))
        log.write_bytes(lines)
        for way in (server.trim_log, server.revive, lambda: EmbeddedServer.open(directory).close()):
            way()
            assert log.stat().st_size <= 4096
            assert log.read_text().splitlines()[-1].strip() == "39999"
            assert before.read_bytes().endswith(b"  39999\n")
            assert before.stat().st_size <= 256 * 1024
            assert all(len(line) == 7 for line in before.read_text().splitlines())
            assert stat.S_IMODE(before.stat().st_mode) == 0o600
            log.write_bytes(lines)
        call(server, "CONFIG", "SET", "loglevel", "notice")
    # The server goes on at the end.
    assert "bye bye" in _log.quote_log(directory)


def test_a_log_that_is_not_there(directory: Path) -> None:
    """Whoever removed it has the next server make one."""
    with EmbeddedServer.open(directory) as server:
        (directory / "aqm_db.log").unlink()
        server.trim_log()
    EmbeddedServer.open(directory).close()
    assert (directory / "aqm_db.log").exists()
