"""The fields of a JSON object that somebody else wrote, looked at one by one."""

import base64
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")


class Fields:
    """The fields of an object.

    Args:
        value: it, or whatever stands in its place.
        fault: makes the error that is raised; told what is wrong, and nothing of what is there.

    Every method raises that error.
    """

    def __init__(self, value: object, fault: Callable[[str], Exception]) -> None:
        if not isinstance(value, dict):
            raise fault("it's no object")
        self._fields = cast("dict[str, object]", value)
        self._fault = fault

    def text(self, name: str) -> str:
        """A text."""
        return self._of_type(name, str, "text")

    def number(self, name: str) -> int:
        """A whole number."""
        return self._of_type(name, int, "whole number")

    def blob(self, name: str) -> bytes:
        """Bytes, from their Base64 (RFC 4648)."""
        text = self.text(name)
        try:
            return base64.b64decode(text, validate=True)
        except ValueError as error:
            raise self._fault(f"{name} is no Base64") from error

    def _of_type(self, name: str, wanted: type[T], noun: str) -> T:
        if name not in self._fields:
            raise self._fault(f"{name} is missing")
        value = self._fields[name]
        # True is no whole number.
        if type(value) is not wanted:
            raise self._fault(f"{name} is no {noun}")
        return value
