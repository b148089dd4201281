"""How arguments find their command, without importing what they don't name.

Of the time that a short command takes, nearly all is spent on imports. So the module of a command
is imported when it's called.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from keyword import iskeyword
from typing import Any, Final, cast

import typer
from typer.main import get_command

from .errors import OneLineGroup

_MODULES: Final = {
    "status": "status",
    "contacts": "contacts",
    "contact": "contacts",
    "set-priority": "contacts",
    "gc": "cleaning",
    "purge": "cleaning",
    "maintain": "cleaning",
    "forget": "cleaning",
    "doctor": "health",
    "check": "health",
    "export": "backup",
    "import": "backup",
    "bench": "bench",
    "demo": "demo",
    "chat-demo": "chat_demo",
}
"""The modules of all commands, in the order in which the help lists them."""


class LazyGroup(OneLineGroup):
    """All commands, of which those that are asked for are imported."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = cast("Any", _Commands())


class _Commands(Mapping[str, Any]):
    """The commands by their names."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module = import_module(f"{__package__}.commands.{_MODULES[name]}")
            function = name.replace("-", "_")
            alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
            alone.command(name)(
                # "import" is a word of Python's own.
                getattr(module, f"{function}_" if iskeyword(function) else function)
            )
            self._made[name] = get_command(alone)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)
