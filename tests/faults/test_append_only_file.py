"""Append-only files that lost their end, or in which a bit has flipped."""

import re
from collections.abc import Awaitable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_asyncio
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory, connect
from aqm_db.embedded import EmbeddedServer, _share
from aqm_db.errors import AQMDatabaseError, EmbeddedServerError
from tests.faults.support.append_only_file import Request, cut_off_half, request_id
from tests.faults.support.busy_callers import CONTACTS, TIERS, Caller
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import assert_no_key_material, kept, queued
from tests.faults.support.public_calls import errors_of, objects_over
from tests.support.backends import REAL_BACKENDS, REDIS_6, VALKEY_9, Backend, RunningServer
from tests.support.samples import always, snapshot

pytestmark = pytest.mark.asyncio

CALLS = 80


# The end is missing --------------------------------------------------------------------------


async def lived(server: RunningServer) -> list[tuple[int, dict[Any, Any]]]:
    """Makes some calls, one by one; how long the file was after each, and what there was then."""
    client = server.client(0)
    inventory = AsyncSmartInventory(client)
    past = [(0, await content_of(client))]
    for contact_id in CONTACTS:
        await inventory.register_contact(contact_id, "BESTIE")
        past.append((server.append_only_file().stat().st_size, await content_of(client)))
    caller = Caller(client, 0)
    for number in range(CALLS):
        request = Request(request_id(0, number), caller.choose(), number, 0)
        await caller.call(request)
        past.append((server.append_only_file().stat().st_size, await content_of(client)))
    await client.aclose()
    return past


async def content_of(client: Redis) -> dict[Any, Any]:
    """What is there, except for claims, which expire while the test runs."""
    content = await snapshot(client)
    return {key: row for key, row in content.items() if not key.startswith(b"inv:v1:claim:")}


