"""Another commit of this library, to be measured beside this one."""

import io
import subprocess
import tarfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent.parent
"""This project's folder."""
_CODE = "src/aqm_db"


class RevisionError(Exception):
    """Git knows no such commit, or it isn't this library's."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit.

    Attributes:
        commit: its whole hash.
        title: its hash in short, and the first line of its message.
    """

    commit: str
    title: str


def find_revision(name: str, root: Path = ROOT) -> Revision:
    """The commit that a name stands for.

    Args:
        name: whatever git takes for a commit.
        root: the repository's folder.

    Raises:
        RevisionError: there is none, it has no code of the library, or git can't be asked.
    """
    told = _ask_git(
        root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
    )
    if told is None:
        raise RevisionError(f"--against: git knows no commit {name!r} in {root}")
    commit = told.decode().strip()
    if not _ask_git(root, "ls-tree", commit, _CODE):
        raise RevisionError(f"--against: commit {name!r} has no {_CODE}")
    title = _ask_git(root, "log", "-1", "--format=%h %s", commit) or b""
    return Revision(commit, title.decode(errors="replace").strip())


@contextmanager
def unpacked(revision: Revision, root: Path = ROOT) -> Generator[Path]:
    """A folder with the library's code as of a commit, until the block ends."""
    archive = _ask_git(root, "archive", "--format=tar", revision.commit, _CODE)
    assert archive is not None, "a commit that git knew is gone"
    with TemporaryDirectory(prefix="aqm-") as directory:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(directory, filter="data")
        yield Path(directory) / Path(_CODE).parent


def _ask_git(root: Path, *arguments: str) -> bytes | None:
    """What git prints; None if it refuses."""
    program = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(program, check=False, capture_output=True)  # noqa: S603 - git
    except FileNotFoundError as error:
        raise RevisionError("--against: there is no git to ask") from error
    return done.stdout if done.returncode == 0 else None
