"""Urls of several servers."""

import asyncio
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import pytest

from aqm_db import connect, sync
from aqm_db.errors import InvalidArgumentError
from tests.cluster.test_redirects import Node
from tests.support.certificates import certificate_in
from tests.support.faces import ASYNC, Face
from tests.support.peers import listening_on_loopback

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+cluster://", "must list hosts as host:port,host:port"),
        ("redis+cluster://a,,b", "must list hosts as host:port,host:port"),
        ("redis+cluster://secret@", "must list hosts as host:port,host:port"),
        ("redis+cluster://secret:secret@:1", "must list hosts as host:port,host:port"),
        ("redis+cluster://a:1,b:secret", "is malformed"),
        ("redis+cluster://a:65536", "is malformed"),
        ("redis+cluster://a:1,secret..b:1", "is malformed"),
        ("redis+cluster://a/0", "must name no database: all is in 0"),
        ("redis+cluster://a?db=1", "must name no database: all is in 0"),
        ("redis+cluster://a?socket_timeout=secret", "is malformed"),
        ("redis+sentinel://a:1,b:2", "must end with the name of the sentinels' servers"),
        ("redis+sentinel://a/", "must end with the name of the sentinels' servers"),
        ("redis+sentinel://a/name?db=3", "must name no database: all is in 0"),
        ("redis+nothing://a", "must begin with "),
        ("unix+cluster://a", "must begin with "),
        ("redis+://a", "must begin with "),
    ],
)
async def test_what_is_no_url_of_several_servers(url: str, reason: str) -> None:
    """It's said at once, and no secret is shown."""
    with pytest.raises(InvalidArgumentError, match=f"^url: {reason}") as caught:
        connect(url, owner="alice")
    assert caught.value.argument == "url"
    assert "secret" not in str(caught.value)


async def test_a_cluster_with_tls(face: Face, tmp_path: Path) -> None:
    """What the query says of TLS is heeded, as is the password."""
    certificate = certificate_in(tmp_path)
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    node = Node(lambda command: b"+PONG\r\n" if command[0] == b"PING" else b"+OK\r\n")
    async with listening_on_loopback(node, context) as port:
        node.slots = [(0, 16383, port)]
        url = (
            f"rediss+cluster://alice:s%40cret@localhost:{port}"
            f"?ssl_ca_certs={certificate}&ssl_check_hostname=false&protocol=2"
        )
        options: dict[str, Any] = {"owner": "alice", "allow_unsafe": True}
        if face is ASYNC:
            async with connect(url, **options):
                pass
        else:
            database = await asyncio.to_thread(sync.connect, url, **options)
            database.close()
    assert [b"AUTH", b"alice", b"s@cret"] in node.requests
    assert [b"PING"] in node.requests
