"""The fixture ``lab``: one host, with a farm installed from this tree's wheel, for all tests of the lab.

Tests of one file run in a row, the files in alphabetical order but for those that must come first or last:
the host is rebooted late, and its farm uninstalled at the very end. A test that needs a farm in another shape
makes it so, and then as it was.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab.cache import host_disk
from lab.evidence import collect
from lab.farm import CALL_S, create, wait_for_workers
from lab.images import pack_images
from lab.installation import bring, run_steps, unpack_images
from lab.machine import RUN_DIR, Machine
from lab.recipe import OWNER
from lab.scenarios import Played, play_killed_starts, play_snapshots
from lab.traces import Traces, traces_of
from lab.two_vms import live_two_vms
from lab.wheel import build_wheel

# Where what is brought back goes. scripts/lab sets it: a plain pytest boots no host.
ASKED = "BANGER_LAB"
ON = "BANGER_LAB_ON"  # a host that `scripts/lab --up` has booted, with a farm: used as it is, and left so
FIRST = ("test_installed.py", "test_life.py", "test_network.py", "test_firecracker_confined.py")
LAST = ("test_upgrade.py", "test_reboot.py", "test_uninstall.py")
TEST_DEADLINE_S = 900  # of a test alone: what the host is made and installed by has deadlines of its own

_phases: list[tuple[str, float]] = []
_HOST = pytest.StashKey[Machine]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the lab's tests in order; skip them, with the reason, unless the lab was asked for."""
    ours = [item for item in items if item.get_closest_marker("lab")]
    for item in ours:
        if not os.environ.get(ASKED):
            item.add_marker(pytest.mark.skip(reason="needs a host of its own: make lab"))
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TEST_DEADLINE_S, func_only=True))
    places = [number for number, item in enumerate(items) if item in ours]
    for place, item in zip(places, sorted(ours, key=lambda item: _rank(item.path.name)), strict=True):
        items[place] = item


def pytest_runtest_makereport(item: pytest.Item) -> None:
    """End the suite where its host's kernel has panicked: what its tests say from then on means nothing."""
    host = item.session.stash.get(_HOST, None)
    if host is not None and (said := host.panic()):
        item.session.shouldfail = f"the host's kernel panicked:\n{said}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how long each phase took, and where to look."""
    if not _phases:
        return
    terminalreporter.section("the lab's phases")
    for name, seconds in _phases:
        terminalreporter.write_line(f"{seconds:6.0f} s  {name}")
    terminalreporter.write_line(f"journal, console and JUnit are in {os.environ[ASKED]}")


@pytest.fixture(scope="session")
def fresh_lab(
    request: pytest.FixtureRequest, say: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """The host with banger's code on it, and no farm yet."""
    out = Path(os.environ[ASKED])
    if name := os.environ.get(ON):
        yield Machine(RUN_DIR / name)
        return
    with _phase("the disk, from the cache or new"):
        disk = host_disk(say)
        images = tmp_path_factory.mktemp("images") / "images.tar"
        pack_images(images, "micro")
    machine = request.session.stash[_HOST] = Machine(RUN_DIR / f"suite-{os.getpid()}")
    try:
        with _phase("wheel, and boot to SSH"), ThreadPoolExecutor(1) as meanwhile:
            wheel = meanwhile.submit(build_wheel, tmp_path_factory.mktemp("wheel"))
            RUN_DIR.mkdir(mode=0o700, exist_ok=True)
            machine.start(disk, images=images, detached=False)
        with _phase("packages, code and images"), ThreadPoolExecutor(1) as meanwhile:
            bring(machine, wheel.result())
            unpacked = meanwhile.submit(unpack_images, machine)
            run_steps(machine, "Packages", "The code")
            unpacked.result()
        yield machine
    finally:
        with _phase("evidence and end"):
            collect(machine, out)
            machine.stop()


@pytest.fixture(scope="session")
def before_farm(fresh_lab: Machine) -> Traces:
    """What is on the host before the farm is; but the images that are there go with it."""
    return frozenset(one for one in traces_of(fresh_lab) if not one.startswith("path /var/lib/banger"))


@pytest.fixture(scope="session")
def installed(fresh_lab: Machine, before_farm: Traces) -> Machine:
    """The host with a farm, whose services start."""
    if not os.environ.get(ON):
        with _phase("farm"):
            run_steps(fresh_lab, "The farm")
    return fresh_lab


@pytest.fixture(scope="session")
def beside() -> Iterator[ThreadPoolExecutor]:
    """One after the other, what goes on beside the tests: the host has a CPU for it."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture(scope="session")
def killed_starts(fresh_lab: Machine, before_farm: Traces, beside: ThreadPoolExecutor) -> Future[Played]:
    """What kills of root at each step of a start have left. They begin before there is a farm."""
    return beside.submit(play_killed_starts, fresh_lab)


@pytest.fixture(scope="session")
def snapshots(installed: Machine, beside: ThreadPoolExecutor) -> Future[Played]:
    """What the scenarios of snapshots saw, once they have been played. They need no worker."""
    return beside.submit(play_snapshots, installed)


@pytest.fixture(scope="session")
def two_vms(lab: Machine, beside: ThreadPoolExecutor) -> Future[Played]:
    """What was seen of two VMs that use their disks, once they are gone."""
    return beside.submit(live_two_vms, lab)


@pytest.fixture(scope="session")
def lab(installed: Machine) -> Machine:
    """The host with a farm that is ready; see ``lab.machine.Machine`` for what can be done with it."""
    with _phase("services that start"):
        wait_for_workers(installed)
    return installed


@pytest.fixture(scope="session", autouse=True)
def _begin_what_goes_on_beside(request: pytest.FixtureRequest) -> None:
    """Begin it with the first of the lab's tests, as far as tests will ask for it."""
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    if os.environ.get(ASKED):
        for name in ("killed_starts", "snapshots", "lab", "two_vms", "stays"):
            if name in wanted:
                request.getfixturevalue(name)


@pytest.fixture(scope="session")
def stays(lab: Machine, beside: ThreadPoolExecutor) -> Future[dict[str, Any]]:
    """``steady``, once it runs."""

    def boot() -> dict[str, Any]:
        words = "banger vm create down --image micro --memory 128MiB --no-wait"
        lab.run(words, user=OWNER, deadline_s=CALL_S)
        return create(lab, "steady", "--autostart")

    return beside.submit(boot)


@pytest.fixture(scope="session")
def steady(stays: Future[dict[str, Any]]) -> dict[str, Any]:
    """The record of a VM that runs through restarts and reboot, until the farm is uninstalled.

    With it boots one, ``down``, whose unit is looked at, and which is not to be back after the reboot.
    """
    return stays.result()


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a line beside pytest's own."""
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    return lambda line: reporter.write_line(f"lab: {line}")


@contextlib.contextmanager
def _phase(name: str) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        _phases.append((name, time.monotonic() - started))


def _rank(name: str) -> tuple[int, str]:
    """Return where a file of tests stands: the first, the others by name, the last."""
    if name in FIRST:
        return FIRST.index(name) - len(FIRST), name
    return (LAST.index(name) + 1 if name in LAST else 0), name
