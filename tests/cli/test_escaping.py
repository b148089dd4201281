"""Whatever others wrote: no terminal obeys it, on any way that a text takes to one."""

import ast
import io
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest
from rich.text import Text

from aqm_db import _cli, sync
from aqm_db._cli.escaping import EscapingStream, escape_stderr
from aqm_db._cli.output import PlainConsole, write_json, write_line, write_text
from aqm_db.chat_demo import story
from aqm_db.chat_demo.story import Outcome
from aqm_db.demo import Audience, Home
from aqm_db.integrity import Problem
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.chat_evidence import make_pair_of_evidence
from tests.support.pseudo_terminals import Terminal
from tests.support.run_commands import allow_answers, run_command
from tests.support.samples import halves

HOSTILE = "[red]:smile:\x1b[9z\x07\r\b\x7f\x85\x9b9z\u202e\u2066\u200f\u2028\u2029\ufeff"
"""Markup, an emoji code, control characters of both kinds, what turns the direction of writing, and
separators of lines; no terminal knows a sequence that ends so."""
OWN = re.compile(r"\x1b\[(\d*(;\d+)*m|\?25[lh]|[012]?K|1?A)|\r(?=\x1b\[2?K|\n|\x1b\[1A)")
"""What rich tells a terminal: colours, the cursor, and lines that are drawn anew."""
CHILD = """
import json, sys
from aqm_db import config
from aqm_db.cli import main

config.REDIS_RETRY_DELAY = 0
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["aqm-db", *arguments]
    try:
        main()
    except SystemExit:
        pass
    except Exception:
        # As the interpreter does in the end.
        sys.excepthook(*sys.exc_info())
"""


def find_obeyed(text: str) -> set[str]:
    """The characters that a terminal may obey, but for the ends of lines."""
    return {
        character
        for character in text
        if character not in "\n\t" and unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"}
    }


@dataclass(frozen=True)
class Place:
    """A database of a stranger's, and files that may be named as strangely.

    Attributes:
        url: the database.
        directory: a directory of a strange name, with a backup in it.
    """

    url: str
    directory: Path

    def list_commands(self) -> Iterator[Sequence[str]]:
        """Every command, about what the stranger left, and mistakes that quote what was typed."""
        url, new = ("--url", self.url), str(self.directory / HOSTILE)
        for form in ((), ("--json",)):
            for command in (
                *(("status",), ("contacts",), ("contact", HOSTILE), ("gc", "--dry-run")),
                *(("doctor",), ("doctor", "--owner", HOSTILE), ("check",), ("purge", "--yes")),
                *(("set-priority", HOSTILE, "MATE", "--yes"), ("bench", "--seconds", "0")),
                *(("export", f"{new}{len(form)}"), ("import", str(self.directory / "backup"))),
            ):
                yield *command, *url, *form
        for command in (
            *(("contact", f"nobody {HOSTILE}"), ("contact", f"broken {HOSTILE}")),
            *(("set-priority", HOSTILE, HOSTILE), ("forget", HOSTILE), ("gc", "--yes")),
            *(("export", str(self.directory / "backup")), ("import", new)),
            ("import", str(self.directory / "backup"), "--used", new),
        ):
            yield *command, *url
        yield (HOSTILE,)
        yield "contact", "x", HOSTILE
        yield "status", f"--{HOSTILE}"
        yield "gc", "--days", HOSTILE
        for scheme in ("", "redis://", "unix://", "embedded://"):
            yield "status", "--url", f"{scheme}{quote(new)}"
            yield "status", "--url", f"{scheme}{HOSTILE}"
        yield "demo", "--url", new, "--owner", HOSTILE
        yield "demo", "--keep", str(self.directory)

    def list_with_tracebacks(self) -> Iterator[Sequence[str]]:
        """Commands that end in one, if they may."""
        yield "contact", f"nobody {HOSTILE}", "--url", self.url, "--debug"
        yield "demo", "--keep", str(self.directory), "--debug"


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that isn't there is asked again at once."""
    monkeypatch.setattr("aqm_db.config.REDIS_RETRY_DELAY", 0)


