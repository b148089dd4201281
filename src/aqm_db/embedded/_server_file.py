"""The file that a server holds locked while it lives, and that says which process it is."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Final

from ._directory import SERVER_FILE
from ._locks import LockFile

_PROCESS_ID_BYTES: Final = 32


class ServerFile(LockFile):
    """The lock that a server has from the process that starts it.

    Args:
        directory: one that was prepared.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / SERVER_FILE)

    def note_server(self, process_id: int | None) -> None:
        """Notes which process has the lock from now on; None before it's known.

        So what stands there is of the process that has the lock, or nothing does.
        """
        # On a full disk there's no room for it, and nobody can end the server but by its socket.
        with contextlib.suppress(OSError):
            os.ftruncate(self.descriptor, 0)
            if process_id is not None:
                os.pwrite(self.descriptor, b"%d\n" % process_id, 0)

    def end_server(self) -> None:
        """Has a server end that can't be reached, though it has the lock.

        One that lives ends in order. Of one that died, what rewrites its file may live on, and have
        the lock: that goes, and nothing is lost with it.
        """
        noted = os.pread(self.descriptor, _PROCESS_ID_BYTES, 0)
        if not noted.endswith(b"\n"):
            return
        process_id = int(noted)
        # It may end by itself just now.
        with contextlib.suppress(ProcessLookupError):
            if _is_alive(process_id):
                os.kill(process_id, signal.SIGTERM)
            else:
                # A server leads a group of its own, which nobody else can be in.
                os.killpg(process_id, signal.SIGKILL)


def _is_alive(process_id: int) -> bool:
    """Whether a process is there, and does more than wait to be reaped."""
    try:
        os.kill(process_id, 0)
        status = Path(f"/proc/{process_id}/stat").read_bytes()
    except ProcessLookupError:
        return False
    except OSError:
        # Nothing tells it here.
        return True
    # The name before it may hold anything.
    return status.rpartition(b") ")[2][:1] != b"Z"
