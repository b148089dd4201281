"""What a url names: an embedded database, one in memory, a server, or several of them."""

import os
from pathlib import Path
from typing import TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from aqm_db._model.checks import check_text
from aqm_db.errors import InvalidArgumentError

_SERVER_SCHEMES = frozenset({"redis", "rediss", "unix"})
_PORTS = {"cluster": 6379, "sentinel": 26379}
_TWO_DATABASES = "must name no database: the vault is in 0, the inventory in 1"
_ONE_DATABASE = "must name no database: all is in 0"
_OF_SENTINELS = {"sentinel_username": "username", "sentinel_password": "password"}


# Plain classes: dataclasses would be a tenth of what importing the package costs.


class Embedded:
    """A private server in this directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory


class Memory:
    """fakeredis in this process."""


class Server:
    """A server of the user's, at a url of its own."""

    def __init__(self, url: str) -> None:
        self.url = url


class Cluster:
    """A cluster of the user's.

    Attributes:
        hosts: host and port of some of its nodes.
        url: how to connect to each of them, but for its host.
    """

    def __init__(self, hosts: list[tuple[str, int]], url: str) -> None:
        self.hosts = hosts
        self.url = url


class Sentinels:
    """Servers that sentinels watch.

    Attributes:
        hosts: host and port of some of the sentinels.
        name: what they call the servers.
        url: how to connect to each server, but for its host.
        credentials: what the sentinels are told of the user; empty if nothing.
    """

    def __init__(
        self, hosts: list[tuple[str, int]], name: str, url: str, credentials: dict[str, str]
    ) -> None:
        self.hosts = hosts
        self.name = name
        self.url = url
        self.credentials = credentials


Target: TypeAlias = Embedded | Memory | Server | Cluster | Sentinels


def read_target(url: str | None) -> Target:
    """What a url names; without one, ``$AQM_DB_URL`` or the user's own embedded database.

    Raises:
        InvalidArgumentError: the url is malformed, or of a scheme that isn't known.
    """
    if url is None:
        url = os.environ.get("AQM_DB_URL") or "embedded://"
    parts = _split(_check_text(url))
    encryption, plus, kind = parts.scheme.partition("+")
    if plus and encryption in {"redis", "rediss"} and kind in _PORTS:
        return _read_several(parts, encryption, kind)
    _read_place(parts)
    if parts.scheme == "embedded":
        if parts.query or parts.fragment:
            raise InvalidArgumentError("url", "must have %3F and %23 for ? and # in its path")
        return Embedded(_find_directory(parts.netloc, unquote(parts.path)))
    if parts.scheme == "memory":
        if parts.netloc or parts.path or parts.query or parts.fragment:
            raise InvalidArgumentError("url", "memory:// has no name: each opens one of its own")
        return Memory()
    if parts.scheme in _SERVER_SCHEMES:
        if "db" in dict(parse_qsl(parts.query)) or (
            parts.scheme != "unix" and parts.path.strip("/")
        ):
            raise InvalidArgumentError("url", _TWO_DATABASES)
        return Server(url)
    # The url may hold a password, so it isn't shown.
    raise InvalidArgumentError(
        "url",
        "must begin with embedded://, memory://, redis://, rediss://, unix://, redis+cluster://, "
        "rediss+cluster://, redis+sentinel:// or rediss+sentinel://",
    )


def _check_text(url: object) -> str:
    if isinstance(url, os.PathLike):
        raise InvalidArgumentError("url", "is no path: a directory's is f'embedded://{path}'")
    return check_text("url", url)


def _read_several(parts: SplitResult, scheme: str, kind: str) -> Cluster | Sentinels:
    """What a url with several hosts names.

    Args:
        parts: of the url.
        scheme: that of the url of one server.
        kind: of what the servers are.

    Raises:
        InvalidArgumentError: a host, or the servers' name, is missing; or one too many is there; a
            port is no number, or a host no name.
    """
    credentials, at, listed = parts.netloc.rpartition("@")
    places = [_read_place(_split(f"//{place}")) for place in listed.split(",")]
    if not all(host for host, _ in places):
        raise InvalidArgumentError("url", "must list hosts as host:port,host:port")
    hosts = [(host, port or _PORTS[kind]) for host, port in places]
    # Of two with one name, redis-py takes the first.
    options = dict(reversed(parse_qsl(parts.query)))
    if options.pop("db", "0") != "0":
        raise InvalidArgumentError("url", _ONE_DATABASE)
    name = unquote(parts.path.strip("/"))
    credentials_there: dict[str, str] = {}
    if kind == "sentinel":
        if not name:
            raise InvalidArgumentError("url", "must end with the name of the sentinels' servers")
        told = _OF_SENTINELS.keys() & options.keys()
        credentials_there = {_OF_SENTINELS[each]: options.pop(each) for each in told}
    elif name:
        raise InvalidArgumentError("url", _ONE_DATABASE)
    url = f"{scheme}://{credentials}{at}?{urlencode(options)}"
    return Sentinels(hosts, name, url, credentials_there) if name else Cluster(hosts, url)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise _make_error() from None


def _read_place(parts: SplitResult) -> tuple[str, int | None]:
    """A host, or nothing, and a port.

    Raises:
        InvalidArgumentError: the port is no number; or the host is no name that could be asked for
            (RFC 3490), which the resolver's own error wouldn't say in one class on both faces.
    """
    try:
        host, port = parts.hostname or "", parts.port
        if host:
            host.encode("idna")
    except ValueError:
        raise _make_error() from None
    return host, port


def _make_error() -> InvalidArgumentError:
    """What is wrong with it may be a part of the password, so it isn't shown."""
    return InvalidArgumentError("url", "is malformed")


def _find_directory(netloc: str, path: str) -> Path:
    # What is left of f"embedded://{path}" with a path that is none opens nobody's own database.
    if netloc or (path and not path.strip("/")):
        raise InvalidArgumentError(
            "url", "an embedded database takes an absolute path: embedded:///path"
        )
    if path:
        return Path(path)
    try:
        from platformdirs import user_data_path  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidArgumentError(
            "url", "embedded:// without a path needs: pip install 'aqm-db[embedded]'"
        ) from error
    return user_data_path("aqm_db", appauthor=False)
