"""Tests don't hang, wherever they are started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.time_limits import Patience

CONFTEST = """
import pytest, signal
from tests.support.time_limits import Patience, heed_interrupts

def pytest_configure(config):
    heed_interrupts()
    config.pluginmanager.register(Patience(60))

@pytest.fixture
def let_time_pass():
    def let_time_pass():
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert left > 0
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    return let_time_pass
"""


def ran(test: str, directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a test under the rules of these tests; a command may run it in turn."""
    (directory / "conftest.py").write_text(CONFTEST)
    path = directory / "test_it.py"
    path.write_text(test)
    return subprocess.run(
        [*command, sys.executable, "-m", "pytest", f"--rootdir={directory}", str(path)],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_these_tests_are_run_by_the_rules(pytestconfig: pytest.Config) -> None:
    """Those that the others here are about."""
    plugins = pytestconfig.pluginmanager.get_plugins()
    assert [plugin for plugin in plugins if isinstance(plugin, Patience)]
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_a_test_that_hangs_ends_with_all_stacks(tmp_path: Path) -> None:
    """That of the test, and those of the threads that it may be waiting for."""
    hanging = """
from threading import Event, Thread

def wait_for_nothing(waiting):
    waiting.set()
    Event().wait()

def test_that_hangs(let_time_pass):
    waiting = Event()
    Thread(target=wait_for_nothing, args=(waiting,), daemon=True).start()
    waiting.wait()
    let_time_pass()
    Event().wait()
"""
    ended = ran(hanging, tmp_path)
    assert ended.returncode == -signal.SIGALRM
    assert "in test_that_hangs" in ended.stderr
    assert "in wait_for_nothing" in ended.stderr


def test_a_test_that_fails_and_hangs_when_it_tidies_up(tmp_path: Path) -> None:
    """As when it leaves a thread that its event loop waits for."""
    hanging = """
from threading import Event
import pytest

@pytest.fixture
def untidy(let_time_pass):
    yield
    let_time_pass()
    Event().wait()

def test_that_fails(untidy):
    assert False
"""
    ended = ran(hanging, tmp_path)
    assert ended.returncode == -signal.SIGALRM
    assert "in untidy" in ended.stderr


def test_ctrl_c_reaches_what_a_test_starts(tmp_path: Path) -> None:
    """Also where whoever starts the tests has it ignored."""
    interrupted = """
import subprocess, sys

def test_it():
    program = "import signal; signal.raise_signal(signal.SIGINT)"
    ended = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE)
    assert b"KeyboardInterrupt" in ended.stderr
"""
    ended = ran(interrupted, tmp_path, "sh", "-c", 'trap "" INT; exec "$@"', "sh")
    assert ended.returncode == 0, ended.stdout
