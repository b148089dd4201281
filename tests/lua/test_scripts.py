"""The Lua scripts keep the contract that their headers state."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aqm_db._lua import loader
from aqm_db._lua.header import list_items, read_header
from aqm_db._lua.loader import Code, Script, list_scripts
from aqm_db._model.tiers import PRIORITIES, TIERS

COMMAND = re.compile(r"\b(?:redis\.p?call|(?:try_)?call)\('([A-Z]+)'")
LUA = Path(loader.__file__).parent
SCRIPTS = [
    script for folder in ("inventory", "vault", "turn", "layout") for script in list_scripts(folder)
]
FILES = sorted(LUA.glob("*/*.lua"))
SHARED = sorted(LUA.glob("shared/*.lua"))
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
each_file = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}"
)


def code_of(text: str) -> str:
    """A text without its comments."""
    return re.sub(r"--.*", "", text)


def own_text(script: Script) -> str:
    """A script's own text, without what the loader puts before it."""
    return script.source[script.source.rindex("-- KEYS: ") :]


def defined_in(path: Path) -> list[str]:
    """The functions and constants that a shared file defines."""
    return re.findall(r"(?m)^local (?:function )?(\w+)", code_of(path.read_text("utf-8")))


@each_script
def test_header_and_body_agree(script: Script) -> None:
    """Every script states its contract, and returns no code beyond it."""
    header = "\n".join(line for line in script.source.splitlines() if line.startswith("--"))
    for part in ("-- KEYS: ", "-- ARGV: ", "-- Returns: ", "-- Again: "):
        assert part in header
    own = re.sub(r"'[^']*'", "", code_of(own_text(script)))
    returns = header[header.rindex("-- Returns: ") :]
    for code in Code:
        if re.search(rf"\b{code.name}\b", own):
            assert re.search(rf"\b{code.name}\b", returns), f"{code.name} isn't in the header"


@each_script
def test_every_name_in_a_header_is_used(script: Script) -> None:
    """A key or an argument without a use is sent for nothing; and none hides a shared function."""
    own = code_of(own_text(script))
    shared = {name for path in SHARED for name in defined_in(path)}
    for parameter in (*script.header.keys, *script.header.arguments):
        assert re.search(rf"\b{parameter.name}\b", own), parameter.name
        assert parameter.name not in shared


@each_file
def test_no_script_counts(path: Path) -> None:
    """KEYS and ARGV have names, which the loader gives them."""
    assert re.findall(r"\b(?:KEYS|ARGV)\b", code_of(path.read_text("utf-8"))) == []


@each_file
def test_no_script_names_a_tier(path: Path) -> None:
    """A new tier, or priority, touches no script."""
    words = re.findall(r"[A-Za-z]+", path.read_text("utf-8").replace("_", " "))
    assert {word.upper() for word in words} & {*TIERS, *PRIORITIES} == set()


@each_script
def test_header_lists_every_command(script: Script) -> None:
    """The doctor believes the headers, so they must know all that a script runs."""
    body = code_of(script.source)
    assert {command.split()[0] for command in script.commands} == set(COMMAND.findall(body))
    # A command that no literal names would be missed.
    assert len(COMMAND.findall(body)) == len(
        re.findall(r"\b(?:redis\.p?call|(?:try_)?call)\((?!\.)", body)
    )


@each_file
def test_a_file_says_what_it_uses(path: Path) -> None:
    """Each name that isn't a file's own is in its header, with the file that defines it."""
    places = {
        name: shared.stem if name.lower() == shared.stem else f"{shared.stem}.{name}"
        for shared in SHARED
        for name in defined_in(shared)
    }
    text = path.read_text("utf-8")
    words = set(re.findall(r"\w+", re.sub(r"'[^']*'", "", code_of(text))))
    own = {*defined_in(path), *_names_in(text)}
    used = {place for name, place in places.items() if name in words - own}
    assert sorted(used) == list_items(text, "Uses")


def _names_in(text: str) -> Iterator[str]:
    for part in ("KEYS", "ARGV"):
        for item in list_items(text, part):
            yield item.partition(" ")[0].partition("[")[0].rstrip("?")


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.stem)
def test_a_shared_file_is_named_as_what_it_defines(path: Path) -> None:
    """Who reads a header finds the file; only pairs that belong together have a name of theirs."""
    defined = defined_in(path)
    functions = [name for name in defined if name.islower()]
    assert path.stem in {name.lower() for name in defined} or len(functions) == 2


