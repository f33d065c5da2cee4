"""For every test: the machine is as it was when the last one has ended."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator

import hypothesis
import pytest
from leftovers import beside_others, on_this_machine

SETTLE_S = 5.0  # what was killed a moment ago may still be on its way out

# No test is timed: how long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# What a script runs in the background has Ctrl-C ignored, and tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.pop("SUDO_USER", None)  # tests' farms are root's own, and write into nobody's home


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this user cannot run."""
    if os.geteuid() == 0:
        return
    for item in items:
        if any(item.get_closest_marker(name) for name in ("integration", "real", "lab")):
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fail the run when links, tables, loops, mounts, processes or files are there that were not before.

    What is new may be another run's where several share the machine: then this cannot be told, and is not.
    """
    with beside_others() as lock:
        before = on_this_machine()
        yield
        deadline = time.monotonic() + SETTLE_S
        while (left := on_this_machine() - before) and time.monotonic() < deadline:
            time.sleep(0.1)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        assert not left, "the tests left behind:\n" + "\n".join(sorted(left))
