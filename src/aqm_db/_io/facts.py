"""What a server tells of itself: INFO, CONFIG GET, and whom it lets in.

They are read here, and nowhere else. What a server doesn't tell, or the user may not ask, is None.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aqm_db._model.rows import read_map
from aqm_db.errors import AccessDeniedError, AQMDatabaseError

from .failures import ErrorReply
from .seam import Command, Seam

_SETTINGS = ("appendfsync", "save", "bind", "protected-mode")


# Plain classes: dataclasses of so many fields would be a tenth of what importing the package costs.


class Facts:
    """What a server tells of itself (INFO), as far as it was asked.

    Args:
        fields: what it said, by the names of INFO's fields.

    Attributes:
        run_id: what no other server has, nor the same one once it was started again.
        name: what it is, and its own version: ``Valkey 9.1.0``.
        product: what it is alone.
        version: of the Redis that it's compatible with.
        own_version: its own.
        uptime_seconds: how long it has been running.
        tcp_port: where it listens; 0 if nowhere.
        is_replica: whether it's a replica of another server.
        replicas: how many replicas follow it.
        eviction_policy: which keys it deletes when its memory is full.
        memory_limit: the most bytes that it may use; 0 for no limit, and if it isn't told.
        used_memory: how many bytes it uses.
        has_file: whether it keeps an append-only file.
        is_rewriting: whether that file is being rewritten.
        has_written: whether its last write to the file worked.
        unwritten: how many bytes it still has to write to it.
        has_rewritten: whether the last rewrite of the file did.
        has_saved: whether its last snapshot did.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        compatible, own = fields.get("redis_version"), fields.get("valkey_version")
        self.run_id = fields.get("run_id")
        # Valkey's redis_version is the one that it's compatible with.
        self.product = "Valkey" if own else "Redis"
        self.name = f"{self.product} {own or compatible}" if own or compatible else None
        self.version = _parse_version(compatible)
        self.own_version = _parse_version(own or compatible)
        self.uptime_seconds = _parse_number(fields.get("uptime_in_seconds"))
        self.tcp_port = _parse_number(fields.get("tcp_port"))
        self.is_replica = _compare("slave", fields.get("role"))
        self.replicas = _count_replicas(fields)
        self.eviction_policy = fields.get("maxmemory_policy")
        self.memory_limit = _parse_number(fields.get("maxmemory")) or 0
        self.used_memory = _parse_number(fields.get("used_memory"))
        self.has_file = _compare("1", fields.get("aof_enabled"))
        self.is_rewriting = _compare("1", fields.get("aof_rewrite_in_progress"))
        self.has_written = _compare("ok", fields.get("aof_last_write_status"))
        self.unwritten = _parse_number(fields.get("aof_buffer_length"))
        self.has_rewritten = _compare("ok", fields.get("aof_last_bgrewrite_status"))
        self.has_saved = _compare("ok", fields.get("rdb_last_bgsave_status"))

    @property
    def waits_for_fsync(self) -> bool:
        """Whether its WAITAOF is known to wait for the fsync, where that comes once a second.

        Redis does from 8.0 on. Redis 7.4 and Valkey (8.1.8, 9.1.2) answer before it.
        """
        is_redis = self.name is not None and self.name.startswith("Redis ")
        return is_redis and self.version is not None and self.version >= (8,)

    @property
    def cuts_off_halves(self) -> bool:
        """Whether it's known to cut off the whole request that its append-only file breaks off in.

        Valkey does from 9.1.2 on. Valkey 8.1.8, and Redis (6.2.14, 8.2.3), leave its beginning.
        """
        version = self.own_version
        return self.product == "Valkey" and version is not None and version >= (9, 1, 2)

    @property
    def evicts_when_full(self) -> bool:
        """Whether it's known to do anything but refuse writes then."""
        return self.eviction_policy not in {None, "noeviction"}


