"""The lab's own tool around a pytest that is real, without a host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from farm_box import eventually

pytestmark = pytest.mark.integration

_SUITE = """
import sys
from pathlib import Path
from lab import __main__ as tool
tool.EVIDENCE = Path(sys.argv[1], "evidence")
sys.exit(tool.suite("-p", "no:cacheprovider", "--rootdir", sys.argv[1], sys.argv[1] + "/test_it.py"))
"""
_TEST = """
import threading
from pathlib import Path
import pytest
HERE = Path(__file__).parent
@pytest.fixture
def host():
    (HERE / "up").touch()
    yield
    (HERE / "ended").touch()
def test_it(host):
    threading.Event().wait(60)
"""


@contextmanager
def suite(place: Path, *, heard: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Run the tool's suite over the one test of a place, in a session of its own."""
    place.joinpath("test_it.py").write_text(_TEST)
    with subprocess.Popen(
        [sys.executable, "-c", _SUITE, place],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if heard else None,
        text=True,
        start_new_session=True,
    ) as running:
        yield running


def test_ctrl_c_is_pytests_which_ends_its_host_in_order(tmp_path: Path) -> None:
    with suite(tmp_path) as running:
        eventually((tmp_path / "up").exists)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(60) == pytest.ExitCode.INTERRUPTED
    assert (tmp_path / "ended").exists()


def test_a_sigterm_which_pytest_does_not_get_ends_it_the_same_way(tmp_path: Path) -> None:
    with suite(tmp_path) as running:
        eventually((tmp_path / "up").exists)
        running.terminate()
        running.terminate()
        assert running.wait(60) == pytest.ExitCode.INTERRUPTED
    assert (tmp_path / "ended").exists()


def test_a_second_suite_of_a_clone_leaves_the_first_ones_evidence_alone(tmp_path: Path) -> None:
    with suite(tmp_path) as running:
        eventually((tmp_path / "up").exists)
        (tmp_path / "evidence/of-the-first").touch()
        with suite(tmp_path, heard=True) as second:
            said = second.communicate(timeout=60)[1]
        assert "another suite of this clone runs" in said
        assert (tmp_path / "evidence/of-the-first").exists()
        running.terminate()
