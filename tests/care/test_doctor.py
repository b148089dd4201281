"""``doctor``: each finding in each severity, on real servers where one can be brought to it."""

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase, sync
from aqm_db.doctor import Diagnosis, Finding
from aqm_db.doctor._support import ENDS
from aqm_db.errors import (
    AccessDeniedError,
    InventoryUnavailableError,
    UnavailableError,
    VaultUnavailableError,
)
from tests.support.backends import (
    REAL_BACKENDS,
    REDIS_6,
    VALKEY_9,
    Backend,
    RunningServer,
    Servers,
)
from tests.support.certificates import certificate_in
from tests.support.diagnoses import FACES, OWN, at, diagnose, pick_finding, socket_url
from tests.support.peers import Cutter, ScriptedServer, listening, listening_on_loopback

ANYWHERE = "0.0.0.0"  # noqa: S104 - as a client's, it reaches this machine and isn't known to


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Persistence -------------------------------------------------------------------------------


@pytest.mark.asyncio
@FACES
@OWN
@pytest.mark.parametrize(
    ("appendonly", "save", "severity", "words"),
    [
        ("yes", "", "ok", "append-only file"),
        ("no", "", "error", "neither an append-only file nor a snapshot"),
        ("no", "900 1", "error", "back to the last snapshot"),
    ],
)
async def test_persistence(
    face: str, kind: Backend, appendonly: str, save: str, severity: str, words: str
) -> None:
    """Without an append-only file, a crash hands out coins again, or loses everything."""
    with RunningServer(kind, "--appendonly", appendonly) as server:
        with server.sync_client(0) as admin:
            admin.config_set("save", save)
        diagnosis = await diagnose(face, socket_url(server))
    finding = pick_finding(diagnosis, "persistence")
    assert (finding.severity, words in finding.message) == (severity, True)
    assert diagnosis.severity == "error" or severity == "ok"
    names = [finding.name for finding in diagnosis.findings]
    assert ("loss_window" in names) is (severity == "ok")


@pytest.mark.asyncio
@FACES
@OWN
@pytest.mark.parametrize(
    ("appendfsync", "severity", "words"),
    [
        ("always", "ok", "on the disk"),
        ("everysec", "warning", "last second"),
        ("no", "error", "half a minute"),
    ],
)
async def test_loss_window(
    face: str, kind: Backend, appendfsync: str, severity: str, words: str
) -> None:
    """How often the file is flushed is what a crash of the machine may lose."""
    with RunningServer(kind, "--appendonly", "yes", "--appendfsync", appendfsync) as server:
        diagnosis = await diagnose(face, socket_url(server))
    finding = pick_finding(diagnosis, "loss_window")
    assert (finding.severity, words in finding.message) == (severity, True)
    # Of recovery Redis 6.2 is warned whatever its settings are.
    found = {each.severity for each in diagnosis.findings if each.name != "recovery"}
    assert found == {"ok", severity}


@pytest.mark.asyncio
@FACES
@pytest.mark.parametrize("backend", REAL_BACKENDS, ids=lambda backend: backend.name)
async def test_recovery(face: str, backend: Backend) -> None:
    """Most servers leave what a crash breaks off in their file, and go on behind it."""
    with RunningServer(backend, "--appendonly", "yes", "--appendfsync", "always") as server:
        finding = pick_finding(await diagnose(face, socket_url(server)), "recovery")
    assert finding.severity == ("ok" if backend is VALKEY_9 else "warning")
    assert ("redis-check-aof" in finding.remedy) is (backend is not VALKEY_9)


@pytest.mark.asyncio
@FACES
async def test_memory_keeps_nothing(face: str) -> None:
    """A database in this process is no place for keys, and nothing else can be said of it."""
    diagnosis = await diagnose(face, "memory://")
    assert pick_finding(diagnosis, "persistence").severity == diagnosis.severity == "warning"
    assert len(diagnosis.findings) == 1


