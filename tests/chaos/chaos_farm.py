"""A farm in a box whose workers have crash points, and the hand that kills its services."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import clock
import pytest
import slow_disk
from farm_box import Box, eventually, farm_box, without_flower
from netns import inside
from small_disk import small_disk

from banger.embedded import control
from banger.embedded.plan import Plan, Service

HERE = Path(__file__).parent
APPS = {
    "chaos_apps.py": "chaos_apps.py",
    "crash_points.py": "crash_points.py",
    "stub_vmm.py": "stub_vmm.py",
    "slow_disk.py": "slow_disk.py",
    "clock.py": "sitecustomize.py",
}
WITH_CHAOS = {"workers.app": "chaos_apps:work", "root_worker.app": "chaos_apps:root"}
RAN = "CHAOS-COMMAND-RAN"  # what a real guest's command says on its console


class Killed(NamedTuple):
    """When a kill was made (epoch seconds), and of which services."""

    at: float
    services: tuple[str, ...]


class ChaosFarm(NamedTuple):
    """The box, and what its workers are told and tell."""

    box: Box

    @property
    def clock(self) -> Path:
        """What sets the workers' clocks."""
        return self.directory / "clock"

    @property
    def slowness(self) -> Path:
        """What makes the workers' disk slow."""
        return self.directory / "slowness"

    @property
    def directory(self) -> Path:
        return self.box.root / "chaos"  # not on the disk that gets full

    def plan(self, entries: Sequence[dict[str, Any]]) -> None:
        """Say where to stop, from now on and nowhere else; what is held at another place goes on."""
        target = self.directory / "plan.json"
        scratch = target.with_suffix(".new")
        scratch.write_text(json.dumps(list(entries)))
        scratch.chmod(0o644)
        scratch.replace(target)

    def reached(self) -> set[str]:
        """Return the ids of the plan's entries that were reached, ever."""
        return {path.name for path in (self.directory / "reached").iterdir()}

    def seen(self) -> Iterator[dict[str, Any]]:
        """Yield what effects have counted so far."""
        for path in sorted(self.directory.glob("seen-*.jsonl")):
            for line in path.read_text().splitlines():
                yield json.loads(line)

    def commands(self, vm_id: str) -> int:
        """Return how often a VM's command was run: by a stub's list, or by the guest's console."""
        ran = 0
        with contextlib.suppress(FileNotFoundError):
            ran += (self.directory / "commands").read_text().splitlines().count(vm_id)
        with contextlib.suppress(FileNotFoundError):
            ran += self.box.paths.serial_log(vm_id).read_text(errors="replace").count(RAN)
        return ran

    def ran_twice(self) -> list[str]:
        """Return the ids of the stubs whose command was run more than once."""
        with contextlib.suppress(FileNotFoundError):
            ids = (self.directory / "commands").read_text().splitlines()
            return sorted({vm_id for vm_id in ids if ids.count(vm_id) > 1})
        return []

    def kill(self, *services: str) -> Killed:
        """Kill services with -9, and return when that was."""
        pidfds = [os.pidfd_open(self.box.pid(name)) for name in services]
        at = time.time()
        for pidfd in pidfds:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        return Killed(at, services)

    def wait_until_up(self, before: dict[str, int], deadline_s: float = 30.0) -> None:
        """Wait until all services run, those of ``before`` as other processes."""
        eventually(lambda: self._is_up(before), deadline_s)

    def pids(self) -> dict[str, int]:
        """Return the services that run, with their processes."""
        return {one.name: one.pid for one in control.status(self.box.settings).services if one.pid}

    def _is_up(self, before: dict[str, int]) -> bool:
        services = control.status(self.box.settings).services
        return all(one.state == "running" and one.pid != before.get(one.name) for one in services)


@contextlib.contextmanager
def chaos_farm() -> Iterator[ChaosFarm]:
    """Yield a running farm with crash points and the micro image, from within its network."""
    run = control.run
    supervisor = (sys.executable, str(HERE / "chaos_supervisor.py"))

    def patient(argv: Sequence[str], **how: Any) -> Any:
        return run(supervisor if argv[-1] == "banger.embedded.supervisor" else argv, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "run", patient)
        with (
            farm_box("micro", change=_chaotic, furnish=small_disk, accelerator="tcg") as box,
            inside(box.network),
        ):
            yield ChaosFarm(box)


def _chaotic(plan: Plan) -> Plan:
    plan = without_flower(plan)
    root = plan.lock_file.parents[2]
    apps, directory = root / "apps", root / "chaos"
    if not apps.exists():
        _prepare(apps, directory, next(one.user for one in plan.services if one.name == "worker"))
    return plan.model_copy(
        update={"services": tuple(_with_points(one, apps, directory) for one in plan.services)}
    )


def _prepare(apps: Path, directory: Path, user: str) -> None:
    apps.mkdir(mode=0o755)
    for source, name in APPS.items():
        shutil.copyfile(HERE / source, apps / name)
    account = pwd.getpwnam(user)
    for path in (directory, directory / "reached"):
        path.mkdir(mode=0o755)
        os.chown(path, account.pw_uid, account.pw_gid)
    (directory / "plan.json").write_text("[]")
    clock.step(directory / "clock", 0)
    slow_disk.slow(directory / "slowness", 0)


def _with_points(service: Service, apps: Path, directory: Path) -> Service:
    env = service.env | {"PYTHONPATH": str(apps), "BANGER_CHAOS": str(directory)}
    if service.name in ("worker", "root-worker"):
        env[clock.FILE] = str(directory / "clock")
    argv = tuple(WITH_CHAOS.get(word, word) for word in service.argv)
    return service.model_copy(update={"argv": argv, "env": env})


def fresh_id() -> str:
    """Return an id for an entry of the plan."""
    return secrets.token_hex(6)
