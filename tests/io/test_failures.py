"""What a server's errors mean: the same whether hiredis reads them, or redis-py raises them."""

from typing import Any

import pytest
from redis.asyncio.connection import DefaultParser
from redis.exceptions import (
    AuthenticationError,
    ConnectionError as RedisConnectionError,
    RedisError,
)

from aqm_db._io.failures import (
    Denial,
    ErrorKind,
    ErrorReply,
    LinkFailure,
    find_denial,
    find_failure,
    make_error,
    parse_error,
)
from aqm_db._io.redispy.redirects import Redirect, find_redirects, is_down, mark_moving
from aqm_db._io.redispy.replies import SentinelRefusalError, explain_unconnected, read_error
from aqm_db.errors import AccessDeniedError

ERRORS: dict[str, tuple[ErrorKind, str]] = {
    "NOSCRIPT No matching script. Please use EVAL.": (ErrorKind.NO_SCRIPT, "NOSCRIPT"),
    "NOSCRIPT": (ErrorKind.NO_SCRIPT, "NOSCRIPT"),
    "LOADING Redis is loading the dataset in memory": (ErrorKind.PASSING, "LOADING"),
    "BUSY Redis is busy running a script.": (ErrorKind.PASSING, "BUSY"),
    "CLUSTERDOWN Hash slot not served": (ErrorKind.PASSING, "CLUSTERDOWN"),
    "MASTERDOWN Link with MASTER is down": (ErrorKind.PASSING, "MASTERDOWN"),
    "TRYAGAIN Multiple keys request during rehashing of slot": (ErrorKind.PASSING, "TRYAGAIN"),
    "NOAUTH Authentication required.": (ErrorKind.DENIED, "NOAUTH"),
    "WRONGPASS invalid username-password pair": (ErrorKind.DENIED, "WRONGPASS"),
    "NOPERM this user has no permissions": (ErrorKind.DENIED, "NOPERM"),
    "ERR ACL failure in script: no permissions": (ErrorKind.DENIED, "ERR"),
    "ERR Error running script: @user_script:1: -NOPERM no": (ErrorKind.DENIED, "ERR"),
    "OOM command not allowed when used memory > 'maxmemory'.": (ErrorKind.NOT_WRITABLE, "OOM"),
    "MISCONF Redis is configured to save RDB snapshots": (ErrorKind.NOT_WRITABLE, "MISCONF"),
    "NOREPLICAS Not enough good replicas to write.": (ErrorKind.NOT_WRITABLE, "NOREPLICAS"),
    "READONLY You can't write against a read only replica.": (ErrorKind.NOT_WRITABLE, "READONLY"),
    "ERR Error running script: -READONLY You can't write": (ErrorKind.NOT_WRITABLE, "ERR"),
    "MOVED 3999 127.0.0.1:6381": (ErrorKind.MOVED, "MOVED"),
    "ASK 3999 127.0.0.1:6381": (ErrorKind.MOVED, "ASK"),
    "CROSSSLOT Keys in request don't hash to the same slot": (ErrorKind.MOVED, "CROSSSLOT"),
    "ERR Script attempted to access a non local key": (ErrorKind.MOVED, "ERR"),
    "WRONGTYPE Operation against a key": (ErrorKind.CORRUPT, "WRONGTYPE"),
    "ERR DB index is out of range": (ErrorKind.OTHER, "ERR"),
    "CUSTOM reason": (ErrorKind.OTHER, "CUSTOM"),
    "BUSYGROUP reason": (ErrorKind.OTHER, "BUSYGROUP"),
    "no code": (ErrorKind.OTHER, "ERR"),
}


def redis_error(text: str) -> RedisError:
    """What redis-py raises for an error that a server sends."""
    parser: Any = DefaultParser
    error: RedisError = parser.parse_error(text)
    return error


@pytest.mark.parametrize("text", ERRORS)
def test_what_an_error_means(text: str) -> None:
    """On both faces."""
    raised = read_error(redis_error(text))
    assert raised is not None
    for reply in (parse_error(text), raised):
        assert (reply.kind, reply.code) == ERRORS[text]


