"""What a seam makes of a server's answers."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from aqm_db._io.driving import drive
from aqm_db._io.seam import Reply, Seam
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    ConcurrencyError,
    CorruptEntryError,
    InventoryUnavailableError,
    NotWritableError,
)

from ._lab import COUNTER, OWNER, Lab, meet_wrong_type, scenario, take

_REFUSALS: Final[dict[bytes, type[AQMDatabaseError]]] = {
    b"-NOPERM User secret has no permissions to run this": AccessDeniedError,
    b"-NOAUTH Authentication required.": AccessDeniedError,
    b"-ERR @user_script: 1: -NOPERM No permissions to access a key": AccessDeniedError,
    b"-OOM command not allowed when used memory > 'maxmemory'.": NotWritableError,
    b"-MISCONF Redis is configured to save RDB snapshots": NotWritableError,
    b"-READONLY You can't write against a read only replica.": NotWritableError,
    b"-MOVED 3999 127.0.0.1:1": ConcurrencyError,
    b"-ERR unknown command 'X', with args beginning with: 'secret'": AQMDatabaseError,
    b"-CUSTOM secret": AQMDatabaseError,
}
"""What another attempt wouldn't change, and what it becomes."""
_PASSING: Final = (
    b"-BUSY Redis is busy running a script.",
    b"-LOADING Redis is loading the dataset in memory",
    b"-CLUSTERDOWN Hash slot not served",
)
"""What may be over by the next attempt."""
_MANY: Final = 40


