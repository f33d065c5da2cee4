"""The lab's own tool around a pytest that is real, without a host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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


def test_ctrl_c_is_pytests_which_ends_its_host_in_order(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(_TEST)
    tests = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", _SUITE, tmp_path],
        env=os.environ | {"PYTHONPATH": str(tests)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        eventually((tmp_path / "up").exists)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(60) == pytest.ExitCode.INTERRUPTED
    assert (tmp_path / "ended").exists()
