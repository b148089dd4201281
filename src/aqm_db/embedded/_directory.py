"""The directory of a database: whether it can be used, and what its files are called."""

import os
from pathlib import Path
from typing import Final

from aqm_db.errors import EmbeddedServerError

SWITCH_FILE: Final = "aqm_db.lock"
USERS_FILE: Final = "aqm_db.users"
SERVER_FILE: Final = "aqm_db.server"
LOG_FILE: Final = "aqm_db.log"
OLD_LOG_FILE: Final = "aqm_db.log.1"


def prepare_directory(directory: Path) -> None:
    """Creates a directory that isn't there, and keeps others out of it.

    Raises:
        EmbeddedServerError: it's a file, another user's, or not empty and not a database.
        OSError: it can't be used for another reason.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise EmbeddedServerError(f"{str(directory)!r} is a file, not a directory") from error
    if directory.stat().st_uid != os.geteuid():
        raise EmbeddedServerError(f"the directory {str(directory)!r} belongs to another user")
    # In this order: the lock file is the first one that a database gets.
    if any(directory.iterdir()) and not (directory / SWITCH_FILE).exists():
        raise EmbeddedServerError(
            f"the directory {str(directory)!r} has files, and isn't a database"
        )
    directory.chmod(0o700)