@pytest.mark.asyncio
@FACES
async def test_the_embedded_server_is_sound(face: str, tmp_path: Path) -> None:
    """Of what this library sets up itself, the loss window is all that there is to say."""
    diagnosis = await diagnose(face, f"embedded://{tmp_path}/db", allow_unsafe=False)
    assert diagnosis.severity == "warning"
    assert [finding.name for finding in diagnosis.findings if finding.severity != "ok"] == [
        "loss_window"
    ]


# Eviction, replicas, versions, memory, disks -----------------------------------------------


@pytest.mark.asyncio
@FACES
@OWN
@pytest.mark.parametrize(
    ("policy", "limit", "severity"),
    [
        ("noeviction", "0", "ok"),
        ("noeviction", "100mb", "ok"),
        ("allkeys-lru", "0", "warning"),
        ("allkeys-lru", "100mb", "error"),
        ("volatile-ttl", "100mb", "error"),
    ],
)
async def test_eviction(
    face: str, own_server: RunningServer, policy: str, limit: str, severity: str
) -> None:
    """A policy evicts once there is a limit; private halves expire, so a volatile one does too."""
    with own_server.sync_client(0) as admin:
        admin.config_set("maxmemory-policy", policy)
        admin.config_set("maxmemory", limit)
    finding = pick_finding(await diagnose(face, socket_url(own_server)), "eviction")
    assert finding.severity == severity
    if severity != "ok":
        assert f"maxmemory-policy is {policy}" in finding.message
        assert finding.remedy == "Set maxmemory-policy to noeviction."


@pytest.mark.asyncio
@FACES
@OWN
@pytest.mark.parametrize("writable", ["yes", "no"])
async def test_replica(face: str, kind: Backend, writable: str) -> None:
    """A replica is an error whether it refuses writes or loses them; what it was before is not."""
    port = str(free_port())
    options = ("--replicaof", "127.0.0.1", port, "--replica-read-only", writable)
    with (
        RunningServer(kind, "--port", port, "--bind", "127.0.0.1") as primary,
        RunningServer(kind, *options) as replica,
    ):
        assert pick_finding(await diagnose(face, socket_url(primary)), "replica").severity == "ok"
        finding = pick_finding(await diagnose(face, socket_url(replica)), "replica")
        assert finding.severity == "error"
        assert "REPLICAOF NO ONE" in finding.remedy
        with replica.sync_client(0) as admin:
            admin.replicaof("NO", "ONE")
        assert pick_finding(await diagnose(face, socket_url(replica)), "replica").severity == "ok"


@pytest.mark.asyncio
@pytest.mark.parametrize("backend", REAL_BACKENDS, ids=lambda backend: backend.name)
async def test_version(backend: Backend, servers: Servers) -> None:
    """Every server that is supported is known by its own name and version, and its support."""
    url = socket_url(servers[backend])
    kind, _, version = backend.name.partition("-")
    finding = pick_finding(await diagnose("aio", url), "version")
    assert finding.severity == "ok"
    assert f"{kind.capitalize()} {version}." in finding.message
    end = ENDS[kind.capitalize()][parse(version)]
    finding = pick_finding(await diagnose("aio", url, clock=at(2035, 1, 1)), "version")
    assert finding.severity == ("ok" if end is None else "warning")
    assert f"{kind.capitalize()} {version}." in finding.message
    assert (f"out of support since {end}" in finding.message) is (end is not None)


