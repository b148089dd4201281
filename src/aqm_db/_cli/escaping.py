"""Texts of others on their way to a terminal, which must obey none of them."""

import io
import sys
from typing import TextIO, cast


def escape_text(text: str, *, keep: str = "") -> str:
    r"""A text that shows what a terminal would obey: ``\x1b`` for the character.

    Whatever isn't printable is escaped as in a literal of Python's: control characters (C0 and C1),
    those that turn the direction of writing, separators of lines, and every space but one.

    Args:
        text: anything.
        keep: characters that stay as they are, such as the ends of lines that are our own.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else repr(character)[1:-1]
        for character in text
    )


def escape_stderr() -> None:
    """Has everything escaped that goes to stderr, until the process ends.

    Tracebacks, and what asyncio and others log when nobody listens, are written by nobody whom we
    could ask, and quote errors as they are.
    """
    # There is none if the shell closed it (2>&-).
    if sys.stderr is not None and not isinstance(sys.stderr, EscapingStream):
        sys.stderr = cast("TextIO", EscapingStream(sys.stderr))


class EscapingStream(io.TextIOBase):
    """Escapes what is written; it's no terminal, so nobody sends it colours.

    Attributes:
        stream: where it goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream: TextIO = stream

    def write(self, text: str) -> int:
        """Writes a text; lines and tabs stay."""
        self.stream.write(escape_text(text, keep="\n\t"))
        return len(text)

    def flush(self) -> None:
        """Hands on what was written, unless whoever had the stream before has closed it."""
        if not self.stream.closed:
            self.stream.flush()
