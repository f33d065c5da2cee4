"""A farm in a box that carries out batches without guests, and short words for what tests do with them."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from farm_box import Box, eventually, farm_box, without_flower
from netns import inside

from banger.batch.plan import Plan as BatchPlan
from banger.batch.state import BatchInfo, JobState
from banger.batch.store import Batches
from banger.batch_keys import batch_events_key
from banger.embedded.plan import Plan, Service

HERE = Path(__file__).parent
APPS = {"batch_apps.py": HERE, "stub_vmm.py": HERE.parent / "chaos"}
OURS = {"workers.app": "batch_apps:work", "root_worker.app": "batch_apps:root"}
ENDS_S = 90.0
SMALL = {"memory_mib": 64, "disk_mib": 64, "system_overlay_mib": 64}


class BatchFarm(NamedTuple):
    """The box, and a directory in which its guests are: a command may look there for what a test puts."""

    box: Box

    @property
    def guests(self) -> Path:
        return self.box.root / "guests"

    @property
    def batches(self) -> Batches:
        return Batches(self.box.farm.redis)

    def hold(self, name: str = "go") -> str:
        """Return a command that waits until it is let go."""
        return f"until [ -e {self.guests}/{name} ]; do sleep 0.05; done"

    def let_go(self, name: str = "go") -> None:
        (self.guests / name).touch()

    def plan(self, *run: str, **changes: Any) -> BatchPlan:
        fields = {"name": "tests", "image": "micro", "vm": SMALL, "run": run or ("true",), "timeout_s": 60}
        return BatchPlan.model_validate(fields | changes)

    def submit(self, *run: str, directory: Path = Path("/"), **changes: Any) -> str:
        return self.box.farm.batches.submit(self.plan(*run, **changes), directory).id

    def info(self, batch: str) -> BatchInfo:
        info = self.batches.get(batch)
        assert info is not None
        return info

    def counts(self, batch: str) -> dict[str, int]:
        return {what: number for what, number in self.info(batch).counts.items() if number}

    def wait(self, batch: str, **counts: int) -> None:
        """Wait until at least so many jobs are in these states."""
        eventually(
            lambda: all(self.info(batch).counts.get(what, 0) >= most for what, most in counts.items()),
            ENDS_S,
        )

    def ended(self, batch: str, deadline_s: float = ENDS_S) -> list[JobState]:
        """Return the jobs of a batch once it has ended, as all that is known of it agrees that it has."""
        eventually(lambda: self.info(batch).state == "ended", deadline_s)
        info, jobs = self.info(batch), self.batches.jobs(batch)
        said = [str(job.verdict) for job in jobs]
        assert self.counts(batch) == {what: said.count(what) for what in said}
        assert len(jobs) == info.total == info.done
        assert self.batches.going(batch) == self.batches.waiting(batch) == []
        return jobs

    def words(self, batch: str) -> list[str]:
        events: Any = self.box.farm.redis.xrange(batch_events_key(batch))
        return [fields["batch"] for _, fields in events if "batch" in fields]

    def log(self, batch: str, index: int = 0, attempt: int = 1) -> str:
        path = self.box.paths.batches / batch / f"{index}-{attempt}" / "output.log"
        return path.read_text()

    def kill(self, *services: str) -> None:
        for pid in [self.box.pid(name) for name in services]:
            os.kill(pid, signal.SIGKILL)

    def clear(self) -> None:
        """Bring every batch to its end, and let nothing of them be left."""
        for info in self.batches.active():
            self.box.farm.batches.cancel(info.id)
        eventually(lambda: not self.batches.active(), ENDS_S)
        for info in self.batches.all():
            Batches(self.box.admin.redis).forget(info.id)
        for record in self.box.farm.list():
            with contextlib.suppress(Exception):  # it may be on its way already
                self.box.farm.delete(record.id)
        eventually(lambda: not self.box.farm.list())
        shutil.rmtree(self.guests, ignore_errors=True)
        _make_for(self.box.settings.worker_user, self.guests)


@contextlib.contextmanager
def batch_farm_box() -> Iterator[BatchFarm]:
    """Yield a running farm, from within its network."""
    with farm_box("micro", change=_guestless, accelerator="tcg") as box, inside(box.network):
        yield BatchFarm(box)


def _guestless(plan: Plan) -> Plan:
    plan = without_flower(plan)
    root = plan.lock_file.parents[2]
    apps, guests = root / "apps", root / "guests"
    if not apps.exists():
        apps.mkdir(mode=0o755)
        for name, source in APPS.items():
            shutil.copyfile(source / name, apps / name)
        _make_for(next(one.user for one in plan.services if one.name == "worker"), guests)
    env = {"PYTHONPATH": str(apps), "BANGER_TEST_GUESTS": str(guests)}
    return plan.model_copy(update={"services": tuple(_ours(one, env) for one in plan.services)})


def _ours(service: Service, env: dict[str, str]) -> Service:
    argv = tuple(OURS.get(word, word) for word in service.argv)
    return service.model_copy(update={"argv": argv, "env": service.env | env})


def _make_for(user: str, directory: Path) -> None:
    directory.mkdir(mode=0o755, exist_ok=True)
    account = pwd.getpwnam(user)
    os.chown(directory, account.pw_uid, account.pw_gid)
