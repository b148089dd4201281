"""What a server's access control has to say of a user who is one owner.

::

    rules = acl_rules("alice")
    await admin.execute_command("ACL", "SETUSER", "alice", "on", ">secret", *rules)

or, where users stand in a file of the server's (``aclfile``, ``ACL LOAD``)::

    password = "#" + hashlib.sha256(b"secret").hexdigest()
    line = format_acl_line("alice", ["on", password, *acl_rules("alice")])
"""

import re
from collections.abc import Sequence

from ._model.checks import check_count, check_flag, check_id, check_items, check_text
from ._model.keys import Keys
from ._operations.permissions import list_commands
from .errors import InvalidArgumentError

_CONNECTING = ("ping", "select", "dbsize", "wait", "asking", "cluster|slots", "command")
"""What the library and redis-py ask of a server, and of a cluster, about no key."""
_PARTING = re.compile(r"[\x00- \x7f]")
"""What a server takes for the end of a word, or of a line, or doesn't take."""


def acl_rules(
    owner: str,
    *,
    with_scan: bool = False,
    confirm_fsync: bool = False,
    with_config: bool = False,
    has_selectors: bool = True,
    databases: Sequence[int] | None = None,
) -> list[str]:
    """The rules that confine a user to an owner's keys, for ``ACL SETUSER`` (Redis 6.2, Valkey).

    They confine the user in all databases of the server, whatever the user was allowed before:
    commands, keys, channels and selectors. Passwords and ``on`` stay as they are.

    Args:
        owner: whose keys the user may reach.
        with_scan: whether the user may walk key names (SCAN). No server keeps a user's walk to
            some keys: it tells the names of all others' as well, which hold contact and key ids.
            It gives INFO, too, by which a walk knows the server's process among connections.
            Without it, these are denied, and change nothing: ``check``, ``iter_owners``,
            ``maintain_owners`` and ``maintenance`` of all owners.
        confirm_fsync: whether the user's changes are confirmed so (WAITAOF), which servers before
            Redis 7.2 have no rule for. It takes ``with_config``, too, but on Redis 8.0 or later;
            without it changes are denied, and aren't made.
        with_config: whether the user may read the server's settings (CONFIG GET), which alone
            tell whether Valkey, or Redis before 8.0, can be believed to have a change on its
            disk. No server shows a user some of them: it shows its passwords, too (requirepass,
            primaryauth), so these had better be in its ACL alone.
        has_selectors: whether the server has selectors, which are to be taken back: Redis 7.0 or
            later, and Valkey. Redis 6.2 has none, and refuses that rule (a syntax error).
        databases: which databases of the server the user may enter, by number; the vault's and
            the inventory's are 0 and 1 in a url of a server. Only Valkey 9.1 or later has rules
            for that. None leaves it as it is: as a rule, the user may enter all.

    Raises:
        InvalidIdentifierError: the owner is no valid id.
        InvalidArgumentError: the owner has a space, which a pattern of keys can't hold; an option
            is no bool; or the databases are no numbers, or none.
    """
    options = {
        "with_scan": with_scan,
        "confirm_fsync": confirm_fsync,
        "with_config": with_config,
        "has_selectors": has_selectors,
    }
    for name, value in options.items():
        check_flag(name, value)
    if " " in check_id("owner", owner):
        raise InvalidArgumentError("owner", "has a space, which a pattern of keys can't hold")
    commands = {command.lower() for command in list_commands("vault") | list_commands("inventory")}
    commands.update(_CONNECTING)
    if with_scan:
        # A walk that meets another connection asks whose it is.
        commands.add("info")
    else:
        commands.remove("scan")
    if confirm_fsync:
        commands.add("waitaof")
    if with_config:
        commands.add("config|get")
    # What redis-py tells a server of itself goes without permission.
    return [
        *("resetkeys", "resetchannels", "nocommands", "sanitize-payload"),
        *(["clearselectors"] if has_selectors else []),
        *([] if databases is None else ["resetdbs", _list_databases(databases)]),
        f"~{Keys(owner).pattern()}",
        *(f"+{command}" for command in sorted(commands)),
    ]


def format_acl_line(user: str, rules: Sequence[str]) -> str:
    """A user's line in the file of users that a server has (``aclfile``), for ``ACL LOAD``.

    The file, in UTF-8, is all that the server knows of its users then: each has one line, which
    names the passwords as well, and ``on``.

    Args:
        user: the user's name.
        rules: what ``ACL SETUSER`` takes after a name, one by one: those of :func:`acl_rules`,
            and ``on`` and a password (``>secret``, or ``#`` and its SHA-256 in hex).

    Raises:
        InvalidArgumentError: the name or a rule is empty, or has a space or a control character,
            which such a line can't hold; or it's no text.
    """
    check_items("rules", rules, str)
    words = [("user", user), *((f"rules[{place}]", rule) for place, rule in enumerate(rules))]
    return " ".join(["user", *(_check_word(name, word) for name, word in words)])


def _list_databases(databases: Sequence[int]) -> str:
    check_items("databases", databases, int)
    if not databases:
        raise InvalidArgumentError("databases", "must name at least one")
    for place, number in enumerate(databases):
        check_count(f"databases[{place}]", number, 0)
    return f"db={','.join(map(str, databases))}"


def _check_word(argument: str, word: str) -> str:
    """A word of a line. Nothing is told of it: it may be a password."""
    if not check_text(argument, word) or _PARTING.search(word):
        raise InvalidArgumentError(argument, "must be a word without spaces and control characters")
    return word
