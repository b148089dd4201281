"""What the checks of both databases have in common: a walk over all keys, and what is found."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Literal, NamedTuple

from aqm_db._io.seam import Call
from aqm_db._model.keys import parse_id
from aqm_db._model.kinds import Kind, all_pattern, parse_name
from aqm_db._operations import Scope
from aqm_db._operations.outcome import Progress, check_reply
from aqm_db.errors import AQMDatabaseError

_PROBES: dict[str, tuple[str, ...]] = {
    "hash": ("HGET", ""),
    "string": ("STRLEN",),
    "set": ("SCARD",),
    "zset": ("ZCARD",),
}
"""A cheap read that a key of another type refuses, by type."""


class Note(NamedTuple):
    """What is said of a problem: its kind, the key's name, and one sentence."""

    kind: str
    key: str
    detail: str


class FoundKey(NamedTuple):
    """A key that the walk came by: its name as text, and the ids in it."""

    name: str
    ids: tuple[str, ...]


class Item(NamedTuple):
    """What a script looks at.

    Attributes:
        name: the Redis key that its problems are told of.
        key_id: the id as it stands in an index.
        call: the script's call.
    """

    name: str
    key_id: bytes
    call: Call


class Inspection:
    """One database under examination.

    Args:
        scope: whose it is.
        kinds: the kinds of its keys.
        repair: whether to mend what is found.
        progress: told of what may have been mended.

    Attributes:
        seam: where it is.
        keys: its key names.
        mode: what scripts are told: only to look, or to repair.
        problems: what was found, and whether it was repaired.
    """

    def __init__(
        self,
        scope: Scope,
        kinds: Sequence[Kind],
        *,
        repair: bool,
        progress: Progress,
    ) -> None:
        self.seam = scope.seam
        self.keys = scope.keys
        self.mode: Literal["look", "repair"] = "repair" if repair else "look"
        # By what is said of it: SCAN may name a key twice, and so may two queues.
        self.problems: dict[Note, bool] = {}
        self._kinds = kinds
        self._progress = progress

    async def walk(self, own: Collection[str]) -> AsyncIterator[dict[str, list[FoundKey]]]:
        """Walks over the keys of some kinds, page by page, by kind.

        Names that aren't ours are noted on the way, and keys whose value has the wrong type.

        Args:
            own: the kinds whose values the caller looks at by itself.
        """
        async for page in self.seam.scan(all_pattern(self.keys, self._kinds)):
            found: dict[str, list[FoundKey]] = defaultdict(list)
            others: list[tuple[str, Kind]] = []
            for key in page:
                name = decode_name(key)
                read = parse_name(self.keys, key, self._kinds)
                if read is None:
                    self.note_foreign(name)
                    continue
                kind, ids = read
                found[kind.name].append(FoundKey(name, ids))
                if kind.name not in own:
                    others.append((name, kind))
            await self._check_types(others)
            yield found

    async def examine(self, items: Iterable[Item]) -> list[bytes]:
        """Runs the script that looks at each of some keys, and notes what it finds.

        Returns:
            The ids of those with a problem.
        """
        items = list(items)
        replies = await self.seam.run_all([item.call for item in items])
        self._progress.add(replies, lambda found: sum(found[2::3]))
        faulty: list[bytes] = []
        for item, reply in zip(items, replies, strict=True):
            found = check_reply(reply)
            if found:
                faulty.append(item.key_id)
            for kind, detail, repaired in zip(found[::3], found[1::3], found[2::3], strict=True):
                self.note(kind.decode(), item.name, detail.decode(), repaired=bool(repaired))
        return faulty

    async def examine_entries(self, entries: Sequence[Item]) -> list[bytes]:
        """Examines the entries of an index, unless there is a row of theirs."""
        # The script looks again: what is read here only saves calls for good entries.
        rows = await self.find_existing([entry.name for entry in entries])
        return await self.examine(
            entry
            for entry, row in zip(entries, rows, strict=True)
            if not row or parse_id(entry.key_id) is None
        )

    async def find_existing(self, names: Sequence[str]) -> list[bool]:
        """Whether there is a key of each of these names."""
        return [bool(count) for count in await self.seam.read(*(("EXISTS", n) for n in names))]

    def note(self, kind: str, key: str, detail: str, *, repaired: bool = False) -> None:
        """Takes a problem."""
        note = Note(kind, key, detail)
        self.problems[note] = repaired or self.problems.get(note, False)

    def note_foreign(self, key: str) -> None:
        """Takes a name that no key of ours has."""
        self.note("foreign_key", key, "no key of this library has such a name")

    def note_wrong_type(self, key: str) -> None:
        """Takes a key whose value is of another type than all of its kind."""
        self.note("wrong_type", key, "the value has the wrong type")

    async def _check_types(self, keys: Sequence[tuple[str, Kind]]) -> None:
        probes = [(_PROBES[kind.type][0], name, *_PROBES[kind.type][1:]) for name, kind in keys]
        replies = await self.seam.read(*probes)
        for (name, _), reply in zip(keys, replies, strict=True):
            if isinstance(reply, AQMDatabaseError):
                self.note_wrong_type(name)


def decode_name(name: bytes) -> str:
    """Makes a text of a key's name, or of an entry, whatever bytes it is made of."""
    return name.decode("utf-8", "backslashreplace")
