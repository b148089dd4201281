"""Fixtures of all commands: plain output, and a server of the user's."""

import gc
from collections.abc import Iterator

import pytest

from tests.support.backends import VALKEY_9, RunningServer
from tests.support.run_commands import NOW, fill_database, read_clock, set_plain_output
from tests.support.samples import DAY_MS


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text is plain, and 80 columns wide."""
    set_plain_output(monkeypatch)


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server of the user's."""
    with RunningServer(VALKEY_9) as running:
        yield running


@pytest.fixture
def url(server: RunningServer) -> str:
    """Its url; it has two private halves, three contacts and eleven coins, all of today."""
    url = f"unix://{server.socket_path}"
    fill_database(url, now=read_clock())
    return url


@pytest.fixture
def old_url(server: RunningServer) -> str:
    """The same, but all of it is of ten years before :data:`NOW`."""
    url = f"unix://{server.socket_path}"
    fill_database(url, now=NOW - 3650 * DAY_MS)
    return url


@pytest.fixture(autouse=True)
def threshold() -> Iterator[None]:
    """Garbage is looked for as before, whatever a command that ran in this process chose."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
