"""The connection that calls share: protocols, strays, time-outs and ends."""

import asyncio
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from aqm_db import AsyncSecureVault, AsyncSmartInventory
from aqm_db._io.redispy import async_channel, private_parts
from aqm_db._io.redispy.async_link import ReaderLink, WireLink
from aqm_db._io.redispy.async_loops import get_channels
from aqm_db.errors import NotWritableError, VaultUnavailableError
from tests.conftest import INVENTORY_DB
from tests.support.backends import VALKEY_9, Servers
from tests.support.peers import ScriptedServer, listening
from tests.support.samples import BOB, sample_key, stock

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("protocol", [2, 3])
async def test_both_protocols(servers: Servers, protocol: int) -> None:
    """RESP2 and RESP3 give the same."""
    client = servers[VALKEY_9].client(INVENTORY_DB, protocol=protocol)
    await client.flushdb()
    vault, inventory = AsyncSecureVault(client), AsyncSmartInventory(client)
    await vault.store_key(**sample_key("k", "GOLD"))
    entry = await vault.fetch_key("k")
    assert entry is not None
    assert entry.key_id == "k"
    await inventory.register_contact(BOB, "MATE", "Bob")
    meta = await inventory.get_contact_meta(BOB)
    assert meta is not None
    assert meta.display_name == "Bob"
    await stock(inventory, BOB, "SILVER", "s1")
    coin = await inventory.select_coin(BOB, "GOLD")
    assert coin is not None
    assert coin.expires_at is None
    await client.flushdb()
    await client.aclose()


async def test_a_push_message_is_no_reply(tmp_path: Path) -> None:
    """What a server says unasked (RESP3) isn't taken for an answer."""
    server = ScriptedServer(lambda _: b">2\r\n$10\r\ninvalidate\r\n*0\r\n:1\r\n")
    async with listening(server, tmp_path / "s"):
        client = Redis(unix_socket_path=str(tmp_path / "s"), protocol=3)
        vault = AsyncSecureVault(client)
        assert [await vault.exists(key) for key in "abc"] == [True] * 3
        assert len(server.requests) == 3
        await client.aclose()


