"""Shells that complete a line of ``aqm-db``, each by its own machinery."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Final

from tests.support.pseudo_terminals import Terminal

SHELLS: Final = ("bash", *filter(shutil.which, ("zsh", "fish")))
"""bash must be there; the others are tried where they are."""

_BASH: Final = """
source ./script
[[ $(complete -p aqm-db) =~ -F\\ ([^ ]+) ]]
COMP_WORDS=(aqm-db contact '') COMP_CWORD=2
"${BASH_REMATCH[1]}" aqm-db '' contact
printf '%s\\0' "${COMPREPLY[@]}" > offered
"""
_FISH: Final = """
source ./script
for line in (complete -C 'aqm-db contact ')
    printf '%s\\0' (string split -f 1 \\t -- $line) >> offered
end
"""
_ZSHRC: Final = """
PROMPT=ready
autoload -Uz compinit
compinit -u -d dump
source ./script
# Looks at what the completion system adds, and leaves alone what it only compares.
compadd() {
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\\ * ]]; then
        local -a hits
        builtin compadd -A hits "$@"
        (( $#hits )) && print -rN -- $hits >> offered
    fi
    builtin compadd "$@"
}
comppostfuncs=(exit)
bindkey '^I' complete-word
"""
_SCRIPTS: Final = sysconfig.get_path("scripts")
_PATIENCE: Final = 60
"""Seconds after which a shell doesn't end any more."""


def list_offers(shell: str, directory: Path, url: str) -> set[str]:
    """What a shell offers behind ``aqm-db contact``.

    Args:
        shell: which.
        directory: an empty one.
        url: the database.
    """
    environment = {**_environment(directory), "AQM_DB_URL": url}
    told = subprocess.run(
        [f"{_SCRIPTS}/aqm-db", "--show-completion", shell],
        env={**environment, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        check=True,
        timeout=_PATIENCE,
    )
    (directory / "script").write_bytes(told.stdout)
    if shell == "zsh":
        _press_tab(directory, environment)
    else:
        run_script(shell, _BASH if shell == "bash" else _FISH, directory, environment)
    return set((directory / "offered").read_text("utf-8").split("\0")) - {""}


def expand_words(shell: str, directory: Path, words: list[str]) -> list[str]:
    """What a shell makes of words that stand on a line as they are."""
    line = f"printf '%s\\n' {' '.join(words)}"
    return run_script(shell, line, directory, _environment(directory)).split("\n")[:-1]


def run_script(shell: str, script: str, directory: Path, environment: dict[str, str]) -> str:
    """Runs a script, without anybody's settings; what it writes to stdout."""
    plain = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    told = subprocess.run(
        [shell, *plain, "-c", script],
        env=environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        encoding="utf-8",
        timeout=_PATIENCE,
    )
    assert told.stderr == ""
    return told.stdout


def _environment(directory: Path) -> dict[str, str]:
    path = os.pathsep.join([_SCRIPTS, os.environ["PATH"]])
    # Nobody's own settings.
    return {**os.environ, "PATH": path, "HOME": str(directory), "ZDOTDIR": str(directory)}


def _press_tab(directory: Path, environment: dict[str, str]) -> None:
    """Types in zsh, which completes nothing without a terminal."""
    (directory / ".zshrc").write_text(_ZSHRC)
    # Without the settings of the system, and with those of the directory.
    zsh = [str(shutil.which("zsh")), "-d", "-i"]
    variables = {**environment, "TERM": "xterm"}
    with Terminal(zsh, variables, directory) as terminal:
        terminal.read_until("ready")
        terminal.type_text("aqm-db contact \t")
        terminal.read_to_end()
