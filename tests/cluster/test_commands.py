"""``aqm-db bench``, whose owner is one of its own, on a cluster."""

import json

import pytest

from tests.support.clusters import RunningCluster
from tests.support.run_commands import run_command, set_plain_output


def test_the_bench_leaves_nothing(server: RunningCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """It measures as on one server: all of it is in one slot."""
    set_plain_output(monkeypatch)
    server.clear()
    ran = run_command("bench", "--seconds", "0", "--json", "--url", server.url)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["calls"] == 50
    with server.sync_client() as client:
        assert [*client.scan_iter("*")] == []
