"""``aqm-db chat-demo``."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.progress import Progress

from aqm_db._cli.errors import check_extras, report_errors, warn_user
from aqm_db._cli.options import Debug, Json
from aqm_db._cli.output import PlainConsole, show_progress, write_json

if TYPE_CHECKING:
    from aqm_db.chat_demo.story import Outcome

_PROCESS: Final = "aqm_db._cli.chat_process"
"""What the demo's processes run: it writes to the same terminal as this one."""


def chat_demo(
    *,
    messages: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many each of the two sends.")
    ] = 20,
    kill: Annotated[
        bool, typer.Option("--kill", help="Kill Alice, and Bob, in the middle of it.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Alice and Bob chat, each a process with a database of its own, through a coin server.

    In a temporary directory, over a unix socket. The server alters some messages and sends some
    again. Exit code: 0, each message was read once; 1, one was not, or a coin was used twice.

    JSON: messages (of each); kills {alice, bob}, what each had told last; seconds; alice and bob
    {sent, sent_again, coins {GOLD, SILVER, BRONZE}, read, refused {name of the error}}; problems.
    """
    with (
        report_errors(debug=debug),
        show_progress("Alice and Bob chat", total=2 * messages) as progress,
    ):
        outcome = _play(messages, progress, kill=kill, json=json)
    for problem in outcome.problems:
        warn_user(problem)
    raise typer.Exit(1 if outcome.problems else 0)


def _play(messages: int, progress: Progress, *, kill: bool, json: bool) -> "Outcome":
    with check_extras("the chat demo"):
        from aqm_db._cli.views.chat_demo_view import (  # noqa: PLC0415 - extras of its own
            ChatView,
            dump_outcome,
        )
        from aqm_db.chat_demo.story import tell  # noqa: PLC0415 - the same
    read: dict[str, int] = {}

    def count(name: str, number: int) -> None:
        read[name] = number
        progress.update(progress.task_ids[0], completed=sum(read.values()), refresh=True)

    outcome = asyncio.run(tell(messages, kill=kill, on_read=count, module=_PROCESS))
    if json:
        write_json(dump_outcome(outcome))
    else:
        ChatView(PlainConsole()).show_outcome(outcome)
    return outcome
