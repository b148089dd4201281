"""Extras that aren't installed, told apart from modules of our own that are broken."""


def is_missing(error: ImportError) -> bool:
    """Whether what couldn't be imported is another package's."""
    package, *_ = __name__.split(".")
    return (error.name or "").partition(".")[0] != package