@pytest.fixture
def place() -> Iterator[Place]:
    """Where all is as strange as it can be."""
    with (
        RunningServer(VALKEY_9) as server,
        tempfile.TemporaryDirectory(prefix="aqm-") as name,
    ):
        url, directory = f"unix://{server.socket_path}", Path(name) / HOSTILE
        for own in ("alice", "bob"):
            (directory / own).mkdir(parents=True)
        with sync.connect(url) as db:
            for contact_id in (HOSTILE, f"broken {HOSTILE}"):
                db.inventory.register_contact(contact_id, "BESTIE", HOSTILE)
                db.inventory.store_key(contact_id, HOSTILE, "GOLD", *halves("GOLD"))
            sync.export_backup(db, directory / "backup")
        with server.sync_client(1) as client:
            broken = next(client.scan_iter("inv:v1:meta:broken*"))
            client.hset(broken, "priority", HOSTILE)
            client.set(f"inv:v1:{HOSTILE}", "x")
        yield Place(url, directory)


def test_in_a_pipe(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command writes anything of it as it is, and each that shows it escapes it."""
    allow_answers(monkeypatch)
    shown = 0
    for arguments in place.list_commands():
        ran = run_command(*arguments, answer="n\n")
        assert not find_obeyed(ran.out + ran.err), arguments
        if "--json" in arguments and ran.out:
            assert ran.out.isascii()
            json.loads(ran.out)
        shown += "x1b[9z" in ran.out + ran.err
    assert shown > 15


def test_on_a_terminal(place: Place, tmp_path: Path) -> None:
    """With colours and bars, questions and tracebacks: rich's own sequences, and no others."""
    commands = [*place.list_commands(), *place.list_with_tracebacks()]
    command = [sys.executable, "-c", CHILD, json.dumps(commands)]
    environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": ""}
    with Terminal(command, environment, tmp_path) as terminal:
        # What is typed ahead is read by whoever asks.
        terminal.type_text("n\n" * 10)
        code = terminal.read_to_end()
    seen = OWN.sub("", terminal.written.replace("\r\n", "\n"))
    assert (code, find_obeyed(seen)) == (0, set())
    assert "Go on? [y/N]" in seen
    assert seen.count("Traceback") == len([*place.list_with_tracebacks()])
    assert "\x1b[" in terminal.written


def test_watching(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same view, which is drawn again and again."""

    def sleep(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aqm_db._cli.commands.status.sleep", sleep)
    monkeypatch.setenv("TERM", "xterm-256color")
    for form in ((), ("--json",)):
        ran = run_command("status", "--watch", "--url", place.url, *form, FORCE_COLOR="1")
        assert ran.code == 0
        assert "[red]:smile:" in ran.out
        assert not find_obeyed(OWN.sub("", ran.out + ran.err))


def test_a_traceback_in_a_pipe(place: Place) -> None:
    """What nobody catches is written by Python itself, and escaped all the same."""
    *_, arguments = place.list_with_tracebacks()
    process = subprocess.run(
        [sys.executable, "-m", "aqm_db", *arguments],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert "alice exists already" in process.stderr.splitlines()[-1]
    assert not find_obeyed(process.stderr)


# One after another -------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
def test_the_demos_places(place: Place, monkeypatch: pytest.MonkeyPatch, *, keep: bool) -> None:
    """They are shown as the user named them."""

    async def tell(alice: Home, bob: Home, audience: Audience) -> None:
        audience.see_homes(alice, bob)

    monkeypatch.setattr("aqm_db._cli.commands.demo_story.tell", tell)
    named = (
        ("--keep", str(place.directory / "new"))
        if keep
        else ("--url", place.url, "--owner", HOSTILE)
    )
    ran = run_command("demo", *named)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("[red]:smile:\\x1b[9z") == 2
    assert not find_obeyed(ran.out)


def test_the_chat_demos_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key's name is somebody else's, too."""
    alice, bob = make_pair_of_evidence()
    spoiled = replace(
        alice, problems=[Problem("foreign_key", "vault", HOSTILE, "x", repaired=False)]
    )
    outcome = Outcome(1, {}, 1.0, spoiled, bob, [f"alice's vault: foreign_key at {HOSTILE}"])

    async def tell(*_: object, **__: object) -> Outcome:
        return outcome

    monkeypatch.setattr(story, "tell", tell)
    ran = run_command("chat-demo")
    assert ran.code == 1
    for written in (ran.out, ran.err):
        assert "foreign_key at [red]:smile:\\x1b[9z" in written
        assert not find_obeyed(written)


def test_a_process_of_the_chat_demo(tmp_path: Path, measured: dict[str, str]) -> None:
    """It writes to the terminal of whoever started the demo."""
    script = (
        "import runpy, sys\n"
        "from pathlib import Path\n"
        "from aqm_db.chat_demo import party, person\n"
        "from aqm_db.demo import DemoError\n"
        "said = sys.argv.pop()\n"
        "async def take_part(*_):\n"
        "    raise DemoError(said)\n"
        "party.take_part = take_part\n"
        "person.make_people(Path())\n"
        "sys.argv += ['alice', '1']\n"
        "runpy.run_module('aqm_db._cli.chat_process', run_name='__main__')\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, HOSTILE],
        env=measured,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert "DemoError" in process.stderr
    assert not find_obeyed(process.stdout + process.stderr)


def test_what_is_written_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines and tabs of ours stay; markup and emoji codes are texts like others."""
    monkeypatch.setenv("COLUMNS", "200")
    write_text(HOSTILE, Text(f"a\n{HOSTILE}"))
    write_line(f"a\n{HOSTILE}", err=True)
    out, err = capsys.readouterr()
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines == [lines[0], "a", lines[0]]
    # Of these rich itself takes some away.
    assert lines[0].startswith("[red]:smile:\\x1b[9z")
    assert err.startswith("a\n[red]:smile:\\x1b[9z\\x07\\r\\x08\\x7f\\x85\\x9b9z\\u202e")
    assert not find_obeyed(out + err)


def test_json_is_ascii_without_any(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own escapes show what others wrote, and machines read what that was."""
    write_json({HOSTILE: HOSTILE})
    out = capsys.readouterr().out
    assert out.isascii()
    assert not find_obeyed(out)
    assert json.loads(out) == {HOSTILE: HOSTILE}


def test_what_others_write_to_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it's escaped, all of it is, and once only; a bar is drawn all the same."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    escape_stderr()
    escape_stderr()
    assert isinstance(sys.stderr, EscapingStream)
    assert sys.stderr.stream is stream
    assert not sys.stderr.isatty()
    assert sys.stderr.write("\x1b\t\n") == 3
    # Where nobody listens to a logger.
    assert logging.lastResort is not None
    logging.lastResort.emit(logging.makeLogRecord({"msg": HOSTILE}))
    assert stream.getvalue().startswith("\\x1b\t\n[red]:smile:\\x1b[9z")
    assert not find_obeyed(stream.getvalue().replace("\t", ""))
    assert PlainConsole(stderr=True).file is stream


def test_a_stderr_that_was_closed() -> None:
    """It has nothing left to hand on; Python asks for that when it drops ours."""
    closed = io.TextIOWrapper(io.BytesIO())
    stream = EscapingStream(closed)
    closed.close()
    stream.close()
    assert stream.closed


def test_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closed it sees nothing."""
    monkeypatch.setattr(sys, "stderr", None)
    escape_stderr()
    assert sys.stderr is None
    write_line("x", err=True)


WRITE = re.compile(
    r"typer\.(echo|secho|confirm|prompt)|print|(\w+\.)?Console|sys\.std(out|err)\..*"
)


def test_nothing_is_written_elsewhere() -> None:
    """The commands write by what escapes alone."""
    for path in Path(_cli.__file__).parent.rglob("*.py"):
        called = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call)
        }
        writes = {name for name in called if WRITE.fullmatch(name)}
        assert writes == ({"typer.echo"} if path.stem == "output" else set()), path
