"""What redis-py makes of the options in a url, or says of those that it doesn't take."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from redis import connection
from redis.exceptions import RedisError

from aqm_db.errors import InvalidArgumentError

T = TypeVar("T")
_REFUSALS = (TypeError, ValueError, RedisError)


def parse_options(url: str) -> dict[str, Any]:
    """What connections are made with; redis-py knows what a url's query can say.

    Args:
        url: of one server, without its host.

    Raises:
        InvalidArgumentError: an option has a value that can't be read.
    """
    parse: Any = connection.parse_url
    try:
        options: dict[str, Any] = parse(url)
    except ValueError:
        # What is wrong with it may be a part of the password, so it isn't shown.
        raise InvalidArgumentError("url", "is malformed") from None
    if options.pop("connection_class", None) is not None:
        # With several servers, redis-py chooses the class.
        options["ssl"] = True
    return options


def make_with_options(
    make: Callable[..., T],
    *arguments: Any,
    given: Mapping[str, Any],
    refusals: tuple[type[Exception], ...] = _REFUSALS,
    **ours: Any,
) -> T:
    """Lets redis-py make something with options that came from a url.

    Args:
        make: what of redis-py makes it.
        arguments: its arguments.
        given: the options of the url.
        refusals: how it refuses some.
        ours: all other options.

    Raises:
        InvalidArgumentError: it doesn't know an option, or not with this value, or the library
            needs another value.
    """
    if taken := sorted(given.keys() & ours.keys()):
        raise InvalidArgumentError("url", f"has an option that isn't allowed: {', '.join(taken)}")
    try:
        return make(*arguments, **given, **ours)
    except refusals:
        # What is wrong with it may be a part of the password, so it isn't shown.
        reason = "has an option that isn't known, or one with a value that isn't allowed"
        raise InvalidArgumentError("url", reason) from None