@pytest.mark.asyncio
@FACES
@pytest.mark.parametrize(
    ("product", "version", "day", "words", "remedy"),
    [
        ("redis", "8.0.6", (2026, 11, 30), "Redis 8.0.6.", ""),
        (
            *("redis", "8.0.6", (2026, 12, 1), "out of support since 2026-12-01"),
            "Use Redis 6.2, 7.2, 7.4, 8.2, 8.4, 8.6, 8.8 or 8.10, which are supported (as of 2026-",
        ),
        ("redis", "7.0.15", (2026, 11, 28), "since 2024-07-29", "Use Redis 6.2, 7.2"),
        ("redis", "6.2.21", (2027, 4, 1), "since 2027-04-01", "Use Redis 7.2, 7.4, 8.2"),
        ("redis", "7.2.4", (2026, 11, 28), "Redis 7.2.4.", ""),
        ("redis", "8.2.3", (2030, 8, 31), "Redis 8.2.3.", ""),
        ("redis", "8.10.1", (2026, 11, 28), "Redis 8.10.1.", ""),
        # What the table lacks: between its series, and beyond them.
        ("redis", "8.1.0", (2026, 11, 28), "which is out of support:", "Use Redis 6.2"),
        ("redis", "8.12.0", (2026, 11, 28), "isn't known here yet (as of 2026-11-28)", ""),
        ("redis", "10.0-rc1", (2026, 11, 28), "Redis 10.0-rc1, which isn't known", ""),
        ("valkey", "7.2.11", (2029, 4, 15), "Valkey 7.2.11.", ""),
        ("valkey", "7.2.11", (2029, 4, 16), "since 2029-04-16", "Use Valkey 8.1 or 9.1,"),
        ("valkey", "8.0.6", (2027, 9, 15), "2027-09-15", "Use Valkey 7.2, 8.1, 9.0 or 9.1,"),
        ("valkey", "9.0.0", (2028, 10, 21), "2028-10-21", "Use Valkey 7.2, 8.1 or 9.1,"),
        ("valkey", "8.1.5", (2030, 3, 31), "2030-03-31", "Use Valkey 9.1, "),
        ("valkey", "9.1.2", (2040, 1, 1), "Valkey 9.1.2.", ""),
        ("valkey", "9.2.0", (2026, 11, 28), "isn't known here yet", ""),
        ("valkey", "255.255.255", (2026, 11, 28), "isn't known here yet", ""),
        ("valkey", "9" * 5000, (2026, 11, 28), "isn't known here yet", ""),
        ("valkey", "unstable", (2026, 11, 28), "isn't known here yet", ""),
        ("valkey", "8.1-rc1", (2026, 11, 28), "Valkey 8.1-rc1.", ""),
    ],
)
async def test_support(
    face: str,
    tmp_path: Path,
    product: str,
    version: str,
    day: tuple[int, int, int],
    words: str,
    remedy: str,
) -> None:
    """Who gets no fixes any more hears so, and of what is supported instead."""
    answer = telling(HEALTHY | {f"{product}_version": version})
    finding = pick_finding(await told_by(face, tmp_path, answer, clock=at(*day)), "version")
    assert words in finding.message
    assert finding.severity == ("warning" if remedy else "ok")
    assert finding.remedy.startswith(remedy)


def parse(version: str) -> tuple[int, ...]:
    """A version as numbers."""
    return tuple(map(int, version.split(".")[:2]))


@pytest.mark.asyncio
@FACES
@OWN
@pytest.mark.parametrize(
    ("percent", "severity"), [(0, "ok"), (50, "ok"), (88, "warning"), (120, "error")]
)
async def test_memory(face: str, own_server: RunningServer, percent: int, severity: str) -> None:
    """A server that is nearly full will refuse keys soon."""
    with own_server.sync_client(0) as admin:
        # More than what the clients of a test take, and without a buffer for it.
        admin.setrange("ballast", 30_000_000, "x")
        used: Any = admin.info("memory")
        limit = used["used_memory"] * 100 // percent if percent else 0
        admin.config_set("maxmemory", limit)
    finding = pick_finding(await diagnose(face, socket_url(own_server)), "memory")
    assert finding.severity == severity
    assert (f"{percent} percent" if percent else "no limit") in finding.message


async def ended(admin: Redis, *fields: str) -> None:
    """Returns when the server is no longer at something."""
    busy = True
    while busy:
        info = await admin.info("persistence")
        busy = any(info[field] for field in fields)


