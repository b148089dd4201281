"""What the shell completes.

Typer's scripts hand candidates to the shell as they are: zsh evaluates them, bash looks for files
that they match, and all of them put a candidate on the line. Ids of contacts are chosen by others,
so only those are offered that no shell takes for anything but themselves.
"""

import os
import re
from typing import Final

import typer

from aqm_db.config import BUDGET_CAPS
from aqm_db.errors import AQMDatabaseError

from .opening import open_database

_SHELLS: Final = frozenset({"bash", "zsh", "fish"})
"""Where the ids below are harmless. To PowerShell ``@name`` is its variable ``$name``."""
_HARMLESS: Final = re.compile(r"[A-Za-z0-9_:@+][A-Za-z0-9_:@+.-]*")
"""Ids that are one word, and only a word, wherever they stand on the line.

- Letters, digits and ``_`` mean something behind ``$``, ``!``, ``~`` or ``%`` only. ASCII alone:
  the shell's locale needn't know others, and some of them turn the direction of writing.
- ``-`` begins an option, and what begins with ``.`` is hidden by fish: neither is the first.
- ``@`` and ``+`` make patterns of bash before ``(`` only.
- ``:`` separates a candidate from its description in zsh, where typer escapes it.

Everything else means something somewhere: quotes and backslashes, ``$`` and backquotes, spaces,
``;&|<>()``, patterns (``*?[]{},^#``), history (``!^``), directories (``~``), commands (``=``).
"""
_MOST_KEYS: Final = 20_000
"""Nobody waits for the end of a walk over a larger database. Half of the ids would be worse than
none: a shell takes the only one that begins so for the one that's meant."""


def complete_priority(incomplete: str) -> list[str]:
    """The priorities that begin so, in the case that was begun with."""
    names = [name.lower() if incomplete.islower() else name for name in BUDGET_CAPS]
    return [name for name in names if name.startswith(incomplete)]


def complete_contact_id(context: typer.Context, incomplete: str) -> list[str]:
    """The harmless ids of contacts that begin so; none where the database can't be asked."""
    if _shell_of(context) not in _SHELLS:
        return []
    url, owner = (context.params.get(name) for name in ("url", "owner"))
    try:
        with open_database(url, owner, allow_unsafe=True) as db:
            if db.health().inventory_key_count > _MOST_KEYS:
                return []
            found = {contact_id for page in db.inventory.contact_pages() for contact_id in page}
    except AQMDatabaseError:
        return []
    return sorted(
        contact_id
        for contact_id in found
        if contact_id.startswith(incomplete) and _HARMLESS.fullmatch(contact_id)
    )


def _shell_of(context: typer.Context) -> str:
    """Who asks, as typer's scripts say in the environment."""
    name = f"_{context.find_root().info_name}_COMPLETE".replace("-", "_").upper()
    return os.environ.get(name, "").partition("_")[2]
