"""The arguments that many commands take."""

from typing import Annotated

import typer

from .completion import complete_contact_id, complete_priority

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The database; if it isn't given $AQM_DB_URL, or embedded:// in your data directory.",
    ),
]
Owner = Annotated[
    str | None, typer.Option("--owner", help="Whose data, where several share a database.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, with the keys named above.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before anything is deleted.")]
ContactId = Annotated[
    str, typer.Argument(metavar="ID", help="The contact's id.", autocompletion=complete_contact_id)
]
NewPriority = Annotated[
    str,
    typer.Argument(
        metavar="PRIORITY", help="BESTIE, MATE or STRANGER.", autocompletion=complete_priority
    ),
]