@pytest.mark.asyncio
@FACES
@OWN
async def test_a_disk_that_fails(face: str, kind: Backend, tmp_path: Path) -> None:
    """A server that can't save refuses writes; one that can't rewrite keeps burned ciphertext."""
    directory = tmp_path / "data"
    directory.mkdir()
    with RunningServer(kind, "--dir", str(directory)) as server:
        assert pick_finding(await diagnose(face, socket_url(server)), "disk").severity == "ok"
        directory.rmdir()
        admin = server.client(0)
        # Valkey can't even begin, and says so.
        with suppress(redis.ResponseError):
            await admin.bgrewriteaof()
        await ended(admin, "aof_rewrite_in_progress", "aof_rewrite_scheduled")
        finding = pick_finding(await diagnose(face, socket_url(server)), "disk")
        assert (finding.severity, "rewrite" in finding.message) == ("warning", True)
        await admin.bgsave()
        await ended(admin, "rdb_bgsave_in_progress")
        finding = pick_finding(await diagnose(face, socket_url(server)), "disk")
        assert (finding.severity, "snapshot" in finding.message) == ("error", True)
        await admin.aclose()


HEALTHY = {
    "run_id": "1",
    "redis_version": "7.2.4",
    "tcp_port": "0",
    "role": "master",
    "used_memory": "1",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "rdb_last_bgsave_status": "ok",
}


def telling(facts: dict[str, str], denial: bytes = b"") -> Callable[[list[bytes]], bytes]:
    """A server that tells nothing but its INFO."""
    info = "\r\n".join(["# All", *(f"{name}:{value}" for name, value in facts.items())]).encode()

    def answer(command: list[bytes]) -> bytes:
        if command[0] == b"INFO":
            return b"$%d\r\n%b\r\n" % (len(info), info)
        if command[0] == b"PING":
            return b"+PONG\r\n"
        return denial or b"-ERR unknown command 'x'\r\n"

    return answer


async def told_by(
    face: str, tmp_path: Path, answer: Callable[[list[bytes]], bytes], **options: Any
) -> Diagnosis:
    """What the doctor says of a server that answers so."""
    path = tmp_path / "s"
    async with listening(ScriptedServer(answer), path):
        return await diagnose(face, f"unix://{path}?protocol=2", **options)


@pytest.mark.asyncio
@FACES
@pytest.mark.parametrize(
    ("fact", "name", "severity", "words"),
    [
        ({"aof_last_write_status": "err"}, "disk", "error", "refuses writes"),
        ({"redis_version": "6.0.16"}, "version", "error", "Redis 6.0.16"),
        ({"redis_version": "5.0"}, "version", "error", "Redis 5.0"),
        ({"redis_version": "unstable"}, "version", "error", "Redis unstable"),
        ({"maxmemory": "lots"}, "memory", "ok", "no limit"),
    ],
)
async def test_what_no_server_here_says(
    face: str, tmp_path: Path, fact: dict[str, str], name: str, severity: str, words: str
) -> None:
    """An old version, a full disk, and a number that is none."""
    finding = pick_finding(await told_by(face, tmp_path, telling(HEALTHY | fact)), name)
    assert (finding.severity, words in finding.message) == (severity, True)


# What a server doesn't tell ----------------------------------------------------------------


