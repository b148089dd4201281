"""What a url names: an embedded database, one in memory, or a server."""

import os
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from ._validate import check_text
from .errors import InvalidArgumentError

_SERVER_SCHEMES = frozenset({"redis", "rediss", "unix"})


# Plain classes: dataclasses would be a tenth of what importing the package costs.


class Embedded:
    """A private server in this directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory


class Memory:
    """fakeredis in this process."""


class Server:
    """A server of the user's, at a url that redis-py understands."""

    def __init__(self, url: str) -> None:
        self.url = url


Target: TypeAlias = Embedded | Memory | Server


def target_of(url: str | None) -> Target:
    """What a url names; without one, ``$AQM_DB_URL`` or the user's own embedded database.

    Raises:
        InvalidArgumentError: the url is malformed, or of a scheme that isn't known.
    """
    if url is None:
        url = os.environ.get("AQM_DB_URL") or "embedded://"
    try:
        parts = urlsplit(check_text("url", url))
        _ = parts.port
    except ValueError:
        # What is wrong with it may be a part of the password, so it isn't shown.
        raise InvalidArgumentError("url", "is malformed") from None
    if parts.scheme == "embedded":
        return Embedded(_directory(parts.netloc, unquote(parts.path)))
    if parts.scheme == "memory":
        return Memory()
    if parts.scheme in _SERVER_SCHEMES:
        if "db" in parse_qs(parts.query) or (parts.scheme != "unix" and parts.path.strip("/")):
            raise InvalidArgumentError(
                "url", "must name no database: the vault is in 0, the inventory in 1"
            )
        return Server(url)
    # The url may hold a password, so it isn't shown.
    raise InvalidArgumentError(
        "url", "must begin with embedded://, memory://, redis://, rediss:// or unix://"
    )


def _directory(netloc: str, path: str) -> Path:
    if netloc:
        raise InvalidArgumentError(
            "url", "an embedded database takes an absolute path: embedded:///path"
        )
    if path.strip("/"):
        return Path(path)
    try:
        from platformdirs import user_data_path  # noqa: PLC0415 - an extra
    except ImportError:
        raise InvalidArgumentError(
            "url", "embedded:// without a path needs: pip install 'aqm-db[embedded]'"
        ) from None
    return user_data_path("aqm_db", appauthor=False)
