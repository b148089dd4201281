"""How a command opens the database that it is about."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from aqm_db.database import directory_of
from aqm_db.sync import ClientDatabase, connect

from .errors import CommandError


@contextmanager
def open_database(
    url: str | None, owner: str | None, *, allow_unsafe: bool = False, new: bool = False
) -> Generator[ClientDatabase]:
    """Opens a database that there is, unless a new one will do: to look at one doesn't make it.

    Args:
        url: what to open.
        owner: whose data.
        allow_unsafe: whether to open a server that loses keys by design; to look at one, it's safe.
        new: whether an embedded database is made if there is none.

    Raises:
        CommandError: there is no embedded database at this place.
        AQMDatabaseError: what :func:`aqm_db.connect` raises.
    """
    if not new:
        check_exists(url)
    with connect(url, owner=owner, allow_unsafe=allow_unsafe) as db:
        yield db


def check_exists(url: str | None) -> None:
    """Refuses an embedded database that nobody has made yet.

    Raises:
        CommandError: there is none.
        InvalidArgumentError: the url is malformed.
    """
    directory = directory_of(url)
    if directory is not None and _is_empty(directory.expanduser()):
        raise CommandError(
            f"there is no database in {str(directory)!r}: name another with --url (or "
            "AQM_DB_URL), or make one with aqm_db.connect()"
        )


def _is_empty(directory: Path) -> bool:
    try:
        return not any(directory.iterdir())
    except FileNotFoundError:
        return True
    except OSError:
        # There is something, and opening it tells best what is wrong with it.
        return False
