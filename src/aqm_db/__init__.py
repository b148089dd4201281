"""aqm_db: the asyncio-native client database for post-quantum one-time keys.

::

    import aqm_db

    async with aqm_db.connect() as db:
        coin = await db.inventory.select_coin("bob", "GOLD")
"""

from . import config, errors, types
from .connection import close_all, create_inventory_client, create_vault_client, health_check
from .database import AsyncClientDatabase, connect
from .gc import AsyncGarbageCollector
from .inventory import AsyncSmartInventory
from .stats import AsyncStorageReporter
from .sync import GarbageCollector, SecureVault, SmartInventory, StorageReporter
from .vault import AsyncSecureVault

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
