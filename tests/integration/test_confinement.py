"""Both workers do all their work within what their units leave them; they are kept from the rest."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm_box import Box, answer, farm_box
from firecracker_pair import installed_pair
from name_client import addresses
from netns import inside, private_network

from banger.contracts.names import BRIDGE
from banger.contracts.states import State
from banger.embedded.credentials import decide, load
from banger.embedded.plan import Plan, Service
from banger.embedded.ports import Ports
from banger.embedded.services import (
    flower_argv,
    redis_argv,
    redis_mending_argv,
    root_worker_argv,
    worker_argv,
)
from banger.name_server import gateway, name_server_argv
from banger.settings import Settings, load_settings
from banger.shell import find_tool
from banger.system import places
from banger.system.hardening import ROOT_CAPABILITIES
from banger.system.units import units

pytestmark = pytest.mark.integration

CONFINED = Path(__file__).parents[1] / "confined.py"


def confined(plan: Plan, settings: Settings) -> Plan:
    """Run each service as its unit would, but all as one user: who owns what is shown elsewhere."""
    credentials = load(settings.farm_file)
    assert credentials is not None
    directory = settings.run_dir / "units"
    directory.mkdir(exist_ok=True)
    shutil.copyfile(CONFINED, directory / CONFINED.name)
    for unit in units(settings, credentials, own_redis=True):
        text = re.sub(r"User=banger-(redis|flower|dns)", "User=banger", unit.text)
        (directory / unit.name).write_text(text)
    argvs = {
        "redis": (places.REDIS, (*redis_mending_argv(settings), *redis_argv(settings))),
        "worker": (places.WORKER, worker_argv(settings)),
        "root-worker": (places.ROOT_WORKER, root_worker_argv(settings)),
        "flower": (places.FLOWER, flower_argv(credentials)),
        "dns": (places.DNS, name_server_argv(settings)),
    }

    def as_unit(service: Service) -> Service:
        unit, argv = argvs[service.name]
        view = service.argv[: service.argv.index(find_tool("setpriv"))]  # where the clone is in a closed home
        words = (sys.executable, str(directory / CONFINED.name), str(directory / unit), *argv)
        return service.model_copy(update={"argv": (*view, *words)})

    return plan.model_copy(update={"services": tuple(map(as_unit, plan.services))})


@contextlib.contextmanager
def confined_box() -> Iterator[Box]:
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
        return confined(plan, settings)

    with farm_box("micro", change=change, accelerator="tcg") as box, inside(box.network):
        yield box


def test_a_vm_is_made_used_stopped_started_and_deleted_within_the_units_bounds() -> None:
    with confined_box() as box:
        vm = box.farm.create("dev", image="micro")
        assert vm.state is State.RUNNING
        assert box.farm.exec("dev", ["test", "-d", "/root"]) == 0
        assert addresses("dev.vm", gateway(box.settings)) == [vm.address]
        box.farm.stop("dev")
        box.farm.start("dev")
        box.farm.delete("dev")
        assert not box.traces()


def test_the_network_is_made_and_kvm_tried_within_the_units_bounds(tmp_path: Path) -> None:
    settings = Settings(host="h1", state_dir=tmp_path / "state", run_dir=tmp_path / "run")
    settings.run_dir.mkdir()
    settings.state_dir.mkdir()
    settings.paths.kernels.symlink_to(load_settings().paths.kernels)
    unit = tmp_path / places.NETWORK
    made = units(settings, decide(settings, None, Ports(7379, 5555)), own_redis=True)
    unit.write_text(next(one.text for one in made if one.name == places.NETWORK))
    prepare = (sys.executable, CONFINED, unit, sys.executable, "-m", "banger.system.preparation")
    env = os.environ | {
        "BANGER_STATE_DIR": str(settings.state_dir),
        "BANGER_RUN_DIR": str(settings.run_dir),
        "PYTHONPATH": str(CONFINED.parents[1]),
    }
    with private_network():
        subprocess.run([*prepare, "up"], env=env, check=True)
        assert answer("ip", "-j", "link", "show", BRIDGE)
        subprocess.run([*prepare, "down"], env=env, check=True)
        assert BRIDGE not in {link["ifname"] for link in answer("ip", "-j", "link")}
    if settings.paths.accelerator.exists():  # there is a /dev/kvm and a kernel to try it with
        assert "permitted" not in settings.paths.accelerator.read_text()


# --- what the bounds keep out -------------------------------------------------------------------

PYTHON = "/usr/bin/python3 -c"  # not the environment's: a clone may be closed to the worker
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


def unit_in(directory: Path, unit: str) -> Path:
    """Return the unit's file; it may write to the ``run`` beside it, as anybody may."""
    run = directory / "run"
    run.mkdir()
    run.chmod(0o777)
    directory.chmod(0o755)
    settings = Settings(host="h1", disk_backend="copy", state_dir=directory / "state", run_dir=run)
    credentials = decide(settings, None, Ports(7379, 5555))
    made = {one.name: one.text for one in units(settings, credentials, own_redis=True)}
    (directory / unit).write_text(made[unit])
    return directory / unit


