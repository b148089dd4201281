"""What could lose keys, or give them away: an examination of a database's servers and users.

::

    diagnosis = await db.doctor()
    for finding in diagnosis.findings:
        print(finding.severity, finding.message, finding.remedy)
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from aqm_db._io.confirming import UNCONFIRMED, Confirming
from aqm_db._io.facts import Facts, read_facts, read_openness, read_settings
from aqm_db._io.redispy.clients import AnyAsyncClient, Route, find_route, make_seam
from aqm_db._io.seam import ClientSeam
from aqm_db._model.defaults import now_ms
from aqm_db._model.keys import Keys
from aqm_db._model.kinds import DatabaseName
from aqm_db._operations.clock import read_clock_record
from aqm_db._operations.permissions import find_missing_permissions
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import InventoryUnavailableError, UnavailableError, VaultUnavailableError

from ._access import examine_encryption, examine_password
from ._clock import examine_clock
from ._findings import Diagnosis, Finding, FindingName, Severity
from ._service import examine_confirmation, examine_role
from ._storage import (
    examine_disk,
    examine_eviction,
    examine_files,
    examine_memory,
    examine_persistence,
    examine_space,
)
from ._support import examine_version

__all__ = ["Diagnosis", "Finding", "FindingName", "Severity", "examine"]

_SECTIONS: Final = ("server", "memory", "persistence", "replication")
_IN_MEMORY: Final = Finding(
    "persistence",
    "warning",
    "Nothing is kept: the database is in this process, and gone when it ends.",
    "Use it for tests only; embedded:// keeps a database in a directory.",
)


async def examine(
    vault_client: AnyAsyncClient,
    inventory_client: AnyAsyncClient,
    keys: Keys,
    confirming: Confirming = UNCONFIRMED,
    server: EmbeddedServer | None = None,
    clock: Callable[[], int] = now_ms,
) -> Diagnosis:
    """Examines the server of each client, once if it's the same, and what each user may do.

    Nothing is changed. What a server doesn't tell is a finding, too.

    Args:
        vault_client: the vault's client.
        inventory_client: the inventory's.
        keys: the names of the owner's keys.
        confirming: what has to have each change.
        server: the embedded server of both.
        clock: what time it is (ms), for whether the servers are supported still.

    Raises:
        VaultUnavailableError: the vault's server can't be reached.
        InventoryUnavailableError: the inventory's server can't be reached.
        EmbeddedServerError: the embedded server's directory can't be read any more.
    """
    vault = _Patient("vault", vault_client, VaultUnavailableError, keys, confirming)
    inventory = _Patient("inventory", inventory_client, InventoryUnavailableError, keys, confirming)
    if vault.route.is_in_memory:
        return Diagnosis((_IN_MEMORY,))
    findings = await _examine_servers(vault, inventory, clock())
    if server is not None:
        disk = server.examine_disk()
        findings += [examine_space(disk), examine_files(disk)]
    # Even to one server, there may be two users and two ways.
    findings += dict.fromkeys(examine_encryption(patient.route) for patient in (vault, inventory))
    defects = [
        defect
        for patient in (vault, inventory)
        for defect in await find_missing_permissions(patient.seam, patient.name, keys, confirming)
    ]
    findings += [Finding("permissions", "error", *defect) for defect in defects] or [
        Finding("permissions", "ok", "The user may do all that the library does.")
    ]
    return Diagnosis(tuple(findings))


class _Patient:
    """One of the two databases, and the way to its server."""

    def __init__(
        self,
        name: DatabaseName,
        client: AnyAsyncClient,
        unavailable: type[UnavailableError],
        keys: Keys,
        confirming: Confirming,
    ) -> None:
        self.name: DatabaseName = name
        self.seam: ClientSeam = make_seam(
            client, unavailable, "doctor", keys, confirming=UNCONFIRMED
        )
        self.confirming = confirming
        self.watch: str = keys.vault_watch if name == "vault" else keys.inv_watch
        self.route: Route = find_route(client)


async def _examine_servers(vault: _Patient, inventory: _Patient, now: int) -> list[Finding]:
    vault_facts = await read_facts(vault.seam, *_SECTIONS)
    inventory_facts = await read_facts(inventory.seam, *_SECTIONS)
    if vault_facts.run_id and inventory_facts.run_id:
        is_one = vault_facts.run_id == inventory_facts.run_id
    else:
        is_one = vault.route.place == inventory.route.place
    # Each has noted what its own scripts have seen of the clock.
    vault_clock, inventory_clock = await _examine_clock(vault), await _examine_clock(inventory)
    findings = await _examine_server(vault, vault_facts, now)
    if is_one:
        troubles = [each for each in (*vault_clock, *inventory_clock) if each.severity != "ok"]
        return [*findings, *(dict.fromkeys(troubles) or vault_clock)]
    findings += vault_clock
    others = await _examine_server(inventory, inventory_facts, now) + inventory_clock
    return [
        replace(finding, message=f"The {patient.name}'s server: {finding.message}")
        for patient, found in ((vault, findings), (inventory, others))
        for finding in found
    ]


async def _examine_clock(patient: _Patient) -> list[Finding]:
    return examine_clock(await read_clock_record(patient.seam, patient.watch), now_ms())


async def _examine_server(patient: _Patient, facts: Facts, now: int) -> list[Finding]:
    settings = await read_settings(patient.seam)
    is_open = await read_openness(patient.seam)
    if is_open is None and not patient.route.sends_password:
        # Nobody says, but we came in.
        is_open = True
    return [
        *examine_persistence(facts, settings),
        examine_eviction(facts),
        examine_role(facts),
        examine_version(facts, now),
        examine_memory(facts),
        examine_disk(facts),
        *examine_confirmation(patient.confirming, facts, settings),
        examine_password(patient.route, facts, settings, is_open=is_open),
    ]