@pytest.mark.asyncio
@FACES
@OWN
async def test_what_may_not_be_asked(face: str, kind: Backend) -> None:
    """A user who may not ask the server still gets a diagnosis, and hears what is missing."""
    with RunningServer(kind, "--appendonly", "yes") as server, server.sync_client(0) as admin:
        admin.execute_command(
            *("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-info", "-config", "-acl")
        )
        diagnosis = await diagnose(face, socket_url(server, "u:p@"), allow_unsafe=False)
        names = {
            "persistence",
            "loss_window",
            "recovery",
            "eviction",
            "replica",
            "version",
            "memory",
            "disk",
        }
        for name in names:
            finding = pick_finding(diagnosis, name)
            assert finding.severity == "warning"
            assert "refuses INFO" in finding.message
        assert pick_finding(diagnosis, "password").severity == "warning"
        assert "ACL GETUSER" in pick_finding(diagnosis, "password").message
        assert pick_finding(diagnosis, "permissions").severity == "ok"
        assert diagnosis.severity == "warning"

        admin.execute_command("ACL", "SETUSER", "u", "+info")
        diagnosis = await diagnose(face, socket_url(server, "u:p@"))
        assert [finding.name for finding in diagnosis.findings if finding.severity != "ok"] == [
            "loss_window",
            *(["recovery"] if kind is REDIS_6 else []),
        ]
        assert "refuses CONFIG GET" in pick_finding(diagnosis, "loss_window").message


@pytest.mark.asyncio
@FACES
async def test_renamed_commands(face: str) -> None:
    """A command that the server doesn't know by its name is missing, whoever asks."""
    renamed = ("--rename-command", "CONFIG", "", "--rename-command", "PEXPIRE", "")
    with RunningServer(REDIS_6, "--appendonly", "yes", *renamed) as server:
        diagnosis = await diagnose(face, socket_url(server))
    assert "refuses CONFIG GET" in pick_finding(diagnosis, "loss_window").message
    vault, inventory = [finding for finding in diagnosis.findings if finding.name == "permissions"]
    assert vault.message == (
        "The vault's server doesn't know PEXPIRE, "
        "which vault_burn, vault_check_key, vault_remember must run."
    )
    assert inventory.message == (
        "The inventory's server doesn't know PEXPIRE, "
        "which inv_adopt, inv_check_claim, inv_check_contact, inv_consume, inv_forget, "
        "inv_remember, inv_select, turn_keep, turn_take, turn_visit must run."
    )
    assert "rename-command" in inventory.remedy


@pytest.mark.asyncio
@FACES
@OWN
async def test_either_protocol(face: str, kind: Backend) -> None:
    """Settings are told as a map (RESP3), or as a list (RESP2)."""
    with RunningServer(kind, "--appendonly", "yes") as server:
        for protocol in (2, 3):
            diagnosis = await diagnose(face, socket_url(server, query=f"?protocol={protocol}"))
            assert "everysec" in pick_finding(diagnosis, "loss_window").message


# Who can get in ----------------------------------------------------------------------------


@pytest.mark.asyncio
@FACES
@OWN
async def test_password_on_loopback(face: str, kind: Backend) -> None:
    """Without a password a server is open to its machine, or to everyone who reaches it."""
    port = free_port()
    options = ("--port", str(port), "--bind", "127.0.0.1", "--protected-mode", "no")
    with RunningServer(kind, *options) as server, server.sync_client(0) as admin:
        diagnosis = await diagnose(face, f"redis://127.0.0.1:{port}")
        assert pick_finding(diagnosis, "password").severity == "warning"
        assert pick_finding(diagnosis, "tls").severity == "ok"
        diagnosis = await diagnose(face, f"redis://{ANYWHERE}:{port}")
        assert pick_finding(diagnosis, "password").severity == "error"
        assert "requirepass" in pick_finding(diagnosis, "password").remedy
        assert pick_finding(diagnosis, "tls").severity == "warning"
        assert ANYWHERE in pick_finding(diagnosis, "tls").message
        # Whoever comes by the socket leaves the port as it is.
        assert (
            pick_finding(await diagnose(face, socket_url(server)), "password").severity == "warning"
        )

        admin.config_set("requirepass", "s3cret")
        diagnosis = await diagnose(face, f"redis://:s3cret@{ANYWHERE}:{port}")
        assert pick_finding(diagnosis, "password").severity == "ok"
        assert "s3cret" not in repr(diagnosis)


