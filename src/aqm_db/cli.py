"""The ``aqm-db`` command; it's in ``_commands``, which needs the extras."""

import sys


def main() -> None:
    """Runs the command, or says that its extras aren't installed."""
    try:
        from ._commands import app  # noqa: PLC0415 - extras
    except ImportError:
        if "--debug" in sys.argv:
            raise
        sys.stderr.write("aqm-db needs its extras: pip install 'aqm-db[all]'\n")
        sys.exit(2)
    app()
