"""Processes whose clock a test sets, as if somebody had set their machine's."""

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from redis import Redis

from tests.support.backends import RunningServer
from tests.support.waiting import eventually

DAY_SECONDS = 86_400
_CLOSE = 0.4
"""Seconds that a clock may be apart from what it was set to: less than any step."""


class SteppedClock:
    """The wall clock of all processes that are started with its environment (libfaketime).

    Their monotonic clocks run as they do.

    Args:
        path: of a file that all of them read, each time that they ask for the time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.ahead = 0.0
        self._write()

    def step(self, seconds: float) -> None:
        """Sets it ahead, or back, at once."""
        self.ahead += seconds
        self._write()

    def environment(self) -> dict[str, str]:
        """What processes are started with."""
        return {
            **os.environ,
            "LD_PRELOAD": str(find_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def _write(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{self.ahead:+.3f}", "ascii")
        fresh.replace(self._path)


class SteppedServer(RunningServer):
    """A server whose clock a test sets; its arguments are those of every test server."""

    def step(self, seconds: float) -> None:
        """Sets the clock ahead, or back, and returns once scripts are told so.

        Valkey 9.1 tells some more calls what its clock showed before.
        """
        self._clock.step(seconds)
        with self.sync_client(0) as client:
            eventually(lambda: abs(_ask_time(client) - time.time() - self._clock.ahead) < _CLOSE)

    def stop(self) -> None:
        """Stops the process, and removes what is left of it."""
        assert self._process is not None
        pid = self._process.pid
        super().stop()
        remove_leftovers(pid)

    def _make_environment(self) -> dict[str, str]:
        # It's asked for again when the server is started again, whose clock goes on.
        if not hasattr(self, "_clock"):
            self._clock = SteppedClock(self.socket_path.with_name("clock"))
        return self._clock.environment()


def _ask_time(client: Redis) -> float:
    """What a server's clock shows to a script, in seconds since the epoch."""
    seconds, micros = cast("list[bytes]", client.eval("return redis.call('TIME')", 0))
    return int(seconds) + int(micros) / 1e6


def find_library() -> Path:
    """Where libfaketime is."""
    spec = find_spec("libfaketime")
    assert spec is not None
    assert spec.origin is not None
    [found] = Path(spec.origin).parent.rglob("libfaketime.so.1")
    return found


def remove_leftovers(pid: int) -> None:
    """Removes what libfaketime leaves of a process that has been ended."""
    for name in ("faketime_shm", "sem.faketime_sem"):
        Path(f"/dev/shm/{name}_{pid}").unlink(missing_ok=True)  # noqa: S108 - it's there
