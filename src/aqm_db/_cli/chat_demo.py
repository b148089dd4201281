"""``aqm-db chat-demo``."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .errors import CommandError, told, warn
from .options import Debug
from .output import working

if TYPE_CHECKING:
    from aqm_db.chat_demo.story import Outcome


def chat_demo(
    *,
    messages: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many each of the two sends.")
    ] = 20,
    kill: Annotated[
        bool, typer.Option("--kill", help="Kill Alice, and Bob, in the middle of it.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Alice and Bob chat, each a process with a database of its own, through a coin server.

    In a temporary directory, over a unix socket. The server alters some messages and sends some
    again. Exit code: 0, each message was read once; 1, one was not, or a coin was used twice.
    """
    with told(debug=debug), working("Alice and Bob chat"):
        outcome = _outcome(messages, kill=kill)
    for problem in outcome.problems:
        warn(problem)
    raise typer.Exit(1 if outcome.problems else 0)


def _outcome(messages: int, *, kill: bool) -> "Outcome":
    try:
        from aqm_db.chat_demo.story import tell  # noqa: PLC0415 - extras of its own

        from .chat_demo_view import ChatView  # noqa: PLC0415 - the same
    except ImportError as error:
        raise CommandError("the chat demo needs its extras: pip install 'aqm-db[all]'") from error
    outcome = asyncio.run(tell(messages, kill=kill))
    ChatView(Console(highlight=False)).ended(outcome)
    return outcome
