"""The ``aqm-db`` command; it's in ``_cli``, which needs the extras."""

import sys

from ._cli import is_missing
from ._cli.escaping import escape_stderr


def main() -> None:
    """Runs the command, or says that its extras aren't installed."""
    escape_stderr()
    try:
        from ._cli.app import app  # noqa: PLC0415 - extras
    except ImportError as error:
        if "--debug" in sys.argv or not is_missing(error):
            raise
        sys.stderr.write("aqm-db needs its extras: pip install 'aqm-db[all]'\n")
        sys.exit(2)
    app()