async def test_bytes_that_are_no_protocol_end_the_connection(tmp_path: Path) -> None:
    """Nonsense isn't read any further."""
    server = ScriptedServer(lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n")
    async with listening(server, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"), protocol=2, retry=Retry(NoBackoff(), 1)
        )
        with pytest.raises(VaultUnavailableError) as caught:
            await AsyncSecureVault(client).exists("k")
        assert caught.value.outcome_unknown is True
        assert len(server.requests) == 2
        await client.aclose()


async def test_closing_waits_for_no_cancelled_call(tmp_path: Path) -> None:
    """Whatever a call of several commands still waited for: the server may never say it."""
    server = ScriptedServer(lambda _: b"")
    async with listening(server, tmp_path / "s"):
        client = Redis(unix_socket_path=str(tmp_path / "s"), protocol=2)
        seam = AsyncSmartInventory(client).scope.seam
        reading = asyncio.create_task(seam.read(("GET", "a"), ("GET", "b")))
        while len(server.requests) < 2:
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait((reading,))
        async with asyncio.timeout(5):
            await get_channels(client).aclose()
        await client.aclose()


async def test_fakeredis_that_goes_down() -> None:
    """A connection without a transport ends like any other, and is made again."""
    server = fakeredis.FakeServer()
    client = fakeredis.FakeAsyncRedis(server=server, retry=Retry(NoBackoff(), 1))
    vault = AsyncSecureVault(client)
    assert await vault.exists("k") is False
    server.connected = False
    with pytest.raises(VaultUnavailableError):
        await vault.exists("k")
    server.connected = True
    assert await vault.exists("k") is False
    await client.aclose()


async def test_a_connection_without_a_transport(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the connection's own methods can be used, it ends and is made again too."""

    def no_transport_of(_: object) -> None:
        return None

    monkeypatch.setattr(private_parts, "find_transport", no_transport_of)
    replies = [None, b"-OOM no\r\n", b":1\r\n"]
    server = ScriptedServer(lambda _: replies.pop(0))
    async with listening(server, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"), protocol=2, retry=Retry(NoBackoff(), 1)
        )
        vault = AsyncSecureVault(client)
        with pytest.raises(NotWritableError):
            await vault.exists("k")
        assert await vault.exists("k") is True
        await client.aclose()


async def test_a_connection_that_ends_before_its_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that had waited for it goes out on the next one."""

    class Stillborn(ReaderLink):
        async def _read(self) -> None:
            raise RedisConnectionError("gone")

    kinds = [Stillborn, ReaderLink]

    def link(connection: Any, pending: Any, listener: Any) -> ReaderLink:
        return kinds.pop(0)(connection, pending, listener)

    monkeypatch.setattr(async_channel, "make_link", link)
    server = ScriptedServer(lambda _: b":1\r\n")
    async with listening(server, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"), protocol=2, retry=Retry(NoBackoff(), 1)
        )
        assert await AsyncSecureVault(client).exists("k") is True
        assert len(server.requests) == 1
        await client.aclose()


async def test_a_line_that_breaks_when_it_is_written_to(servers: Servers) -> None:
    """The call is told why, and its streams don't complain that nobody asked them."""
    client = servers[VALKEY_9].client(INVENTORY_DB, retry=Retry(NoBackoff(), 0))
    vault = AsyncSecureVault(client)
    assert await vault.exists("k") is False
    channel: Any = get_channels(client).get_channel()
    link, connection = channel._link, channel._loan._connection
    link.connection_lost(BrokenPipeError(32, "Broken pipe"))
    link._transport.abort()
    await connection._writer.wait_closed()
    assert await vault.exists("k") is False
    await client.aclose()


async def test_a_client_without_a_timeout(servers: Servers) -> None:
    """A client that waits for ever is served like any other."""
    client = servers[VALKEY_9].client(INVENTORY_DB, socket_timeout=None)
    vault = AsyncSecureVault(client)
    assert [await vault.exists(key) for key in "abc"] == [False] * 3
    await client.aclose()


async def test_a_call_that_waits_for_its_next_attempt_can_be_cancelled(tmp_path: Path) -> None:
    """Nothing was sent, so there is nothing to wait for."""
    client = Redis(unix_socket_path=str(tmp_path / "nobody"), retry=Retry(ConstantBackoff(3600), 1))
    task = asyncio.ensure_future(AsyncSecureVault(client).burn_key("k"))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await client.aclose()


async def test_a_call_that_waits_for_its_next_attempt_after_sending_is_settled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What may have been executed is asked for again, though its caller is gone."""
    replies = [None, b"*1\r\n:0\r\n"]
    server = ScriptedServer(lambda _: replies.pop(0))
    async with listening(server, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"),
            protocol=2,
            retry=Retry(ConstantBackoff(3600), 1),
        )
        task = asyncio.ensure_future(AsyncSecureVault(client).burn_key("k"))
        while len(server.requests) < 1:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.requests == 2 * server.requests[:1]
        assert not caplog.records
        await client.aclose()


async def test_a_link_that_was_hung_up_while_its_peer_took_no_more(servers: Servers) -> None:
    """What still comes is for nobody: the calls that wait by then wait for another link."""
    client = servers[VALKEY_9].client(INVENTORY_DB)
    assert await AsyncSecureVault(client).exists("k") is False
    channel: Any = get_channels(client).get_channel()
    link: WireLink = channel._link
    link.pause_writing()
    assert link.is_full()
    channel.hang_up("enough")
    channel._pending.append(waiting := asyncio.get_running_loop().create_future())
    link.data_received(b":1\r\n")
    link.resume_writing()
    assert not waiting.done()
    channel._pending.clear()
    assert await AsyncSecureVault(client).exists("k") is False
    await client.aclose()


async def test_silence_counts_while_a_reply_is_owed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle connection isn't silent, and neither is one that was asked just now."""
    loop = asyncio.get_running_loop()
    real_time, passed = loop.time, [0.0]
    monkeypatch.setattr(loop, "time", lambda: real_time() + passed[0])

    async def turns() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    server = ScriptedServer(lambda command: b"" if command[1].endswith(b"late") else b":0\r\n")
    async with listening(server, tmp_path / "s"):
        client = Redis(
            unix_socket_path=str(tmp_path / "s"),
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=60,
        )
        vault = AsyncSecureVault(client)
        # The timer of the first call goes off while nothing is owed.
        assert await vault.exists("k") is False
        passed[0] += 61
        await turns()
        assert await vault.exists("k") is False
        # The next timer goes off while a reply is owed, but not for long.
        passed[0] += 59
        late = asyncio.ensure_future(vault.exists("late"))
        await turns()
        passed[0] += 2
        await turns()
        assert not late.done()
        passed[0] += 59
        with pytest.raises(VaultUnavailableError) as caught:
            await late
        assert caught.value.outcome_unknown is True
        await client.aclose()


@pytest.mark.parametrize("name", ["vault:v1:key:a:b", "inv:v1:meta:a:b"])
async def test_a_page_without_a_name_of_ours(servers: Servers, name: str) -> None:
    """Keys that another program wrote are passed over."""
    client = servers[VALKEY_9].client(INVENTORY_DB)
    await client.flushdb()
    await client.set(name, "x")
    assert await AsyncSecureVault(client).get_all_active_ids() == []
    assert await AsyncSmartInventory(client).get_inventory() == {}
    await client.flushdb()
    await client.aclose()