class Settings:
    """A server's settings (CONFIG GET), but for those that it doesn't tell.

    Args:
        texts: what it said, by name.

    Attributes:
        appendfsync: when its append-only file is flushed.
        takes_snapshots: whether it takes snapshots at times.
        addresses: those that it listens on; none is all.
        is_protected: whether it refuses other machines as long as it has no password.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        bind = texts.get("bind")
        self.appendfsync = texts.get("appendfsync")
        self.takes_snapshots = _is_other("", texts.get("save"))
        self.addresses = (
            # One that the machine may lack begins so.
            None if bind is None else tuple(each.removeprefix("-") for each in bind.split())
        )
        self.is_protected = _is_other("no", texts.get("protected-mode"))


async def read_facts(seam: Seam, *sections: str) -> Facts:
    """Reads some sections of INFO."""
    texts = await read_unless_refused(seam, *(("INFO", section) for section in sections))
    return parse_info(b"\n".join(texts or []))


def parse_info(text: bytes) -> Facts:
    """What a server tells of itself in some sections of INFO."""
    lines = text.decode("utf-8", "replace").splitlines()
    return Facts({name: value for name, _, value in (line.partition(":") for line in lines)})


def parse_greeting(reply: Any) -> Facts:
    """What a server says when it's greeted (HELLO), which every user may: its name and version."""
    fields = {} if isinstance(reply, ErrorReply) else read_map(reply)
    name, version = fields.get(b"server", b""), fields.get(b"version", b"")
    return Facts({f"{name.decode()}_version": version.decode()} if version else {})


def parse_time(reply: Sequence[Any]) -> int:
    """What a server's clock shows (TIME), in milliseconds since the epoch."""
    seconds, microseconds = reply
    return int(seconds) * 1000 + int(microseconds) // 1000


async def read_settings(seam: Seam) -> Settings:
    """Reads the settings, but for those that the server doesn't tell."""
    commands = (("CONFIG", "GET", name) for name in _SETTINGS)
    replies = await read_unless_refused(seam, *commands)
    return parse_settings(replies or [])


def parse_settings(replies: Sequence[Any]) -> Settings:
    """The settings that a server told, each in a reply of its own."""
    return Settings(
        {
            name.decode(): value.decode("utf-8", "replace")
            for reply in replies
            for name, value in read_map(reply).items()
        }
    )


async def read_openness(seam: Seam) -> bool | None:
    """Reads whether the server lets in whoever has no password (ACL GETUSER)."""
    replies = await read_unless_refused(seam, ("ACL", "GETUSER", "default"))
    if replies is None:
        return None
    flags = read_map(replies[0])[b"flags"]
    return b"on" in flags and b"nopass" in flags


async def read_unless_refused(seam: Seam, *commands: Command) -> list[Any] | None:
    """The replies to reading commands; None if the server refuses them."""
    try:
        return await seam.read(*commands)
    except AQMDatabaseError as error:
        if is_refusal(error) or isinstance(error, AccessDeniedError):
            return None
        raise


def is_refusal(error: AQMDatabaseError) -> bool:
    """Whether the server doesn't know a command, or can't run it: now, later, and for any user."""
    # Each other reason has a class of its own.
    return type(error) is AQMDatabaseError


def _count_replicas(fields: Mapping[str, str]) -> int | None:
    connected = _parse_number(fields.get("connected_slaves"))
    if connected is None:
        return None
    lines = (fields.get(f"slave{number}", "") for number in range(connected))
    return sum("state=online" in line for line in lines)


def _parse_version(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    # One that isn't released yet goes on with something else: 9.0-rc1.
    found = re.match(r"[0-9]{1,9}(\.[0-9]{1,9})*", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def _parse_number(text: str | None) -> int | None:
    """A whole number; None for what is none."""
    return int(text) if text is not None and text.isdigit() else None


def _compare(wanted: str, text: str | None) -> bool | None:
    return None if text is None else text == wanted


def _is_other(unwanted: str, text: str | None) -> bool | None:
    return None if text is None else text != unwanted
