"""How a connection goes back to its pool, at no cost to the reply that it brought.

redis-py has a connection log in anew (AUTH) as it goes back, if the client's provider of
credentials gave out a new token while it was in use. Whatever comes of that is the next call's to
find out, over a connection that is made anew, with what the provider says then.
"""

import logging
from typing import Any

from redis.asyncio.connection import AbstractConnection

from .retries import ASYNC_ONCE, ONCE

_log = logging.getLogger("aqm_db")


def give_back(pool: Any, connection: Any) -> None:
    """Gives a connection back to a synchronous pool.

    Args:
        pool: where it came from.
        connection: with the client's own settings.
    """
    try:
        _renew(connection)
    finally:
        try:
            pool.release(connection)
        except Exception as error:  # noqa: BLE001 - a token's, a server's, a listener's
            _drop(connection, error)


async def give_back_async(pool: Any, connection: AbstractConnection) -> None:
    """Gives a connection back to an asynchronous pool.

    Args:
        pool: where it came from.
        connection: with the client's own settings.
    """
    try:
        await _renew_async(connection)
    finally:
        try:
            await pool.release(connection)
        except Exception as error:  # noqa: BLE001 - a token's, a server's, a listener's
            await _drop_async(connection, error)


def _renew(connection: Any) -> None:
    """Logs in anew, if it has to, before the pool does, which has taken it back by then."""
    if not connection.is_connected:
        _forget_token(connection)
        return
    retry, connection.retry = connection.retry, ONCE
    try:
        connection.re_auth()
    except Exception as error:  # noqa: BLE001 - a token's, or a server's
        _drop(connection, error)
    except BaseException:
        # What is still on its way would be taken for the next reply.
        _forget_token(connection)
        connection.disconnect()
        raise
    finally:
        connection.retry = retry


async def _renew_async(connection: AbstractConnection) -> None:
    if not connection.is_connected:
        _forget_token(connection)
        return
    retry, connection.retry = connection.retry, ASYNC_ONCE
    try:
        # redis-py gives it no annotation.
        await connection.re_auth()  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - a token's, or a server's
        await _drop_async(connection, error)
    except BaseException:
        _forget_token(connection)
        await connection.disconnect(nowait=True)
        raise
    finally:
        connection.retry = retry


def _drop(connection: Any, error: Exception) -> None:
    _note(connection, error)
    connection.disconnect()


async def _drop_async(connection: AbstractConnection, error: Exception) -> None:
    _note(connection, error)
    await connection.disconnect(nowait=True)


def _note(connection: Any, error: Exception) -> None:
    _forget_token(connection)
    # Its text may quote the token.
    _log.warning("login_not_renewed", extra={"error": type(error).__name__})


def _forget_token(connection: Any) -> None:
    """Once it's made anew, it has logged in with the newest."""
    connection.set_re_auth_token(None)