@pytest.mark.asyncio
@FACES
@OWN
@pytest.mark.parametrize(
    ("options", "severity", "severity_before_7"),
    [
        ((), "warning", "warning"),
        (("--protected-mode", "no"), "error", "error"),
        (("--bind", ANYWHERE), "warning", "error"),
        (("--bind", "127.0.0.1", "-::1", "--protected-mode", "no"), "warning", "warning"),
    ],
)
async def test_password_by_settings(
    face: str, kind: Backend, options: tuple[str, ...], severity: str, severity_before_7: str
) -> None:
    """A client on the server's machine learns from its settings who else gets in."""
    # The server listens on no port at all: a relay stands for it.
    with RunningServer(kind, *options) as server:
        async with listening_on_loopback(Cutter(server.socket_path), None) as port:
            diagnosis = await diagnose(face, f"redis://localhost:{port}")
        expected = severity_before_7 if kind is REDIS_6 else severity
        assert pick_finding(diagnosis, "password").severity == expected
        assert pick_finding(diagnosis, "tls").severity == "ok"


@pytest.mark.asyncio
@FACES
@OWN
async def test_an_open_server_that_tells_nothing(face: str, own_server: RunningServer) -> None:
    """Who got in without a password knows that it takes none."""
    with own_server.sync_client(0) as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-acl", "-config")
    async with listening_on_loopback(Cutter(own_server.socket_path), None) as port:
        diagnosis = await diagnose(face, f"redis://localhost:{port}")
    assert pick_finding(diagnosis, "password").severity == "warning"
    assert "Every program" in pick_finding(diagnosis, "password").message


@pytest.mark.asyncio
@FACES
@OWN
async def test_a_default_user_that_is_off(face: str, own_server: RunningServer) -> None:
    """A user without a password who can't log in lets nobody in."""
    with own_server.sync_client(0) as admin:
        admin.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all")
        admin.execute_command("ACL", "SETUSER", "default", "off")
    async with listening_on_loopback(Cutter(own_server.socket_path), None) as port:
        diagnosis = await diagnose(face, f"redis://u:p@localhost:{port}")
    assert pick_finding(diagnosis, "password").severity == "ok"


