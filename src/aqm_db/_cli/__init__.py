"""What ``aqm-db`` is made of, above the API and nothing else.

- ``commands``: options in, calls of the API, and out;
- ``views``: values as text or JSON, without any I/O;
- here, the frame that all commands share.

Nothing but ``escaping`` and this can be imported where the extras aren't installed.
"""


def is_missing(error: ImportError) -> bool:
    """Whether what couldn't be imported is another package's: an extra, no module of ours."""
    package, *_ = __name__.split(".")
    return (error.name or "").partition(".")[0] != package