@pytest.mark.parametrize(
    "text", ["invalid password", "wrong number of arguments for 'auth' command"]
)
def test_a_refusal_without_a_code(text: str) -> None:
    """Some servers' are known by their whole text only, as redis-py does."""
    raised = read_error(redis_error(f"ERR {text}"))
    assert raised is not None
    assert raised.kind is ErrorKind.DENIED


def test_a_server_that_is_full() -> None:
    """Another attempt may find a place; redis-py takes it for a broken link."""
    text = "ERR max number of clients reached"
    for failure in (
        find_failure([parse_error(text)]),
        explain_unconnected(redis_error(text)),
    ):
        assert isinstance(failure, LinkFailure)
        assert (str(failure), failure.sent) == ("max number of clients reached", False)


def test_a_broken_link_is_no_reply() -> None:
    """Nothing was said."""
    assert read_error(RedisConnectionError("gone")) is None


def test_a_refusal_of_the_sentinels() -> None:
    """It's of another user than that of the servers."""
    reply = read_error(SentinelRefusalError())
    assert reply is not None
    error = make_error(reply, "GET")
    assert isinstance(error, AccessDeniedError)
    assert "sentinel_password" in str(error)


def test_an_error_is_not_quoted() -> None:
    """Servers quote commands in some: the code is all that is shown."""
    reply = parse_error("ERR unknown command 'X', with args beginning with: 'secret'")
    assert str(make_error(reply, "X")) == "the server refused X (ERR)"
    assert "secret" not in repr(reply)


@pytest.mark.parametrize(
    ("text", "denial"),
    [
        ("NOPERM User u has no permissions to run the 'get' command", "command"),
        ("NOPERM No permissions to access a key", "key"),
        ("ERR unknown command 'GET', with args beginning with: 'k'", "unknown"),
        ("ERR value is not an integer or out of range", None),
        ("WRONGPASS no", None),
    ],
)
def test_why_a_command_gets_nowhere(text: str, denial: Denial | None) -> None:
    """Whatever else a command ended with, it was run."""
    assert find_denial(parse_error(text)) == denial
    assert find_denial(b"+OK") is None


@pytest.mark.parametrize(
    ("text", "redirect"),
    [
        ("MOVED 3999 127.0.0.1:6381", Redirect(3999, "127.0.0.1", 6381, is_moved=True)),
        ("ASK 1 ::1:7000", Redirect(1, "::1", 7000, is_moved=False)),
        ("MOVED 3999 :6381", Redirect(3999, "?", 6381, is_moved=True)),
        ("MOVED 1 inside:6381", Redirect(1, "outside", 6391, is_moved=True)),
        ("MOVED somewhere", None),
        ("CROSSSLOT 1 a:1", None),
    ],
)
def test_where_a_redirection_leads(text: str, redirect: Redirect | None) -> None:
    """A malformed one leads nowhere; it says that the slot is being moved all the same."""
    reply = parse_error(text)
    assert reply.kind is ErrorKind.MOVED
    assert find_redirects([1, reply], _remap) == ({} if redirect is None else {1: redirect})
    if redirect is not None:
        error = redirect.make_moved_error()
        assert (error.slot_id, error.host, error.port) == redirect[:3]


def _remap(host: str, port: int) -> tuple[str, int]:
    """As of a client that reaches one of the nodes at another address."""
    return ("outside", port + 10) if host == "inside" else (host, port)


def test_what_a_clusters_node_means() -> None:
    """A node that is down is another thing than a slot that is being moved."""
    down, asking, other = map(parse_error, ("CLUSTERDOWN no", "ASK somewhere", "OOM no"))
    assert [is_down(each) for each in (down, asking, other, b"")] == [True, False, False, False]
    assert is_down(LinkFailure("gone", sent=True))
    marked = mark_moving([asking, down, other, 1])
    assert isinstance(marked[0], LinkFailure)
    assert marked[1:] == [down, other, 1]


def test_an_authentication_that_redis_py_speaks_of() -> None:
    """It has words of its own for it, and no code."""
    reply = read_error(AuthenticationError("Invalid Username or Password"))
    assert isinstance(reply, ErrorReply)
    assert (reply.kind, reply.code) == (ErrorKind.DENIED, "ERR")
