"""What could lose keys, or give them away: an examination of a database's servers and users.

::

    diagnosis = await db.doctor()
    for finding in diagnosis.findings:
        print(finding.severity, finding.message, finding.remedy)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final, Literal, TypeAlias

from aqm_db._io.confirming import UNCONFIRMED, Confirming
from aqm_db._io.facts import (
    Facts,
    eviction_in,
    evicts_when_full,
    facts_of,
    memory_limit,
    number_in,
    replica_in,
    told,
)
from aqm_db._io.redispy.clients import AnyAsyncClient, Route, find_route, make_seam
from aqm_db._io.seam import ClientSeam, Seam
from aqm_db._model.keys import Keys
from aqm_db._model.rows import read_map
from aqm_db._operations.permissions import Database, missing_permissions
from aqm_db.errors import InventoryUnavailableError, UnavailableError, VaultUnavailableError

FindingName: TypeAlias = Literal[
    "persistence",
    "loss_window",
    "eviction",
    "replica",
    "version",
    "memory",
    "disk",
    "password",
    "tls",
    "confirmation",
    "permissions",
]
"""What was examined.

``persistence``: whether an append-only file is kept; ``loss_window``: how much of it a crash of
the machine may lose; ``eviction``: whether the server deletes keys to make room; ``replica``:
whether it is one; ``version``: whether it's new enough; ``memory``: how much is left; ``disk``:
whether its last writes to files worked; ``password``: who can use it; ``tls``: who can listen;
``confirmation``: whether changes that have to be confirmed can be; ``permissions``: whether the
user may do all that the library does.
"""
Severity: TypeAlias = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined.

    Attributes:
        name: what it is about.
        severity: ``error`` if keys may be lost or given away, or calls fail; ``warning`` if that
            depends, or couldn't be examined.
        message: a sentence of what is so.
        remedy: a sentence of what to do; empty if all is well.
    """

    name: FindingName
    severity: Severity
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found."""

    findings: tuple[Finding, ...]

    @property
    def severity(self) -> Severity:
        """The worst of all findings."""
        found = {finding.severity for finding in self.findings}
        return next(severity for severity in _WORST_FIRST if severity in found)


async def examine(
    vault_client: AnyAsyncClient,
    inventory_client: AnyAsyncClient,
    keys: Keys,
    confirming: Confirming = UNCONFIRMED,
) -> Diagnosis:
    """Examines the server of each client, once if it's the same, and what each user may do.

    Nothing is changed. What a server doesn't tell is a finding, too.

    Args:
        vault_client: the vault's client.
        inventory_client: the inventory's.
        keys: the names of the owner's keys.
        confirming: what has to have each change.

    Raises:
        VaultUnavailableError: the vault's server can't be reached.
        InventoryUnavailableError: the inventory's server can't be reached.
    """
    vault = _Patient("vault", vault_client, VaultUnavailableError, keys, confirming)
    inventory = _Patient("inventory", inventory_client, InventoryUnavailableError, keys, confirming)
    if vault.route.is_in_memory:
        return Diagnosis((_IN_MEMORY,))
    findings = await _of_servers(vault, inventory)
    # Even to one server, there may be two users and two ways.
    findings += dict.fromkeys(_tls(patient.route) for patient in (vault, inventory))
    problems = [
        problem
        for patient in (vault, inventory)
        for problem in await missing_permissions(patient.seam, patient.name, keys, confirming)
    ]
    findings += [Finding("permissions", "error", *problem) for problem in problems] or [
        Finding("permissions", "ok", "The user may do all that the library does.")
    ]
    return Diagnosis(tuple(findings))


_WORST_FIRST: Final[tuple[Severity, ...]] = ("error", "warning", "ok")
_SECTIONS: Final = ("server", "memory", "persistence", "replication")
_SETTINGS: Final = ("appendfsync", "save", "bind", "protected-mode")
_REPLICAS: Final = "connected_slaves"
_DISK_MS: Final = 2000
"""What is written once a second is waited for up to twice as long."""
_OLDEST: Final = (6, 2)
_FULL_PERCENT: Final[tuple[tuple[Severity, int], ...]] = (("error", 95), ("warning", 80))
_IN_MEMORY: Final = Finding(
    "persistence",
    "warning",
    "Nothing is kept: the database is in this process, and gone when it ends.",
    "Use it for tests only; embedded:// keeps a database in a directory.",
)


class _Patient:
    """One of the two databases, and the way to its server."""

    def __init__(
        self,
        name: Database,
        client: AnyAsyncClient,
        unavailable: type[UnavailableError],
        keys: Keys,
        confirming: Confirming,
    ) -> None:
        self.name: Database = name
        self.seam: ClientSeam = make_seam(
            client, unavailable, "doctor", keys, confirming=UNCONFIRMED
        )
        self.confirming = confirming
        self.route: Route = find_route(client)


async def _of_servers(vault: _Patient, inventory: _Patient) -> list[Finding]:
    vault_facts = await facts_of(vault.seam, *_SECTIONS)
    inventory_facts = await facts_of(inventory.seam, *_SECTIONS)
    if vault_facts and inventory_facts:
        is_one = vault_facts.get("run_id") == inventory_facts.get("run_id")
    else:
        is_one = vault.route.place == inventory.route.place
    findings = await _of_server(vault, vault_facts)
    if is_one:
        return findings
    others = await _of_server(inventory, inventory_facts)
    return [
        replace(finding, message=f"The {patient.name}'s server: {finding.message}")
        for patient, found in ((vault, findings), (inventory, others))
        for finding in found
    ]


async def _of_server(patient: _Patient, facts: Facts) -> list[Finding]:
    settings = await _settings_of(patient.seam)
    findings = [
        *_persistence(facts, settings),
        _eviction(facts),
        _replica(facts),
        _version(facts),
        _memory(facts),
        _disk(facts),
        *_confirmation(patient.confirming, facts, settings),
    ]
    is_open = await _is_open(patient)
    return [*findings, _password(patient.route, facts, settings, is_open=is_open)]


def _persistence(facts: Facts, settings: Mapping[str, str]) -> list[Finding]:
    kept = facts.get("aof_enabled")
    if kept is None:
        return [_unexamined("persistence", "INFO"), _unexamined("loss_window", "INFO")]
    if kept == "1":
        return [
            Finding("persistence", "ok", "The server keeps an append-only file."),
            _loss_window(settings.get("appendfsync")),
        ]
    message = (
        "Nothing is kept: there is neither an append-only file nor a snapshot."
        if settings.get("save") == ""
        else "There is no append-only file, and a crash takes everything back to the last "
        "snapshot, coins that were handed out since then included."
    )
    return [Finding("persistence", "error", message, "Set appendonly to yes.")]


def _loss_window(appendfsync: str | None) -> Finding:
    match appendfsync:
        case None:
            return _unexamined("loss_window", "CONFIG GET")
        case "always":
            return Finding("loss_window", "ok", "Whatever was acknowledged is on the disk.")
        case "everysec":
            return Finding(
                "loss_window",
                "warning",
                "A crash of the machine, or of the server while the disk is busy, may lose the "
                "last second or two (appendfsync is everysec).",
                "Set appendfsync to always where no coin may ever be handed out twice.",
            )
        case _:
            return Finding(
                "loss_window",
                "error",
                "A crash of the machine may lose half a minute, or more (appendfsync is "
                f"{appendfsync}).",
                "Set appendfsync to everysec, or to always.",
            )


def _eviction(facts: Facts) -> Finding:
    if "maxmemory_policy" not in facts:
        return _unexamined("eviction", "INFO")
    if problem := eviction_in(facts):
        return Finding("eviction", "error", *problem)
    if evicts_when_full(facts):
        return Finding(
            "eviction",
            "warning",
            "The server would delete keys if its memory had a limit (maxmemory-policy is "
            f"{facts['maxmemory_policy']}).",
            "Set maxmemory-policy to noeviction.",
        )
    return Finding("eviction", "ok", "The server deletes no keys to make room.")


def _replica(facts: Facts) -> Finding:
    if "role" not in facts:
        return _unexamined("replica", "INFO")
    if problem := replica_in(facts):
        return Finding("replica", "error", *problem)
    return Finding("replica", "ok", "The server is no replica.")


def _version(facts: Facts) -> Finding:
    # Valkey's redis_version is the one that it's compatible with.
    compatible = facts.get("redis_version")
    if compatible is None:
        return _unexamined("version", "INFO")
    own = facts.get("valkey_version")
    shown = f"Redis {compatible}" if own is None else f"Valkey {own}"
    if _numbers(compatible) < _OLDEST:
        return Finding(
            "version",
            "error",
            f"The server is {shown}, which lacks what the scripts use.",
            "Use Redis 6.2 or later, or Valkey.",
        )
    return Finding("version", "ok", f"The server is {shown}.")


def _memory(facts: Facts) -> Finding:
    if "used_memory" not in facts:
        return _unexamined("memory", "INFO")
    limit = memory_limit(facts)
    if not limit:
        return Finding("memory", "ok", "The server sets no limit to its memory.")
    percent = 100 * number_in(facts, "used_memory") / limit
    message = f"The server uses {percent:.0f} percent of its memory (maxmemory is {limit} bytes)."
    for severity, most in _FULL_PERCENT:
        if percent > most:
            return Finding(
                "memory", severity, message, "Raise maxmemory: a full server refuses to store keys."
            )
    return Finding("memory", "ok", message)


def _disk(facts: Facts) -> Finding:
    if "aof_last_write_status" not in facts:
        return _unexamined("disk", "INFO")
    remedy = "Look into the server's log, and at the space and the permissions of its directory."
    if facts["aof_last_write_status"] != "ok":
        message = "The server couldn't write to its append-only file, and refuses writes."
        return Finding("disk", "error", message, remedy)
    if facts.get("rdb_last_bgsave_status") != "ok":
        message = "The server couldn't save its last snapshot, and may refuse writes."
        return Finding("disk", "error", message, remedy)
    if facts.get("aof_last_bgrewrite_status") != "ok":
        message = "The server couldn't rewrite its append-only file, where burned keys stay."
        return Finding("disk", "warning", message, remedy)
    return Finding("disk", "ok", "The server's last writes to its files worked.")


def _confirmation(
    confirming: Confirming, facts: Facts, settings: Mapping[str, str]
) -> list[Finding]:
    """Whether changes can be confirmed as they have to be; nothing if they haven't."""
    if not confirming.is_wanted:
        return []
    if "role" not in facts:
        return [_unexamined("confirmation", "INFO")]
    wanted, following = confirming.replicas, _replicas_of(facts)
    if following < wanted:
        return [
            Finding(
                "confirmation",
                "error",
                f"Changes wait for {wanted} replicas, and the server has {following}: each call "
                "fails after confirm_timeout, and its outcome is unknown.",
                "Connect more replicas, or lower confirm_replicas.",
            )
        ]
    is_slow = settings.get("appendfsync") == "everysec" and confirming.timeout < _DISK_MS
    if confirming.fsync and is_slow:
        return [
            Finding(
                "confirmation",
                "warning",
                "Changes wait for disks that are written once a second (appendfsync is everysec), "
                f"and confirm_timeout is {confirming.timeout} ms.",
                f"Set appendfsync to always, or confirm_timeout to {_DISK_MS} or more.",
            )
        ]
    return [Finding("confirmation", "ok", "Changes are confirmed as they have to be.")]


