"""``scripts/lab``: run the lab's suite, or keep one of its hosts for development.

    scripts/lab [PYTEST ARGUMENTS]       the suite, on a host of its own
    scripts/lab --on NAME [ARGUMENTS]    the suite, on a host that runs and has a farm
    scripts/lab --up NAME                boot a host in the background
    scripts/lab --install NAME           this tree's wheel onto it: the whole farm, or a newer one over it
    scripts/lab --ssh NAME [COMMAND]     a command, or a shell, as root
    scripts/lab --put NAME FILE REMOTE   a file into it
    scripts/lab --down NAME              end it
    scripts/lab --list                   which there are
    scripts/lab --shell                  boot, install, a shell; gone when that ends

A suite whose host's kernel panicked runs once more, unless it was interrupted: build/lab-panicked tells why.
Ends with 0, and the reason, where this machine cannot run it.
"""

from __future__ import annotations

import fcntl
import inspect
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from leftovers import beside_others

from banger.contracts.names import is_label
from lab import guards
from lab.cache import host_disk
from lab.connection import LabError
from lab.images import pack_images
from lab.installation import WORK_DIR, bring, run_steps, unpack_images
from lab.machine import RUN_DIR, Machine, require_ours
from lab.recipe import ROOT
from lab.wheel import build_wheel

EVIDENCE = ROOT / "build/lab"
FIRST_EVIDENCE = ROOT / "build/lab-panicked"  # of the run before, where it ended so
SUITE_DEADLINE_S = 5400
IMAGES = ("micro",)


def main(arguments: list[str]) -> int:
    """Do what was asked for; 1 with the reason when it cannot be done."""
    if arguments == ["--help"]:
        say(__doc__ or "")
        return 0
    verbs = {
        "--on": on,
        "--up": up,
        "--install": install,
        "--ssh": ssh,
        "--put": put,
        "--down": down,
        "--list": list_,
    }
    verb, *rest = arguments or [""]
    boots = verb not in verbs or verb == "--up"
    if missing := guards.missing() or (boots and guards.cramped()):
        say(f"skipped: {missing}")
        return 0
    try:
        require_ours(RUN_DIR)
        if verb not in (*verbs, "--shell"):
            return suite(*arguments)
        return shell() if verb == "--shell" else _called(verbs[verb], verb, rest)
    except LabError as error:
        say(str(error))
    return 1


def _called(do: Callable[..., int], verb: str, words: list[str]) -> int:
    """Do what a verb says; LabError where it has too few words, or too many."""
    try:
        inspect.signature(do).bind(*words)
    except TypeError as error:
        raise LabError(f"{verb}: {error}; scripts/lab --help shows what it takes") from None
    return do(*words)


def suite(*arguments: str) -> int:
    """Run pytest over the lab's tests, or the files its arguments name; evidence goes to build/lab.

    Once more, where the host's kernel panicked: its emulator does that to it, which says nothing of banger. A
    second panic is the suite's end. One suite at a time: LabError where another of this clone has not ended.
    """
    EVIDENCE.parent.mkdir(parents=True, exist_ok=True)
    with EVIDENCE.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"another suite of this clone runs, which writes to {EVIDENCE}") from None
        shutil.rmtree(EVIDENCE, ignore_errors=True)
        shutil.rmtree(FIRST_EVIDENCE, ignore_errors=True)
        EVIDENCE.mkdir()
        code = _pytest(arguments, lock.fileno())
        if code != pytest.ExitCode.TESTS_FAILED or not Machine(EVIDENCE).panic():
            return code
        EVIDENCE.rename(FIRST_EVIDENCE)
        say(f"the host's kernel panicked: see {FIRST_EVIDENCE}. All of it once more, on another host")
        EVIDENCE.mkdir()
        return _pytest(arguments, lock.fileno())


