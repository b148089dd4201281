"""Passwords that change while a client is in use, as a provider of credentials gives them out."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from redis.auth.token import TokenInterface
from redis.credentials import StreamingCredentialProvider


class Token(TokenInterface):
    """A user and a password, which never expire by themselves."""

    def __init__(self, password: str) -> None:
        self._password = password

    def get_value(self) -> str:
        """The password."""
        return self._password

    def try_get(self, key: str) -> str:
        """The user."""
        return {"oid": "u"}[key]

    def is_expired(self) -> bool:
        """It isn't."""
        raise NotImplementedError

    def ttl(self) -> float:
        """Nobody asks."""
        raise NotImplementedError

    def get_expires_at_ms(self) -> float:
        """Nobody asks."""
        raise NotImplementedError

    def get_received_at_ms(self) -> float:
        """Nobody asks."""
        raise NotImplementedError


class BrokenToken(Token):
    """One that can't be read.

    Args:
        error: what whoever tries gets.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__("")
        self._error = error

    def get_value(self) -> str:
        """Fails, as somebody's own class may, or whoever interrupts it."""
        raise self._error


class Provider(StreamingCredentialProvider):
    """Gives out the token that a test says, and tells all clients of a new one.

    Attributes:
        password: what new connections log in with.
    """

    def __init__(self, password: str) -> None:
        self.password = password
        self._callbacks: list[Callable[[Token], Coroutine[Any, Any, None] | None]] = []
        self._telling: set[asyncio.Future[None]] = set()

    def change(self, token: Token) -> None:
        """Tells of a new one, as it is told in the background."""
        for callback in self._callbacks:
            if (telling := callback(token)) is not None:
                task = asyncio.ensure_future(telling)
                self._telling.add(task)
                task.add_done_callback(self._telling.discard)

    def get_credentials(self) -> tuple[str, str]:
        """What a connection logs in with."""
        return "u", self.password

    def on_next(self, callback: Any) -> None:
        """Notes who has to be told."""
        self._callbacks.append(callback)

    def on_error(self, callback: Any) -> None:
        """Nothing fails here."""

    def is_streaming(self) -> bool:
        """It is."""
        return True
