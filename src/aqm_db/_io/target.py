"""What a url names: an embedded database, one in memory, a server, or several of them."""

import os
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from aqm_db._model.checks import check_text
from aqm_db.errors import InvalidArgumentError

_SERVER_SCHEMES = frozenset({"redis", "rediss", "unix"})
_PORTS = {"cluster": 6379, "sentinel": 26379}
_ONE_DATABASE = "must name no database: the vault is in 0, the inventory in 1"


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


class Cluster:
    """A cluster of the user's.

    Attributes:
        hosts: host and port of some of its nodes.
        options: what its connections are made with.
    """

    def __init__(self, hosts: list[tuple[str, int]], options: dict[str, Any]) -> None:
        self.hosts = hosts
        self.options = options


class Sentinels:
    """Servers that sentinels watch.

    Attributes:
        hosts: host and port of some of the sentinels.
        name: what they call the servers.
        options: what connections to the servers are made with.
        credentials: what the sentinels are told of the user; empty if nothing.
    """

    def __init__(
        self,
        hosts: list[tuple[str, int]],
        name: str,
        options: dict[str, Any],
        credentials: dict[str, Any],
    ) -> None:
        self.hosts = hosts
        self.name = name
        self.options = options
        self.credentials = credentials


Target: TypeAlias = Embedded | Memory | Server | Cluster | Sentinels


def target_of(url: str | None) -> Target:
    """What a url names; without one, ``$AQM_DB_URL`` or the user's own embedded database.

    Raises:
        InvalidArgumentError: the url is malformed, or of a scheme that isn't known.
    """
    if url is None:
        url = os.environ.get("AQM_DB_URL") or "embedded://"
    parts = _split(_text_of(url))
    encryption, plus, kind = parts.scheme.partition("+")
    if plus and encryption in {"redis", "rediss"} and kind in _PORTS:
        return _several(parts, encryption, kind)
    _place_in(parts)
    if parts.scheme == "embedded":
        if parts.query or parts.fragment:
            raise InvalidArgumentError("url", "must have %3F and %23 for ? and # in its path")
        return Embedded(_directory(parts.netloc, unquote(parts.path)))
    if parts.scheme == "memory":
        return Memory()
    if parts.scheme in _SERVER_SCHEMES:
        if "db" in parse_qs(parts.query) or (parts.scheme != "unix" and parts.path.strip("/")):
            raise InvalidArgumentError("url", _ONE_DATABASE)
        return Server(url)
    # The url may hold a password, so it isn't shown.
    raise InvalidArgumentError(
        "url",
        "must begin with embedded://, memory://, redis://, rediss://, unix://, redis+cluster:// "
        "or redis+sentinel://",
    )


def _text_of(url: object) -> str:
    if isinstance(url, os.PathLike):
        raise InvalidArgumentError("url", "is no path: a directory's is f'embedded://{path}'")
    return check_text("url", url)


def _several(parts: SplitResult, encryption: str, kind: str) -> Cluster | Sentinels:
    """What a url with several hosts names.

    Raises:
        InvalidArgumentError: a host, or the servers' name, is missing; or one too many is there; a
            port is no number, a host no name, or an option has a wrong value.
    """
    credentials, at, listed = parts.netloc.rpartition("@")
    places = [_place_in(_split(f"//{place}")) for place in listed.split(",")]
    if not all(host for host, _ in places):
        raise InvalidArgumentError("url", "must list hosts as host:port,host:port")
    hosts = [(host, port or _PORTS[kind]) for host, port in places]
    options = _options_in(f"redis://{credentials}{at}?{parts.query}")
    if options.pop("db", 0):
        raise InvalidArgumentError("url", "must name no database: all is in 0")
    if encryption == "rediss":
        options["ssl"] = True
    name = unquote(parts.path.strip("/"))
    if kind == "sentinel":
        if not name:
            raise InvalidArgumentError("url", "must end with the name of the sentinels' servers")
        asked = {
            argument: options.pop(f"sentinel_{argument}")
            for argument in ("username", "password")
            if f"sentinel_{argument}" in options
        }
        return Sentinels(hosts, name, options, asked)
    if name:
        raise InvalidArgumentError("url", "must name no database: all is in 0")
    return Cluster(hosts, options)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise _malformed() from None


def _place_in(parts: SplitResult) -> tuple[str, int | None]:
    """A host, or nothing, and a port.

    Raises:
        InvalidArgumentError: the port is no number; or the host is no name that could be asked for
            (RFC 3490), which the resolver's own error wouldn't say in one class on both faces.
    """
    try:
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        raise _malformed() from None
    return host, port


def _options_in(url: str) -> dict[str, Any]:
    """What connections are made with; redis-py knows what a url's query can say."""
    from redis import connection  # noqa: PLC0415 - most urls don't need it

    parse: Any = connection.parse_url
    try:
        options: dict[str, Any] = parse(url)
    except ValueError:
        raise _malformed() from None
    return options


def _malformed() -> InvalidArgumentError:
    """What is wrong with it may be a part of the password, so it isn't shown."""
    return InvalidArgumentError("url", "is malformed")


def _directory(netloc: str, path: str) -> Path:
    if netloc:
        raise InvalidArgumentError(
            "url", "an embedded database takes an absolute path: embedded:///path"
        )
    if path.strip("/"):
        return Path(path)
    try:
        from platformdirs import user_data_path  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidArgumentError(
            "url", "embedded:// without a path needs: pip install 'aqm-db[embedded]'"
        ) from error
    return user_data_path("aqm_db", appauthor=False)
