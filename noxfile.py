"""Sessions: ``nox`` alone runs what CI runs.

Sessions install the versions that ``constraints.txt`` pins, so that what passes today passes next
year; those about other versions say so. Where uv is (``pip install 'nox[uv]'``), it makes the
environments, within seconds; elsewhere pip does.
"""

import os
from itertools import chain
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|venv"
nox.options.sessions = ["lint", "typecheck", "tests", "tests-lowest", "tests-newest"]
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
CONSTRAINTS = "constraints.txt"
# Tests wait for servers and for other programs nearly half of the time.
WORKERS = str(max(2, 3 * (os.cpu_count() or 1) // 2))
LOWEST = "tests/constraints-lowest.txt"


@nox.session(venv_backend="none", name="format")
def format_(session: nox.Session) -> None:
    """Writes anew what is generated, and formats everything."""
    session.run("python", "src/generate_sync.py")
    session.run("python", "src/generate_denials.py")
    session.run("ruff", "check", "--fix", ".")
    session.run("ruff", "format", ".")


@nox.session
def lock(session: nox.Session) -> None:
    """Pins the newest version of everything that sessions install, on any Python and platform."""
    session.install("uv")
    pin(session, CONSTRAINTS, "pyproject.toml", "--extra=all", "--group=dev")
    oldest = Path(session.create_tmp(), "oldest.in")
    oldest.write_text("\n".join(lowest()), "utf-8")
    pin(session, LOWEST, str(oldest), "--group=tests")


@nox.session
def lint(session: nox.Session) -> None:
    """Checks style, imports, and that what is generated is what its generators write."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache", "--no-logo")
    session.run("python", "src/generate_sync.py", "--check")
    session.run("python", "src/generate_denials.py", "--check")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Checks types, and that every public name has one."""
    install(session, "types")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "aqm_db", "--ignoreexternal")


@nox.session
def tests(session: nox.Session) -> None:
    """Runs all tests, on all servers, with full coverage; with arguments, what pytest selects."""
    install_tests(session, "lint")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-n", WORKERS, "--slice", "measured")
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")
    session.run("pytest", "-n", WORKERS, "--slice", "unmeasured")


@nox.session(name="tests-lowest")
def tests_lowest(session: nox.Session) -> None:
    """Runs the client's side on the oldest versions of what the library imports."""
    install_tests(session, constraints=LOWEST)
    session.run("pytest", "-n", WORKERS, "--slice", "clients", *session.posargs)


@nox.session(name="tests-newest")
def tests_newest(session: nox.Session) -> None:
    """Runs the client's side on the newest versions of everything."""
    install_tests(session, constraints=None)
    session.run("pytest", "-n", WORKERS, "--slice", "clients", *session.posargs)


@nox.session(name="tests-3.12", python="3.12")
def tests_on_3_12(session: nox.Session) -> None:
    """Runs all tests with eager tasks, on Python 3.12."""
    run_eagerly(session)


@nox.session(name="tests-3.13", python="3.13")
def tests_on_3_13(session: nox.Session) -> None:
    """Runs all tests with eager tasks, on Python 3.13."""
    run_eagerly(session)


@nox.session
def faults(session: nox.Session) -> None:
    """Tries every fault everywhere, and prints what was lost or duplicated."""
    install_tests(session)
    files = ("tests/faults", "tests/care/test_replenish_rounds.py")
    session.run("pytest", "-n", "3", *files, "--thorough", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Takes out one protection after another: each time, a test must fail."""
    install_tests(session)
    session.run("pytest", "tests/faults", "--thorough", "-k", "mutant", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """Runs everything on clusters and behind sentinels, and prints what failovers cost."""
    install_tests(session)
    # A file's tests share clusters that are started once.
    workers = ("-n", "3", "--dist", "loadfile")
    session.run("pytest", *workers, "tests/cluster", "--thorough", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Lets three people live through half a year, and adds up what became of every coin."""
    install_tests(session)
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measures speed, side by side with what else one could do."""
    install(session, "bench")
    results = ".benchmarks/latest.json"
    session.run("pytest", "benchmarks", f"--benchmark-json={results}", *session.posargs)
    session.run("python", "-m", "benchmarks.report", results)


def install_tests(
    session: nox.Session, *others: str, constraints: str | None = CONSTRAINTS
) -> None:
    """Installs what tests need; they start Python over and over, which mustn't compile anew.

    Args:
        session: in whose environment.
        others: groups of pyproject.toml that some of the tests need.
        constraints: the file of pinned versions; None takes the newest of everything.
    """
    session.env.update(UV_COMPILE_BYTECODE="1", PYTHONDONTWRITEBYTECODE="")
    install(session, "tests", *others, constraints=constraints)


def install(session: nox.Session, *groups: str, constraints: str | None = CONSTRAINTS) -> None:
    """Installs the project as a user would, and the packages of dependency groups.

    Args:
        session: in whose environment.
        groups: of pyproject.toml.
        constraints: the file of pinned versions; None takes the newest of everything.
    """
    # What builds the project is installed apart from the rest: each tool, and each version of pip,
    # has its own way to be told what to take there.
    names = ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "UV_CONSTRAINT", "UV_BUILD_CONSTRAINT")
    session.install(
        *("-e", ".[all]", *nox.project.dependency_groups(PYPROJECT, *groups)),
        env=dict.fromkeys(names, constraints) if constraints else {},
    )


def run_eagerly(session: nox.Session) -> None:
    """Runs all tests on event loops whose tasks run until they wait, as soon as they are made."""
    install_tests(session, "lint")
    session.run("pytest", "-n", WORKERS, "--eager", *session.posargs)


def pin(session: nox.Session, constraints: str, *what: str) -> None:
    """Writes a file of pinned versions, those of what builds the project included."""
    # Hatchling asks for editables when it is to install the project as it lies here.
    builds = Path(session.create_tmp(), "builds.in")
    builds.write_text("\n".join([*PYPROJECT["build-system"]["requires"], "editables"]), "utf-8")
    session.run(
        *("uv", "pip", "compile", "--quiet", "--upgrade", "--universal", "--python-version=3.11"),
        *("--no-annotate", "--custom-compile-command=nox -s lock", f"--output-file={constraints}"),
        *(*what, str(builds)),
    )


def lowest() -> list[str]:
    """What the library imports, in the oldest versions that pyproject.toml admits."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    required = [*project["dependencies"], *chain.from_iterable(extras)]
    return [each.replace(">=", "==") for each in required if ">=" in each]
