"""The ``aqm-db`` command; it's in ``_cli``, which needs the extras."""

import atexit
import gc
import sys

from ._cli import is_missing
from ._cli.escaping import escape_stderr

_YOUNG_OBJECTS = 50_000
"""How many are made before the young ones are looked through for garbage."""


def main() -> None:
    """Runs the command, or says that its extras aren't installed."""
    escape_stderr()
    _spare_modules()
    try:
        from ._cli.app import app  # noqa: PLC0415 - extras

        # It imports the command that's called.
        app()
    except ImportError as error:
        if "--debug" in sys.argv or not is_missing(error):
            raise
        sys.stderr.write("aqm-db needs its extras: pip install 'aqm-db[all]'\n")
        sys.exit(2)


def _spare_modules() -> None:
    """Has what is imported looked through for garbage less often, and not at the end.

    There's none in it, and a command that's soon done would spend a fifth of its time on that.
    """
    gc.set_threshold(_YOUNG_OBJECTS)
    atexit.register(gc.freeze)
