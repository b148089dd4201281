"""anyio, for modules that are nothing without it; an optional extra."""

try:
    import anyio
    from anyio import to_thread
except ImportError as _error:
    raise ImportError(
        "aqm_db.replenisher and aqm_db.minter need anyio >= 4.9: pip install 'aqm-db[background]'"
    ) from _error

__all__ = ["anyio", "to_thread"]
