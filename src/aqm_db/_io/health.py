"""How databases are, told in time: whoever is silent until then doesn't answer."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from aqm_db import config
from aqm_db.errors import AccessDeniedError, UnavailableError

from .facts import read_facts
from .redispy.clients import AnyAsyncClient, is_cluster
from .redispy.faces import find_face
from .redispy.servers import Server, find_bare, list_nodes, list_servers, read_topology
from .redispy.time_limits import Question


class Health(NamedTuple):
    """How a server is, or all of a database's that answer.

    Attributes:
        key_count: how many keys there are.
        uptime_seconds: for how long all of them have been running; 0 if that isn't told.
        unreachable: the names of those that don't answer, or let nobody in.
    """

    key_count: int
    uptime_seconds: float
    unreachable: tuple[str, ...] = ()


async def examine_health(
    clients: Mapping[AnyAsyncClient, type[UnavailableError]], user: str
) -> list[Health]:
    """How databases are.

    Args:
        clients: of each, and what is raised when it can't be reached.
        user: the function that they were passed to.

    Raises:
        TypeError: a client is of the wrong kind.
        ValueError: a client decodes its responses.
        AQMDatabaseError: a server refuses what it's asked, whoever the user is.
    """
    surveys = [_Survey(client, unavailable, user) for client, unavailable in clients.items()]
    face = find_face(next(iter(clients)))
    # What a cluster says of itself may name others than those that were known.
    rounds = 2 if any(map(is_cluster, clients)) else 1
    for _ in range(rounds):
        questions = [question for survey in surveys for question in survey.begin_round()]
        answers = iter(await face.ask(questions, config.HEALTH_TIMEOUT / rounds))
        for survey in surveys:
            survey.note_answers(answers)
    return [survey.conclude() for survey in surveys]


class _Survey:
    """What is found out of the servers of one database."""

    def __init__(
        self, client: AnyAsyncClient, unavailable: type[UnavailableError], user: str
    ) -> None:
        self._client = client
        self._unavailable = unavailable
        self._user = user
        self._is_topology_due = is_cluster(client)
        self._asked: list[str] = []
        self._awaited = 0
        self._found: dict[str, Health | None] = {}

    def begin_round(self) -> list[Question[Health | None]]:
        """What is to be asked; who was asked before isn't asked again."""
        new = [server for server in self._list_servers() if server.name not in self._found]
        questions = [Question(_ask(server), server.client) for server in new]
        self._asked = [server.name for server in new]
        if self._is_topology_due:
            self._is_topology_due = False
            questions.append(Question(self._ask_topology(), find_bare(self._client)))
        self._awaited = len(questions)
        return questions

    def note_answers(self, answers: Iterator[Health | None]) -> None:
        """Takes note of the answers to what was to be asked."""
        # Where it was asked for, the topology comes last, and has gone to the client.
        mine = islice(answers, self._awaited)
        self._found |= dict(zip(self._asked, list(mine), strict=False))

    def conclude(self) -> Health:
        """What comes of it."""
        names = [server.name for server in self._list_servers()]
        if not names:
            return Health(0, 0.0, tuple(list_nodes(self._client)))
        found = {name: self._found.get(name) for name in names}
        answers = [each for each in found.values() if each is not None]
        return Health(
            sum(each.key_count for each in answers),
            min((each.uptime_seconds for each in answers), default=0.0),
            tuple(name for name, each in found.items() if each is None),
        )

    def _list_servers(self) -> list[Server]:
        return list_servers(self._client, self._unavailable, self._user)

    async def _ask_topology(self) -> None:
        # Those that are known are asked all the same.
        with suppress(UnavailableError, AccessDeniedError):
            await read_topology(self._client, self._unavailable)


async def _ask(server: Server) -> Health | None:
    try:
        [count] = await server.seam.read(("DBSIZE",))
        # Its uptime is all that's missing where INFO is: some don't tell, fakeredis is one.
        uptime = (await read_facts(server.seam, "server")).uptime_seconds
    except (UnavailableError, AccessDeniedError):
        return None
    return Health(count, float(uptime or 0))
