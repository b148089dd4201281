"""The integrity check: what doesn't fit in a database, and how it is mended.

==================== ====================================================== ======================
kind                 what is wrong                                          repaired by
==================== ====================================================== ======================
wrong_counter        a counter differs from a recount                       setting it
dangling_entry       an index or queue lists what isn't there, or can't be  removing the entry
                     used
orphaned_row         no index, or no queue, lists a key, or what there is   listing it, if that is
                     of a contact                                           safe; a coin that stays
                                                                            so goes with its contact
misplaced_entry      a key is listed under another tier than its own        removing or moving the
                                                                            entry
no_expiry            a private half, a tombstone or a claim would stay for  an expiry
                     ever
kept_material        a burned key's tombstone holds key material            erasing it
corrupt_row          a field is missing or malformed                        nothing: it's left
corrupt_contact      the same of a contact                                  nothing: it's left
wrong_type           a key holds a value of another Redis type              nothing: it's left
unregistered_contact a queue's contact isn't registered                     nothing: register it
foreign_key          a name among ours that is none of ours                 nothing: it's left
==================== ====================================================== ======================
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from aqm_db._model.checks import check_flag, check_kind
from aqm_db._model.kinds import (
    INVENTORY_KINDS,
    VAULT_KINDS,
    DatabaseName,
)
from aqm_db._operations.outcome import Progress
from aqm_db.inventory import AsyncSmartInventory
from aqm_db.vault import AsyncSecureVault

from ._inventory import check_inventory
from ._vault import check_vault
from ._walk import Inspection

__all__ = ["AsyncIntegrityChecker", "DatabaseName", "IntegrityReport", "Problem", "ProblemKind"]

ProblemKind: TypeAlias = Literal[
    "wrong_counter",
    "dangling_entry",
    "orphaned_row",
    "misplaced_entry",
    "no_expiry",
    "kept_material",
    "corrupt_row",
    "corrupt_contact",
    "wrong_type",
    "unregistered_contact",
    "foreign_key",
]
"""What can be wrong; the module's table says what each means."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that doesn't fit.

    Attributes:
        kind: what is wrong.
        database: where.
        key: the name of the Redis key that it is about; never what the key holds.
        detail: one sentence more.
        repaired: whether it was mended.
    """

    kind: ProblemKind
    database: DatabaseName
    key: str
    detail: str
    repaired: bool


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """What a check found.

    Attributes:
        problems: what doesn't fit.
        private_halves: how many were looked at, tombstones included.
        public_halves: how many were looked at.
        contacts: how many were looked at.
    """

    problems: tuple[Problem, ...]
    private_halves: int
    public_halves: int
    contacts: int

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong, or nothing any more."""
        return self.repaired == len(self.problems)

    @property
    def repaired(self) -> int:
        """How many problems were mended."""
        return sum(problem.repaired for problem in self.problems)


class AsyncIntegrityChecker:
    """Finds what doesn't fit in a vault and an inventory, and mends it.

    Args:
        vault: the owner's private halves.
        inventory: contacts' public halves; its caps say how many coins may be put back.

    Raises:
        TypeError: an argument is of the wrong kind.
    """

    def __init__(self, vault: AsyncSecureVault, inventory: AsyncSmartInventory) -> None:
        check_kind("vault", vault, AsyncSecureVault)
        check_kind("inventory", inventory, AsyncSmartInventory)
        self._vault = vault
        self._inventory = inventory

    async def check(self, *, repair: bool = False) -> IntegrityReport:
        """Checks both databases.

        Others may work meanwhile: each key is looked at, and mended, in one step with all that
        belongs to it. It walks both databases (SCAN): for background use. Only the recount is one
        step for all private halves, in which the server serves nobody else: some tenths of a
        second for 100,000 of them.

        Nothing that could still be used is deleted. Malformed rows and names of others are left
        as they are, and a coin that no queue lists goes back to its queue only if it was never
        used, its contact is registered, and the cap allows it.

        Args:
            repair: whether to mend what can be mended; what was mended before an error stays so.

        Raises:
            InvalidArgumentError: ``repair`` isn't a bool.
            UnavailableError: a database can't be reached.
            AccessDeniedError: the server forbids a command or a key.
            NotWritableError: the server takes no writes now.
        """
        check_flag("repair", repair)
        vault, inventory = self._vault, self._inventory
        with Progress("check") as progress:
            in_vault = Inspection(vault.scope, VAULT_KINDS, repair=repair, progress=progress)
            in_inventory = Inspection(
                inventory.scope, INVENTORY_KINDS, repair=repair, progress=progress
            )
            private_halves = await check_vault(vault, in_vault)
            public_halves, contacts = await check_inventory(inventory, in_inventory)
        return IntegrityReport(
            (*_list_problems("vault", in_vault), *_list_problems("inventory", in_inventory)),
            private_halves,
            public_halves,
            contacts,
        )


def _list_problems(database: DatabaseName, inspection: Inspection) -> list[Problem]:
    return [
        Problem(cast("ProblemKind", note.kind), database, note.key, note.detail, repaired)
        for note, repaired in inspection.problems.items()
    ]
