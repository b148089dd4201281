"""Programs on a terminal of their own."""

import os
import pty
import select
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_PATIENCE: Final = 60
"""Seconds after which a program doesn't write any more."""


def run_on_terminal(
    command: Sequence[str],
    typed: str,
    environment: Mapping[str, str],
    directory: Path,
    *,
    prompt: str = "",
) -> tuple[int, str]:
    """Runs a program until it ends.

    Args:
        command: the program, and its arguments.
        typed: what somebody types there.
        environment: its variables.
        directory: where it works.
        prompt: what it writes before that.

    Returns:
        Its exit code, and all that the terminal got.
    """
    master, slave = pty.openpty()
    with subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=environment,
        cwd=directory,
    ) as process:
        os.close(slave)
        try:
            written = b""
            while prompt.encode() not in written:
                written += _next(master, written)
            os.write(master, typed.encode())
            while more := _next(master, written):
                written += more
        except BaseException:
            process.kill()
            raise
        finally:
            os.close(master)
    return process.returncode, written.decode()


def _next(master: int, written: bytes) -> bytes:
    """What is written next; nothing at the end."""
    assert select.select([master], [], [], _PATIENCE)[0], written
    try:
        return os.read(master, 65_536)
    except OSError:
        # Nobody has the terminal open any more.
        return b""