def within(unit: Path, script: str) -> bool:
    """Run a script within a unit's bounds; tell whether it succeeded."""
    shell = ("/bin/sh", "-c", script.format(run=unit.parent / "run"))
    ended = subprocess.run([sys.executable, CONFINED, unit, *shell], capture_output=True, check=False)
    return ended.returncode == 0


def bounded(directory: Path, unit: str, script: str) -> tuple[bool, bool]:
    """Run a script as the unit's user, freely and within the unit's bounds; tell what succeeded."""
    file = unit_in(directory, unit)
    shell = ("/bin/sh", "-c", script.format(run=directory / "run"))
    user = () if unit == places.ROOT_WORKER else ("--reuid=banger", "--regid=banger", "--clear-groups")
    free = subprocess.run(["setpriv", *user, "--", *shell], capture_output=True, check=False)
    return free.returncode == 0, within(file, script)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="banger-test-", dir="/var/tmp") as directory:
        yield Path(directory)


@pytest.mark.parametrize("deed", ROOTS)
def test_roots_worker_is_kept_from_what_root_may_do(place: Path, deed: str) -> None:
    assert bounded(place, places.ROOT_WORKER, ROOTS[deed]) == (True, False)


@pytest.mark.parametrize("deed", WORKERS)
def test_the_worker_is_kept_from_what_its_user_may_do(place: Path, deed: str) -> None:
    assert bounded(place, places.WORKER, WORKERS[deed]) == (True, False)


def test_within_its_bounds_the_worker_can_work(place: Path) -> None:
    assert bounded(place, places.WORKER, "ssh -V && date") == (True, True)


def test_within_its_bounds_the_worker_can_ask_what_runs_vms(place: Path) -> None:
    with installed_pair() as pair:
        asked = "".join(f"setpriv --pdeathsig KILL -- {program} --version && " for program in pair.values())
        told = "test -r /proc/sys/kernel/random/boot_id && test -x /usr/bin/qemu-system-x86_64"
        assert bounded(place, places.WORKER, asked + told) == (True, True)


# What root's worker needs each of its capabilities for, as a script.
VM = "setpriv --reuid=300002 --regid=300002 --clear-groups --no-new-privs --bounding-set=-all --"
USES = {
    "CAP_CHOWN": "touch {run}/x && chown 300002 {run}/x",
    "CAP_DAC_OVERRIDE": f"{VM} sh -c 'umask 077; mkdir {{run}}/vm' && touch {{run}}/vm/x",
    "CAP_FOWNER": f"{VM} touch {{run}}/x && chmod 0600 {{run}}/x",
    "CAP_KILL": f"{VM} sleep 3 & sleep 0.3; kill $! || exit 1; wait $!; test $? = 143",
    "CAP_MKNOD": "mknod {run}/node b 7 0",
    "CAP_NET_ADMIN": "nft list tables",
    "CAP_SETGID": f"{VM} true",
    "CAP_SETPCAP": f"{VM} grep -q 'CapBnd:.0000000000000000' /proc/self/status",
    "CAP_SETUID": f"{VM} true",
    "CAP_SYS_ADMIN": "unshare --net --ipc --uts true",
    "CAP_SYS_CHROOT": "unshare --root=/ true",
}


@pytest.mark.parametrize("capability", ROOT_CAPABILITIES)
def test_each_capability_of_roots_worker_is_needed(place: Path, capability: str) -> None:
    unit = unit_in(place, places.ROOT_WORKER)
    assert within(unit, USES[capability])
    shutil.rmtree(place / "run")
    every = " ".join(ROOT_CAPABILITIES)
    others = " ".join(name for name in ROOT_CAPABILITIES if name != capability)
    text = unit.read_text()
    assert every in text
    unit = unit_in(place, places.ROOT_WORKER)
    unit.write_text(text.replace(every, others))
    assert not within(unit, USES[capability])
