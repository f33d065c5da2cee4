"""Both workers do all their work within what their units leave them; they are kept from the rest."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm_box import Box, farm_box, without_flower
from netns import inside

from banger.embedded.credentials import decide, load
from banger.embedded.plan import Plan, Service
from banger.embedded.ports import Ports
from banger.embedded.services import redis_argv, root_worker_argv, worker_argv
from banger.settings import Settings
from banger.shell import find_tool
from banger.states import State
from banger.system import places
from banger.system.units import units

pytestmark = pytest.mark.integration

CONFINED = Path(__file__).parents[1] / "confined.py"


def confined(plan: Plan, settings: Settings, changes: dict[str, str]) -> Plan:
    """Run each service as its unit would; ``changes`` replace text in the units."""
    plan = without_flower(plan)
    credentials = load(settings.farm_file)
    assert credentials is not None
    directory = settings.run_dir / "units"
    directory.mkdir(exist_ok=True)
    shutil.copyfile(CONFINED, directory / CONFINED.name)
    for unit in units(settings, credentials, own_redis=True):
        text = unit.text
        for old, new in changes.items():
            text = text.replace(old, new)
        (directory / unit.name).write_text(text)
    argvs = {
        "redis": (places.REDIS, redis_argv(settings)),
        "worker": (places.WORKER, worker_argv(settings)),
        "root-worker": (places.ROOT_WORKER, root_worker_argv(settings)),
    }

    def within(service: Service) -> Service:
        unit, argv = argvs[service.name]
        view = service.argv[: service.argv.index(find_tool("setpriv"))]  # where the clone is in a closed home
        words = (sys.executable, str(directory / CONFINED.name), str(directory / unit), *argv)
        return service.model_copy(update={"argv": (*view, *words)})

    return plan.model_copy(update={"services": tuple(map(within, plan.services))})


@contextlib.contextmanager
def confined_box(changes: dict[str, str] | None = None) -> Iterator[Box]:
    made: list[Settings] = []

    def change(plan: Plan) -> Plan:
        state = plan.services[0].log.parents[1]
        env = next(service.env for service in plan.services if service.name == "worker")
        run = plan.lock_file.parents[1]
        settings = Settings(
            host=env["BANGER_HOST"],
            state_dir=state,
            run_dir=run,
            uid_base=int(env["BANGER_UID_BASE"]),
            disk_backend=env["BANGER_DISK_BACKEND"],
        )
        made.append(settings)
        # One user for all three here: who owns what is for the tests of the installation.
        return confined(plan, settings, {"User=banger-redis": "User=banger"} | (changes or {}))

    with farm_box("micro", change=change, accelerator="tcg") as box, inside(box.network):
        yield box


def test_a_vm_is_made_used_stopped_started_and_deleted_within_the_units_bounds() -> None:
    with confined_box() as box:
        vm = box.farm.create("dev", image="micro")
        assert vm.state is State.RUNNING
        assert box.farm.exec("dev", ["test", "-d", "/root"]) == 0
        box.farm.stop("dev")
        box.farm.start("dev")
        box.farm.delete("dev")
        assert not box.traces()


# --- what the bounds keep out -------------------------------------------------------------------

PYTHON = f"{sys.executable} -c"
ROOTS = {
    "change the host's files": "touch /usr/.banger-test && rm /usr/.banger-test",
    "make a setuid file": "cp /bin/true {run}/true && chmod u+s {run}/true",
    "make a user namespace": "unshare --user true",
    "see all packets": f"{PYTHON} 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'",
    "read the kernel's log": "dmesg",
    "name the host anew": "hostname $(hostname)",
    "trace a process": f"{PYTHON} 'import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) != 0)'",
}
WORKERS = {
    "see who else is at work": "test -r /proc/1/status",
    "make code at run time": f"{PYTHON} 'import mmap; mmap.mmap(-1, 4096, prot=7)'",
    "see all devices": "test -e /dev/loop-control",
    "make a temporary file of the host's": "touch {run}/x",
}


def bounded(tmp_path: Path, unit: str, script: str) -> tuple[bool, bool]:
    """Run a script as the unit's user, freely and within the unit's bounds; tell what succeeded."""
    run = tmp_path / "run"
    run.mkdir()
    run.chmod(0o777)
    tmp_path.chmod(0o755)
    settings = Settings(host="h1", disk_backend="copy", state_dir=tmp_path / "state", run_dir=run)
    credentials = decide(settings, None, Ports(7379, 5555))
    made = {one.name: one.text for one in units(settings, credentials, own_redis=True)}
    (tmp_path / unit).write_text(made[unit])
    shell = ("/bin/sh", "-c", script.format(run=run))
    user = () if unit == places.ROOT_WORKER else ("--reuid=banger", "--regid=banger", "--clear-groups")
    free = subprocess.run(["setpriv", *user, "--", *shell], capture_output=True, check=False)
    kept = subprocess.run(
        [sys.executable, CONFINED, tmp_path / unit, *shell], capture_output=True, check=False
    )
    return free.returncode == 0, kept.returncode == 0


@pytest.mark.parametrize("deed", ROOTS)
def test_roots_worker_is_kept_from_what_root_may_do(tmp_path: Path, deed: str) -> None:
    assert bounded(tmp_path, places.ROOT_WORKER, ROOTS[deed]) == (True, False)


@pytest.mark.parametrize("deed", WORKERS)
def test_the_worker_is_kept_from_what_its_user_may_do(deed: str) -> None:
    with tempfile.TemporaryDirectory(prefix="banger-test-", dir="/var/tmp") as directory:
        assert bounded(Path(directory), places.WORKER, WORKERS[deed]) == (True, False)


def test_within_its_bounds_the_worker_can_work() -> None:
    with tempfile.TemporaryDirectory(prefix="banger-test-", dir="/var/tmp") as directory:
        assert bounded(Path(directory), places.WORKER, "ssh -V && date") == (True, True)