def test_a_row_is_written_as_it_is_read() -> None:
    """The reader of a coin's row and its writer know the same fields."""
    reader, writer = (
        code_of((LUA / f"shared/{name}.lua").read_text("utf-8"))
        for name in ("read_coin", "write_coin")
    )
    read, written = (re.findall(r"'([a-z_]+)'", each) for each in (reader, writer))
    assert read == written
    places = re.findall(r"(\w+) = values\[(\d)\]", reader)
    assert places == [(field, str(place)) for place, field in enumerate(read, 1)]


def test_a_header_names_its_keys_and_arguments() -> None:
    """All forms that a name can have."""
    header = read_header(
        "-- KEYS: row, queues[tier]\n"
        "-- ARGV: id, now (ms), mode ('delete' or 'count'), caps[priority]\n"
        "-- ARGV: size? (bytes), others ...\n"
    )
    assert header.write_locals().splitlines() == [
        "local row = KEYS[1]",
        "local queues = {GOLD = KEYS[2], SILVER = KEYS[3], BRONZE = KEYS[4]}",
        "local id = ARGV[1]",
        "local now = tonumber(ARGV[2])",
        "local mode = ARGV[3]",
        "local caps = {BESTIE = ARGV[4], MATE = ARGV[5], STRANGER = ARGV[6]}",
        "local size = tonumber(ARGV[7])",
        "local others = {ARGV[8], ARGV[9], ARGV[10]}",
        "for place = 11, #ARGV do",
        "  others[place - 7] = ARGV[place]",
        "end",
    ]


def test_a_table_of_tables_goes_by_its_first_index() -> None:
    """``caps[priority][tier]`` begins with the tiers of the highest priority."""
    header = read_header("-- KEYS: row\n-- ARGV: caps[priority][tier]\n")
    assert header.write_locals().splitlines()[1] == (
        "local caps = {BESTIE = {GOLD = ARGV[1], SILVER = ARGV[2], BRONZE = ARGV[3]}, "
        "MATE = {GOLD = ARGV[4], SILVER = ARGV[5], BRONZE = ARGV[6]}, "
        "STRANGER = {GOLD = ARGV[7], SILVER = ARGV[8], BRONZE = ARGV[9]}}"
    )


def test_a_header_names_what_is_asked_for() -> None:
    """What the first part of a script doesn't need is named for the second one, by its place."""
    header = read_header("-- KEYS: row, used\n-- ARGV: id, now (ms)\n")
    assert header.write_locals({"used", "now"}.__contains__).splitlines() == [
        "local used = KEYS[2]",
        "local now = tonumber(ARGV[2])",
    ]


def test_what_nearly_all_calls_come_to_runs_before_anything_is_defined() -> None:
    """Functions and tables that it doesn't need cost the server a tenth of its time."""
    first, _, rest = code_and_marks(Script("inventory/select").source).partition("-- Otherwise:\n")
    assert "return {OK, claim" in first
    assert "local function" not in first
    assert "TIERS = " not in first
    named = [set(re.findall(r"(?m)^local (\w+) = ", part)) for part in (first, rest)]
    assert {"claim", "used", "OK", "LATE"} <= named[0]
    assert {"used_until", "watch", "TIERS", "CORRUPT"} <= named[1]
    assert not named[0] & named[1]


def code_and_marks(text: str) -> str:
    """A text without the comments that are no marks."""
    return re.sub(r"--(?! Otherwise:$).*", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-- ARGV: id\n", "must list KEYS and ARGV"),
        ("-- KEYS: row\n", "must list KEYS and ARGV"),
        ("-- KEYS: row\n-- ARGV: now (seconds)\n", r"'now \(seconds\)' is no name"),
        ("-- KEYS: queues[owner]\n-- ARGV: id\n", "'queues.owner.' is no name"),
    ],
)
def test_a_header_that_is_none(text: str, reason: str) -> None:
    """A script whose header is not understood doesn't load."""
    with pytest.raises(ValueError, match=reason):
        read_header(text)