def _replicas_of(facts: Facts) -> int:
    """How many replicas follow the server."""
    lines = (facts.get(f"slave{number}", "") for number in range(number_in(facts, _REPLICAS)))
    return sum("state=online" in line for line in lines)


def _password(
    route: Route, facts: Facts, settings: Mapping[str, str], *, is_open: bool | None
) -> Finding:
    if route.host is None and facts.get("tcp_port") == "0":
        return Finding("password", "ok", "The server is reached by its unix socket only.")
    if is_open is None:
        return _unexamined("password", "ACL GETUSER")
    if not is_open:
        return Finding("password", "ok", "The server asks for a password.")
    remedy = "Set requirepass, and put the password into the url."
    if _is_remote(route) or _is_exposed(facts, settings):
        message = "Whoever reaches the server over the network can use it without a password."
        return Finding("password", "error", message, remedy)
    message = "Every program on the server's machine can use it without a password."
    return Finding("password", "warning", message, remedy)


def _tls(route: Route) -> Finding:
    if not _is_remote(route):
        return Finding("tls", "ok", "The server is on this machine.")
    if route.is_encrypted:
        return Finding("tls", "ok", "The connection is encrypted.")
    return Finding(
        "tls",
        "warning",
        f"The connection to {route.host} isn't encrypted, so others may read passwords and change "
        "keys on the way.",
        "Give the server a certificate, and use a rediss:// url.",
    )