@pytest.mark.asyncio
@FACES
async def test_tls(face: str, servers: Servers, tmp_path: Path) -> None:
    """An encrypted connection may lead anywhere."""
    certificate = certificate_in(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with listening_on_loopback(Cutter(servers[VALKEY_9].socket_path), context) as port:
        query = f"?ssl_ca_certs={certificate}&ssl_check_hostname=false"
        diagnosis = await diagnose(face, f"rediss://{ANYWHERE}:{port}{query}")
    assert pick_finding(diagnosis, "tls").severity == "ok"
    assert "encrypted" in pick_finding(diagnosis, "tls").message


# One server, or two ------------------------------------------------------------------------


async def diagnose_clients(
    face: str, vault: dict[str, Any], inventory: dict[str, Any]
) -> Diagnosis:
    """What the doctor says of two clients, made with these options."""
    if face == "aio":
        async with (
            Redis(db=0, **vault) as first,
            Redis(db=1, **inventory) as second,
            AsyncClientDatabase(first, second) as database,
        ):
            return await database.doctor()

    def diagnose_synchronously() -> Diagnosis:
        with redis.Redis(db=0, **vault) as first, redis.Redis(db=1, **inventory) as second:
            return sync.ClientDatabase(first, second).doctor()

    return await asyncio.to_thread(diagnose_synchronously)


@pytest.mark.asyncio
@FACES
async def test_two_servers(face: str, servers: Servers) -> None:
    """Each is examined, and each finding says whose it is."""
    with RunningServer(REDIS_6, "--appendonly", "yes") as durable:
        diagnosis = await diagnose_clients(
            face,
            {"unix_socket_path": str(durable.socket_path)},
            {"unix_socket_path": str(servers[VALKEY_9].socket_path)},
        )
    vault, inventory = [f for f in diagnosis.findings if f.name == "persistence"]
    assert vault.severity == "ok"
    assert vault.message.startswith("The vault's server: ")
    assert inventory.severity == "error"
    assert inventory.message.startswith("The inventory's server: ")
    pick_finding(diagnosis, "tls")
    assert pick_finding(diagnosis, "permissions").severity == "ok"


@pytest.mark.asyncio
@FACES
@OWN
async def test_one_server_by_two_ways(face: str, kind: Backend) -> None:
    """A server is examined once, though its two clients reach it in different ways."""
    port = free_port()
    with RunningServer(kind, "--port", str(port), "--bind", "127.0.0.1") as server:
        diagnosis = await diagnose_clients(
            face,
            {"unix_socket_path": str(server.socket_path)},
            {"host": ANYWHERE, "port": port},
        )
    pick_finding(diagnosis, "persistence")
    assert [f.severity for f in diagnosis.findings if f.name == "tls"] == ["ok", "warning"]


@pytest.mark.asyncio
@FACES
async def test_two_servers_that_tell_nothing(face: str, tmp_path: Path) -> None:
    """Where no INFO tells them apart, their addresses do."""
    denying = ScriptedServer(lambda _: b"-NOPERM this user has no permissions to run it\r\n")
    places = [{"unix_socket_path": str(tmp_path / name), "protocol": 2} for name in "ab"]
    async with listening(denying, tmp_path / "a"), listening(denying, tmp_path / "b"):
        two = await diagnose_clients(face, places[0], places[1])
        one = await diagnose_clients(face, places[0], places[0])
    assert len([f for f in two.findings if f.name == "persistence"]) == 2
    assert len([f for f in one.findings if f.name == "persistence"]) == 1
    assert {f.severity for f in one.findings if f.name == "permissions"} == {"error"}
    assert "ACL SETUSER USER +" in one.findings[-1].remedy


@pytest.mark.asyncio
@FACES
async def test_a_server_that_is_gone(face: str, tmp_path: Path) -> None:
    """An examination that can't be held is no diagnosis."""
    here = {"unix_socket_path": str(tmp_path / "s"), "protocol": 2}
    gone = {"unix_socket_path": str(tmp_path / "nobody"), "retry": None}
    raised: type[UnavailableError]
    async with listening(ScriptedServer(telling(HEALTHY)), tmp_path / "s"):
        for vault, inventory, raised in (
            (gone, here, VaultUnavailableError),
            (here, gone, InventoryUnavailableError),
        ):
            with pytest.raises(raised):
                await diagnose_clients(face, vault, inventory)


@pytest.mark.asyncio
@FACES
async def test_a_user_that_is_no_longer(face: str, tmp_path: Path) -> None:
    """A connection that is refused as a whole is not one whose commands are."""
    refusal = telling(HEALTHY, b"-NOAUTH Authentication required.\r\n")
    with pytest.raises(AccessDeniedError):
        await told_by(face, tmp_path, refusal)


# The package -------------------------------------------------------------------------------


def test_it_costs_nothing_until_it_is_asked_for() -> None:
    """Neither importing the package nor connecting imports it."""
    code = (
        "import sys; from aqm_db import sync\n"
        "with sync.connect('memory://') as db:\n"
        "    assert not {'aqm_db.doctor', 'aqm_db._operations.permissions'} & sys.modules.keys()\n"
        "    db.doctor()\n"
        "assert 'aqm_db.doctor' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_worst_finding_counts() -> None:
    """A diagnosis is as bad as its worst finding, in whichever place."""
    ok, warning, error = (Finding("tls", severity, "") for severity in ("ok", "warning", "error"))
    assert Diagnosis((ok, ok)).severity == "ok"
    assert Diagnosis((ok, warning)).severity == "warning"
    assert Diagnosis((warning, error, ok)).severity == "error"