def _pytest(arguments: tuple[str, ...], lock: int) -> int:
    """Run it to its end, which ends its host. It holds the lock as well, should we be killed."""
    command = (sys.executable, "-m", "pytest", "--durations=20", f"--junitxml={EVIDENCE / 'junit.xml'}")
    environment = os.environ | {"BANGER_LAB": str(EVIDENCE)}
    named_files = any(Path(word.partition("::")[0]).exists() for word in arguments)
    words = arguments if named_files else ("tests/lab", *arguments)
    # Ctrl-C is pytest's as well, which brings back what there is and ends its host: it is not to be killed.
    signal.signal(signal.SIGINT, lambda *_: None)
    with subprocess.Popen((*command, *words), env=environment, pass_fds=(lock,)) as running:

        def interrupt(*_: object) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second Ctrl-C would cut its clean-up short
            running.send_signal(signal.SIGINT)

        signal.signal(signal.SIGTERM, interrupt)  # which is ours alone
        try:
            return running.wait(SUITE_DEADLINE_S)
        except subprocess.TimeoutExpired:
            running.kill()  # and the host dies with it
            say(f"the suite did not end within {SUITE_DEADLINE_S} s")
            return 1


def on(name: str, *arguments: str) -> int:
    """Run pytest over a host that runs; what it does to the farm there stays."""
    running(name)
    os.environ["BANGER_LAB_ON"] = name
    return suite(*arguments)


def up(name: str, *, detached: bool = True) -> int:
    """Boot a host and leave it running."""
    machine = named(name)
    if machine.runs():
        say(f"{name} runs already")
        return 0
    machine.stop()  # what a killed one left
    started = time.monotonic()
    disk = host_disk(say)
    RUN_DIR.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".images-", dir=RUN_DIR) as scratch:
        images = Path(scratch, "images.tar")
        pack_images(images, *IMAGES)
        with beside_others() as lock:  # as long as it runs: others' tests would take it for theirs
            try:
                machine.start(disk, images=images, detached=detached, keep=(lock.fileno(),))
            except BaseException:
                machine.stop()
                raise
    say(f"{name} is up after {time.monotonic() - started:.0f} s; its console: {machine.directory}/serial.log")
    say(f"scripts/lab --install {name}; scripts/lab --ssh {name} 'COMMAND'; scripts/lab --down {name}")
    return 0


def install(name: str) -> int:
    """Install this tree's wheel: a farm where there is none, or over the one that is there."""
    machine = running(name)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="banger-lab-wheel-") as scratch:
        wheel = build_wheel(Path(scratch))
        say(f"built {wheel.name} in {time.monotonic() - started:.0f} s")
        bring(machine, wheel)
        if machine.try_run("test -e /var/lib/banger/install.json").code:
            run_steps(machine, "Packages", "The code")
            unpack_images(machine)
            run_steps(machine, "The farm")
        else:
            # As the document's upgrade, but of a wheel whose version is the old one's.
            pip = "/opt/banger/bin/pip install --quiet --no-deps --force-reinstall"
            machine.run(f"{pip} {WORK_DIR}/banger-*.whl", deadline_s=300)
            machine.run("banger system install; banger system restart", deadline_s=300)
    say(f"installed on {name} after {time.monotonic() - started:.0f} s")
    return 0


def ssh(name: str, *words: str) -> int:
    """Run a command in a host on this terminal, as ssh would; without one, a shell."""
    machine = running(name)
    machine.connection.open()
    return subprocess.run((*machine.connection.argv(), *words), check=False).returncode


def put(name: str, local: str, remote: str) -> int:
    """Copy a file into a host; one that can be executed stays so."""
    running(name).put(Path(local), remote, mode=Path(local).stat().st_mode & 0o777)
    return 0


def down(name: str) -> int:
    """End a host, whatever it does."""
    named(name).stop()
    return 0


def list_() -> int:
    """Print the hosts that run."""
    for directory in sorted(RUN_DIR.glob("[!.]*")):
        name = directory.name
        print(name, "up" if Machine(directory).runs() else f"dead: scripts/lab --down {name}")
    return 0


def shell() -> int:
    """Boot a host of one's own with a farm, and give a shell in it; the host goes with the shell."""
    name = f"shell-{os.getpid()}"
    try:
        up(name, detached=False)
        install(name)
        return ssh(name)
    finally:
        down(name)


def named(name: str) -> Machine:
    """Return the host of this name, whether it runs or not; LabError for what is no directory's name."""
    if not is_label(name):
        raise LabError(f"{name!r} is no name of a host: letters a-z, digits and - make one")
    return Machine(RUN_DIR / name)


def running(name: str) -> Machine:
    """Return the host of this name; LabError unless it runs."""
    machine = named(name)
    if not machine.runs():
        raise LabError(f"there is no host {name!r}: scripts/lab --up {name}")
    return machine


def say(line: str) -> None:
    """Print a line of ours."""
    print(f"lab: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
