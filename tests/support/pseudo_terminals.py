"""Programs on a terminal of their own."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_PATIENCE: Final = 60
"""Seconds after which a program doesn't write any more."""
_TAKE_CONTROL: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Terminal:
    """A program and its terminal of 80 columns, until the block ends.

    Args:
        command: the program, and its arguments.
        environment: its variables.
        directory: where it works.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], directory: Path
    ) -> None:
        self._written = b""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment,
            cwd=directory,
        )
        os.close(slave)

    @property
    def written(self) -> str:
        """All that the terminal got."""
        return self._written.decode()

    def read_until(self, text: str) -> None:
        """Waits until the program has written a text."""
        while text.encode() not in self._written:
            assert self._read_more(), self._written

    def type_text(self, text: str) -> None:
        """Types a text, Ctrl-C included."""
        os.write(self._master, text.encode())

    def read_to_end(self) -> int:
        """Waits for the program's end; its exit code."""
        while self._read_more():
            pass
        return self._process.wait(timeout=_PATIENCE)

    def _read_more(self) -> bool:
        """Reads what is written next; False at the end."""
        assert select.select([self._master], [], [], _PATIENCE)[0], self._written
        try:
            more = os.read(self._master, 65_536)
        except OSError:
            # Nobody has the terminal open any more.
            return False
        self._written += more
        return bool(more)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Of one that has ended, nothing is left to kill.
        self._process.kill()
        self._process.wait()
        os.close(self._master)


def take_control(*arguments: str) -> Sequence[str]:
    """The command that runs Python so that Ctrl-C on the terminal reaches it."""
    return sys.executable, "-c", _TAKE_CONTROL, *arguments