class AskingTests:
    """What is asked, and what comes back."""

    @scenario
    async def test_a_script_is_run_in_one_round_trip(self, lab: Lab) -> None:
        """Once the server knows it."""
        assert await lab.seam.run(take("1")) == [0, 1]
        before = len(lab.link.requests)
        assert await lab.seam.run(take("2")) == [0, 2]
        assert lab.link.names[before:] == ["EVALSHA"]

    @scenario
    async def test_a_script_that_the_server_forgot(self, lab: Lab) -> None:
        """It's sent in full, and carried out once."""
        assert await lab.seam.run(take("1")) == [0, 1]
        await lab.direct.read(("SCRIPT", "FLUSH"))
        assert await lab.seam.run(take("2")) == [0, 2]
        assert await lab.count_taken() == 2

    @scenario
    async def test_a_server_that_never_knows_a_script(self, lab: Lab) -> None:
        """It isn't asked for ever."""
        lab.link.answer(b"-NOSCRIPT No matching script.", 10)
        with pytest.raises(AQMDatabaseError) as caught:
            await lab.seam.run(take("1"))
        assert type(caught.value) is AQMDatabaseError
        assert lab.link.names == ["EVALSHA", "EVAL"]

    @scenario
    async def test_a_batch_is_run_in_one_round_trip(self, lab: Lab) -> None:
        """All of it is sent before the first reply is needed, and replies come in order."""
        assert await lab.seam.run(take("0")) == [0, 1]
        count = len(lab.link.requests) + 3
        lab.link.judge_replies(lambda: lab.link.wait_for(count) == count)
        calls = [take(request_id) for request_id in "102"]
        assert await lab.seam.run_all(calls) == [[0, 2], [0, 1], [0, 3]]
        assert lab.link.names[-3:] == ["EVALSHA"] * 3

    @scenario
    async def test_a_batch_whose_script_the_server_forgot(self, lab: Lab) -> None:
        """Each of its calls is carried out once."""
        await lab.direct.read(("SCRIPT", "FLUSH"))
        replies = await lab.seam.run_all([take(request_id) for request_id in "1234"])
        assert sorted(replies, key=str) == [[0, 1], [0, 2], [0, 3], [0, 4]]
        assert await lab.count_taken() == 4

    @scenario
    async def test_nothing_is_asked_of_nobody(self, lab: Lab) -> None:
        """Neither with an empty batch nor with no command."""
        assert await lab.seam.run_all([]) == []
        assert await lab.seam.read() == []
        assert not lab.link.requests

    @scenario
    async def test_reads_in_one_round_trip(self, lab: Lab) -> None:
        """In order, too."""
        await lab.direct.run(take("1"))
        lab.link.judge_replies(lambda: lab.link.wait_for(3) == 3)
        commands: list[tuple[str | int, ...]] = [
            ("GET", COUNTER),
            ("EXISTS", "nothing"),
            ("GET", "nothing"),
        ]
        assert await lab.seam.read(*commands) == [b"1", 0, None]

    @scenario
    async def test_an_entry_of_the_wrong_type(self, lab: Lab) -> None:
        """Its error stands in its place, so that the others are there; one script raises it."""
        await lab.direct.run(take("1"))
        wrong, right = await lab.seam.read(("HGETALL", COUNTER), ("GET", COUNTER))
        assert isinstance(wrong, CorruptEntryError)
        assert right == b"1"
        first, mistake, last = await lab.seam.run_all([take("2"), meet_wrong_type(), take("3")])
        assert (first, last) == ([0, 2], [0, 3])
        assert isinstance(mistake, CorruptEntryError)
        with pytest.raises(CorruptEntryError):
            await lab.seam.run(meet_wrong_type())

    @pytest.mark.parametrize("line", _REFUSALS)
    @scenario
    async def test_a_refusal_is_raised_at_once(self, lab: Lab, line: bytes) -> None:
        """As an error of the library's, which quotes nothing; a batch has it in its place."""
        lab.link.answer(line, 3)
        errors: list[Any] = []
        with pytest.raises(AQMDatabaseError) as caught:
            await lab.seam.run(take("1"))
        errors.append(caught.value)
        with pytest.raises(AQMDatabaseError) as caught:
            await lab.seam.read(("GET", COUNTER))
        errors.append(caught.value)
        errors += await lab.seam.run_all([take("1")])
        assert [type(error) for error in errors] == [_REFUSALS[line]] * 3
        assert not any("secret" in str(error) or error.__cause__ for error in errors)
        assert len(lab.link.requests) == 3

    @pytest.mark.parametrize("line", _PASSING)
    @scenario
    async def test_a_server_that_can_not_work_now(self, lab: Lab, line: bytes) -> None:
        """It's asked again, and nothing was executed."""
        lab.link.answer(line, 2)
        assert await lab.seam.run(take("1")) == [0, 1]
        lab.link.answer(line, 3)
        with pytest.raises(InventoryUnavailableError) as caught:
            await lab.seam.run(take("2"))
        assert caught.value.outcome_unknown is False
        assert await lab.count_taken() == 1

    @scenario
    async def test_every_name_is_found(self, lab: Lab) -> None:
        """Of those that are like the pattern, each at least once; others aren't."""
        prefix = f"aqm:{{{OWNER}}}:"
        wanted = [f"{prefix}wanted:{number}" for number in range(1200)]
        await lab.direct.read(*(("SET", name, "") for name in wanted))
        await lab.direct.read(("SET", f"{prefix}other", ""))
        pages = [page async for page in lab.seam.scan(f"{prefix}wanted:*")]
        assert {name for page in pages for name in page} == {name.encode() for name in wanted}
        assert len(pages) > 1

    @scenario
    async def test_every_member_is_found(self, lab: Lab) -> None:
        """Of a set's, those that are like the pattern; what isn't a set is malformed."""
        name = f"aqm:{{{OWNER}}}:set"
        wanted = [f"wanted:{number}" for number in range(1200)]
        await lab.direct.read(("SADD", name, "other", *wanted))
        pages = [page async for page in lab.seam.scan("wanted:*", name)]
        assert {member for page in pages for member in page} == {each.encode() for each in wanted}
        assert len(pages) > 1
        await lab.direct.read(("DEL", name), ("SET", name, ""))
        with pytest.raises(CorruptEntryError):
            _ = [page async for page in lab.seam.scan("*", name)]

    @scenario
    async def test_a_user_who_may_do_little(self, lab: Lab) -> None:
        """What the server's own access control says is an AccessDeniedError."""
        rules = ("reset", "on", ">secret", "~*", "+@all", "-get", "-evalsha", "-eval")
        await lab.direct.read(("ACL", "SETUSER", "limited", *rules))
        seam = await lab.make(username="limited", password="secret")
        assert await seam.read(("EXISTS", COUNTER)) == [0]
        with pytest.raises(AccessDeniedError):
            await seam.read(("EXISTS", COUNTER), ("GET", COUNTER))
        with pytest.raises(AccessDeniedError):
            await seam.run(take("1"))
        outcomes = await seam.run_all([take("1"), take("2")])
        assert [type(outcome) for outcome in outcomes] == [AccessDeniedError] * 2

    @scenario
    async def test_a_wrong_password(self, lab: Lab) -> None:
        """It isn't tried again and again, and says nothing of the link."""
        await lab.direct.read(("ACL", "SETUSER", "limited", "reset", "on", ">secret"))

        async def ask() -> None:
            seam = await lab.make(username="limited", password="wrong")
            await seam.read(("EXISTS", COUNTER))

        with pytest.raises(AccessDeniedError):
            await ask()

    def test_many_callers_get_their_own_replies(self, lab: Lab) -> None:
        """At once: tasks of an event loop, or threads."""
        names = [str(number) for number in range(_MANY)]

        async def take_twice(seam: Seam, name: str) -> tuple[Reply, Reply]:
            return await seam.run(take(name)), await seam.run(take(name))

        def take_in_thread(name: str) -> tuple[Reply, Reply]:
            return drive(take_twice(lab.seam, name))

        async def gather() -> list[tuple[Reply, Reply]]:
            return await asyncio.gather(*(take_twice(lab.seam, name) for name in names))

        if lab.suspends:
            pairs = lab.run(gather())
        else:
            with ThreadPoolExecutor(4) as threads:
                pairs = [*threads.map(take_in_thread, names)]
        assert all(first == second for first, second in pairs)
        assert sorted(first[1] for first, _ in pairs) == list(range(1, _MANY + 1))
