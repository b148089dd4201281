"""Processes whose clock a test sets, as if somebody had set their machine's."""

import os
from importlib.util import find_spec
from pathlib import Path

from tests.support.backends import RunningServer

DAY_SECONDS = 86_400


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
        """Sets the clock ahead, or back, at once."""
        self._clock.step(seconds)
        # It looks at the clock once in each turn of its loop: the next one, then, and no later.
        with self.sync_client(0) as client:
            client.ping()

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