@pytest.mark.parametrize("backend", [VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
async def test_a_file_without_its_end(backend: Backend, tally: Tally, *, thorough: bool) -> None:
    """What is there is what was there at some moment before: no call is done by half.

    What came after the cut is gone, and that a coin was used, too: it can be handed out again. A
    machine that dies with ``appendfsync everysec`` loses its last second or two so; with ``always``
    it loses nothing that was acknowledged.
    """
    with RunningServer(backend, "--appendonly", "yes", "--appendfsync", "always") as server:
        past = await lived(server)
        server.kill()
        file = server.append_only_file()
        whole = file.read_bytes()
        chance = Random(7)  # noqa: S311 - it keeps no secret
        between = chance.sample([size for size, _ in past], 40 if thorough else 3)
        anywhere = chance.sample(range(len(whole)), 200 if thorough else 9)
        for cut in (len(whole), *between, *anywhere):
            file.write_bytes(whole[:cut])
            server.restart()
            client = server.client(0)
            there = await content_of(client)
            assert there == [content for size, content in past if size <= cut][-1]
            await queued(client)
            await kept(client)
            # It is a database like any other.
            assert await AsyncSmartInventory(client).register_contact("new", "MATE")
            await client.aclose()
            server.kill()
            tally.add("append-only file cut")


@pytest.mark.parametrize("backend", REAL_BACKENDS, ids=lambda backend: backend.name)
async def test_what_broke_off_stays_away(backend: Backend, tally: Tally, *, thorough: bool) -> None:
    """Work goes on after such a start, and the start after next brings nothing back by half."""
    with RunningServer(backend, "--appendonly", "yes", "--appendfsync", "always") as server:
        await lived(server)
        server.kill()
        file = server.append_only_file()
        whole = file.read_bytes()
        chance = Random(8)  # noqa: S311 - it keeps no secret
        # In the last command of a request, where most of it is there.
        ends = [found.start() for found in re.finditer(rb"\*1\r\n\$4\r\nEXEC\r\n", whole)]
        for end in chance.sample(ends, 40 if thorough else 4):
            file.write_bytes(whole[: end - 3])
            cut_off_half(backend, file)
            server.restart()
            client = server.client(0)
            await AsyncSmartInventory(client).register_contact("new", "MATE")
            there = await content_of(client)
            await client.aclose()
            server.kill()
            server.restart()
            client = server.client(0)
            assert await content_of(client) == there
            await queued(client)
            await kept(client)
            await client.aclose()
            server.kill()
            tally.add("append-only file cut")


async def lived_embedded(directory: Path) -> list[tuple[int, dict[Any, Any]]]:
    """The same with an embedded database, whose file is written before each answer."""
    with EmbeddedServer.open(directory) as server:
        client = Redis(unix_socket_path=str(server.socket_path))
        await client.config_set("appendfsync", "always")
        inventory = AsyncSmartInventory(client)
        past = [(0, await content_of(client))]
        for contact_id in CONTACTS:
            await inventory.register_contact(contact_id, "BESTIE")
            past.append((find_file(directory).stat().st_size, await content_of(client)))
        caller = Caller(client, 0)
        for number in range(CALLS):
            await caller.call(Request(request_id(0, number), caller.choose(), number, 0))
            past.append((find_file(directory).stat().st_size, await content_of(client)))
        await client.aclose()
    return past


def find_file(directory: Path) -> Path:
    """The one file of an embedded database."""
    [path] = (directory / "appendonlydir").glob("*.incr.aof")
    return path


async def test_a_file_that_ends_in_zeroes(directory: Path, tally: Tally, *, thorough: bool) -> None:
    """What a power failure leaves opens, as what was there at some moment; the rest is kept."""
    past = await lived_embedded(directory)
    file = find_file(directory)
    whole = file.read_bytes()
    chance = Random(9)  # noqa: S311 - it keeps no secret
    between = chance.sample([size for size, _ in past], 20 if thorough else 2)
    anywhere = chance.sample(range(len(whole)), 80 if thorough else 5)
    for cut in (*between, *anywhere):
        spoiled = whole[:cut].ljust(len(whole), b"\0")
        file.write_bytes(spoiled)
        with EmbeddedServer.open(directory) as server:
            client = Redis(unix_socket_path=str(server.socket_path))
            there = await content_of(client)
            assert there == [content for size, content in past if size <= cut][-1]
            await queued(client)
            await kept(client)
            await client.aclose()
            for path in server.examine_disk().cut_off:
                assert spoiled.endswith(path.read_bytes())
                path.unlink()
        tally.add("append-only file that ends in zeroes")


async def test_a_file_with_zeroes_in_it(directory: Path, tally: Tally, *, thorough: bool) -> None:
    """What a full disk leaves opens, wherever it is, with all that was there."""
    past = await lived_embedded(directory)
    file = find_file(directory)
    whole = file.read_bytes()
    chance = Random(10)  # noqa: S311 - it keeps no secret
    # Zeroes at the end are another matter: something may be missing there.
    inside = [size for size, _ in past if size < len(whole)]
    for size in chance.sample(inside, 20 if thorough else 3):
        file.write_bytes(whole[:size] + bytes(chance.randrange(1, 9999)) + whole[size:])
        with EmbeddedServer.open(directory) as server:
            client = Redis(unix_socket_path=str(server.socket_path))
            assert await content_of(client) == past[-1][1]
            await client.aclose()
            assert server.examine_disk().cut_off == ()
        tally.add("append-only file with zeroes in it")


async def test_mutant_no_mending(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server by itself opens neither of them."""
    await lived_embedded(directory)
    file = find_file(directory)
    whole = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(_share, "mend_files", always(value=False))
        for spoiled in (whole + bytes(99), bytes(99) + whole):
            file.write_bytes(spoiled)
            with pytest.raises(EmbeddedServerError):
                EmbeddedServer.open(directory)
    EmbeddedServer.open(directory).close()


async def test_mutant_ends_unseen(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server by itself takes a value for whole whose end is zeroes."""
    with (
        EmbeddedServer.open(directory) as server,
        SyncRedis(unix_socket_path=str(server.socket_path)) as client,
    ):
        client.set("late", b"v" * 100)
    file = find_file(directory)
    file.write_bytes(file.read_bytes()[:-60] + bytes(60))
    with monkeypatch.context() as patch:
        patch.setattr(_share, "looks_whole", always(value=True))
        with (
            EmbeddedServer.open(directory) as server,
            SyncRedis(unix_socket_path=str(server.socket_path)) as client,
        ):
            assert client.get("late") == b"v" * 42 + bytes(58)


# A bit has flipped ---------------------------------------------------------------------------


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where an embedded database is; its path is short enough for a socket."""
    with TemporaryDirectory(prefix="aqm-") as path:
        yield Path(path).resolve() / "db"


class File:
    """An append-only file that tests damage.

    Attributes:
        whole: what was in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.whole = self._damaged = path.read_bytes()

    def flip(self, position: int, bit: int) -> None:
        """Writes it anew with one bit changed."""
        content = bytearray(self.whole)
        content[position] ^= 1 << bit
        self._path.write_bytes(content)
        self._damaged = bytes(content)

    def mend(self) -> None:
        """Writes it as it was."""
        self._path.write_bytes(self.whole)

    def is_untouched(self) -> bool:
        """Whether it's still as it was damaged."""
        return self._path.read_bytes() == self._damaged


@pytest_asyncio.fixture
async def file(directory: Path) -> File:
    """The file of an embedded database that was used."""
    with EmbeddedServer.open(directory) as server:
        client = Redis(unix_socket_path=str(server.socket_path))
        for contact_id in CONTACTS:
            await AsyncSmartInventory(client).register_contact(contact_id, "BESTIE")
        caller = Caller(client, 0)
        for number in range(CALLS):
            await caller.call(Request(request_id(0, number), caller.choose(), number, 0))
        await client.aclose()
    [path] = (directory / "appendonlydir").glob("*.incr.aof")
    return File(path)


async def test_a_bit_flipped_in_the_structure(
    directory: Path, file: File, tally: Tally, *, thorough: bool
) -> None:
    """The server refuses the file, the library says so and what to do, and nothing is deleted."""
    commands = [found.end() - 1 for found in re.finditer(rb"\r\n\*", file.whole)]
    chance = Random(7)  # noqa: S311 - it keeps no secret
    for position in chance.sample(commands, 60 if thorough else 4):
        file.flip(position, chance.randrange(8))
        with pytest.raises(EmbeddedServerError, match="ended while it started.*Bad file format"):
            await connect(f"embedded://{directory}")
        assert file.is_untouched()
        tally.add("bit flipped in the structure of an append-only file")
    file.mend()
    EmbeddedServer.open(directory).close()


async def test_a_bit_flipped_anywhere(
    directory: Path,
    file: File,
    tally: Tally,
    caplog: pytest.LogCaptureFixture,
    *,
    thorough: bool,
) -> None:
    """Either the server refuses the file, or what it reads makes no call fail in a strange way.

    The file has no checksums: a bit in a value changes the value, which the callers' own
    authentication tags and signatures find out. One that makes a length longer than the file looks
    like a cut, and the server takes it for one.
    """
    chance = Random(8)  # noqa: S311 - it keeps no secret
    errors: list[BaseException] = []
    for position in chance.sample(range(len(file.whole)), 150 if thorough else 6):
        file.flip(position, chance.randrange(8))
        try:
            server = EmbeddedServer.open(directory)
        except EmbeddedServerError as error:
            errors.append(error)
            assert file.is_untouched()
        else:
            with server:
                errors += await errors_at(server)
        tally.add(
            "bit flipped in an append-only file",
            wrong=sum(not isinstance(error, AQMDatabaseError) for error in errors),
        )
    assert_no_key_material(errors, caplog)


async def errors_at(server: EmbeddedServer) -> list[BaseException]:
    """What calls raise that look at everything."""
    client = Redis(unix_socket_path=str(server.socket_path))
    objects = objects_over(client)
    vault, inventory = objects.vault, objects.inventory
    calls: list[Awaitable[Any]] = [
        vault.get_stats(),
        objects.reporter.get_full_dashboard(),
        objects.gc.dry_run(0),
        *(inventory.get_contact_meta(contact_id) for contact_id in CONTACTS),
        *(inventory.list_coins(contact_id) for contact_id in CONTACTS),
        *(vault.fetch_key(key_id) for key_id in await vault.get_all_active_ids()),
        *(inventory.select_coin(contact, tier) for contact in CONTACTS for tier in TIERS),
        *(vault.burn_key(key_id) for key_id in await vault.get_all_active_ids()),
        objects.gc.garbage_collect(0),
        vault.purge_expired(0),
    ]
    errors = [error for call in calls for error in await errors_of(call)]
    await client.aclose()
    return errors
