"""A farm in a box whose real stages, in real worker processes, fail where a test says so."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from uuid import uuid4

from farm_box import Box, farm_box, without_flower

from banger.embedded import control
from banger.embedded.plan import Plan, Service

When = Literal["before", "after"]
How = Literal["fail", "hold", "hang", "die", "skip"]

APPS = Path(__file__).with_name("faulty_apps.py")
WITH_FAULTS = {"workers.app": "faulty_apps:work", "root_worker.app": "faulty_apps:root"}


class Fault(NamedTuple):
    """What goes wrong around the effect of a stage."""

    stage: str
    when: When
    how: How = "fail"
    direction: str = "do"


class FaultyFarm(NamedTuple):
    """The box, and what is to go wrong in it."""

    box: Box

    def expect(self, *faults: Fault) -> None:
        """Let this go wrong from now on, and nothing else."""
        target = self._apps.with_name("faults.json")
        scratch = target.with_suffix(".new")
        scratch.write_text(json.dumps([fault._asdict() for fault in faults]))
        scratch.replace(target)

    def mend(self) -> None:
        """Let everything go right again; what is held goes on."""
        self.expect()

    def ran(self) -> list[str]:
        """Return what the root worker has run, one line an effect: the stage and the direction."""
        return self._apps.with_name("ran").read_text().splitlines()

    def reboot(self, *faults: Fault) -> str:
        """Reboot the host, as far as that can be had: nothing is left but its files. Return the boot's id.

        From then on these faults are to be expected.
        """
        control.down(self.box.settings)
        for trace in self.box.in_kernel():
            kind, name, *_ = trace.split()
            if kind == "process":
                os.kill(int(name), signal.SIGKILL)
            elif kind == "link":
                subprocess.run(("ip", "link", "del", name), check=True)
        self.expect(*faults)
        boot = self._apps.with_name("boot_id")
        boot.write_text(str(uuid4()))
        boot.chmod(0o644)
        self.box.up()
        return boot.read_text()

    @property
    def _apps(self) -> Path:
        return self.box.root / "apps" / APPS.name


@contextlib.contextmanager
def faulty_farm_box() -> Iterator[FaultyFarm]:
    """Yield a running farm of faulty workers, with the micro image."""
    with farm_box("micro", change=_faulty, accelerator="tcg") as box:
        yield FaultyFarm(box)


def _faulty(plan: Plan) -> Plan:
    plan = without_flower(plan)
    apps = plan.lock_file.parents[2] / "apps"
    if not apps.exists():
        apps.mkdir(mode=0o755)
        shutil.copyfile(APPS, apps / APPS.name)
        (apps / "faults.json").write_text("[]")
        (apps / "ran").touch()
    return plan.model_copy(update={"services": tuple(_with_faults(one, apps) for one in plan.services)})


def _with_faults(service: Service, apps: Path) -> Service:
    env = service.env | {"PYTHONPATH": str(apps), "BANGER_TEST_FAULTS": str(apps / "faults.json")}
    if service.name == "root-worker":
        env["BANGER_TEST_RAN"] = str(apps / "ran")
    return service.model_copy(
        update={"argv": tuple(WITH_FAULTS.get(word, word) for word in service.argv), "env": env}
    )
