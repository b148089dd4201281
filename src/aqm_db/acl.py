"""What a server's access control has to say of a user who is one owner.

::

    rules = acl_rules("alice")
    await admin.execute_command("ACL", "SETUSER", "alice", "on", ">secret", *rules)
"""

from ._model.checks import check_id
from ._model.keys import Keys
from ._operations.permissions import list_commands
from .errors import InvalidArgumentError

_CONNECTING = ("ping", "select", "dbsize", "wait", "asking", "cluster|slots", "command")
"""What the library and redis-py ask of a server, and of a cluster, about no key."""


def acl_rules(owner: str, *, with_scan: bool = False, confirm_fsync: bool = False) -> list[str]:
    """The rules that confine a user to an owner's keys, for ``ACL SETUSER`` (Redis 6.2, Valkey).

    They set aside what the user was allowed before, but neither passwords nor ``on``.

    Args:
        owner: whose keys the user may reach.
        with_scan: whether the user may walk key names (SCAN). No server keeps a user's walk to
            some keys: it tells the names of all others' as well, which hold contact and key ids.
            Without it, what reads or cares for the whole database is denied: ``get_inventory``
            of all contacts, ``get_all_active_ids``, ``purge_expired``, the garbage collector,
            backups and ``delete_owner``.
        confirm_fsync: whether the user's changes are confirmed so (WAITAOF), which servers before
            Redis 7.2 have no rule for. Valkey, and Redis before 8.0, need ``+config|get`` besides.
            It's no part of the rules: it shows all of the server's settings, its passwords too
            (requirepass, primaryauth), so these had better be in its ACL alone.

    Raises:
        InvalidIdentifierError: the owner is no valid id.
        InvalidArgumentError: the owner has a space, which a pattern of keys can't hold.
    """
    if " " in check_id("owner", owner):
        raise InvalidArgumentError("owner", "has a space, which a pattern of keys can't hold")
    commands = {command.lower() for command in list_commands("vault") | list_commands("inventory")}
    commands.update(_CONNECTING)
    if with_scan:
        commands.add("unlink")
    else:
        commands.discard("scan")
    if confirm_fsync:
        commands.add("waitaof")
    # What redis-py tells a server of itself goes without permission.
    return [
        *("resetkeys", "resetchannels", "nocommands", f"~{Keys(owner).pattern()}"),
        *(f"+{command}" for command in sorted(commands)),
    ]
