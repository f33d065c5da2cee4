"""Both workers do all their work within what their units leave them; root's worker needs all it has."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm_box import Box, farm_box, without_flower
from netns import inside

from banger.embedded.credentials import load
from banger.embedded.plan import Plan, Service
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
