"""What goes wrong, on one line of stderr: what it was, and what to do about it."""

import logging
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, NoReturn, cast

import typer
from typer.core import TyperGroup

from aqm_db import errors

from . import is_missing
from .output import write_line

FAILED: Final = 2
"""The exit code of what couldn't be done."""

_REMEDIES: Final[tuple[tuple[type[errors.AQMDatabaseError], str], ...]] = (
    (errors.ContactNotRegisteredError, "'aqm-db contacts' lists who is"),
    (errors.CorruptEntryError, "'aqm-db check' finds what is broken"),
    (errors.UnsafeServerError, "'aqm-db doctor' says more"),
    (errors.NotWritableError, "'aqm-db doctor' says why"),
    (
        errors.AccessDeniedError,
        (
            "put user and password into --url (redis://USER:PASSWORD@HOST); if they are right, "
            "'aqm-db doctor' says what the user may not do"
        ),
    ),
    (errors.UnavailableError, "start the server, or correct --url (or AQM_DB_URL)"),
)
# typer exports only one of the errors of its arguments; the base of all of them has the same shape.
_UsageError: Final = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])


class CommandError(errors.AQMDatabaseError):
    """A command can't go on; the message says what to do."""


class OneLineGroup(TyperGroup):
    """Commands whose wrong arguments are told on one line, like every other error."""

    def main(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Sequence[str] | None = None, **options: Any
    ) -> NoReturn:
        """Runs the command that the arguments name, and exits."""
        # Not in typer's standalone mode, where it writes its errors itself.
        settings: dict[str, Any] = {**options, "standalone_mode": False}
        try:
            code = super().main(args, **settings)
        except _UsageError as error:
            command = error.ctx.command_path if error.ctx else "aqm-db"
            _fail(f"{error.format_message().rstrip('.')}; see '{command} --help'")
        sys.exit(code)


@contextmanager
def report_errors(*, debug: bool) -> Generator[None]:
    """Writes the error of a block on one line, and exits; warnings of the library, too.

    Args:
        debug: whether errors come out as they are, for their tracebacks.
    """
    log = logging.getLogger("aqm_db")
    handler = _Warnings()
    log.addHandler(handler)
    try:
        yield
    except errors.AQMDatabaseError as error:
        if debug:
            raise
        remedy = next((text for kind, text in _REMEDIES if isinstance(error, kind)), None)
        text = str(error)
        if error.carried_out:
            text = f"{text.rstrip('.')}, after {error.carried_out} changes"
        _fail(text if remedy is None else f"{text.rstrip('.')}; {remedy}")
    finally:
        log.removeHandler(handler)


@contextmanager
def check_extras(user: str) -> Generator[None]:
    """Says what to install if a block can't import an extra.

    Args:
        user: who needs it.

    Raises:
        CommandError: it isn't installed.
    """
    try:
        yield
    except ImportError as error:
        if not is_missing(error):
            raise
        raise CommandError(f"{user} needs its extras: pip install 'aqm-db[all]'") from error


@asynccontextmanager
async def clean_up(clean: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Cleans up behind a block, however it ends; its own error is the one that comes out.

    Args:
        clean: does it; what it raises, behind an error, is a line on stderr.
    """
    try:
        yield
    except BaseException:
        try:
            await clean()
        except errors.AQMDatabaseError as error:
            warn_user(str(error))
        raise
    await clean()


class _Warnings(logging.Handler):
    """Writes what the library warns of, with the ids that it's about."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        if record.getMessage() == "duplicate_rejected":
            # Only a restored backup has any, and its summary counts them.
            return
        facts = (
            f"{name} {record.__dict__[name]!r}"
            for name in ("contact_id", "key_id", "fault", "reason")
            if name in record.__dict__
        )
        event = record.getMessage()
        remedy = "; 'aqm-db check' says more" if event == "corrupt_entry" else ""
        warn_user(f"warning: {' '.join((event, *facts))}{remedy}")


def _fail(message: str) -> NoReturn:
    warn_user(message)
    sys.exit(FAILED)


def warn_user(message: str) -> None:
    """Writes a line to stderr, and goes on."""
    write_line(f"aqm-db: {' '.join(message.split())}", err=True)
