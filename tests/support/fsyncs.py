"""What is on a server's disk, by what the kernel and the server count; no time is measured."""

from pathlib import Path
from typing import Any

from tests.support.waiting import eventually


class Fsyncs:
    """Looks whether a server has written its append-only file to the disk.

    With ``everysec`` a thread of its own does it. With ``always`` the server itself does, before it
    sends any reply, and that thread has nothing to do.

    Args:
        client: of the server, synchronous, and none of those that are tried.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._threads = Path(f"/proc/{client.info('server')['process_id']}/task")
        # A thread gives itself its name, once it runs.
        eventually(self._find_thread)
        self.start()

    def start(self) -> None:
        """Looks from here on."""
        self._runs = self._count_runs()

    def has_run(self) -> bool:
        """Whether the thread has run since, or the server needs none."""
        # In this order: what is asked first can't have been made true by the question.
        has_run = self._count_runs() > self._runs
        return has_run or self._client.config_get("appendfsync")["appendfsync"] == "always"

    def _count_runs(self) -> int:
        [thread] = self._find_thread()
        status = (thread / "status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)

    def _find_thread(self) -> list[Path]:
        threads = self._threads.iterdir()
        return [each for each in threads if (each / "comm").read_text().startswith("bio_aof")]
