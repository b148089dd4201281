"""Every exception that this library raises of its own.

::

    AQMDatabaseError
    ├── InvalidArgumentError            (also a ValueError)
    │   ├── InvalidIdentifierError
    │   ├── InvalidCoinCategoryError
    │   └── InvalidPriorityError
    ├── KeyNotFoundError
    │   └── KeyExpiredError
    ├── KeyAlreadyExistsError
    │   └── KeyAlreadyBurnedError
    ├── KeyAlreadyUsedError
    ├── CoinExpiredError
    ├── BudgetExceededError
    ├── NoSlotError
    ├── ContactNotRegisteredError
    ├── CorruptEntryError
    ├── InvalidCoinError
    ├── ConcurrencyError
    ├── AccessDeniedError
    ├── NotWritableError
    ├── UnsafeServerError
    ├── SchemaVersionError
    ├── EmbeddedServerError
    └── UnavailableError
        ├── VaultUnavailableError
        └── InventoryUnavailableError

Exceptions of redis-py never escape. No message holds key material.
"""

from functools import partial
from typing import Literal


class AQMDatabaseError(Exception):
    """Base of every error below.

    Attributes:
        outcome_unknown: False if the call changed nothing; True if it did, or may have: it was
            sent and no answer came, or nobody confirmed it, or a call that takes several requests
            was carried out in part.
        carried_out: how many changes such a call is known to have made before it failed: contacts,
            coins, keys, or whatever else it counts. To repeat it does the rest.
    """

    outcome_unknown: bool = False
    carried_out: int = 0


class InvalidArgumentError(AQMDatabaseError, ValueError):
    """An argument has the wrong type or value; nothing was sent.

    Attributes:
        argument: name of the parameter that was refused.
    """

    def __init__(self, argument: str, reason: str) -> None:
        super().__init__(f"{argument}: {reason}")
        self.argument = argument
        self._reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        """What makes it anew, in another process for example."""
        return type(self), (self.argument, self._reason), vars(self)


class InvalidIdentifierError(InvalidArgumentError):
    """An id isn't a ``str`` of 1 to 256 bytes of UTF-8."""


class InvalidCoinCategoryError(InvalidArgumentError):
    """A tier isn't one of ``config.VALID_COIN_CATEGORIES``."""


class InvalidPriorityError(InvalidArgumentError):
    """A priority isn't one of ``config.VALID_PRIORITIES``."""


class KeyNotFoundError(AQMDatabaseError):
    """There is no key of this id, and no memory of one.

    It was never stored, its end is more than 30 days ago, or the server has lost it.
    """


class KeyExpiredError(KeyNotFoundError):
    """There was a key of this id, and it has expired, or was purged.

    Whoever handles a key that isn't there any more handles this one, too.
    """


class KeyAlreadyExistsError(AQMDatabaseError):
    """A key of this id is stored already; the stored one was left as it is."""


class KeyAlreadyBurnedError(KeyAlreadyExistsError):
    """This key was burned before: the message is a replay, and the id is taken."""


class KeyAlreadyUsedError(AQMDatabaseError):
    """This coin was handed out for this contact before, so it can't be stored again."""


class CoinExpiredError(AQMDatabaseError):
    """A coin's ``expires_at`` has passed: nobody may encrypt for it, so it was not stored."""


class BudgetExceededError(AQMDatabaseError):
    """A budget is used up, the contact's cap for this tier or the bytes of all; nothing was stored.

    Attributes:
        contact_id: whose coin it is.
        coin_category: the tier.
        current_count: coins stored in it now, or bytes of all cached coins; what is reserved for
            coins that are on their way counts where reservations do.
        cap: coins or bytes allowed.
        unit: which budget it is: ``"coins"`` or ``"bytes"``.
    """

    def __init__(
        self,
        contact_id: str,
        coin_category: str,
        current_count: int,
        cap: int,
        *,
        unit: Literal["coins", "bytes"] = "coins",
    ) -> None:
        super().__init__(
            f"contact {contact_id!r} holds {current_count} of at most {cap} {coin_category} coins"
            if unit == "coins"
            else f"all coins take {current_count} of at most {cap} bytes: no room for a"
            f" {coin_category} coin of contact {contact_id!r}"
        )
        self.contact_id = contact_id
        self.coin_category = coin_category
        self.current_count = current_count
        self.cap = cap
        self.unit: Literal["coins", "bytes"] = unit

    def __reduce__(self) -> tuple[object, ...]:
        """What makes it anew, in another process for example."""
        counts = self.contact_id, self.coin_category, self.current_count, self.cap
        return partial(type(self), unit=self.unit), counts, vars(self)


class NoSlotError(AQMDatabaseError):
    """What was reserved for coins on their way is full, or has expired; the coin was not stored."""


class ContactNotRegisteredError(AQMDatabaseError):
    """There is no contact of this id; ``register_contact`` makes one."""


class CorruptEntryError(AQMDatabaseError):
    """A stored entry has the wrong type, or a missing or malformed field; nothing was deleted."""


class InvalidCoinError(AQMDatabaseError):
    """A coin's signature doesn't match, or a sealed private half can't be opened as asked for."""


class ConcurrencyError(AQMDatabaseError):
    """The server could not run a request as one atomic step (a slot being moved)."""


class AccessDeniedError(AQMDatabaseError):
    """The server refused the password, or the user's ACL forbids a command or a key."""


class NotWritableError(AQMDatabaseError):
    """The server takes no writes now: out of memory, a replica, or a failing disk."""


class UnsafeServerError(AQMDatabaseError):
    """The server deletes keys to make room, or is a replica; ``connect`` opened nothing."""


class SchemaVersionError(AQMDatabaseError):
    """A later version of this library has written the database; nothing was read or changed.

    Attributes:
        database: which one, ``"vault"`` or ``"inventory"``.
        found: the version of its layout.
        known: the highest that this version of the library knows.
    """

    def __init__(self, database: str, found: int, known: int) -> None:
        super().__init__(
            f"the {database} has version {found} of its layout, and this library knows no later "
            f"one than {known}: upgrade aqm-db"
        )
        self.database = database
        self.found = found
        self.known = known

    def __reduce__(self) -> tuple[object, ...]:
        """What makes it anew, in another process for example."""
        return type(self), (self.database, self.found, self.known), vars(self)


class EmbeddedServerError(AQMDatabaseError):
    """The embedded server can't be started or joined, or can't end, since the disk is full."""


class UnavailableError(AQMDatabaseError):
    """The server can't be reached, or didn't answer: ``outcome_unknown`` says which."""

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown


class VaultUnavailableError(UnavailableError):
    """The vault's server can't be reached, or didn't answer."""


class InventoryUnavailableError(UnavailableError):
    """The inventory's server can't be reached, or didn't answer."""
