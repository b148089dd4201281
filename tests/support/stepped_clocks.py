"""A server whose clock a test sets, as if somebody had set its machine's."""

import os
from importlib.util import find_spec
from pathlib import Path

from tests.support.backends import Backend, RunningServer

DAY_SECONDS = 86_400


class SteppedServer(RunningServer):
    """A server with libfaketime before the C library; its monotonic clock runs as it does.

    Args:
        backend: which kind.
        options: as of :class:`~tests.support.backends.RunningServer`.
    """

    def __init__(self, backend: Backend, *options: str) -> None:
        self._ahead = 0.0
        super().__init__(backend, *options)

    def step(self, seconds: float) -> None:
        """Sets the clock ahead, or back, at once."""
        self._ahead += seconds
        _write(self._offset, self._ahead)
        # It looks at the clock once in each turn of its loop: the next one, then, and no later.
        with self.sync_client(0) as client:
            client.ping()

    @property
    def _offset(self) -> Path:
        return self.socket_path.with_name("clock")

    def _make_environment(self) -> dict[str, str]:
        _write(self._offset, self._ahead)
        return {
            **os.environ,
            "LD_PRELOAD": str(find_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


def find_library() -> Path:
    """Where libfaketime is."""
    spec = find_spec("libfaketime")
    assert spec is not None
    assert spec.origin is not None
    [found] = Path(spec.origin).parent.rglob("libfaketime.so.1")
    return found


def _write(path: Path, ahead: float) -> None:
    """At once: the server reads it each time that it asks for the time."""
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{ahead:+.3f}", "ascii")
    fresh.replace(path)