def _is_remote(route: Route) -> bool:
    return route.host is not None and not _is_loopback(route.host)


def _is_exposed(facts: Facts, settings: Mapping[str, str]) -> bool:
    """Whether the server is known to accept others than its own machine, without a password."""
    bind, protected = settings.get("bind"), settings.get("protected-mode")
    if bind is None or protected is None:
        return False
    addresses = [address.removeprefix("-") for address in bind.split()]
    if addresses and all(map(_is_loopback, addresses)):
        return False
    # Before Redis 7, a server that was told its addresses wasn't protected.
    told = bool(addresses) and _numbers(facts.get("redis_version", "")) < (7,)
    return protected == "no" or told


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _is_open(patient: _Patient) -> bool | None:
    """Whether the server asks for no password; None if nobody says."""
    reply = await told(patient.seam, ("ACL", "GETUSER", "default"))
    if reply is not None:
        flags = read_map(reply[0])[b"flags"]
        return b"on" in flags and b"nopass" in flags
    return None if patient.route.sends_password else True


async def _settings_of(seam: Seam) -> dict[str, str]:
    """The server's settings, but for those that it doesn't tell."""
    replies = await told(seam, *(("CONFIG", "GET", name) for name in _SETTINGS))
    return {
        name.decode(): value.decode("utf-8", "replace")
        for reply in replies or []
        for name, value in read_map(reply).items()
    }


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _unexamined(name: FindingName, command: str) -> Finding:
    return Finding(
        name,
        "warning",
        f"This couldn't be examined, since the server refuses {command}.",
        f"Let the user run {command}, or ask whoever runs the server.",
    )
