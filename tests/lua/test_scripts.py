"""The Lua scripts keep the contract that their headers state."""

import re
from importlib.resources import files

import pytest

from aqm_db._lua import scripts
from aqm_db._lua.scripts import Code, Script

COMMAND = re.compile(r"\b(?:redis\.p?call|typed)\('([A-Z]+)'")
SCRIPTS = {value.name: value for value in vars(scripts).values() if isinstance(value, Script)}


def test_every_file_is_loaded() -> None:
    """There is no script without a use."""
    lua = files("aqm_db") / "_lua"
    places = {
        f"{folder.name}/{file.name.removesuffix('.lua')}"
        for folder in lua.iterdir()
        if folder.is_dir() and folder.name not in {"shared", "__pycache__"}
        for file in folder.iterdir()
    }
    names = {Script(place).name for place in places}
    assert names == set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=lambda script: script.name)
def test_header_and_body_agree(script: Script) -> None:
    """Every script states its contract, and uses no key or code beyond it."""
    header = "\n".join(line for line in script.source.splitlines() if line.startswith("--"))
    for part in ("-- KEYS: ", "-- ARGV: ", "-- Returns: ", "-- Again: "):
        assert part in header
    used = [int(number) for number in re.findall(r"KEYS\[(\d+)\]", script.source)]
    assert max(used, default=0) <= script.key_count
    own = re.sub(r"--.*|'[^']*'", "", script.source[script.source.rindex("-- KEYS: ") :])
    returns = header[header.rindex("-- Returns: ") :]
    for code in Code:
        if re.search(rf"\b{code.name}\b", own):
            assert re.search(rf"\b{code.name}\b", returns), f"{code.name} isn't in the header"


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=lambda script: script.name)
def test_header_lists_every_command(script: Script) -> None:
    """The doctor believes the headers, so they must know all that a script runs."""
    listed = ", ".join(re.findall(r"^-- Runs: (.+)$", script.source, re.MULTILINE)).split(", ")
    body = re.sub(r"--.*", "", script.source)
    assert {command.split()[0] for command in listed} == set(COMMAND.findall(body))
    # A command that no literal names would be missed.
    assert len(COMMAND.findall(body)) == len(re.findall(r"\b(?:redis\.p?call|typed)\((?!\.)", body))


def test_a_header_without_keys_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that doesn't list its KEYS doesn't load."""
    monkeypatch.setattr(scripts, "_KEYS_LINE", re.compile(r"^never$"))
    with pytest.raises(ValueError, match="burn.lua: the header must list KEYS"):
        _ = Script("vault/burn").key_count
