"""aqm_db: the asyncio-native client database for post-quantum one-time keys.

::

    import aqm_db

    async with aqm_db.connect() as db:
        coin = await db.inventory.select_coin("bob", "GOLD")
"""

from importlib import import_module
from typing import TYPE_CHECKING

from . import config, errors, types
from .connection import close_all, create_inventory_client, create_vault_client, health_check
from .database import AsyncClientDatabase, connect
from .gc import AsyncGarbageCollector
from .inventory import AsyncSmartInventory
from .stats import AsyncStorageReporter
from .vault import AsyncSecureVault

if TYPE_CHECKING:
    # Not in __all__: a star doesn't ask for an extra that may not be installed.
    from .minter import AsyncMinter as AsyncMinter
    from .prefetcher import AsyncPrefetcher as AsyncPrefetcher
    from .replenisher import AsyncReplenisher as AsyncReplenisher
    from .sync import GarbageCollector, SecureVault, SmartInventory, StorageReporter
else:
    _LATER = {
        "AsyncMinter": "minter",
        "AsyncPrefetcher": "prefetcher",
        "AsyncReplenisher": "replenisher",
        "GarbageCollector": "sync",
        "SecureVault": "sync",
        "SmartInventory": "sync",
        "StorageReporter": "sync",
    }

    def __getattr__(name: str) -> object:
        """What few programs use, imported when it's first asked for (PEP 562)."""
        if name != "sync" and name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f"{__name__}.{_LATER.get(name, name)}")
        return module if name == "sync" else getattr(module, name)


__version__ = "0.1.0"

__all__ = [
    "AsyncClientDatabase",
    "AsyncGarbageCollector",
    "AsyncSecureVault",
    "AsyncSmartInventory",
    "AsyncStorageReporter",
    "GarbageCollector",
    "SecureVault",
    "SmartInventory",
    "StorageReporter",
    "close_all",
    "config",
    "connect",
    "create_inventory_client",
    "create_vault_client",
    "errors",
    "health_check",
    "types",
]
