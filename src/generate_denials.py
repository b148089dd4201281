"""Writes into the docstring of ``acl_rules`` which operations need what the rules don't give.

``python src/generate_denials.py`` writes it; ``--check`` tells whether it is up to date. What an
operation needs is said by the headers of scripts, and by ``_operations/permissions.py``.
"""

import argparse
import re
import sys
import textwrap
from pathlib import Path

from aqm_db import acl
from aqm_db._operations.permissions import list_operations
from generate_sync import write

FILE = Path(acl.__file__)
_BEGINNING = "Without it, these are denied, and change nothing:"
_WIDTH = 100


def main(arguments: list[str] | None = None, path: Path = FILE) -> int:
    """Writes the file or, with ``--check``, compares it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python src/generate_denials.py")
    parser.add_argument("--check", action="store_true", help="only compare; 1 if it differs")
    check = parser.parse_args(arguments).check
    return write(path, generated(path.read_text("utf-8")), only_check=check)


def generated(text: str) -> str:
    """A module's text, with the sentence as it should be in the place of the one that is there."""
    paragraph = rf"( +){_BEGINNING}[^.]*\.\n"
    if len(re.findall(paragraph, text)) != 1:
        raise ValueError(f"no single sentence begins with {_BEGINNING!r} on a line of its own")
    return re.sub(paragraph, lambda found: _write_sentence(found[1]), text)


def list_denied(rules: list[str]) -> list[str]:
    """The operations that need a command which rules don't give."""
    given = {rule.removeprefix("+").upper() for rule in rules}
    return sorted(
        {
            name
            for database in ("vault", "inventory")
            for name, commands in list_operations(database)
            if not given.issuperset(command.split()[0] for command in commands)
        }
    )


def _write_sentence(margin: str) -> str:
    denied = [
        re.sub(r"\w+", r"``\g<0>``", name, count=1) for name in list_denied(acl.acl_rules("a"))
    ]
    *some, last = denied
    return (
        textwrap.fill(
            f"{_BEGINNING} {', '.join(some)} and {last}.",
            _WIDTH,
            initial_indent=margin,
            subsequent_indent=margin,
            break_long_words=False,
            break_on_hyphens=False,
        )
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
