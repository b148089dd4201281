"""Who can use the server, and who can listen on the way to it."""

from ipaddress import ip_address

from aqm_db._io.facts import Facts, Settings
from aqm_db._io.redispy.clients import Route

from ._findings import Finding, admit_ignorance


def examine_password(
    route: Route, facts: Facts, settings: Settings, *, is_open: bool | None
) -> Finding:
    """Who can use the server.

    Args:
        route: the way to it.
        facts: what it tells of itself.
        settings: its settings.
        is_open: whether it lets in whoever has no password; None if nobody says.
    """
    if route.host is None and facts.tcp_port == 0:
        return Finding("password", "ok", "The server is reached by its unix socket only.")
    if is_open is None:
        return admit_ignorance("password", "ACL GETUSER")
    if not is_open:
        return Finding("password", "ok", "The server asks for a password.")
    remedy = "Set requirepass, and put the password into the url."
    if _is_remote(route) or _is_exposed(facts, settings):
        message = "Whoever reaches the server over the network can use it without a password."
        return Finding("password", "error", message, remedy)
    message = "Every program on the server's machine can use it without a password."
    return Finding("password", "warning", message, remedy)


def examine_encryption(route: Route) -> Finding:
    """Who can listen on the way to a server, and change what is said there."""
    if not _is_remote(route):
        return Finding("tls", "ok", "The server is on this machine.")
    if route.is_encrypted:
        return Finding("tls", "ok", "The connection is encrypted.")
    return Finding(
        "tls",
        "warning",
        f"The connection to {route.host} isn't encrypted, so others may read passwords and change "
        "keys on the way.",
        "Give the server a certificate, and use a rediss:// url.",
    )


def _is_remote(route: Route) -> bool:
    return route.host is not None and not _is_loopback(route.host)


def _is_exposed(facts: Facts, settings: Settings) -> bool:
    """Whether the server is known to accept others than its own machine, without a password."""
    addresses = settings.addresses
    if addresses is None or settings.is_protected is None:
        return False
    if addresses and all(map(_is_loopback, addresses)):
        return False
    # Before Redis 7, a server that was given its addresses wasn't protected.
    is_unprotected = bool(addresses) and (facts.version or ()) < (7,)
    return is_unprotected or not settings.is_protected


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
