"""The log of a server: that of this run, and of the one before; neither grows without bound."""

import contextlib
import os
from pathlib import Path
from typing import Final

from ._directory import LOG_FILE, OLD_LOG_FILE

_MOST_BYTES: Final = 256 * 1024
"""What a log may grow to before it's cut."""
_TAIL_BYTES: Final = 4096
"""What stays in its place of a log that is cut."""
_QUOTED_LINES: Final = 3
_ARGUMENTS: Final = ", with args beginning with:"
"""What a server writes of a command in its file that it doesn't know goes on with key material."""


def begin_log(directory: Path) -> Path:
    """Puts the last run's log aside, and makes an empty one."""
    log = directory / LOG_FILE
    trim_log(directory)
    with contextlib.suppress(FileNotFoundError):
        log.replace(directory / OLD_LOG_FILE)
    log.touch(mode=0o600)
    return log


def trim_log(directory: Path) -> None:
    """Cuts a log that has grown too long, whoever writes to it meanwhile.

    Its last part is kept beside it, in the place of the log before, and the last lines stay.
    """
    with contextlib.suppress(OSError), (directory / LOG_FILE).open("r+b", buffering=0) as log:
        size = log.seek(0, os.SEEK_END)
        if size <= _MOST_BYTES:
            return
        log.seek(size - _MOST_BYTES)
        kept = _drop_partial_line(log.read())
        _write_file(directory / OLD_LOG_FILE, kept)
        # The server appends, wherever the end is.
        log.truncate(0)
        with (directory / LOG_FILE).open("ab", buffering=0) as end:
            end.write(_drop_partial_line(kept[-_TAIL_BYTES:]))


def quote_log(directory: Path) -> str:
    """The last lines of what the server of a directory wrote, on one line, without any data."""
    lines = (directory / LOG_FILE).read_text(errors="replace").splitlines()
    quoted = [line.partition(_ARGUMENTS)[0] for line in lines if line.strip()]
    return " / ".join(quoted[-_QUOTED_LINES:])


def _drop_partial_line(text: bytes) -> bytes:
    return text.partition(b"\n")[2]


def _write_file(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
